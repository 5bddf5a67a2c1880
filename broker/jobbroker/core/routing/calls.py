"""Requests on their way up: whose they are, until when they are waited for, which of them the backend has.

Ids that go up are ours, 1, 2, 3 and so on, never used twice: an answer to one that is not known any more is late, and
dropped. What the backend cannot take yet (it starts, or it takes only so many at once) waits here.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Literal

from jobbroker.core.routing.effects import Client

FOREVER = 1e12
"""Seconds: no deadline of its own."""
_SLACK = 64  # deadlines of answered requests are not worth cleaning up below this
Purpose = Literal["client", "turn", "interrupt", "handshake", "probe", "own"]


class Call:
    """One request.

    Attributes:
        bid: its id at the backend.
        purpose: why it is made.
        asked: the clients that wait for the answer, each with its own id of the request.
        turn: the turn it belongs to.
        method: what is asked.
        made: when.
        deadline: when it is given up.
        sent: whether the backend has it.
        counted: the refcount it is the first call of.
    """

    __slots__ = ("asked", "bid", "counted", "deadline", "made", "message", "method", "purpose", "sent", "turn")

    def __init__(self, bid: int, purpose: Purpose, method: str, made: float, deadline: float) -> None:
        self.bid = bid
        self.purpose: Purpose = purpose
        self.method = method
        self.made = made
        self.deadline = deadline
        self.asked: list[tuple[Client, int | str]] = []
        self.turn: str | None = None
        self.message = b""
        self.sent = False
        self.counted: tuple[str, str] | None = None


class Calls:
    """All requests that are not answered yet.

    Attributes:
        waiting: those the backend takes when it has answered others.
        sent: how many it works on; a probe is no work.
    """

    def __init__(self) -> None:
        self._calls: dict[int, Call] = {}
        self._by_client: dict[tuple[Client, int | str], Call] = {}
        self._counts: dict[Client, int] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._last = 0
        self.waiting: deque[Call] = deque()
        self.sent = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        """All of them, oldest first."""
        return iter(list(self._calls.values()))

    def new(self, purpose: Purpose, method: str, now: float, deadline: float) -> Call:
        """A request with an id of its own."""
        self._last += 1
        call = self._calls[self._last] = Call(self._last, purpose, method, now, deadline)
        heapq.heappush(self._deadlines, (deadline, call.bid))
        if len(self._deadlines) > 2 * len(self._calls) + _SLACK:  # of those answered long before their time
            self._deadlines = [(call.deadline, bid) for bid, call in self._calls.items()]
            heapq.heapify(self._deadlines)
        return call

    def oldest(self) -> float | None:
        """When the oldest of what the backend works on was asked."""
        return next((call.made for call in self._calls.values() if call.sent and call.purpose != "probe"), None)

    def ask(self, call: Call, client: Client, identity: int | str) -> None:
        """A client waits for the answer."""
        call.asked.append((client, identity))
        self._by_client[client, identity] = call
        self._counts[client] = self._counts.get(client, 0) + 1

    def get(self, bid: object) -> Call | None:
        """The request with that id. Ids of ours are whole numbers; what else the backend sends is none."""
        return self._calls.get(bid) if isinstance(bid, int) and not isinstance(bid, bool) else None

    def of_client(self, client: Client, identity: int | str) -> Call | None:
        """The request a client knows by that id. 1 and "1" are two, true is none."""
        return self._by_client.get((client, identity))

    def under_way(self, client: Client) -> int:
        """How many answers a client waits for."""
        return self._counts.get(client, 0)

    def busy_clients(self) -> list[Client]:
        """The clients that wait for an answer."""
        return [client for client, count in self._counts.items() if count]

    def forget_asker(self, call: Call, client: Client, identity: int | str) -> None:
        """A client waits no more."""
        call.asked.remove((client, identity))
        del self._by_client[client, identity]
        self._counts[client] -= 1
        if not self._counts[client]:
            del self._counts[client]

    def mark_sent(self, call: Call) -> None:
        """The backend has it now."""
        call.sent = True
        self.sent += call.purpose != "probe"

    def drop(self, call: Call) -> list[tuple[Client, int | str]]:
        """It is answered, or given up; who waited for it."""
        del self._calls[call.bid]
        if call.sent:
            self.sent -= call.purpose != "probe"
        elif call in self.waiting:
            self.waiting.remove(call)
        asked = list(call.asked)
        for client, identity in asked:
            self.forget_asker(call, client, identity)
        return asked

    def due(self) -> float | None:
        """When the next one is to be given up."""
        while self._deadlines and self._is_stale(*self._deadlines[0]):
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def overdue(self, now: float) -> list[Call]:
        """Those whose time is over."""
        found: list[Call] = []
        while (due := self.due()) is not None and due <= now:
            found.append(self._calls[heapq.heappop(self._deadlines)[1]])
        return found

    def of(self, client: Client) -> list[tuple[Call, int | str]]:
        """What a client waits for."""
        return [(call, identity) for (asker, identity), call in self._by_client.items() if asker == client]

    def _is_stale(self, deadline: float, bid: int) -> bool:
        call = self._calls.get(bid)
        return call is None or call.deadline != deadline
