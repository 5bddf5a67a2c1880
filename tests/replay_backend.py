"""A backend that plays a recording of a real one: says what that said, when it has heard what that had heard.

    replay_backend.py RECORDING

Ids of requests, and tokens in them, are the ones it gets, not those of the recording. At the end it ends as that did,
unless WAIT is in its environment: then it waits for the end of its stdin.
"""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Message = dict[str, Any]
PLACE = "progressToken"


class Player:
    """What it has heard and not yet waited for, and how things are called here."""

    def __init__(self) -> None:
        self.stdin = sys.stdin.buffer
        self.heard: list[Message] = []
        self.ids: dict[str, Any] = {}
        self.tokens: dict[str, deque[Any]] = {}

    def play(self, steps: Iterator[Message]) -> None:
        for step in steps:
            if ">" in step and not self.is_in_vain(step[">"]):
                self.wait_for(step[">"])
            elif "<" in step:
                self.say(step["<"])
            elif "exit" in step:
                self.end(step["exit"])

    def is_in_vain(self, message: Message) -> bool:
        """Whether it takes back a request that there never was: that does not come so far."""
        cancels = message.get("method") == "notifications/cancelled"
        return cancels and json.dumps(message["params"]["requestId"]) not in self.ids

    def wait_for(self, wanted: Message) -> None:
        found = next((message for message in self.heard if same_kind(message, wanted)), None)
        while found is None:
            line = self.stdin.readline()
            if not line:
                sys.exit("nobody says what the recording waits for: " + json.dumps(wanted))
            message = json.loads(line)
            self.heard.append(message)
            if same_kind(message, wanted):
                found = message
        self.heard.remove(found)
        if "method" in wanted and "id" in wanted:
            self.ids[json.dumps(wanted["id"])] = found["id"]
            token = token_of(wanted)
            if token is not None:
                self.tokens.setdefault(json.dumps(token), deque()).append(token_of(found))

    def say(self, message: Message) -> None:
        if "method" not in message:
            message = {**message, "id": self.ids[json.dumps(message["id"])]}
        token = message.get("params", {}).get(PLACE)
        if token is not None:
            known = self.tokens[json.dumps(token)]
            message = {**message, "params": {**message["params"], PLACE: known[0]}}
            known.rotate(-1)  # two who use the same cannot be told apart in the recording; here they can
        os.write(1, json.dumps(message).encode() + b"\n")

    def end(self, status: int) -> None:
        if os.environ.get("WAIT"):
            return
        if status < 0:
            os.kill(os.getpid(), -status)
        os._exit(status)


def token_of(message: Message) -> Any:
    """The token of a request, if it has one."""
    params: Any = message.get("params")
    return params["_meta"].get(PLACE) if "_meta" in (params or ()) else None


def same_kind(message: Message, wanted: Message) -> bool:
    """Whether a message may be the one that the recording waits for."""
    if "method" in wanted:
        return message.get("method") == wanted["method"] and ("id" in message) == ("id" in wanted)
    return "method" not in message and message.get("id") == wanted["id"]


def main() -> None:
    recording = Path(sys.argv[1]).read_text()
    Player().play(json.loads(line) for line in recording.splitlines())
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
