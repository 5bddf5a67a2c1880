"""What a command of a person costs: `jobctl` against doing nothing in the same Python."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

from bench.cost import cpu_of_command, ratio, report
from harness import Home

ROUNDS = 25
BARE = "import trio, msgspec; trio.run(trio.lowlevel.checkpoint)"
BIN = Path(sys.executable).parent


def main() -> None:
    print("start-up, CPU of the whole process")
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        home.start()
        with home.connect() as wire:
            for number in range(20):
                wire.run("true", name=f"job-{number}")
        for verb in (["list"], ["status", "job-1"]):
            ours, bare, times = ratio(
                partial(cpu_of_command, [str(BIN / "jobctl"), *verb], **home.environ),
                partial(cpu_of_command, [sys.executable, "-c", "pass"]),
                ROUNDS,
            )
            report(f"jobctl {verb[0]} / python -c pass", times, "<= 1.25")
            print(f"  ({ours * 1000:.1f} ms against {bare * 1000:.1f} ms)")
        home.close()
    daemon = ratio(
        partial(cpu_of_command, [sys.executable, "-P", "-c", "import jobbroker.app"]),
        partial(cpu_of_command, [sys.executable, "-P", "-c", BARE]),
        ROUNDS // 3,
    )
    report("loading the daemon / loading trio and msgspec", daemon[2], "<= 1.2")


if __name__ == "__main__":
    main()
