"""A backend behind the broker: a round trip against a pipe of one's own, and that nobody waits for others."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backends import FAKE, with_backend
from bench.cost import cpu_of, report
from harness import Home, Wire

CALLS = 2000
ROUNDS = 7
DELTAS = 20_000
DEATHS: dict[str, dict[str, Any]] = {
    "exit 0": {"method": "die", "params": {"code": 0}},
    "SIGKILL": {"method": "die", "params": {"signal": "SIGKILL"}},
    "end of its stdout only": {"method": "eof", "params": {}},
}


def main() -> None:
    print("a backend shared by all")
    with (
        running() as home,
        subprocess.Popen([sys.executable, FAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as direct,
    ):
        pairs = [(through(home), by_pipe(direct)) for _ in range(ROUNDS)]
        direct.kill()
    report("median round trip / a pipe of one's own", statistics.median(a / b for a, b in pairs), "-")
    added = statistics.median(a - b for a, b in pairs)
    print(f"  (added {added * 1e6:.0f} us, pipe {statistics.median(b for _, b in pairs) * 1e6:.0f} us)")
    side_by_side()
    past_a_deaf_client()
    for how, message in DEATHS.items():
        report(f"{how}, with a client that does not read: seconds to the broker's end", death(message), "<= 2")


@contextmanager
def running() -> Generator[Home]:
    """A broker with a backend that is up."""
    with tempfile.TemporaryDirectory() as folder:
        home = with_backend(Home(Path(folder)), "generic")
        home.start()
        with Wire(str(home.socket)) as wire:
            wire.call("echo")
        yield home
        home.close()


def median_trip(send: Callable[[bytes], object], receive: Callable[[], bytes]) -> float:
    """Median seconds of a request that is echoed."""
    times: list[float] = []
    for number in range(CALLS):
        request = json.dumps({"jsonrpc": "2.0", "id": number, "method": "echo", "params": {"a": 1}}).encode() + b"\n"
        begun = time.perf_counter()
        send(request)
        while not receive().endswith(b"\n"):
            pass
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def through(home: Home) -> float:
    with Wire(str(home.socket)) as wire:
        return median_trip(wire.sock.sendall, lambda: wire.sock.recv(65536))


def by_pipe(direct: subprocess.Popen[bytes]) -> float:
    assert direct.stdin is not None
    assert direct.stdout is not None
    stdin, stdout = direct.stdin.fileno(), direct.stdout.fileno()
    return median_trip(lambda request: os.write(stdin, request), lambda: os.read(stdout, 65536))


def side_by_side() -> None:
    """Two calls of two seconds each, from two clients."""
    with running() as home, Wire(str(home.socket)) as one, Wire(str(home.socket)) as other:
        begun = time.perf_counter()
        asked = [(wire, wire.send("sleep", seconds=2)) for wire in (one, other)]
        for wire, identity in asked:
            wire.answer(identity)
        report("two calls of 2 s at once, seconds", time.perf_counter() - begun, "<= 2.2")


def past_a_deaf_client() -> None:
    """The deltas are everybody's: one reads none of them, one all; how long does the latter's own request take?"""
    with running() as home, Wire(str(home.socket)) as deaf, Wire(str(home.socket)) as flooding:
        deaf.call("echo")
        with Wire(str(home.socket)) as other:
            assert home.process is not None
            before = cpu_of(home.process.pid)
            begun = time.perf_counter()
            flooding.send("deltas", thread="T", count=DELTAS)
            times: list[float] = []
            while time.perf_counter() - begun < 60:
                sent = time.perf_counter()
                other.call("broker/ping")
                times.append(time.perf_counter() - sent)
                if other.call("backend/status")["backend"]["pending"] == 0:
                    break
            took = time.perf_counter() - begun
            cpu = cpu_of(home.process.pid) - before
        report(f"{DELTAS} deltas to two who do not read: another's slowest ping, ms", max(times) * 1e3, "<= 20")
        print(f"  ({len(times)} pings, {took:.2f} s, {cpu / DELTAS * 1e6:.1f} us of CPU a delta)")


def death(message: dict[str, Any]) -> float:
    """Seconds from the message that kills the backend to the end of the broker."""
    with running() as home, Wire(str(home.socket)) as deaf, Wire(str(home.socket)) as killer:
        deaf.write({"id": 1, "method": "big", "params": {"size": 8_000_000}})
        killer.call("echo")
        begun = time.perf_counter()
        killer.write({"id": 1, **message})
        assert home.wait() == 1
        return time.perf_counter() - begun


if __name__ == "__main__":
    main()
