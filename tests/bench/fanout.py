"""News to a hundred subscribers, against one encoding and a hundred nonblocking sends; and thousands who wait.

The broker's share is the difference between the same jobs with and without subscribers.
"""

from __future__ import annotations

import select
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

from bench.cost import cpu_of, report
from harness import Home, Message, Wire
from jobclient.protocol import jsonrpc

SUBSCRIBERS = 100
JOBS = 200
ROUNDS = 5
WAITERS = 5000
AT_ONCE = 4000
"""Fewer requests than one connection may have unfinished."""


class Drain:
    """Reads all that comes by many sockets, in a thread of its own, and counts the lines."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self.lines = 0
        self._sockets = {sock.fileno(): sock for sock in sockets}
        self._poll = select.epoll()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        for descriptor in self._sockets:
            self._poll.register(descriptor, select.EPOLLIN)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._poll.close()

    def _run(self) -> None:
        while True:
            ready = self._poll.poll(0.2)
            if not ready and self._over.is_set():
                return
            for descriptor, _ in ready:
                self.lines += self._sockets[descriptor].recv(1 << 20).count(b"\n")


def main() -> None:
    print(f"news of {JOBS} jobs to {SUBSCRIBERS} subscribers")
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        pid = home.start()
        sample = home.connect().run("true")
        pairs = [(through_broker(home, pid), bare(sample)) for _ in range(ROUNDS)]
        report(
            "CPU a notification / encode once + nonblocking send", statistics.median(a / b for a, b in pairs), "<= 3"
        )
        print(f"  ({statistics.median(a for a, _ in pairs) * 1e6:.1f} us)")
        waiters(home, pid)
        home.close()


def through_broker(home: Home, pid: int) -> float:
    """CPU seconds of the broker for one notification to one subscriber."""
    alone = cost_of_jobs(home, pid)
    wires = [home.connect() for _ in range(SUBSCRIBERS)]
    for wire in wires:
        wire.call("events/subscribe")
    with Drain([wire.sock for wire in wires]) as drain:
        shared = cost_of_jobs(home, pid)
    assert drain.lines == 3 * JOBS * SUBSCRIBERS, drain.lines
    for wire in wires:
        wire.close()
    return (shared - alone) / drain.lines


def cost_of_jobs(home: Home, pid: int) -> float:
    with Wire(str(home.socket)) as wire:
        before = cpu_of(pid)
        wire.write([{"id": n, "method": "job/start", "params": {"argv": ["true"]}} for n in range(JOBS)])
        wire.read()
        wire.call("job/wait", all=True)
        return cpu_of(pid) - before


def bare(job: Message) -> float:
    """CPU seconds of encoding once and sending to each, for one send."""
    pairs = [socket.socketpair() for _ in range(SUBSCRIBERS)]
    for ours, _ in pairs:
        ours.setblocking(False)
    spent = 0.0
    for _ in range(3 * JOBS):
        before = time.thread_time()
        message = jsonrpc.encode_notification("notifications/job/updated", {"job": job, "cursor": "a.1"}) + b"\n"
        for ours, _ in pairs:
            ours.send(message)
        spent += time.thread_time() - before
        for _, theirs in pairs:
            theirs.recv(1 << 16)
    for pair in pairs:
        for sock in pair:
            sock.close()
    return spent / (3 * JOBS * SUBSCRIBERS)


def waiters(home: Home, pid: int) -> None:
    """Many who wait for one job, and one who waits for many."""
    with Wire(str(home.socket)) as starter:
        job = starter.start("sleep", "60")["id"]
        wires = [home.connect() for _ in range(-(-WAITERS // AT_ONCE))]
        before = cpu_of(pid)
        for number in range(WAITERS):
            wires[number // AT_ONCE].send("job/wait", ids=[job])
        for wire in wires:
            wire.answer(wire.send("broker/ping"))
        starter.call("job/cancel", id=job, graceMs=0)
        for wire in wires:
            while len(wire.answers) < wire.count - 1:
                message = wire.read()
                wire.answers[message["id"]] = message
        report(f"{WAITERS} waits for one job, CPU us each", (cpu_of(pid) - before) / WAITERS * 1e6, "-")
        jobs: list[str] = []
        for _ in range(2):  # a connection may not have all of them unfinished
            starter.write([{"id": n, "method": "job/start", "params": {"argv": ["true"]}} for n in range(WAITERS // 2)])
            jobs += [answer["result"]["job"]["id"] for answer in starter.read()]
        before = cpu_of(pid)
        for number, name in enumerate(jobs):
            wires[number // AT_ONCE].send("job/wait", ids=[name])
            if number % 100 == 0:  # the answers come meanwhile, and must be read
                wires[number // AT_ONCE].call("broker/ping")
        for wire in wires:
            wire.call("broker/ping")
        report(f"{WAITERS} waits for a job each, CPU us each", (cpu_of(pid) - before) / WAITERS * 1e6, "-")
        before = cpu_of(pid)
        assert len(starter.call("job/wait", ids=jobs)["jobs"]) == WAITERS
        report(f"one wait for {WAITERS} jobs, CPU us a job", (cpu_of(pid) - before) / WAITERS * 1e6, "-")


if __name__ == "__main__":
    main()
