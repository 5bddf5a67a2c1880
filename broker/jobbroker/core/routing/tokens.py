"""Ids that clients make up, two of them perhaps the same: unique on the way up, their own on the way down."""

from __future__ import annotations

from jobbroker.core.dotted import ABSENT, Absent, find, key_of, put
from jobbroker.core.profile import Profile, Token
from jobbroker.core.routing.effects import Client
from jobbroker.core.routing.interests import is_key
from jobclient.protocol.jsonrpc import Json

PREFIX = "jobbroker-"
MAX_TOKENS = 10_000
"""Tokens of one client that outlive their request; of more, the oldest are forgotten."""


class Holder:
    """Whose a token is: a client's, as it spelled it, or a turn's."""

    __slots__ = ("bid", "client", "original", "rule", "turn")

    def __init__(self, rule: Token, bid: int, client: Client | None, turn: str | None, original: Json) -> None:
        self.rule = rule
        self.bid = bid
        self.client = client
        self.turn = turn
        self.original = original


class Tokens:
    """All tokens the backend knows."""

    def __init__(self, profile: Profile) -> None:
        self._rules = profile.token
        self._holders: dict[str, Holder] = {}
        self._own: dict[tuple[Client, str, str], str] = {}  # client, param, value: unique
        self._of_call: dict[int, list[str]] = {}
        self._lasting: dict[Client, dict[str, None]] = {}  # those that outlive their request
        self._last = 0

    def up(self, client: Client | None, turn: str | None, bid: int, method: str, params: Json) -> Json:
        """The params of a request with its tokens made unique, and those it names of earlier ones."""
        for rule in self._rules:
            later = rule.requests.get(method)
            if later is not None:
                params = self._name_again(rule, client, method, params, later)
            elif not rule.learn_from or method in rule.learn_from:
                params = self._make_unique(rule, client, turn, bid, params)
        return params

    def _make_unique(self, rule: Token, client: Client | None, turn: str | None, bid: int, params: Json) -> Json:
        original = find(params, rule.param)
        if isinstance(original, Absent):
            if turn is None or not rule.notify:
                return params
            original = turn  # nobody gave one, and without it nothing is heard of how the turn goes on
        if not is_key(original):
            return params  # nor would the backend take it
        self._last += 1
        unique = f"{PREFIX}{self._last}"
        self._holders[unique] = Holder(rule, bid, client, turn, original)
        if not rule.forget_on:
            self._of_call.setdefault(bid, []).append(unique)
        elif client is not None:
            self._note_lasting(client, unique)
        if client is not None:
            self._own[client, rule.param, key_of(original)] = unique
        return put(params or {}, rule.param, unique)

    def _note_lasting(self, client: Client, unique: str) -> None:
        lasting = self._lasting.setdefault(client, {})
        lasting[unique] = None
        if len(lasting) > MAX_TOKENS:
            self._forget(next(iter(lasting)))

    def _name_again(self, rule: Token, client: Client | None, method: str, params: Json, place: str) -> Json:
        original = find(params, place)
        if client is None or isinstance(original, Absent):
            return params
        unique = self._own.get((client, rule.param, key_of(original)))
        if unique is None:
            return params
        if method in rule.forget_on:
            self._forget(unique)
        return put(params, place, unique)

    def down(self, method: str, params: Json) -> tuple[Holder, Json] | Absent | None:
        """Whose token a notification has, and the params as the holder knows them.

        Returns:
            Absent if it is one of ours that nobody holds any more, None if there is none.
        """
        for rule in self._rules:
            place = rule.notify.get(method)
            unique = find(params, place) if place is not None else ABSENT
            if place is None or not isinstance(unique, str) or not unique.startswith(PREFIX):
                continue
            holder = self._holders.get(unique)
            return ABSENT if holder is None else (holder, put(params, place, holder.original))
        return None

    def answered(self, bid: int) -> None:
        """A request is answered: the tokens that were its own are over."""
        for unique in self._of_call.pop(bid, ()):
            self._forget(unique)

    def drop(self, client: Client) -> None:
        """A client is gone."""
        for unique, holder in list(self._holders.items()):
            if holder.client == client:
                self._forget(unique)
        self._lasting.pop(client, None)

    def _forget(self, unique: str) -> None:
        holder = self._holders.pop(unique, None)
        if holder is None or holder.client is None:
            return
        self._lasting.get(holder.client, {}).pop(unique, None)
        name = holder.client, holder.rule.param, key_of(holder.original)
        if self._own.get(name) == unique:  # the client may have given the same one to another request since
            del self._own[name]
