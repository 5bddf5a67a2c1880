"""`make bench`: everything that is measured, one after the other, or `make bench WHAT=followers`, one part alone.

Ratios are against limits taken in the same run. Machines are noisy, so nothing here fails; the goals beside the figures
are those of the design.
"""

from __future__ import annotations

import sys

from bench import backend, fanout, followers, history, jobs, rpc, shim_cost, startup

PARTS = {
    "startup": startup,
    "rpc": rpc,
    "jobs": jobs,
    "followers": followers,
    "fanout": fanout,
    "history": history,
    "backend": backend,
    "shims": shim_cost,
}


def main() -> None:
    for name in sys.argv[1:] or PARTS:
        PARTS[name].main()
        print(flush=True)


if __name__ == "__main__":
    main()
