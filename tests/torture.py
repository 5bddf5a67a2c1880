"""Torture: jobs of mixed ends through shims whose daemon and fork server die all the time, and then the reckoning.

By hand, with numbers: PYTHONPATH=tests .venv/bin/python -P tests/torture.py [jobs] [seed]
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from driver import Driver, Link, await_end
from jobbroker.core import record

IN_FLIGHT = 8

Plan = tuple[str, list[str], dict[str, object], set[int] | None]
"""A job: what it is called in the tables, its argv, its limits, and the wait statuses that are true of it. None for one
that cannot be started."""


def plan(rng: random.Random, proof: str) -> Plan:
    """Any job. It appends a line to a proof of its own when it runs; that path marks every process of its tree."""
    ran = f"echo ran >> {proof}; "
    kind = rng.choice(["exit", "exit", "signal", "spawn", "cwd", "deadline", "tree", "flood", "slow", "asked"])
    if kind == "exit":
        code = rng.choice([0, 1, 3, 126, 137, 255])
        return kind, ["sh", "-c", f"{ran} exit {code}"], {}, {code << 8}
    if kind == "signal":
        number = rng.choice([1, 9, 15])
        return kind, ["sh", "-c", f"{ran} kill -{number} $$"], {}, {number}
    if kind == "spawn":
        return kind, ["/no/such/program", proof], {}, None
    if kind == "cwd":
        return kind, ["touch", proof], {"cwd": "/no/such/place"}, None
    if kind == "deadline":
        return kind, ["sh", "-c", f"{ran} exec sleep 1000"], {"timeoutMs": rng.randrange(1, 60)}, {15}
    if kind == "tree":
        again = f'setsid env -i sh -c \\"sleep 1000; : {proof}\\" & sleep 0.01'
        bomb = f'setsid env -i sh -c "for n in \\$(seq 2000); do {again}; done" &'
        end = f"(setsid sleep 1000 &) ; sleep 0.0{rng.randrange(5)}; exit 5"
        return kind, ["sh", "-c", f"{ran} {bomb} {end}"], {}, {5 << 8}
    if kind == "flood":
        return kind, ["sh", "-c", f"{ran} head -c 3000000 /dev/zero; exit 6"], {"maxOutput": 200_000}, {6 << 8}
    if kind == "slow":
        return kind, ["sh", "-c", f"{ran} sleep 0.{rng.randrange(100):02}; exit 7"], {}, {7 << 8}
    return kind, ["sh", "-c", f"trap 'exit 8' TERM; {ran} while :; do sleep 0.005; done"], {}, {8 << 8, 15}


class Torture:
    """One run of it."""

    def __init__(self, state: Path, jobs: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.driver = Driver(state)
        self.state = state
        self.left = jobs
        self.plans: dict[str, Plan] = {}
        self.asked: set[str] = set()
        self.running: dict[Link, str] = {}
        self.idle: list[Link] = []
        self.unheard: list[str] = []  # jobs whose shim we lost sight of, as a daemon that starts anew has
        self.count: Counter[str] = Counter()

    def run(self) -> None:
        """Until every job has an end, and nothing of any is left."""
        while self.left or self.running or self.unheard:
            while self.left and len(self.running) < IN_FLIGHT:
                self.start(self.new())
            self.do_harm()
            self.listen()
            if not self.running or self.rng.random() < 0.1:
                self.adopt()
        self.driver.close()
        for pid in self.driver.processes():
            assert await_end(pid, 5), f"process {pid} is left"

    def new(self) -> str:
        self.left -= 1
        self.driver.count += 1
        proof = f"{self.state}/proof{self.driver.count}"
        self.driver.count -= 1
        kind, argv, more, truth = plan(self.rng, proof)
        name = self.driver.create(argv, **more)  # type: ignore[arg-type]  # cwd among other limits
        self.plans[name] = kind, argv, more, truth
        return name

    def start(self, name: str) -> None:
        try:
            link = self.idle.pop() if self.idle else self.driver.shim()
        except OSError:  # the fork server was killed
            self.driver.channel.close()
            self.driver.start()
            link = self.driver.shim()
        try:
            link.hand(name)
        except OSError:  # retired while idle
            self.drop(link)
            self.start(name)
            return
        self.running[link] = name

    def drop(self, link: Link) -> None:
        link.close()
        self.driver.links.remove(link)

    def do_harm(self) -> None:
        dice = self.rng.random()
        if dice < 0.02:
            self.count["fork servers killed"] += 1
            self.driver.kill_fork_server()
            self.driver.start()
        elif dice < 0.05:
            self.count["daemons died"] += 1
            self.unheard += self.running.values()
            for link in [*self.running, *self.idle]:
                self.drop(link)
            self.running.clear()
            self.idle.clear()
            self.adopt()  # at once, so that some are handed over again while a deserted shim reaches for them
        elif self.running and dice < 0.15:
            self.ask(self.rng.choice([*self.running.values()]))

    def ask(self, name: str) -> None:
        """Cancel one that waits for it, if it has begun."""
        reading = self.driver.read(name)
        if self.plans[name][0] == "asked" and reading.locked and record.last(reading.lines, b"S"):
            self.asked.add(name)
            try:
                self.driver.ask(name, grace_ms=1000)
            except AssertionError:  # its shim has just ended
                pass

    def listen(self) -> None:
        """Hear what shims say; ask the patient ones to come to an end when nothing else goes on."""
        links = {link.channel.fileno(): link for link in self.running}
        ready = select.select(list(links), [], [], 0.01)[0]
        if not ready:
            for name in [*self.running.values(), *self.unheard]:
                self.ask(name)
        for descriptor in ready:
            link = links[descriptor]
            message = link.receive()
            words = message.split(" ")
            if not message:
                raise AssertionError(f"a shim died with {self.running[link]}")
            if words[0] == "retiring":
                self.drop(link)
                continue
            if words[1] in ("X", "F", "refused"):
                del self.running[link]
                self.idle.append(link)
                if words[1] == "refused":
                    self.unheard.append(words[0])

    def adopt(self) -> None:
        """Look at the records of jobs we lost sight of, as a new daemon does, and hand over again what never began."""
        for name in list(self.unheard):
            verdict = self.driver.verdict(name)
            if verdict == record.LIVE:
                continue
            self.unheard.remove(name)
            self.count[f"adopted: {verdict}"] += 1
            if verdict == record.UNBEGUN:
                self.start(name)

    def reckon(self) -> Counter[str]:
        """Compare every record with what happened; the wrong ones, by what is wrong."""
        wrong: Counter[str] = Counter()
        for name, (kind, _, _, truth) in self.plans.items():
            self.count[kind] += 1
            proof = self.state / f"proof{name[1:]}"
            ran = proof.read_text().count("ran") if proof.exists() else 0
            verdict = record.verdict(self.lines(name), locked=False, boot=b"")
            if truth is None:
                wrong["unspawned but said to have run"] += verdict != record.UNSPAWNED
                wrong["unspawned but ran"] += ran != 0
                continue
            end = record.last(self.lines(name), b"X")
            early = kind in ("deadline", "asked")  # the signal may come before the first line of the script
            wrong["run twice"] += ran > 1
            wrong["not run"] += ran < 1 and not early
            wrong["no end"] += end is None
            wrong["wrong status"] += end is not None and end.number(0) not in truth
            wrong["survivors"] += end is not None and end.text(7) != ""
        return +wrong

    def lines(self, name: str) -> list[record.Line]:
        return record.decode((self.state / "jobs" / name / "record").read_bytes())[1]


def main(jobs: int, seed: int) -> int:
    """Print what was done and what came of it; the exit status tells whether all was true."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        torture = Torture(Path(place), jobs, seed)
        torture.run()
        wrong = torture.reckon()
    for what, count in sorted(torture.count.items()):
        print(f"{count:7} {what}")
    print(f"{jobs} jobs in {time.monotonic() - begun:.1f} s; wrong: {dict(wrong) or 'nothing'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*([*words, *[1000, os.getpid()][len(words) :]])))
