"""A client of a language server, which knows of no broker: headers, and answers to what it is asked."""

from __future__ import annotations

import json
import os
from typing import Any

from harness import Home, Message


class Editor:
    """One editor.

    Attributes:
        notes: what it was told and has not looked at.
        asked: what the server wanted to know of it.
    """

    def __init__(self, home: Home) -> None:
        self.wire = home.connect()
        self.count = 0
        self.notes: list[Message] = []
        self.asked: list[str] = []

    def send(self, message: Message) -> None:
        text = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.wire.sock.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))

    def read(self) -> Any:
        length = 0
        while (line := self.wire.lines.readline()) != b"\r\n":
            assert line, "the broker closed the connection"
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return json.loads(self.wire.lines.read(length))

    def next(self) -> Message | None:
        """The next answer, None if it was something else."""
        message: Message = self.read()
        if "method" in message and "id" in message:
            self.asked.append(message["method"])
            self.send({"id": message["id"], "result": None})
        elif "method" in message:
            self.notes.append(message)
        else:
            return message
        return None

    def call(self, method: str, params: object) -> Any:
        self.count += 1
        self.send({"id": self.count, "method": method, "params": params})
        while (answer := self.next()) is None:
            pass
        assert answer["id"] == self.count
        return answer.get("result")

    def greet(self) -> Any:
        hello: Message = {"processId": os.getpid(), "rootUri": None, "capabilities": {}}
        found = self.call("initialize", hello)
        self.send({"method": "initialized", "params": {}})
        return found

    def open(self, uri: str, text: str) -> None:
        document = {"uri": uri, "languageId": "python", "version": 1, "text": text}
        self.send({"method": "textDocument/didOpen", "params": {"textDocument": document}})

    def hover(self, uri: str, line: int, character: int) -> str:
        place = {"textDocument": {"uri": uri}, "position": {"line": line, "character": character}}
        return json.dumps(self.call("textDocument/hover", place))

    def until(self, method: str, uri: str) -> Message:
        """The first such notification about that document."""
        seen = 0
        while True:
            for note in self.notes[seen:]:
                if note["method"] == method and note["params"].get("uri") == uri:
                    return note
            seen = len(self.notes)
            assert self.next() is None
