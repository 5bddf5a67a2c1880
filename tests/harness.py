"""Real brokers for tests: each in directories of its own, spoken to over its socket, and gone at the end."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from conformance import Conformance
from jobbroker.identity import read_stat
from jobbroker.tree import descendants

PATIENCE = 30.0
"""Seconds before a test gives up on something that should come at once."""
PR_SET_CHILD_SUBREAPER = 36

Message = dict[str, Any]


class Failed(Exception):
    """The broker answered with an error."""

    def __init__(self, error: Message) -> None:
        super().__init__(error["message"])
        self.code: int = error["code"]
        data = error.get("data")
        self.data: Message = data if isinstance(data, dict) else {}  # a backend's own errors have what they like
        self.kind: str = self.data.get("kind", "")


class Wire:
    """A client that knows nothing but lines of JSON: what a plugin author with a socket would write."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        try:
            self.sock.connect(path)
        except OSError:
            self.sock.close()
            raise
        self.lines = self.sock.makefile("rb")
        self.count = 0
        self.notes: list[Message] = []
        self.answers: dict[object, Message] = {}
        self.conformance = Conformance()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.lines.close()
        self.sock.close()

    def send(self, method: str, /, **params: object) -> int:
        self.count += 1
        self.write({"jsonrpc": "2.0", "id": self.count, "method": method, "params": params})
        return self.count

    def write(self, message: object) -> None:
        self.conformance.sent(message)
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def read(self) -> Any:
        line = self.lines.readline()
        if not line:
            raise EOFError("the broker closed the connection")
        message = json.loads(line)
        self.conformance.received(message)
        return message

    def answer(self, identity: object) -> Message:
        """The response with that id; whatever comes before it is kept."""
        while identity not in self.answers:
            message = self.read()
            if "method" in message:
                self.notes.append(message)
            else:
                self.answers[message["id"]] = message
        answer = self.answers.pop(identity)
        if "error" in answer:
            raise Failed(answer["error"])
        result: Message = answer["result"]
        return result

    def call(self, method: str, /, **params: object) -> Message:
        return self.answer(self.send(method, **params))

    def note(self, method: str = "") -> Message:
        """The next notification, of that method if one is given."""
        while True:
            message = self.notes.pop(0) if self.notes else self.read()
            if not method or message.get("method") == method:
                params: Message = message["params"]
                return params

    def refused(self, method: str, /, **params: object) -> Failed:
        """The error a call is answered with."""
        try:
            answer = self.call(method, **params)
        except Failed as exc:
            return exc
        raise AssertionError(f"{method} was not refused: {answer}")

    def start(self, *argv: str, **params: object) -> Message:
        job: Message = self.call("job/start", argv=list(argv), **params)["job"]
        return job

    def shell(self, script: str, **params: object) -> Message:
        return self.start("sh", "-c", script, **params)

    def get(self, reference: str) -> Message:
        job: Message = self.call("job/get", id=reference)["job"]
        return job

    def ended(self, reference: str) -> Message:
        """The job, once it has ended."""
        job: Message = self.call("job/wait", ids=[reference])["jobs"][0]
        return job

    def run(self, *argv: str, **params: object) -> Message:
        return self.ended(self.start(*argv, **params)["id"])

    def output(self, reference: str, **params: object) -> str:
        data: str = self.call("job/output", id=reference, **params)["data"]
        return data

    def until_output(self, reference: str, wanted: str) -> str:
        """Everything written so far, once `wanted` is among it."""
        seen, cursor = "", "0"
        while wanted not in seen:
            piece = self.call("job/output", id=reference, waitMs=int(PATIENCE * 1000), **{"from": cursor})
            seen += piece["data"]
            cursor = piece["next"]
            assert wanted in seen or not piece["eof"], f"{wanted!r} never came: {seen!r}"
        return seen


