"""`make bench`: everything that is measured, one after the other. Ratios against limits taken in the same run.

Machines are noisy, so nothing here fails; the goals beside the figures are those of the design.
"""

from __future__ import annotations

from bench import jobs, rpc, startup


def main() -> None:
    for part in (startup, rpc, jobs):
        part.main()
        print(flush=True)


if __name__ == "__main__":
    main()
