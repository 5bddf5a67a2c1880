"""What both directions share: the books, and how something is sent. Everything that is to happen is collected here."""

from __future__ import annotations

from collections import deque
from typing import Literal

from jobbroker.core.dotted import Absent, fill, put
from jobbroker.core.profile import Profile
from jobbroker.core.routing.asking import Asking
from jobbroker.core.routing.calls import Call, Calls, Purpose
from jobbroker.core.routing.effects import Client, Effect, Start, ToBackend, ToClient, TurnBegan
from jobbroker.core.routing.health import Health
from jobbroker.core.routing.interests import Interests, RefCounts
from jobbroker.core.routing.messages import write
from jobbroker.core.routing.tokens import Tokens
from jobbroker.core.routing.turns import Turn, Turns, cancel_params
from jobclient.protocol import errors
from jobclient.protocol.jsonrpc import Json

MAX_HELD = 4096
"""Messages that wait for a backend that starts; more are refused."""
MAX_UNSENT = 16 * 1024 * 1024
"""Bytes of messages that wait for it to start, or to take more requests; more are refused."""
State = Literal["down", "starting", "up"]


class Desk:
    """The books of one backend.

    Attributes:
        state: whether there is a backend, and it has answered.
        open: it takes messages; before its handshake is done it takes nothing else.
        congested: it does not read what it was sent.
        handshake: the answer to the handshake, once there is one.
        clients: in the order they came.
        dropped: answers that came too late, and messages nobody could be found for.
        owed: since when a sign of life is wanted: a request was given up that it had, or somebody was answered for it.
        unsent: bytes of messages that wait here.
    """

    def __init__(self, profile: Profile, now: float) -> None:
        self.profile = profile
        self.effects: list[Effect] = []
        self.calls = Calls()
        self.interests = Interests(profile)
        self.refcounts = RefCounts(profile)
        self.tokens = Tokens(profile)
        self.asking = Asking(profile.server_requests)
        self.turns = Turns(self.effects.append)
        self.health = Health(profile.probe, now)
        self.state: State = "down"
        self.open = False
        self.congested = False
        self.handshake: dict[str, Json] | None = None
        self.clients: dict[Client, None] = {}
        self.held: deque[Call | bytes] = deque()
        self.dropped = 0
        self.owed: float | None = None
        self.unsent = 0

    # --- to clients -------------------------------------------------------------------------------------------------

    def tell(self, client: Client, message: dict[str, Json], *, lossy: bool = False) -> None:
        """Send a client a message."""
        if client in self.clients:
            self.effects.append(ToClient(client, write(message, jsonrpc=True), lossy))

    def tell_all(self, clients: list[Client], message: dict[str, Json], *, lossy: bool = False) -> None:
        """Send several the same, written once."""
        text = write(message, jsonrpc=True)
        self.effects += [ToClient(client, text, lossy) for client in clients if client in self.clients]

    def answer(self, client: Client, identity: int | str, outcome: dict[str, Json]) -> None:
        """Answer a client's request, under its own id."""
        self.tell(client, {"id": identity, **outcome})

    def refuse(self, client: Client, identity: int | str, error: errors.RemoteError) -> None:
        """Answer it with an error of ours."""
        self.answer(client, identity, failure(error))

    # --- to the backend ---------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Somebody needs the backend."""
        if self.state == "down":
            self.state = "starting"
            self.effects.append(Start())

    def call(self, purpose: Purpose, method: str, now: float, seconds: float) -> Call:
        """A request to the backend, not sent yet."""
        return self.calls.new(purpose, method, now, now + seconds)

    def send_call(self, call: Call, params: Json) -> None:
        """Send a request as soon as the backend takes one more."""
        self.wake()
        call.message = self.written({"id": call.bid, **body(call.method, params)})
        self.unsent += len(call.message)
        if self.open or call.purpose == "handshake":
            self._send_or_queue(call)
        else:
            self.held.append(call)

    def _send_or_queue(self, call: Call) -> None:
        limit = self.profile.backend.concurrency
        if limit and call.purpose in ("client", "turn") and self.calls.sent >= limit:
            self.calls.waiting.append(call)
        else:
            self._send_now(call)

    def _send_now(self, call: Call) -> None:
        self.effects.append(ToBackend(call.message))
        self._forget_message(call)
        self.calls.mark_sent(call)
        turn = self.turns.get(call.turn) if call.purpose == "turn" else None
        if turn is not None:
            turn.began = True
            self.effects.append(TurnBegan(turn.name))

    def _forget_message(self, call: Call) -> None:
        self.unsent -= len(call.message)
        call.message = b""

    def send(self, message: dict[str, Json]) -> None:
        """Send what is no request."""
        self.wake()
        text = self.written(message)
        if self.open:
            self.effects.append(ToBackend(text))
        elif self.full is None:
            self.held.append(text)
            self.unsent += len(text)
        else:
            self.dropped += 1

    def release(self) -> None:
        """The backend takes messages from now on: all that waited, in order."""
        self.open = True
        held, self.held = self.held, deque()
        for each in held:
            if isinstance(each, bytes):
                self.effects.append(ToBackend(each))
                self.unsent -= len(each)
            elif self.calls.get(each.bid) is each:
                self._send_or_queue(each)

    def send_waiting(self) -> None:
        """The backend may take one more."""
        limit = self.profile.backend.concurrency
        while self.calls.waiting and self.open and self.calls.sent < limit:
            self._send_now(self.calls.waiting.popleft())

    @property
    def full(self) -> str | None:
        """Why no more requests can be taken, None while they can."""
        if self.congested:
            return "the backend does not read what it is sent"
        if len(self.held) >= MAX_HELD:
            return "too many requests wait for the backend to start"
        if self.unsent > MAX_UNSENT:
            return "too much waits for the backend to take it"
        if self.profile.backend.concurrency and len(self.calls.waiting) >= self.profile.backend.queue:
            return "the backend takes no more requests at once, and too many wait for it"
        return None

    def written(self, message: dict[str, Json]) -> bytes:
        """A message as this backend wants it."""
        return write(message, jsonrpc=self.profile.backend.jsonrpc)

    # --- taking back ------------------------------------------------------------------------------------------------

    def drop_call(self, call: Call) -> list[tuple[Client, int | str]]:
        """A request is answered or given up; who waited for it."""
        self._forget_message(call)
        asked = self.calls.drop(call)
        self.tokens.answered(call.bid)
        self.send_waiting()
        return asked

    def cancel_upstream(self, call: Call, extra: dict[str, Json] | None = None) -> bool:
        """Tell the backend that nobody wants an answer any more; whether there is a way to say so."""
        rule = self.profile.request_cancel
        if rule is None or not call.sent:
            return False
        self.send({"method": rule.notify, "params": put(extra or {}, rule.id, call.bid)})
        return True

    def cancel_turn(self, turn: Turn, now: float) -> None:
        """Tell the backend to end a turn, as soon as it is known by which name; some can only be forgotten."""
        how = turn.rule.cancel
        call = self.calls.get(turn.bid)
        if turn.cancel_sent:
            return
        if isinstance(how, str):
            told = how == "request_cancel" and call is not None and self.cancel_upstream(call)
            turn.cancel_sent = True
            rule = self.profile.request_cancel
            if not told or rule is None or not rule.answered:
                if call is not None:
                    self.drop_call(call)
                self.turns.over(turn)
            return
        params = cancel_params(turn, how)
        if isinstance(params, Absent):
            return  # the answer names it; until then the wish is remembered
        turn.cancel_sent = True
        if how.request is not None:
            interrupt = self.call("interrupt", how.request, now, 120)
            self.send_call(interrupt, params)
        elif how.notify is not None:
            self.send({"method": how.notify, "params": params})


def body(method: str, params: Json) -> dict[str, Json]:
    """Method and parameters, where there are any."""
    return {"method": method} if params is None else {"method": method, "params": params}


def failure(error: errors.RemoteError) -> dict[str, Json]:
    """An error of ours as the outcome of a request."""
    data: dict[str, Json] = {**error.data, "kind": error.kind}  # type: ignore[dict-item]
    return {"error": {"code": error.code, "message": error.message, "data": data}}


def farewell(params: dict[str, Json], value: Json) -> Json:
    """The params of a notification about a key."""
    filled = fill(params, {"value": value})
    return {} if isinstance(filled, Absent) else filled
