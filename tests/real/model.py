"""A model on loopback for real agents to talk to: it answers at once, half and then waits, or asks for a command.

It speaks the two dialects they know, both as server-sent events: OpenAI's Responses, and its chat completions. What it
answers depends on the prompt alone, so the tests that carry it need nobody's account, and no network.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

HOLD, RUN = "hold: ", "run: "
"""How a prompt begins after which the model waits in the middle of its answer, or wants the rest of it run."""
NAME = "stand-in"

Json = dict[str, Any]


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
            def answer(self, request: Json) -> Iterator[Json | str]:
                return model.answer(request)

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

    def answer(self, request: Json) -> Iterator[Json | str]:
        """The events that answer a request."""
        responses = "input" in request
        last: Json = request["input" if responses else "messages"][-1]
        text = _text_of(last)
        if last.get("role") == "user" and request.get("tools"):  # without tools, it is to find a title
            self.prompts.append(text)
        command = text.strip('"').partition(RUN)[2] if text.strip('"').startswith(RUN) else None
        if command is not None and request.get("tools"):
            return _call_as_response(command) if responses else _call_as_chunks(command)
        words = self._words(text, hold=text.strip('"').startswith(HOLD) and bool(request.get("tools")))
        return _say_as_response(words) if responses else _say_as_chunks(words)

    def _words(self, text: str, *, hold: bool) -> Iterator[str]:
        yield "You said: "
        if hold:
            self.begun.set()
            self.go.wait()
        yield text


class _Handler(BaseHTTPRequestHandler):
    def answer(self, request: Json) -> Iterator[Json | str]:
        raise NotImplementedError

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's word
        """Say nothing."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for event in self.answer(request):
                data = event if isinstance(event, str) else json.dumps(event)
                name = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
                self.wfile.write(f"{name}data: {data}\n\n".encode())
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):  # the agent was ended
            pass


def _text_of(item: Json) -> str:
    content: str | list[Json] = item.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


# --- Responses ------------------------------------------------------------------------------------------------------


def _say_as_response(words: Iterator[str]) -> Iterator[Json]:
    message: Json = {"type": "message", "role": "assistant", "id": "message-1", "content": []}
    yield {"type": "response.created", "response": {"id": "response-1"}}
    yield {"type": "response.output_item.added", "output_index": 0, "item": message}
    said = ""
    for word in words:
        said += word
        yield {"type": "response.output_text.delta", "item_id": "message-1", "output_index": 0, "content_index": 0,
               "delta": word}  # fmt: skip
    done = {**message, "content": [{"type": "output_text", "text": said}]}
    yield {"type": "response.output_item.done", "output_index": 0, "item": done}
    yield _COMPLETED


def _call_as_response(command: str) -> Iterator[Json]:
    call = {"type": "function_call", "id": "call-1", "call_id": "call-1", "name": "exec_command",
            "arguments": json.dumps({"cmd": command})}  # fmt: skip
    yield {"type": "response.created", "response": {"id": "response-1"}}
    yield {"type": "response.output_item.done", "output_index": 0, "item": call}
    yield _COMPLETED


_USAGE: Json = {"input_tokens": 1, "input_tokens_details": None, "output_tokens": 1, "output_tokens_details": None,
                "total_tokens": 2}  # fmt: skip
_COMPLETED: Json = {"type": "response.completed", "response": {"id": "response-1", "usage": _USAGE}}


# --- chat completions -----------------------------------------------------------------------------------------------


def _chunk(delta: Json, finish: str | None = None) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": NAME, "choices": [choice]}


def _say_as_chunks(words: Iterator[str]) -> Iterator[Json | str]:
    for word in words:
        yield _chunk({"role": "assistant", "content": word})
    yield _chunk({}, "stop")
    yield "[DONE]"


def _call_as_chunks(command: str) -> Iterator[Json | str]:
    arguments = json.dumps({"command": command, "description": "as asked"})
    call = {"index": 0, "id": "call-1", "type": "function", "function": {"name": "bash", "arguments": arguments}}
    yield _chunk({"role": "assistant", "tool_calls": [call]})
    yield _chunk({}, "tool_calls")
    yield "[DONE]"
