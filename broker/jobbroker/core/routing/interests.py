"""Who cares for what: keys clients have named, by which notifications find them; and pairs that are counted."""

from __future__ import annotations

from typing import TypeGuard

from jobbroker.core.dotted import Absent, find, find_all, key_of, value_of
from jobbroker.core.profile import Key, Profile, RefCount
from jobbroker.core.routing.effects import Client
from jobclient.protocol.jsonrpc import Json

MAX_KEYS = 10_000
"""Keys one client may care for; who names more is told of the older ones no longer."""
MAX_KEY = 4096
"""Characters of a key; what is longer is none."""

Name = tuple[str, str]
"""What kind of key, and its value with its type."""


class Interests:
    """Keys and the clients that care for them."""

    def __init__(self, profile: Profile) -> None:
        self._keys = profile.key
        self._clients: dict[Name, dict[Client, None]] = {}
        self._names: dict[Client, dict[Name, Json]] = {}

    def clients(self, name: Name) -> list[Client]:
        """Who cares for that key, in the order in which they began to."""
        return list(self._clients.get(name, ()))

    def of(self, client: Client) -> list[Name]:
        """What a client cares for."""
        return list(self._names.get(client, ()))

    def learn(self, client: Client, method: str, params: Json, result: Json | Absent) -> list[Name]:
        """A client has named keys in a request, or an answer has named some to it; which are new to it."""
        new: list[Name] = []
        for name, value in self.named_in_request(method, params, result):
            if name not in self._names.setdefault(client, {}):
                self._care(client, name, value)
                new.append(name)
        return new

    def named_in_request(self, method: str, params: Json, result: Json | Absent) -> list[tuple[Name, Json]]:
        """The keys a request names, and its answer, with their values."""
        found: list[tuple[Name, Json]] = []
        for key in self._keys:
            if not key.learn_from or method in key.learn_from:
                values = find_all(params, key.param) if key.param is not None else []
                if key.result is not None and not isinstance(result, Absent):
                    values = [*values, *find_all(result, key.result)]
                found += [((key.name, key_of(value)), value) for value in values if is_key(value)]
        return found

    def _care(self, client: Client, name: Name, value: Json) -> None:
        names = self._names[client]
        names[name] = value
        self._clients.setdefault(name, {})[client] = None
        if len(names) > MAX_KEYS:
            self._leave(client, next(iter(names)))

    def forget(self, client: Client, method: str, params: Json) -> None:
        """A client says that it cares for keys no more."""
        for key in self._keys:
            if method in key.forget_on and key.param is not None:
                for value in find_all(params, key.param):
                    self._leave(client, (key.name, key_of(value)))

    def drop(self, client: Client) -> list[tuple[Key, Json]]:
        """A client is gone: the keys nobody cares for any more, of which the backend is to be told."""
        left: list[tuple[Key, Json]] = []
        farewells = {key.name: key for key in self._keys if key.on_disconnect is not None}
        for name, value in list(self._names.get(client, {}).items()):
            if self._leave(client, name) and name[0] in farewells:
                left.append((farewells[name[0]], value))
        self._names.pop(client, None)
        return left

    def _leave(self, client: Client, name: Name) -> bool:
        """One cares less; whether it was the last."""
        self._names.get(client, {}).pop(name, None)
        clients = self._clients.get(name, {})
        clients.pop(client, None)
        if clients or name not in self._clients:
            return False
        del self._clients[name]
        return True

    def named(self, params: Json) -> list[Name]:
        """The keys a message of the backend speaks of."""
        return [
            (key.name, key_of(value))
            for key in self._keys
            for path in key.notify
            if is_key(value := find(params, path))
        ]


def is_key(value: Json | Absent) -> TypeGuard[str | int]:
    """Whether messages can be told apart by a value."""
    return isinstance(value, int) or (isinstance(value, str) and len(value) <= MAX_KEY)


class RefCounts:
    """Pairs of methods of which the backend sees the first and the last call only."""

    def __init__(self, profile: Profile) -> None:
        self._pairs = profile.client_methods.refcount
        self._holders: dict[Name, dict[Client, bool]] = {}  # whether it was a request
        self._counts: dict[Client, int] = {}

    def subscribing(self, method: str, params: Json) -> Name | None:
        """What a call of that method begins, if it is such a method."""
        return self._name(next((pair for pair in self._pairs if pair.subscribe == method), None), params)

    def unsubscribing(self, method: str, params: Json) -> Name | None:
        """What a call of that method ends."""
        return self._name(next((pair for pair in self._pairs if pair.unsubscribe == method), None), params)

    @staticmethod
    def _name(pair: RefCount | None, params: Json) -> Name | None:
        value = None if pair is None else find(params, pair.param)
        return (pair.subscribe, key_of(value)) if pair is not None and is_key(value) else None

    def hold(self, name: Name, client: Client, *, asked: bool) -> bool:
        """A client begins, by a request if it `asked`; whether that goes up: the first of all, and the first time.

        Of a client that begins ever more nothing is counted beyond `MAX_KEYS`: what it says then goes up as it is.
        """
        holders = self._holders.get(name, {})
        if client in holders:
            return False
        if self._counts.get(client, 0) >= MAX_KEYS:
            return True
        self._holders[name] = {**holders, client: asked}
        self._counts[client] = self._counts.get(client, 0) + 1
        return not holders

    def let_go(self, name: Name, client: Client) -> bool:
        """A client ends; whether it was the last. Who had not begun ends nothing."""
        holders = self._holders.get(name, {})
        if client not in holders:
            return False
        del holders[client]
        self._let_down(client)
        if holders:
            return False
        del self._holders[name]
        return True

    def undo(self, name: Name) -> None:
        """It could not be begun, for anybody."""
        for client in self._holders.pop(name, ()):
            self._let_down(client)

    def _let_down(self, client: Client) -> None:
        self._counts[client] -= 1
        if not self._counts[client]:
            del self._counts[client]

    def drop(self, client: Client) -> list[tuple[RefCount, Json, bool]]:
        """A client is gone: what nobody holds any more, the value that names it, whether it was begun by a request."""
        ended: list[tuple[RefCount, Json, bool]] = []
        for name, holders in list(self._holders.items()) if client in self._counts else ():
            if client in holders:
                asked = holders[client]
                pair = next(pair for pair in self._pairs if pair.subscribe == name[0])
                if self.let_go(name, client):
                    ended.append((pair, value_of(name[1]), asked))
        return ended
