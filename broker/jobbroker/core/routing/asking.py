"""What the backend asks: who may answer, what is answered if nobody does. One way or another it is answered, once.

Some backends stop serving everybody until they have an answer, so silence is the one thing they never get.
"""

from __future__ import annotations

from collections import OrderedDict

from jobbroker.core.dotted import expand, key_of
from jobbroker.core.profile import ServerRequests
from jobbroker.core.routing.effects import Client
from jobbroker.core.routing.interests import Name
from jobclient.protocol.jsonrpc import Json

MAX_REMEMBERED = 256
"""Answered requests whose ids are still known: the backend may speak of them once more."""
MAX_OPEN = 1000
"""Requests that may wait for clients at once; more are answered as if there were none."""
METHOD_NOT_FOUND = -32601


class Asked:
    """One request of the backend.

    Attributes:
        identity: its id, as the backend has it.
        names: the keys it speaks of.
        deadline: until when clients may answer.
        clients: those asked, each with the id by which it knows the request.
        waiting: those of them that may still answer.
        patient: it waits for a client to come, though there is none now.
    """

    __slots__ = ("clients", "deadline", "identity", "method", "names", "open", "params", "patient", "waiting")

    def __init__(self, identity: Json, method: str, params: Json, names: list[Name], deadline: float) -> None:
        self.identity = identity
        self.method = method
        self.params = params
        self.names = names
        self.deadline = deadline
        self.clients: dict[Client, int] = {}
        self.waiting: set[Client] = set()
        self.patient = False
        self.open = True


class Asking:
    """All requests of the backend: the open ones, and for a while the answered ones."""

    def __init__(self, rules: ServerRequests) -> None:
        self._rules = rules
        self._asked: OrderedDict[str, Asked] = OrderedDict()
        self._open: dict[str, Asked] = {}
        self._by_client: dict[tuple[Client, int], Asked] = {}
        self._last: dict[Client, int] = {}

    def open(self) -> list[Asked]:
        """Those not answered yet."""
        return list(self._open.values())

    @property
    def full(self) -> bool:
        """Whether so many wait that nobody is asked any more."""
        return len(self._open) >= MAX_OPEN

    def begin(self, asked: Asked) -> None:
        """The backend asks."""
        self._forget_old()
        name = key_of(asked.identity)
        if name in self._asked:  # it counts anew, or does not count at all
            self._forget(name)
        self._asked[name] = self._open[name] = asked

    def offer(self, asked: Asked, client: Client) -> int:
        """Ask a client; the id it gets."""
        identity = self._last[client] = self._last.get(client, 0) + 1
        asked.clients[client] = identity
        asked.waiting.add(client)
        self._by_client[client, identity] = asked
        return identity

    def answered_by(self, client: Client, identity: object) -> Asked | None:
        """The open request a client's answer is for."""
        if not isinstance(identity, int) or isinstance(identity, bool):
            return None
        asked = self._by_client.get((client, identity))
        return asked if asked is not None and asked.open and client in asked.waiting else None

    def known_as(self, identity: Json, client: Client) -> int | None:
        """How a client knows the request with that id; None if it was never asked."""
        asked = self._asked.get(key_of(identity))
        return None if asked is None else asked.clients.get(client)

    def asked_clients(self, identity: Json) -> list[Client]:
        """Who was asked."""
        asked = self._asked.get(key_of(identity))
        return [] if asked is None else list(asked.clients)

    def withdraw(self, identity: Json) -> None:
        """The backend wants no answer any more."""
        asked = self._asked.get(key_of(identity))
        if asked is not None:
            self.close(asked)

    def close(self, asked: Asked) -> list[Client]:
        """It is answered; who else was asked and has not."""
        asked.open = False
        self._open.pop(key_of(asked.identity), None)
        asked.params = None
        left = sorted(asked.waiting)
        asked.waiting.clear()
        return left

    def default(self, asked: Asked) -> dict[str, Json]:
        """The answer where there is nobody to ask: `result` or `error`."""
        for answers in (self._rules.answers, self._rules.refuse):
            if asked.method in answers:
                return {"result": expand(answers[asked.method], asked.params)}
        return {"error": {"code": self._rules.default_error, "message": f"nobody is there to answer {asked.method}"}}

    def drop(self, client: Client) -> list[Asked]:
        """A client is gone: the requests it might have answered."""
        left = [asked for asked in self.open() if client in asked.waiting]
        for asked in left:
            asked.waiting.discard(client)
        for asked in self._asked.values():
            identity = asked.clients.pop(client, None)
            if identity is not None:
                del self._by_client[client, identity]
        self._last.pop(client, None)
        return left

    def due(self) -> float | None:
        """When the next one is answered for want of anybody who does."""
        return min((asked.deadline for asked in self._open.values()), default=None)

    def _forget_old(self) -> None:
        for name, asked in list(self._asked.items())[: max(0, len(self._asked) - MAX_REMEMBERED)]:
            if not asked.open:
                self._forget(name)

    def _forget(self, name: str) -> None:
        asked = self._asked.pop(name)
        self.close(asked)
        for client, identity in asked.clients.items():
            self._by_client.pop((client, identity), None)
