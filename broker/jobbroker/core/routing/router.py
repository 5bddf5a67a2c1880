"""One backend for many clients: everything that happens comes in here, everything that is to be done comes out.

    down --somebody needs it--> starting --its first answer--> up --it ends--> (the broker ends with it)
                                    '--it ends, or does not answer in time--> down

Each method takes what happened and when, on any clock that never goes back, and returns what is to be done, in order.
"""

from __future__ import annotations

from jobbroker.core.profile import Profile
from jobbroker.core.routing.calls import FOREVER, Call
from jobbroker.core.routing.desk import Desk, State, failure
from jobbroker.core.routing.downward import Downward
from jobbroker.core.routing.effects import Answered, Client, Effect, EndBackend, Exit, Remark, TurnEnded, TurnReason
from jobbroker.core.routing.turns import Turn, limit_passed
from jobbroker.core.routing.upward import OWN_SECONDS, Upward
from jobclient.protocol import errors
from jobclient.protocol.jsonrpc import Json


class Router:
    """The state machine. What it knows of its clients are their numbers."""

    def __init__(self, profile: Profile, now: float) -> None:
        self.profile = profile
        self._desk = Desk(profile, now)
        self._up = Upward(self._desk)
        self._down = Downward(self._desk, self._up)
        self._started: float | None = None  # since when it is awaited

    # --- questions --------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Whether there is a backend, and it has answered."""
        return self._desk.state

    @property
    def hung(self) -> bool:
        """It does not answer, though it lives."""
        return self._desk.health.hung

    @property
    def heard(self) -> float:
        """When it said anything last."""
        return self._desk.health.heard

    @property
    def pending(self) -> int:
        """Requests that are not answered yet, turns included."""
        return len(self._desk.calls)

    @property
    def unsent(self) -> int:
        """Bytes of messages that wait for the backend to start, or to take more."""
        return self._desk.unsent

    @property
    def turns(self) -> int:
        """Turns that are not over."""
        return len(self._desk.turns)

    @property
    def dropped(self) -> int:
        """Messages that found nobody."""
        return self._desk.dropped

    @property
    def asking(self) -> int:
        """Questions of the backend that are open."""
        return len(self._desk.asking.open())

    def under_way(self, client: Client) -> int:
        """How many answers a client waits for."""
        return self._desk.calls.under_way(client)

    def holder(self, method: str, params: Json) -> str | None:
        """The turn that keeps another one with these parameters from beginning."""
        turn = self._desk.turns.holder(self.profile.rule(method), params)
        return None if turn is None else turn.name

    def _done(self) -> list[Effect]:
        effects = list(self._desk.effects)
        self._desk.effects.clear()
        return effects

    # --- clients ----------------------------------------------------------------------------------------------------

    def connect(self, client: Client) -> None:
        """A client has come."""
        self._desk.clients[client] = None

    def disconnect(self, client: Client, now: float) -> list[Effect]:
        """A client is gone, or does not read."""
        asked = self._desk.asking.drop(client)
        self._up.disconnect(client, now)
        self._down.left(asked, now)
        return self._done()

    def request(self, client: Client, identity: bytes, method: str, params: bytes, now: float) -> list[Effect]:
        """A client asks; `identity` and `params` as JSON, as they came."""
        self._up.request(client, identity, method, params, now)
        return self._done()

    def notification(self, client: Client, method: str, params: bytes, now: float) -> list[Effect]:
        """A client says something."""
        del now
        self._up.notification(client, method, params)
        return self._done()

    def response(self, client: Client, message: bytes, now: float) -> list[Effect]:
        """A client answers what it was asked."""
        self._down.response(client, message, now)
        return self._done()

    # --- turns ------------------------------------------------------------------------------------------------------

    def start_turn(
        self, name: str, method: str, params: Json, now: float, *, timeout: float, idle: float = 0, grace: float = 10
    ) -> list[Effect]:
        """Begin a turn; limits in seconds, 0 for none."""
        desk = self._desk
        turn = Turn(name, self.profile.rule(method), method, params)
        turn.deadline = now + timeout if timeout else None
        turn.idle, turn.grace = idle, grace
        turn.idle_deadline = now + idle if idle else None
        holder = desk.turns.holder(turn.rule, params)
        problem = desk.full if holder is None else f"{holder.name} is at it"
        if problem is not None:
            desk.effects.append(TurnEnded(name, "failed", "spawn", problem))
            return self._done()
        desk.turns.add(turn)
        call = desk.call("turn", method, now, timeout + grace if timeout else FOREVER)
        call.turn, turn.bid = name, call.bid
        turn.names.update(found for found, _ in desk.interests.named_in_request(method, params, None))
        desk.send_call(call, desk.tokens.up(None, name, call.bid, method, params))
        return self._done()

    def cancel_turn(self, name: str, reason: TurnReason, grace: float, now: float) -> list[Effect]:
        """Ask for the end of a turn; it comes within `grace` seconds, confirmed or not."""
        turn = self._desk.turns.get(name)
        if turn is not None:
            self._cancel(turn, reason, grace, now)
        return self._done()

    def _cancel(self, turn: Turn, reason: TurnReason, grace: float, now: float) -> None:
        turn.ending = turn.ending or reason
        turn.give_up = min(now + grace, turn.give_up or FOREVER)
        if not turn.began:
            call = self._desk.calls.get(turn.bid)
            if call is not None:
                self._desk.drop_call(call)
            self._desk.turns.over(turn)
        else:
            self._desk.cancel_turn(turn, now)

    def ask(self, method: str, params: Json, now: float, seconds: float) -> tuple[int, list[Effect]]:
        """A request of the broker's own; the ticket by which `Answered` brings the outcome."""
        desk = self._desk
        call = desk.call("own", method, now, seconds)
        if desk.full is not None:
            desk.drop_call(call)
            desk.effects.append(Answered(call.bid, failure(errors.Busy(desk.full))))
        else:
            desk.send_call(call, params)
        return call.bid, self._done()

    # --- the backend ------------------------------------------------------------------------------------------------

    def started(self, now: float) -> list[Effect]:
        """The process runs. Without a handshake it may be spoken to at once."""
        desk = self._desk
        desk.state = "starting"
        desk.health.said(now)
        self._started = now
        if self.profile.handshake is None:
            desk.release()
        else:
            call = self._up.handshake_call(now)
            desk.send_call(call, self.profile.handshake.params)
        return self._done()

    def heard_from(self, now: float) -> None:
        """It wrote something, on whatever stream."""
        self._desk.health.said(now)
        self._desk.owed = None

    def message(self, text: bytes, now: float) -> list[Effect]:
        """It wrote a message."""
        desk = self._desk
        call = self._down.message(text, now)
        if call is not None and call.purpose == "handshake":
            self._shaken(call)
        if desk.state == "starting" and desk.open:
            desk.state = "up"
            self._started = None
        return self._done()

    def _shaken(self, call: Call) -> None:
        desk, rule = self._desk, self.profile.handshake
        if desk.handshake is None or rule is None:
            desk.effects.append(EndBackend(f"it refused {call.method}"))
            return
        if rule.notify is not None:
            desk.open = True
            desk.send({"method": rule.notify})
        desk.release()

    def oversized(self) -> list[Effect]:
        """A message of its was longer than its profile allows, and is lost."""
        self._down.oversized()
        return self._done()

    def congested(self, *, congested: bool) -> None:
        """Whether it reads what it is sent."""
        self._desk.congested = congested

    def ended(self, how: Exit, now: float) -> list[Effect]:
        """It is gone: every request gets its answer, every turn its end, and nothing is left of it."""
        error = errors.BackendGone(f"the backend {how.reason}", dict(how.data()))
        self._fail_all(error, f"the backend {how.reason}")
        effects = self._done()
        self._reset(now)
        return effects

    def refuse_all(self, error: errors.RemoteError, why: str) -> list[Effect]:
        """The broker ends: every request is answered with that, every turn is over."""
        self._fail_all(error, why)
        return self._done()

    def _fail_all(self, error: errors.RemoteError, why: str) -> None:
        desk = self._desk
        desk.open = False  # nothing is sent any more for want of whom it was sent for
        for call in desk.calls:
            self._fail(call, error)
        for turn in desk.turns:
            desk.turns.end(turn, "failed", "backend_exit", why)

    def _reset(self, now: float) -> None:
        """As before the first start, but for who is connected."""
        clients = self._desk.clients
        self._desk = Desk(self.profile, now)
        self._desk.clients = clients
        self._up = Upward(self._desk)
        self._down = Downward(self._desk, self._up)
        self._started = None

    # --- time -------------------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """When `tick` must be called, if nothing else happens before."""
        desk = self._desk
        times = [desk.calls.due(), desk.asking.due(), desk.turns.due(), self._probe_due(), self._start_due()]
        return min([when for when in times if when is not None], default=None)

    def _start_due(self) -> float | None:
        if self._started is None or self.profile.handshake is None:
            return None
        return self._started + self.profile.backend.start_timeout

    def _probe_due(self) -> float | None:
        desk = self._desk
        if desk.state != "up":
            return None
        wanted = [since for since in (desk.calls.oldest(), desk.owed) if since is not None]
        return desk.health.due(since=min(wanted, default=None), busy=desk.calls.sent > 0)

    def tick(self, now: float) -> list[Effect]:
        """Time has passed."""
        desk = self._desk
        start = self._start_due()
        if start is not None and start <= now:
            self._started = None
            desk.effects.append(EndBackend("did not answer in time after its start"))
        for call in desk.calls.overdue(now):
            self._give_up(call, now)
        self._down.give_up_asking(now)
        for turn in desk.turns:
            self._look_at(turn, now)
        self._probe(now)
        return self._done()

    def _probe(self, now: float) -> None:
        desk, rule = self._desk, self.profile.probe
        step = desk.health.step(now, self._probe_due())
        if step == "probe":
            call = desk.call("probe", rule.method, now, OWN_SECONDS)
            desk.send_call(call, rule.params)
        elif step == "hung":
            desk.effects.append(Remark("the backend is hung: it does not answer"))
            if rule.hung == "kill":
                desk.effects.append(EndBackend("hung: it did not answer"))

    def _give_up(self, call: Call, now: float) -> None:
        """A request has waited long enough. An answer that still comes is dropped."""
        desk = self._desk
        if call.sent and call.purpose != "probe":
            desk.owed = desk.owed or now
        if call.purpose == "client":
            desk.cancel_upstream(call)
        error = errors.TimedOut(f"the backend did not answer {call.method} in time", {"method": call.method})
        self._fail(call, error)

    def _fail(self, call: Call, error: errors.RemoteError) -> None:
        desk = self._desk
        if call.purpose == "own":
            desk.effects.append(Answered(call.bid, failure(error)))
        for client, identity in desk.drop_call(call):
            desk.answer(client, identity, failure(error))

    def _look_at(self, turn: Turn, now: float) -> None:
        reason = limit_passed(turn, now)
        if reason is not None:
            self._cancel(turn, reason, turn.grace, now)
        if turn.give_up is not None and turn.give_up <= now:
            self._desk.turns.over(turn)
