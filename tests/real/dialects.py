"""What models are spoken to in, by the path of the request: how a prompt is found, how an answer is told as events.

OpenAI's Responses for codex, chat completions for opencode, Anthropic's Messages for claude.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

NAME = "stand-in"

Json = dict[str, Any]
Events = Iterator[Json | str]


class Dialect(NamedTuple):
    """A way to speak to a model.

    Attributes:
        messages: where in a request the conversation is.
        say: a message, of words that come one after another.
        call: the wish to have a command run.
    """

    messages: str
    say: Callable[[Iterator[str]], Events]
    call: Callable[[str], Events]


def last_text(message: Json) -> str:
    """What a message says; of several parts the last, those before are the program's own."""
    content: str | list[Json] = message.get("content") or ""
    return content if isinstance(content, str) else str(content[-1].get("text", ""))


# --- Responses ------------------------------------------------------------------------------------------------------

_USAGE: Json = {"input_tokens": 1, "input_tokens_details": None, "output_tokens": 1, "output_tokens_details": None}
_COMPLETED: Json = {
    "type": "response.completed",
    "response": {"id": "response-1", "usage": {**_USAGE, "total_tokens": 2}},
}


def _say_as_response(words: Iterator[str]) -> Events:
    message: Json = {"type": "message", "role": "assistant", "id": "message-1", "content": []}
    yield {"type": "response.created", "response": {"id": "response-1"}}
    yield {"type": "response.output_item.added", "output_index": 0, "item": message}
    said = ""
    for word in words:
        said += word
        place = {"item_id": "message-1", "output_index": 0, "content_index": 0}
        yield {"type": "response.output_text.delta", "delta": word, **place}
    done = {**message, "content": [{"type": "output_text", "text": said}]}
    yield {"type": "response.output_item.done", "output_index": 0, "item": done}
    yield _COMPLETED


def _call_as_response(command: str) -> Events:
    call = {"name": "exec_command", "arguments": json.dumps({"cmd": command}), "id": "call-1", "call_id": "call-1"}
    yield {"type": "response.created", "response": {"id": "response-1"}}
    yield {"type": "response.output_item.done", "output_index": 0, "item": {"type": "function_call", **call}}
    yield _COMPLETED


# --- chat completions -----------------------------------------------------------------------------------------------


def _chunk(delta: Json, finish: str | None = None) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": NAME, "choices": [choice]}


def _say_as_chunks(words: Iterator[str]) -> Events:
    for word in words:
        yield _chunk({"role": "assistant", "content": word})
    yield _chunk({}, "stop")
    yield "[DONE]"


def _call_as_chunks(command: str) -> Events:
    arguments = json.dumps({"command": command, "description": "as asked"})
    call = {"index": 0, "id": "call-1", "type": "function", "function": {"name": "bash", "arguments": arguments}}
    yield _chunk({"role": "assistant", "tool_calls": [call]})
    yield _chunk({}, "tool_calls")
    yield "[DONE]"


# --- Messages -------------------------------------------------------------------------------------------------------


def _as_message(block: Json, deltas: Iterator[Json], why: str) -> Events:
    message: Json = {"id": "message-1", "type": "message", "role": "assistant", "model": NAME, "content": []}
    tokens = {"input_tokens": 1, "output_tokens": 1}
    yield {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None, "usage": tokens}}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": why, "stop_sequence": None},
        "usage": {"output_tokens": 2},
    }
    yield {"type": "message_stop"}


def _say_as_message(words: Iterator[str]) -> Events:
    deltas: Iterator[Json] = ({"type": "text_delta", "text": word} for word in words)
    return _as_message({"type": "text", "text": ""}, deltas, "end_turn")


def _call_as_message(command: str) -> Events:
    arguments = json.dumps({"command": command, "description": "as asked"})
    block: Json = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}
    return _as_message(block, iter([{"type": "input_json_delta", "partial_json": arguments}]), "tool_use")


DIALECTS = {
    "/v1/responses": Dialect("input", _say_as_response, _call_as_response),
    "/v1/chat/completions": Dialect("messages", _say_as_chunks, _call_as_chunks),
    "/v1/messages": Dialect("messages", _say_as_message, _call_as_message),
}
