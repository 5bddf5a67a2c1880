"""A model on loopback for real agents to talk to: it answers at once, half and then waits, or asks for a command.

What it answers depends on the prompt alone, so the tests that carry it need nobody's account, and no network.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from real.dialects import DIALECTS, Dialect, Events, Json, last_text

HOLD, RUN = "hold: ", "run: "
"""How a prompt begins after which the model waits in the middle of its answer, or wants the rest of it run."""


class Model:
    """Listens on a port of its own.

    Attributes:
        port: where.
        prompts: what it was asked, in order.
        begun: set once half of an answer that is held has been sent.
        go: set to let it send the rest.
    """

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        model = self

        class Handler(_Handler):
            def answer(self, dialect: Dialect, request: Json) -> Events:
                return model.answer(dialect, request)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, dialect: Dialect, request: Json) -> Events:
        """The events that answer a request; one that offers no tools is for a title, or the like."""
        asked = [message for message in request[dialect.messages] if message.get("role") == "user"]
        prompt = last_text(asked[-1]) if asked else ""
        begun = prompt.strip('"')
        if not request.get("tools"):
            return dialect.say(iter(["A title"]))
        self.prompts.append(prompt)
        if begun.startswith(RUN):
            return dialect.call(begun.removeprefix(RUN))
        return dialect.say(self._words(prompt, hold=begun.startswith(HOLD)))

    def _words(self, prompt: str, *, hold: bool) -> Iterator[str]:
        yield "You said: "
        if hold:
            self.begun.set()
            self.go.wait()
        yield prompt


class _Handler(BaseHTTPRequestHandler):
    def answer(self, dialect: Dialect, request: Json) -> Events:
        raise NotImplementedError

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's word
        """Say nothing."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        dialect = DIALECTS.get(self.path.partition("?")[0])
        if dialect is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for event in self.answer(dialect, request):
                data = event if isinstance(event, str) else json.dumps(event)
                name = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
                self.wfile.write(f"{name}data: {data}\n\n".encode())
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):  # the agent was ended
            pass
