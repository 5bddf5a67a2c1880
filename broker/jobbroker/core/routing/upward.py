"""From clients to the backend: what passes, what is answered here, what is refused."""

from __future__ import annotations

from jobbroker.core.dotted import ABSENT, Absent, find, put
from jobbroker.core.routing.calls import FOREVER, Call
from jobbroker.core.routing.desk import Desk, body, farewell
from jobbroker.core.routing.effects import Client, ToClient
from jobbroker.core.routing.messages import read_identity, read_params
from jobclient.protocol import errors
from jobclient.protocol.errors import RemoteError
from jobclient.protocol.jsonrpc import Json, encode_error

CANCEL = "$/cancelRequest"
MAX_UNDER_WAY = 4096
"""Requests one client may have under way."""
OWN_SECONDS = 120
"""How long answers to what we ask ourselves are waited for."""


class Upward:
    """What clients say."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    # --- requests ---------------------------------------------------------------------------------------------------

    def request(self, client: Client, raw: bytes, method: str, params: bytes, now: float) -> None:
        """A client asks."""
        try:
            identity = read_identity(raw)
        except RemoteError as exc:
            self._desk.effects.append(ToClient(client, encode_error(raw, exc)))
            return
        try:
            self._admit(client, identity, method, read_params(params), now)
        except RemoteError as exc:
            self._desk.refuse(client, identity, exc)

    def _admit(self, client: Client, identity: int | str, method: str, params: Json, now: float) -> None:
        desk, rules = self._desk, self._desk.profile.client_methods
        if desk.calls.of_client(client, identity) is not None:
            raise errors.InvalidRequest(f"a request with the id {identity!r} is under way already")
        if desk.calls.under_way(client) >= MAX_UNDER_WAY:
            raise errors.Busy(f"{MAX_UNDER_WAY} requests of this connection are under way; wait for some")
        if method in rules.deny:
            raise errors.Denied(f"{method} would change the backend for all who share it")
        if method in rules.local:
            desk.answer(client, identity, {"result": rules.local[method]})
            return
        handshake = desk.profile.handshake
        if handshake is not None and method == handshake.request:
            self._shake_hands(client, identity, now)
            return
        self._check_free(method, params)
        if not self._is_counted_out(client, identity, method, params):
            self._forward(client, identity, method, params, now)

    def _shake_hands(self, client: Client, identity: int | str, now: float) -> None:
        """Once is enough: whoever else asks gets the same answer, at the same time or later."""
        desk = self._desk
        if desk.handshake is not None:
            desk.answer(client, identity, desk.handshake)
            if desk.owed is None:  # what is cached is no sign of life: if it was silent for long, it is asked for one
                desk.owed = max(desk.health.heard, now - desk.profile.probe.idle)
            return
        desk.wake()
        call = self.handshake_call(now)
        desk.calls.ask(call, client, identity)

    def handshake_call(self, now: float) -> Call:
        """The handshake under way, or a new one that waits for its backend."""
        desk = self._desk
        rule = desk.profile.handshake
        assert rule is not None  # noqa: S101  # only asked for where there is one
        for call in desk.calls:
            if call.purpose == "handshake":
                return call
        return desk.call("handshake", rule.request, now, FOREVER)  # until its start is given up

    def _is_counted_out(self, client: Client, identity: int | str, method: str, params: Json) -> bool:
        """Whether it is not the first to begin something, or not the last to end it, and so is answered here."""
        desk = self._desk
        name = desk.refcounts.unsubscribing(method, params)
        if name is not None:
            if desk.refcounts.let_go(name, client):
                return False
            desk.answer(client, identity, {"result": {}})
            return True
        name = desk.refcounts.subscribing(method, params)
        if name is None or desk.refcounts.hold(name, client, asked=True):
            return False
        desk.interests.learn(client, method, params, ABSENT)
        first = next((call for call in desk.calls if call.counted == name), None)
        if first is not None:
            desk.calls.ask(first, client, identity)
        else:
            desk.answer(client, identity, {"result": {}})
        return True

    def _forward(self, client: Client, identity: int | str, method: str, params: Json, now: float) -> None:
        desk = self._desk
        desk.interests.forget(client, method, params)
        self._learn(client, method, params, ABSENT)
        call = desk.call("client", method, now, desk.profile.client_methods.deadline(method))
        call.counted = desk.refcounts.subscribing(method, params)
        desk.calls.ask(call, client, identity)
        desk.send_call(call, desk.tokens.up(client, None, call.bid, method, params))

    def _check_free(self, method: str, params: Json) -> None:
        desk = self._desk
        holder = desk.turns.holder(desk.profile.rule(method), params)
        if holder is not None:
            raise errors.Busy(f"{holder.name} is at it; wait for it or cancel it", {"job": holder.name})
        if desk.full is not None:
            raise errors.Busy(f"{desk.full}; ask again")

    def _learn(self, client: Client, method: str, params: Json, result: Json | Absent) -> None:
        """Note what the client cares for; what was asked about it and waits for somebody, is asked now."""
        for name in self._desk.interests.learn(client, method, params, result):
            for asked in self._desk.asking.open():
                if name in asked.names and client not in asked.clients:
                    self.ask(client, asked.method, asked.params, self._desk.asking.offer(asked, client))

    def ask(self, client: Client, method: str, params: Json, identity: int) -> None:
        """Put a question of the backend to a client."""
        self._desk.tell(client, {"id": identity, **body(method, params)})

    def answered(self, call: Call, client: Client, result: Json) -> None:
        """A request of a client is answered: what the answer names it cares for."""
        self._learn(client, call.method, None, result)

    # --- notifications ----------------------------------------------------------------------------------------------

    def notification(self, client: Client, method: str, raw: bytes) -> None:
        """A client says something. There is nobody to tell if it cannot be passed on."""
        desk, profile = self._desk, self._desk.profile
        handshake, cancel = profile.handshake, profile.request_cancel
        try:
            params = read_params(raw)
        except RemoteError:
            desk.dropped += 1
            return
        if method == CANCEL:
            self._cancel(client, find(params, "id"), {}, answered=True)
        elif cancel is not None and method == cancel.notify:
            self._cancel(client, find(params, cancel.id), params, answered=cancel.answered)
        elif handshake is not None and method == handshake.notify:
            pass  # the broker has said it
        elif method in profile.client_methods.deny or method in profile.client_methods.local:
            desk.dropped += 1
        elif not self._is_held_by_others(client, method, params):
            desk.interests.forget(client, method, params)
            desk.interests.learn(client, method, params, ABSENT)
            if desk.congested:
                desk.dropped += 1
            else:
                desk.send(body(method, desk.tokens.up(client, None, 0, method, params)))

    def _is_held_by_others(self, client: Client, method: str, params: Json) -> bool:
        desk = self._desk
        name = desk.refcounts.subscribing(method, params)
        if name is not None:
            desk.interests.learn(client, method, params, ABSENT)
            return not desk.refcounts.hold(name, client, asked=False)
        name = desk.refcounts.unsubscribing(method, params)
        if name is None:
            return False
        desk.interests.forget(client, method, params)
        return not desk.refcounts.let_go(name, client)

    def _cancel(self, client: Client, identity: Json | Absent, params: Json, *, answered: bool) -> None:
        """A client takes a request back.

        Where the backend still answers such requests, its answer is the answer; else we answer, if an answer is due.
        """
        desk = self._desk
        if isinstance(identity, bool) or not isinstance(identity, int | str):
            return
        call = desk.calls.of_client(client, identity)
        if call is None:
            return
        rule = desk.profile.request_cancel
        sole = len(call.asked) == 1 and call.purpose == "client"
        told = sole and desk.cancel_upstream(call, params if isinstance(params, dict) else None)
        if told and rule is not None and rule.answered:
            return
        desk.calls.forget_asker(call, client, identity)
        if answered:
            desk.refuse(client, identity, errors.RequestCancelled("the request was cancelled"))
        if sole:
            self._leave(call)

    def _leave(self, call: Call) -> None:
        """Nobody wants the answer any more. It takes up room for as long as the backend is at it, if room is scarce."""
        self._desk.tokens.answered(call.bid)
        if not call.sent or not self._desk.profile.backend.concurrency:
            self._desk.drop_call(call)

    # --- comings and goings -----------------------------------------------------------------------------------------

    def disconnect(self, client: Client, now: float) -> None:
        """A client is gone. What it asked is taken back, what it alone cared for is given up; nobody else's is touched.

        An answer that may still come finds nobody, and is dropped.
        """
        desk = self._desk
        desk.clients.pop(client, None)
        for call, identity in desk.calls.of(client):
            desk.calls.forget_asker(call, client, identity)
            if call.asked or call.purpose != "client":
                continue
            if call.counted is None:
                desk.cancel_upstream(call)
                self._leave(call)
        desk.tokens.drop(client)
        self._say_farewell(client, now)

    def _say_farewell(self, client: Client, now: float) -> None:
        """Tell the backend what nobody needs any more, if there is one to tell."""
        desk = self._desk
        counts, keys = desk.refcounts.drop(client), desk.interests.drop(client)
        if desk.state == "down":
            return
        for pair, value, asked in counts:
            params = put({}, pair.param, value)
            if asked:
                desk.send_call(desk.call("own", pair.unsubscribe, now, OWN_SECONDS), params)
            else:
                desk.send({"method": pair.unsubscribe, "params": params})
        for key, value in keys:
            rule = key.on_disconnect
            if rule is not None:
                desk.send({"method": rule.notify, "params": farewell(rule.params, value)})
