"""A model that wants a command run outside the sandbox, for which codex asks whoever uses it."""

from __future__ import annotations

import json

from real.dialects import Dialect, Events, Json
from real.model import Model

ASK = "ask: "
"""How a prompt begins the rest of which the model wants run, with permission."""


class AskingModel(Model):
    """Says how the command went once it knows."""

    def answer(self, dialect: Dialect, request: Json) -> Events:
        """As any other, but for prompts that want a permission."""
        messages = request[dialect.messages]
        prompt = str(next((m["content"][-1]["text"] for m in reversed(messages) if m.get("role") == "user"), ""))
        if not prompt.startswith(ASK):
            return super().answer(dialect, request)
        if messages[-1].get("type") == "function_call_output":
            return dialect.say(iter(["It said: ", str(messages[-1]["output"])]))
        return _wish(prompt.removeprefix(ASK))


def _wish(command: str) -> Events:
    wanted = {"cmd": command, "sandbox_permissions": "require_escalated", "justification": "the test wants it"}
    call = {"name": "exec_command", "arguments": json.dumps(wanted), "id": "call-1", "call_id": "call-1"}
    yield {"type": "response.created", "response": {"id": "response-1"}}
    yield {"type": "response.output_item.done", "output_index": 0, "item": {"type": "function_call", **call}}
    usage: Json = {"input_tokens": 1, "input_tokens_details": None, "output_tokens": 1, "output_tokens_details": None}
    yield {"type": "response.completed", "response": {"id": "response-1", "usage": {**usage, "total_tokens": 2}}}
