"""A router without anything around it: clients and a backend as lists of messages, and a clock that is set."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from jobbroker.core.profile import Profile
from jobbroker.core.routing import effects
from jobbroker.core.routing.effects import Effect, Exit
from jobbroker.core.routing.router import Router
from jobbroker.profile_files import load

Message = dict[str, Any]
NOWHERE = Path("/nonexistent/config.toml")


def shipped(name: str, **changes: object) -> Profile:
    """A profile that comes with the broker, with a command, and changes."""
    return load(name, NOWHERE, {"command": ["x"], **changes})


class Desk:
    """A router, what it wanted done, and the time."""

    def __init__(self, profile: Profile | None = None) -> None:
        self.profile = profile or shipped("generic")
        self.now = 1000.0
        self.router = Router(self.profile, self.now)
        self.up: list[Message] = []
        self.down: dict[int, list[Message]] = {}
        self.lossy: list[Message] = []
        self.turns: list[Effect] = []
        self.other: list[Effect] = []
        self.answered: dict[int, Message] = {}

    def take(self, found: Iterable[Effect]) -> None:
        for effect in found:
            match effect:
                case effects.ToBackend(text):
                    self.up.append(json.loads(text))
                case effects.ToClient(client, text, lossy):
                    assert client in self.down, f"to a stranger: {text!r}"
                    self.down[client].append(json.loads(text))
                    if lossy:
                        self.lossy.append(json.loads(text))
                case effects.Answered(ticket, outcome):
                    self.answered[ticket] = outcome
                case effects.TurnBegan() | effects.TurnOutput() | effects.TurnEnded():
                    self.turns.append(effect)
                case _:
                    self.other.append(effect)

    # --- what happens -----------------------------------------------------------------------------------------------

    def join(self, *clients: int) -> None:
        for client in clients:
            self.down[client] = []
            self.router.connect(client)

    def leave(self, client: int) -> None:
        self.take(self.router.disconnect(client, self.now))
        del self.down[client]

    def ask(self, client: int, identity: object, method: str, params: object = None) -> None:
        text = b"{}" if params is None else json.dumps(params).encode()
        self.take(self.router.request(client, json.dumps(identity).encode(), method, text, self.now))

    def note(self, client: int, method: str, params: object) -> None:
        self.take(self.router.notification(client, method, json.dumps(params).encode(), self.now))

    def reply(self, client: int, **message: object) -> None:
        self.take(self.router.response(client, json.dumps(message).encode(), self.now))

    def start(self) -> None:
        """The process runs; its handshake, if it wants one, is answered."""
        self.take(self.router.started(self.now))
        if self.profile.handshake is not None:
            (shake,) = [message for message in self.up if message.get("method") == self.profile.handshake.request]
            self.say(id=shake["id"], result={"server": "here"})
        else:
            self.say(method="hello")

    def say(self, **message: object) -> None:
        """The backend writes a message."""
        self.write(json.dumps(message).encode())

    def write(self, text: bytes) -> None:
        self.router.heard_from(self.now)
        self.take(self.router.message(text, self.now))

    def die(self, reason: str = "ended with exit status 0") -> None:
        self.take(self.router.ended(Exit(reason, 0, None, "last words"), self.now))

    def turn(self, name: str, method: str, params: object, **limits: float) -> None:
        limits.setdefault("timeout", 1800)
        converted = msgspec.json.decode(json.dumps(params).encode())
        self.take(self.router.start_turn(name, method, converted, self.now, **limits))

    def cancel(self, name: str, reason: effects.TurnReason = "user", grace: float = 10) -> None:
        self.take(self.router.cancel_turn(name, reason, grace, self.now))

    def pass_time(self, seconds: float) -> None:
        """Let time pass as a clock would: each deadline is met at its time."""
        end = self.now + seconds
        while (due := self.router.due()) is not None and due <= end:
            assert due >= self.now - seconds
            self.now = max(self.now, due)
            self.take(self.router.tick(self.now))
            assert self.router.due() != due or due > self.now, "a deadline that never passes"
        self.now = end

    # --- what came of it --------------------------------------------------------------------------------------------

    def got(self, client: int) -> list[Message]:
        """What a client was sent since the last look."""
        messages, self.down[client] = self.down[client], []
        return messages

    def sent(self) -> list[Message]:
        """What the backend was sent since the last look."""
        messages, self.up = self.up, []
        return messages

    def kinds(self) -> list[str]:
        """What became of turns, in words."""
        return [
            "began" if isinstance(each, effects.TurnBegan)
            else each.text if isinstance(each, effects.TurnOutput)
            else f"{each.status}/{each.reason}"
            for each in self.turns
            if isinstance(each, effects.TurnBegan | effects.TurnOutput | effects.TurnEnded)
        ]  # fmt: skip


def running(profile: Profile | None = None, *clients: int) -> Desk:
    """A desk whose backend is up, with clients."""
    desk = Desk(profile)
    desk.join(*(clients or (1, 2)))
    desk.ask(next(iter(desk.down)), "wake", "x")
    desk.start()
    for message in desk.sent():
        if "id" in message and message["method"] == "x":
            desk.say(id=message["id"], result={})
    for client in desk.down:
        desk.got(client)
    return desk