class Home:
    """The directories of one broker, and the brokers that run in them one after another."""

    def __init__(self, root: Path, instance: str = "default", **environ: str) -> None:
        self.root = root
        self.instance = instance
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "JOBBROKER_RUNTIME_DIR": str(root / "run"),
            "JOBBROKER_STATE_DIR": str(root / "state"),
            "JOBBROKER_CONFIG": str(root / "config.toml"),
            **environ,
        }
        self.state = root / "state" / instance
        self.socket = root / "run" / f"{instance}.sock"
        self.log = root / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.wires: list[Wire] = []

    def spawn(self, *flags: str) -> subprocess.Popen[bytes]:
        """Start a broker without waiting for it."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    *["-W", "error", "-P", "-m", "jobbroker", "--stderr", "--instance"],
                    self.instance,
                    *flags,
                ],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self, *flags: str) -> int:
        """Start a broker and wait until it says that it is ready; its pid."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind("")  # an abstract name of the kernel's choice
            ready.settimeout(PATIENCE)
            name: bytes = ready.getsockname()
            self.environ["NOTIFY_SOCKET"] = "@" + name[1:].decode()
            try:
                self.process = self.spawn(*flags)
                said = ready.recv(1000)
            finally:
                del self.environ["NOTIFY_SOCKET"]
        assert said.split(b"\n")[0] == b"READY=1", said
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL the broker."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE)

    def restart(self) -> int:
        """SIGKILL the broker and start the next one."""
        self.kill()
        return self.start()

    def wait(self) -> int:
        """The exit status of the broker, once it has ended."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def connect(self) -> Wire:
        wire = Wire(str(self.socket))
        self.wires.append(wire)
        return wire

    def record(self, name: str) -> bytes:
        return (self.state / "jobs" / name / "record").read_bytes()

    def log_text(self) -> str:
        return self.log.read_text()

    def close(self) -> None:
        for wire in self.wires:
            wire.close()
        if self.process is None:
            return
        if self.process.poll() is None:
            with Wire(str(self.socket)) as wire:
                wire.call("broker/shutdown", mode="cancelJobs", graceMs=0)
        self.process.wait(PATIENCE)
        before, found, after = self.log_text().partition("Traceback")
        assert not found, before[-500:] + found + after[:3000]


class Processes:
    """Everything below the test process: whoever loses his parent comes to us, so nobody can hide."""

    def __init__(self, brokers: Callable[[], list[int]] = list) -> None:
        """Spare the shims and fork servers of `brokers`, which outlive a single test."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.brokers = brokers

    def __enter__(self) -> Self:
        self.before = set(descendants(os.getpid()))
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        deadline = time.monotonic() + PATIENCE / 3
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.01)
        names = {pid: command(pid) for pid in left}
        while left:  # stopped first, or what multiplies would outrun us, and all tests after this one
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
            left = self._left()
        assert not names, f"processes survived the test: {names}"

    def _left(self) -> list[int]:
        left: list[int] = []
        spared = {pid for broker in self.brokers() for pid in descendants(broker) if is_ours(pid)}
        for pid in descendants(os.getpid()):
            if pid in self.before or pid in spared:
                continue
            stat = read_stat(pid)
            if stat is None:
                continue
            if stat[0] == b"Z" and int(stat[1]) == os.getpid():
                os.waitpid(pid, os.WNOHANG)
            elif stat[0] != b"Z":
                left.append(pid)
        return left


def command(pid: int) -> str:
    """What a process is called, for messages."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return "?"


def is_ours(pid: int) -> bool:
    """Whether it is a shim or a fork server."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("jobbroker-")
    except OSError:
        return False


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    stat = read_stat(pid)
    return stat is not None and stat[0] != b"Z"


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait for something that nothing tells of: the kernel's doing, another process's file."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.005)


def lines(wire: Wire) -> Iterator[Any]:
    """Everything that comes, until the broker closes."""
    while True:
        try:
            yield wire.read()
        except EOFError:
            return
