"""A hundred jobs, each followed by somebody: what that costs the daemon, by how much the jobs write.

By hand: make bench WHAT=followers
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import tempfile
import time
from pathlib import Path

from bench.cost import report
from harness import Home, Processes, Wire

JOBS = 100
SECONDS = 4.0
LINE = b"a line of output as a build or a server writes it\n"


class Follower:
    """A client that asks for more of some jobs as soon as it has got something."""

    def __init__(self, path: str, jobs: list[str]) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.jobs = jobs
        self.pieces = 0
        self._rest = b""
        for number in range(len(jobs)):
            self._ask(number, "0")

    def _ask(self, number: int, cursor: str) -> None:
        params = {"id": self.jobs[number], "from": cursor, "waitMs": 60_000}
        request = {"jsonrpc": "2.0", "id": number, "method": "job/output", "params": params}
        self.sock.sendall(json.dumps(request).encode() + b"\n")

    def take(self) -> None:
        """Read what is there, and ask for what follows it."""
        *lines, self._rest = (self._rest + self.sock.recv(1 << 20)).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            self.pieces += 1
            self._ask(answer["id"], answer["result"]["next"])


def main() -> None:
    print(f"{JOBS} jobs, each followed: CPU of the daemon, % of a core")
    with tempfile.TemporaryDirectory() as folder, Processes():
        home = Home(Path(folder), JOBBROKER_MAX_RUNNING=str(JOBS))
        pid = home.start()
        with Wire(str(home.socket)) as wire:
            jobs = [wire.start("sleep", "1000") for _ in range(JOBS)]
            pipes = [os.open(f"/proc/{job['pid']}/fd/1", os.O_WRONLY) for job in jobs]
            names = [job["id"] for job in jobs]
            for clients in (1, JOBS):
                share = JOBS // clients
                followers = [Follower(str(home.socket), names[n * share : (n + 1) * share]) for n in range(clients)]
                for rate, goal in ((0.0, "<= 5"), (1.0, "<= 5"), (20.0, "-")):
                    cost, pieces = follow(pid, followers, pipes, rate)
                    what = f"{clients} client(s), {rate:g} lines/s a job ({pieces:.0f} pieces/s)"
                    report(what, cost, goal)
                for follower in followers:
                    follower.sock.close()
            for pipe in pipes:
                os.close(pipe)
        home.close()


def follow(daemon: int, followers: list[Follower], pipes: list[int], rate: float) -> tuple[float, float]:
    """Let the jobs write for a while at so many lines a second; CPU of the daemon in %, and pieces a second."""
    _let(followers, pipes, rate, SECONDS / 4)  # it settles: jobs silent for long are looked at more rarely
    if not rate:
        _let(followers, pipes, rate, SECONDS)
    before, pieces = _cpu(daemon), sum(follower.pieces for follower in followers)
    begun = time.monotonic()
    _let(followers, pipes, rate, SECONDS)
    took = time.monotonic() - begun
    pieces = sum(follower.pieces for follower in followers) - pieces
    return (_cpu(daemon) - before) / took * 100, pieces / took


def _let(followers: list[Follower], pipes: list[int], rate: float, seconds: float) -> None:
    """Jobs write in turn, spread over the time; followers read."""
    with selectors.DefaultSelector() as selector:
        for follower in followers:
            selector.register(follower.sock, selectors.EVENT_READ, follower)
        begun = time.monotonic()
        written = 0
        while (now := time.monotonic()) < begun + seconds:
            due = int((now - begun) * rate * len(pipes))
            for number in range(written, due):
                os.write(pipes[number % len(pipes)], LINE)
            written = due
            for key, _ in selector.select(0.002 if rate else 0.1):
                key.data.take()


def _cpu(pid: int) -> float:
    return time.clock_gettime(~pid << 3 | 2)


if __name__ == "__main__":
    main()
