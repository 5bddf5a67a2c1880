"""A backend for tests: speaks JSON-RPC on its stdio and does what its clients tell it, misbehaviour included.

    fake_backend.py [--headers] [--handshake] [--plain]

--headers frames by Content-Length, --handshake wants `initialize` first, --plain leaves out the member `jsonrpc`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

FLAGS = sys.argv[1:]
HEADERS = "--headers" in FLAGS
Message = dict[str, Any]


class Backend:
    """What the backend knows."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ready = "--handshake" not in FLAGS
        self.handshakes = 0
        self.asked = 0
        self.answers: dict[int, Callable[[Message], None]] = {}
        self.heard: list[Message] = []
        self.gates: dict[str, threading.Event] = {}

    def write(self, message: Message) -> None:
        if "--plain" not in FLAGS:
            message = {"jsonrpc": "2.0", **message}
        self.raw(json.dumps(message).encode())

    def raw(self, text: bytes) -> None:
        framed = b"Content-Length: %d\r\n\r\n%s" % (len(text), text) if HEADERS else text + b"\n"
        with self.lock:
            left = memoryview(framed)
            while left:
                left = left[os.write(1, left) :]

    def ask(self, method: str, params: Any, then: Callable[[Message], None]) -> int:
        identity = self.asked
        self.asked += 1
        self.answers[identity] = then
        self.write({"id": identity, "method": method, "params": params})
        return identity

    def gate(self, name: str) -> threading.Event:
        return self.gates.setdefault(name, threading.Event())

    # --- requests ---------------------------------------------------------------------------------------------------

    def take(self, message: Message) -> None:
        if "method" not in message:
            then = self.answers.pop(message.get("id", -1), None)
            if then is not None:
                then(message)
            return
        self.heard.append(message)
        if "id" not in message:
            self.notice(message["method"], message.get("params") or {})
            return
        method = message["method"]
        if not self.ready and method != "initialize":
            self.refuse(message, -32600, "Not initialized")
            return
        handler = getattr(self, "do_" + method.replace("/", "_"), None)
        if handler is None:
            self.refuse(message, -32601, f"no method {method}")
        else:
            handler(message, message.get("params") or {})

    def notice(self, method: str, params: Any) -> None:
        if method == "exit":
            os._exit(0)
        if method == "open":
            self.gate(params["gate"]).set()

    def reply(self, message: Message, result: Any) -> None:
        self.write({"id": message["id"], "result": result})

    def refuse(self, message: Message, code: int, text: str) -> None:
        self.write({"id": message["id"], "error": {"code": code, "message": text}})

    def do_initialize(self, message: Message, params: Any) -> None:
        self.handshakes += 1
        if self.ready:
            self.refuse(message, -32600, "Already initialized")
            return
        self.ready = True
        self.reply(message, {"server": "fake", "got": params})

    def do_echo(self, message: Message, params: Any) -> None:
        self.reply(message, params)

    def do_heard(self, message: Message, _params: Any) -> None:
        self.reply(message, {"messages": self.heard, "handshakes": self.handshakes, "pid": os.getpid()})

    def do_silent(self, message: Message, params: Any) -> None:
        pass

    def do_sleep(self, message: Message, params: Any) -> None:
        def rest() -> None:
            time.sleep(params["seconds"])
            self.reply(message, {})

        threading.Thread(target=rest, daemon=True).start()

    def do_wait(self, message: Message, params: Any) -> None:
        def rest() -> None:
            self.gate(params["gate"]).wait()
            self.reply(message, {})

        threading.Thread(target=rest, daemon=True).start()

    def do_notify(self, message: Message, params: Any) -> None:
        for each in params["messages"]:
            self.write(each)
        self.reply(message, {})

    def do_deltas(self, message: Message, params: Any) -> None:
        for number in range(params["count"]):
            self.write({"method": "delta", "params": {"thread": params["thread"], "n": number, "pad": "x" * 300}})
        self.reply(message, {})

    def do_big(self, message: Message, params: Any) -> None:
        self.reply(message, {"text": "x" * params["size"]})

    def do_ask(self, message: Message, params: Any) -> None:
        self.ask(params["what"], params.get("params"), lambda answer: self.reply(message, answer))

    def do_raw(self, message: Message, params: Any) -> None:
        self.raw(params["text"].encode("latin-1"))
        self.reply(message, {})

    # --- endings ----------------------------------------------------------------------------------------------------

    def do_die(self, _message: Message, params: Any) -> None:
        os.write(2, b"\x1b[31mfake: dying\x1b[0m as told\n")
        if "signal" in params:
            os.kill(os.getpid(), getattr(signal, params["signal"]))
        os._exit(params.get("code", 0))

    def do_eof(self, _message: Message, _params: Any) -> None:
        os.close(1)

    def do_deafen(self, message: Message, _params: Any) -> None:
        os.close(0)
        self.reply(message, {})
        threading.Event().wait()

    def do_spawn(self, message: Message, _params: Any) -> None:
        """Leave a grandchild behind in a session of its own, which ignores SIGTERM."""
        script = "trap '' TERM HUP; echo $$; exec sleep 1000"
        child = subprocess.Popen(["setsid", "sh", "-c", script], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert child.stdout is not None
        self.reply(message, {"pid": int(child.stdout.readline())})

    # --- turns ------------------------------------------------------------------------------------------------------

    def do_turn_start(self, message: Message, params: Any) -> None:
        """A turn as its script says: messages with $turn in them, `respond`, `wait`, in any order."""
        turn = params.get("turn", f"t{message['id']}")

        def play() -> None:
            for step in params["script"]:
                if step == "respond":
                    self.reply(message, {"turn": {"id": turn, "status": "inProgress"}})
                elif isinstance(step, str):
                    self.gate(step).wait()
                else:
                    self.write(json.loads(json.dumps(step).replace("$turn", turn)))

        threading.Thread(target=play, daemon=True).start()

    def do_turn_interrupt(self, message: Message, params: Any) -> None:
        self.reply(message, {})
        turn = {"id": params["turnId"], "status": "interrupted", "error": None}
        self.write({"method": "turn/completed", "params": {"threadId": params["threadId"], "turn": turn}})


def messages() -> Any:
    """All messages on stdin."""
    buffer = b""
    while True:
        if HEADERS:
            head, found, rest = buffer.partition(b"\r\n\r\n")
            length = int(re.findall(rb"(?i)content-length: *(\d+)", head)[0]) if found else 0
            if found and len(rest) >= length:
                buffer = rest[length:]
                yield json.loads(rest[:length])
                continue
        else:
            line, found, rest = buffer.partition(b"\n")
            if found:
                buffer = rest
                yield json.loads(line.decode())
                continue
        piece = os.read(0, 65536)
        if not piece:
            return
        buffer += piece


def main() -> None:
    backend = Backend()
    for message in messages():
        backend.take(message)
    if "--deaf" in FLAGS:
        threading.Event().wait()


if __name__ == "__main__":
    main()
