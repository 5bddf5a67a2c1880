"""`make bench`: everything that is measured, one after the other. Ratios against limits taken in the same run.

Machines are noisy, so nothing here fails; the goals beside the figures are those of the design.
"""

from __future__ import annotations

from bench import jobs, rpc, shim_cost, startup


def main() -> None:
    for part in (startup, rpc, jobs, shim_cost):
        part.main()
        print(flush=True)


if __name__ == "__main__":
    main()
