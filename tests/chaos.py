"""Chaos: hundreds of jobs of every kind of end, while broker and fork server are killed again and again.

    make chaos            500 jobs
    python tests/chaos.py --jobs 2000 --seed 7

Clients start jobs, cancel some, and respawn the broker as they find it dead. Afterwards every job is held against what
its kind must come to: status and cause, each line of output, run exactly once or never, nothing left alive.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from harness import Processes, alive
from jobbroker.tree import descendants
from jobclient import holder
from jobclient.link import Link
from jobclient.protocol.errors import BrokerUnavailable, ConnectionLost, JobBrokerError

CLIENTS = 4
T = TypeVar("T")

TIRED = 60.0
"""Seconds until a job that must end by itself has been waited for long enough."""


@dataclass
class Planned:
    """One job, and what must become of it."""

    key: str
    kind: str
    argv: list[str]
    params: dict[str, object]
    end: tuple[str, str, object]
    """Status, reason, exit code or signal."""
    output: list[str] | None = None
    runs: bool = True
    cancel: bool = False
    id: str = ""


@dataclass
class Report:
    """What was found."""

    jobs: int = 0
    broker_kills: int = 0
    fork_server_kills: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter[str])
    faults: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        lines = [
            f"{self.jobs} jobs ({kinds})",
            f"{self.broker_kills} SIGKILLs of the broker, {self.fork_server_kills} of its fork server",
            f"{self.seconds:.0f} s",
            f"{len(self.faults)} wrong: status, output, runs or leftovers",
            *self.faults[:20],
        ]
        return "\n".join(lines)


def plan(number: int, dice: random.Random, proofs: Path) -> Planned:
    """A job of a kind the dice choose."""
    key = f"chaos-{number}"
    mark = f"echo ran >> {proofs}/{key}; "
    params: dict[str, object] = {"idempotencyKey": key, "merged": True, "graceMs": 300}
    nap = f"sleep {dice.random() * 0.6:.2f}; "
    code = dice.randrange(1, 256)
    kind = dice.choice(
        ["exit"] * 4 + ["zero"] * 3 + ["signal", "spawn", "deadline", "idle", "flood", "tree", "stderr", "cancel"] * 2
    )
    lines = [f"line {n}" for n in range(dice.randrange(1, 60))]
    talk = f"for n in $(seq 0 {len(lines) - 1}); do echo line $n; done; "
    match kind:
        case "exit":
            return _shell(key, kind, mark + talk + nap + f"exit {code}", params, ("failed", "exit", code), lines)
        case "zero":
            return _shell(key, kind, mark + talk + nap, params, ("completed", "exit", 0), lines)
        case "signal":
            name, number = dice.choice([("SIGKILL", 9), ("SIGTERM", 15), ("SIGABRT", 6)])
            return _shell(key, kind, mark + nap + f"kill -{number} $$", params, ("failed", "signal", name), [])
        case "spawn":
            argv, cwd = dice.choice([(["/no/such/thing"], "/"), (["/etc/passwd"], "/"), (["true"], "/no/such/place")])
            end = ("failed", "spawn", None)
            return Planned(key, kind, argv, {**params, "cwd": cwd}, end, [], runs=False)
        case "deadline":
            params["timeoutMs"] = dice.randrange(200, 900)
            trap = dice.choice(["", "trap '' TERM; "])
            return _shell(key, kind, mark + trap + talk + "sleep 60", params, ("timed_out", "deadline", None), lines)
        case "idle":
            params["idleTimeoutMs"] = dice.randrange(300, 900)
            return _shell(key, kind, mark + talk + "sleep 60", params, ("timed_out", "idle", None), lines)
        case "flood":
            flood = [str(n) for n in range(1, 20001)]
            return _shell(key, kind, mark + "seq 1 20000", params, ("completed", "exit", 0), flood)
        case "tree":
            tree = "(setsid sleep 300 &); (setsid sh -c '(sleep 300 &); exec sleep 300' &); sleep 300 & "
            return _shell(key, kind, mark + tree + nap + f"exit {code}", params, ("failed", "exit", code), [])
        case "stderr":
            script = mark + "echo one > /dev/stderr; echo two; " + nap + "echo three > /dev/stderr"
            return _shell(key, kind, script, params, ("completed", "exit", 0), ["one", "two", "three"])
        case _:
            return _shell(key, kind, mark + "sleep 60", params, ("cancelled", "user", None), None, cancel=True)


def _shell(
    key: str,
    kind: str,
    script: str,
    params: dict[str, object],
    end: tuple[str, str, object],
    output: list[str] | None,
    *,
    cancel: bool = False,
) -> Planned:
    return Planned(key, kind, ["sh", "-c", script], params, end, output, cancel=cancel)


class Killer(threading.Thread):
    """Kills the broker every 100 to 900 ms, and now and then only its fork server."""

    def __init__(self, report: Report, dice: random.Random) -> None:
        super().__init__()
        self._report = report
        self._dice = dice
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.wait(self._dice.uniform(0.1, 0.9)):
            found = holder.find("default")
            if found is None or not found.pid:
                continue
            if self._dice.random() < 0.2:
                self._kill_fork_server(found.pid)
            else:
                self._kill(found.pid)
                self._report.broker_kills += 1

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self.join()

    def _kill_fork_server(self, broker: int) -> None:
        for pid in descendants(broker):
            try:
                name = Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                continue
            if name == "jobbroker-fork":
                self._kill(pid)
                self._report.fork_server_kills += 1
                return

    @staticmethod
    def _kill(pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def insist(ask: Callable[[], T]) -> T:
    """Ask again as often as the broker is killed under the question; a link gives up after some times in a row."""
    deadline = time.monotonic() + TIRED
    while True:
        try:
            return ask()
        except (BrokerUnavailable, ConnectionLost):
            if time.monotonic() > deadline:
                raise


def start(jobs: list[Planned], faults: list[str]) -> None:
    """One client: start these, one by one or some at once, and cancel what is to be cancelled."""
    with Link(timeout=60.0) as link:
        while jobs:
            some, jobs[:] = jobs[: 1 + len(jobs) % 7], jobs[1 + len(jobs) % 7 :]
            calls = [("job/start", {"argv": job.argv, **job.params}) for job in some]
            for job, answer in zip(some, insist(partial(link.batch, calls)), strict=True):
                if isinstance(answer, JobBrokerError):
                    faults.append(f"{job.key}: not started: {answer}")
                    continue
                job.id = answer["job"]["id"]
                if job.cancel:
                    insist(partial(link.request, "job/cancel", {"id": job.id}, patience=30.0))


def run(count: int, seed: int, root: Path) -> Report:
    """Chaos in directories below `root`, which the environment must point to by now."""
    dice = random.Random(seed)
    proofs = root / "proofs"
    proofs.mkdir()
    jobs = [plan(number, dice, proofs) for number in range(count)]
    report = Report(jobs=count, kinds=Counter(job.kind for job in jobs))
    begun = time.monotonic()
    with Link(timeout=60.0) as link:
        with Killer(report, random.Random(seed + 1)):
            with ThreadPoolExecutor(CLIENTS) as clients:
                work = [clients.submit(start, jobs[n::CLIENTS], report.faults) for n in range(CLIENTS)]
            for client in work:
                client.result()
            everything = {"all": True, "timeoutMs": int(TIRED * 1000)}
            waited = insist(partial(link.request, "job/wait", everything, patience=TIRED))
        if waited["timedOut"]:
            report.faults.append("some jobs never ended")
        for job in jobs:
            if job.id:
                report.faults += [f"{job.key} ({job.kind}, {job.id}): {fault}" for fault in check(link, job, proofs)]
        link.request("broker/shutdown", {"mode": "cancelJobs"})
    report.seconds = time.monotonic() - begun
    return report


def check(link: Link, planned: Planned, proofs: Path) -> list[str]:
    """What is wrong with a job that has ended."""
    job = link.request("job/get", {"id": planned.id})["job"]
    faults: list[str] = []
    status, reason, detail = planned.end
    if (job["status"], job["reason"]) != (status, reason):
        faults.append(f"is {job['status']}/{job['reason']} ({job['error']}), must be {status}/{reason}")
    elif detail is not None and detail not in (job["exitCode"], job["signal"]):
        faults.append(f"ended by {job['exitCode']}/{job['signal']}, must be {detail}")
    proof = proofs / planned.key
    ran = len(proof.read_text().splitlines()) if proof.exists() else 0
    never = not planned.runs or (planned.cancel and job["startedAt"] is None)
    if ran > 1 or (ran and never) or (not ran and not never and not planned.cancel):
        faults.append(f"ran {ran} times")
    if planned.output is not None:
        faults += check_output(link, planned)
    if job["pid"] is not None and alive(job["pid"]):
        faults.append(f"its process {job['pid']} lives")
    return faults


def check_output(link: Link, planned: Planned) -> list[str]:
    """What is wrong with what it wrote."""
    text, cursor, over = "", "0", False
    while not over:
        piece = link.request("job/output", {"id": planned.id, "from": cursor, "limit": 1 << 20})
        text, cursor, over = text + piece["data"], piece["next"], piece["eof"]
        if piece["dropped"]:
            return [f"lost {piece['dropped']} bytes of output"]
    found = text.splitlines()
    return [] if found == planned.output else [f"wrote {len(found)} lines, must be {len(planned.output or [])}"]


def in_own_home(count: int, seed: int, root: Path) -> Report:
    """The same with an environment made for it; the caller's is put back."""
    before = dict(os.environ)
    os.environ.update(
        JOBBROKER_RUNTIME_DIR=str(root / "run"),
        JOBBROKER_STATE_DIR=str(root / "state"),
        JOBBROKER_CONFIG=str(root / "config.toml"),
        JOBBROKER_MAX_RUNNING="24",
    )
    try:
        return run(count, seed, root)
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> int:
    parser = argparse.ArgumentParser(description="kill the broker while it works, and see that it never lies")
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Processes():
        report = in_own_home(wanted.jobs, wanted.seed, Path(folder))
        print(f"seed {wanted.seed}")
        print(report)
        if report.faults:
            print((Path(folder) / "state/default/broker.log").read_text()[-4000:], file=sys.stderr)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
