"""From the backend to clients: answers, notifications, and what it asks. Each to whom it concerns, in its order."""

from __future__ import annotations

from jobbroker.core.dotted import ABSENT, Absent, find, put
from jobbroker.core.routing.asking import METHOD_NOT_FOUND, Asked
from jobbroker.core.routing.calls import Call
from jobbroker.core.routing.desk import Desk
from jobbroker.core.routing.effects import Answered, Client, EndBackend, Remark
from jobbroker.core.routing.messages import is_too_deep, read_message
from jobbroker.core.routing.upward import CANCEL, Upward
from jobclient.protocol.jsonrpc import Json

MAX_GARBAGE = 100
"""Messages in a row that are none, after which it is no backend."""


class Downward:
    """What the backend says."""

    def __init__(self, desk: Desk, upward: Upward) -> None:
        self._desk = desk
        self._upward = upward
        self._garbage = 0  # in a row
        self._lost = 0  # in all

    def message(self, text: bytes, now: float) -> Call | None:
        """Take a message; if it is the answer to a request of our own, that request."""
        message = read_message(text)
        if message is None or not (isinstance(message.get("method"), str) or "id" in message):
            self._note_garbage(text)
            return None
        self._garbage = 0
        method, identity = message.get("method"), message.get("id")
        if not isinstance(method, str):
            return self._answer(identity, message, now)
        if "id" in message:
            self._ask(identity, method, message.get("params"), now)
        else:
            self._notify(method, message, now)
        return None

    def oversized(self) -> None:
        """A message was too long, and was left out."""
        self._remark("a message of the backend was too long and is lost")

    def _remark(self, what: str) -> None:
        """Say it the first time, the tenth, the hundredth: said always it would flood the log, and hide the rest."""
        self._lost += 1
        if self._lost == 10 ** (len(str(self._lost)) - 1):
            self._desk.effects.append(Remark(f"{what} ({self._lost} so far)"))

    def _note_garbage(self, text: bytes) -> None:
        self._garbage += 1
        self._remark(f"not a message of the backend: {text[:100]!r}")
        if self._garbage == MAX_GARBAGE:
            self._desk.effects.append(EndBackend(f"it wrote {MAX_GARBAGE} lines in a row that are no messages"))

    # --- answers ----------------------------------------------------------------------------------------------------

    def _answer(self, identity: object, message: dict[str, Json], now: float) -> Call | None:
        desk = self._desk
        call = desk.calls.get(identity)
        if call is None or not call.sent:
            desk.dropped += 1
            return None
        outcome: dict[str, Json] = {key: value for key, value in message.items() if key not in ("id", "jsonrpc")}
        if outcome.get("error") is None:  # some say on success that there is none
            outcome = {"result": outcome.get("result")}
        if call.purpose not in ("client", "handshake"):
            self._answer_own(call, outcome, now)
        if call.purpose == "handshake" and "result" in outcome:
            desk.handshake = {"result": outcome["result"]}  # whoever is told may ask at once
        self._answer_clients(call, outcome)
        return call

    def _answer_own(self, call: Call, outcome: dict[str, Json], now: float) -> None:
        desk = self._desk
        desk.drop_call(call)
        if call.purpose == "own":
            desk.effects.append(Answered(call.bid, outcome))
        turn = desk.turns.get(call.turn)
        if call.purpose != "turn" or turn is None:
            return
        named = desk.interests.named_in_request(turn.method, None, outcome.get("result", ABSENT))
        turn.names.update(name for name, _ in named)
        desk.turns.answer(turn, outcome, now)
        if turn.ending is not None and desk.turns.get(turn.name) is turn:
            desk.cancel_turn(turn, now)  # it was asked for before there was a name to ask for it by

    def _answer_clients(self, call: Call, outcome: dict[str, Json]) -> None:
        desk = self._desk
        if desk.calls.get(call.bid) is not call:
            return
        if call.counted is not None and "error" in outcome:
            desk.refcounts.undo(call.counted)
        for client, identity in desk.drop_call(call):
            if "result" in outcome:
                self._upward.answered(call, client, outcome["result"])
            desk.answer(client, identity, outcome)

    # --- notifications ----------------------------------------------------------------------------------------------

    def _notify(self, method: str, message: dict[str, Json], now: float) -> None:
        desk, profile = self._desk, self._desk.profile
        params = message.get("params")
        desk.turns.observe(method, params, now)
        cancel = profile.request_cancel
        if method == CANCEL or (cancel is not None and method == cancel.notify):
            self._tell_asked(message, cancel.id if cancel is not None and method == cancel.notify else "id")
            return
        if method in profile.server_requests.id_params:
            self._tell_asked(message, profile.server_requests.id_params[method])
            return
        held = desk.tokens.down(method, params)
        if isinstance(held, Absent):
            desk.dropped += 1
            return
        lossy = method in profile.route.lossy
        if held is not None:
            self._tell_holder(held[0].client, held[0].turn, {**message, "params": held[1]}, now, lossy=lossy)
            return
        desk.tell_all(self._audience(method, params), message, lossy=lossy)

    def _tell_holder(
        self, client: Client | None, turn: str | None, message: dict[str, Json], now: float, *, lossy: bool
    ) -> None:
        """A notification that came with somebody's token."""
        if client is not None:
            self._desk.tell(client, message, lossy=lossy)
        followed = self._desk.turns.get(turn)
        if followed is not None:
            self._desk.turns.progress(followed, str(message.get("method")), message.get("params"), now)

    def _audience(self, method: str, params: Json) -> list[Client]:
        desk, route = self._desk, self._desk.profile.route
        everybody = list(desk.clients)
        if method in route.broadcast:
            return everybody
        names = desk.interests.named(params)
        if not names:
            return everybody if route.unkeyed == "broadcast" else []
        found = list(dict.fromkeys(client for name in names for client in desk.interests.clients(name)))
        if found or route.unclaimed == "drop":
            return found
        return everybody

    def _tell_asked(self, message: dict[str, Json], place: str) -> None:
        """A notification that a request of the backend's own is over, to those it was put to, as they know it."""
        identity = find(message.get("params"), place)
        if isinstance(identity, Absent):
            return
        for client in self._desk.asking.asked_clients(identity):
            known = self._desk.asking.known_as(identity, client)
            self._desk.tell(client, {**message, "params": put(message.get("params"), place, known)})
        self._desk.asking.withdraw(identity)

    # --- what it asks -----------------------------------------------------------------------------------------------

    def _ask(self, identity: Json, method: str, params: Json, now: float) -> None:
        desk, rules = self._desk, self._desk.profile.server_requests
        names = desk.interests.named(params)
        asked = Asked(identity, method, params, names, now + rules.deadline(method))
        candidates = [] if desk.asking.full else self._candidates(names)
        desk.asking.begin(asked)
        for client in candidates:
            self._upward.ask(client, method, params, desk.asking.offer(asked, client))
        if not asked.waiting:
            self._wait_or_settle(asked, now)

    def _candidates(self, names: list[tuple[str, str]]) -> list[Client]:
        """Who may answer: who cares for what it speaks of; else the only one it can be about."""
        desk = self._desk
        found = list(dict.fromkeys(client for name in names for client in desk.interests.clients(name)))
        if not found and not names and desk.profile.server_requests.sole_inflight:
            busy = desk.calls.busy_clients()
            found = busy if len(busy) == 1 and not len(desk.turns) else []
        return [client for client in found if client in desk.clients]

    def _wait_or_settle(self, asked: Asked, now: float) -> None:
        """Nobody is there. A turn may have patience with it; else the profile answers."""
        graces = [
            turn.rule.attach_grace
            for turn in self._desk.turns
            if turn.rule.attach_grace and turn.names & set(asked.names)
        ]
        if graces and not asked.patient:
            asked.patient = True
            asked.deadline = min(asked.deadline, now + max(graces))
        if not asked.patient or asked.deadline <= now:
            self.settle(asked, self._desk.asking.default(asked))

    def settle(self, asked: Asked, outcome: dict[str, Json]) -> None:
        """Answer the backend; whoever else was asked hears that there is no need any more."""
        desk = self._desk
        rule = desk.profile.request_cancel
        left = desk.asking.close(asked)
        desk.send({"id": asked.identity, **outcome})
        if rule is not None:
            for client in left:
                known = desk.asking.known_as(asked.identity, client)
                desk.tell(client, {"method": rule.notify, "params": put({}, rule.id, known)})

    def response(self, client: Client, message: bytes, now: float) -> None:
        """A client answers what it was asked."""
        reply = read_message(message)
        asked = self._desk.asking.answered_by(client, None if reply is None else reply.get("id"))
        if reply is None or asked is None:
            self._desk.dropped += 1
            return
        outcome: dict[str, Json] = {key: reply[key] for key in ("result", "error") if key in reply}
        if outcome.get("error", ...) is None:
            outcome = {"result": outcome.get("result")}
        asked.waiting.discard(client)
        if not outcome or is_too_deep(outcome):
            self.settle(asked, self._desk.asking.default(asked))
        elif "error" not in outcome:
            self.settle(asked, outcome)
        elif find(outcome, "error.code") != METHOD_NOT_FOUND:
            self.settle(asked, {"error": outcome["error"]})
        elif not asked.waiting:  # nobody who was asked knows what to do with it
            self._wait_or_settle(asked, now)

    def left(self, asked: list[Asked], now: float) -> None:
        """Somebody who was asked is gone: others are, or the next one is, or the profile answers at once."""
        for each in asked:
            if each.waiting:
                continue
            for client in self._candidates(each.names):
                if client not in each.clients:
                    self._upward.ask(client, each.method, each.params, self._desk.asking.offer(each, client))
            if not each.waiting:
                self._wait_or_settle(each, now)

    def give_up_asking(self, now: float) -> None:
        """Nobody has answered in time."""
        for asked in self._desk.asking.open():
            if asked.deadline <= now:
                self.settle(asked, self._desk.asking.default(asked))
