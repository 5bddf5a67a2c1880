"""Round trips: the broker's `broker/ping` against a bare Trio echo on the same kind of socket, in turn."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from bench.cost import cpu_of, report
from harness import Home, eventually

CALLS = 2000
ROUNDS = 7
REQUEST = b'{"jsonrpc":"2.0","id":1,"method":"broker/ping"}\n'

ECHO = """
import sys, trio
async def serve(stream):
    async for chunk in stream:
        await stream.send_all(chunk)
async def main():
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(sys.argv[1])
    sock.listen()
    await trio.serve_listeners(serve, [trio.SocketListener(sock)])
trio.run(main)
"""


def main() -> None:
    print("round trips, one client, one request at a time")
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        broker = home.start()
        path = f"{folder}/echo"
        echo = subprocess.Popen([sys.executable, "-c", ECHO, path])
        eventually(lambda: Path(path).exists(), "the echo server listens")
        pairs = [(trips(str(home.socket), broker), trips(path, echo.pid)) for _ in range(ROUNDS)]
        echo.kill()
        echo.wait()
        home.close()
    report("median round trip / bare trio echo", median(a[0] / b[0] for a, b in pairs), "<= 1.2")
    report("CPU of the server a request / bare trio echo", median(a[1] / b[1] for a, b in pairs), "-")
    print(f"  (median round trip {median(a[0] for a, _ in pairs) * 1e6:.0f} us)")


def trips(path: str, server: int) -> tuple[float, float]:
    """Median seconds of a round trip, and CPU seconds of the server for one."""
    times: list[float] = []
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        before = cpu_of(server)
        for _ in range(CALLS):
            begun = time.perf_counter()
            sock.sendall(REQUEST)
            while not sock.recv(65536).endswith(b"\n"):
                pass
            times.append(time.perf_counter() - begun)
        return statistics.median(times), max(cpu_of(server) - before, 0.01) / CALLS


def median(values: Iterable[float]) -> float:
    return statistics.median(list(values))


if __name__ == "__main__":
    main()
