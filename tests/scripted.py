"""A broker that is a script: real frames over a real socket, answers as the test says, as no real one would give."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

from jobclient import paths
from jobclient.protocol import PROTOCOL_VERSION
from jobclient.protocol.errors import RemoteError, to_wire

Params = dict[str, Any]
Answer = Callable[[Params], object]


class HangUp(Exception):
    """Raised by an answer: close the connection instead."""


class Notify(Exception):
    """Raised by an answer: send these lines instead, then go on."""

    def __init__(self, *lines: bytes) -> None:
        self.lines = lines


class Silent(Exception):
    """Raised by an answer: give none."""


PING = {"pid": 1, "version": "0", "protocol": PROTOCOL_VERSION, "instance": "x", "startedAt": "", "uptimeMs": 0}
JOB = {
    "id": "bcdfgh", "number": 1, "kind": "command", "status": "completed", "argv": ["true"], "cwd": "/",
    "createdAt": "2025-11-21T02:14:11.123Z", "name": "tests", "labels": {}, "agent": None, "prompt": None,
    "origin": None, "reason": "exit", "exitCode": 0, "signal": None, "error": None, "pid": 5, "pgid": 5,
    "startedAt": "2025-11-21T02:14:11.200Z",
    "stoppedAt": None, "completedAt": "2025-11-21T02:15:11.200Z", "durationMs": 60000, "timeoutMs": 0,
    "idleTimeoutMs": 0, "graceMs": 5000, "cancelRequested": False, "merged": True, "persist": True, "rev": 1,
    "stdout": {"size": 0, "dropped": 0, "closed": True}, "stderr": {"size": 0, "dropped": 0, "closed": True},
}  # fmt: skip


class Scripted:
    """Listens at a path; `seen` is every request in order, `connections` counts those made."""

    def __init__(self, path: str, **answers: Answer) -> None:
        self.answers: dict[str, Answer] = {"broker_ping": lambda _: PING, **answers}
        self.seen: list[tuple[str, Params]] = []
        self.connections = 0
        self.open: list[socket.socket] = []
        paths.make_private_dir(os.path.dirname(path))
        self._listener = socket.socket(socket.AF_UNIX)
        with paths.short_address(path) as address:
            self._listener.bind(address)
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for client in self.open:
            try:
                client.shutdown(socket.SHUT_RDWR)  # a thread that reads would keep it open
            except OSError:
                pass
            client.close()

    def methods(self) -> list[str]:
        return [method for method, _ in self.seen]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client.makefile("rb") as lines:
                for line in lines:
                    self._take(client, json.loads(line))
        except (HangUp, OSError, ValueError):
            pass
        try:
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _take(self, client: socket.socket, message: dict[str, Any] | list[dict[str, Any]]) -> None:
        try:
            answer = [self._answer(each) for each in message] if isinstance(message, list) else self._answer(message)
            client.sendall(json.dumps(answer).encode() + b"\n")
        except Silent:
            pass
        except Notify as exc:
            for line in exc.lines:
                client.sendall(line + b"\n")

    def _answer(self, request: Any) -> dict[str, object]:
        self.seen.append((request["method"], request["params"]))
        if "id" not in request:
            raise Silent
        answer = self.answers[request["method"].replace("/", "_")]
        try:
            return {"jsonrpc": "2.0", "id": request["id"], "result": answer(request["params"])}
        except RemoteError as exc:
            return {"jsonrpc": "2.0", "id": request["id"], "error": to_wire(exc)}


def in_turn(*answers: object) -> Answer:
    """Answers one after another: results, or exceptions to raise; the last one again and again."""
    left = list(answers)

    def answer(_: Params) -> object:
        given = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(given, Exception):
            raise given
        return given

    return answer
