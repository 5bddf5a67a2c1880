"""Turns: requests that are followed until their end condition, whoever asked for them, and whether he is there or not.

A turn ends once: by the notification its rule names, by the answer, an error, a limit, a cancellation that nobody
confirmed in time, or with the backend. What comes before the answer that names it is kept and taken in then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from jobbroker.core.dotted import ABSENT, Absent, Values, fill, find, key_of, matches
from jobbroker.core.profile import Cancel, End, JobRule, Take
from jobbroker.core.routing.effects import Effect, TurnEnded, TurnOutput, TurnReason, TurnStatus
from jobbroker.core.routing.interests import Name
from jobbroker.core.routing.messages import text_of
from jobclient.protocol.jsonrpc import Json

MAX_EARLY = 256
"""Events kept for a turn whose name is not known yet."""
MAX_RESULT = 1024 * 1024
"""Characters of a result that are kept."""


class Turn:
    """One turn.

    Attributes:
        name: the job it is.
        vars: what its rule has found so far.
        bid: its request at the backend.
        answered: the response is there, so all its vars are known that ever will be.
        deadline, idle_deadline: limits; None for none.
        ending: why its end was asked for, None while it was not; `give_up` is when it ends, confirmed or not.
        cancel_sent: the backend was told so.
        names: the keys it speaks of.
    """

    def __init__(self, name: str, rule: JobRule, method: str, params: Json) -> None:
        self.name = name
        self.rule = rule
        self.method = method
        self.vars: dict[str, Json] = dict(variables(rule, "params", params))
        self.bid = 0
        self.answered = False
        self.began = False
        self.deadline: float | None = None
        self.idle = 0.0
        self.idle_deadline: float | None = None
        self.grace = 0.0
        self.ending: TurnReason | None = None
        self.give_up: float | None = None
        self.cancel_sent = False
        self.early: deque[tuple[str, Json]] = deque()
        self.last = ""
        self.names: set[Name] = set()

    def due(self) -> float | None:
        """When its next limit is over."""
        if self.ending is not None:
            return self.give_up
        return min([when for when in (self.deadline, self.idle_deadline) if when is not None], default=None)


def variables(rule: JobRule, part: str, value: Json) -> Iterator[tuple[str, Json]]:
    """The vars of a rule that are found in `params` or in `result`."""
    for name, path in rule.vars.items():
        top, _, rest = path.partition(".")
        found = find(value, rest) if top == part else ABSENT
        if not isinstance(found, Absent):
            yield name, found


def exclusive_key(rule: JobRule, found: Values) -> str | None:
    """What there may be only one turn of; None if any number may be."""
    if not rule.exclusive:
        return None
    return key_of([rule.start, *(found.get(name) for name in rule.exclusive)])


class Turns:
    """All turns that are not over."""

    def __init__(self, emit: Callable[[Effect], None]) -> None:
        self._emit = emit
        self._turns: dict[str, Turn] = {}
        self._exclusive: dict[str, Turn] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._turns)

    def __iter__(self) -> Iterator[Turn]:
        """All of them, in the order of their starts."""
        return iter(list(self._turns.values()))

    def get(self, name: str | None) -> Turn | None:
        """The turn of that job."""
        return self._turns.get(name or "")

    def holder(self, rule: JobRule, params: Json) -> Turn | None:
        """The turn that keeps another one from beginning with these parameters."""
        key = exclusive_key(rule, dict(variables(rule, "params", params)))
        return None if key is None else self._exclusive.get(key)

    def add(self, turn: Turn) -> None:
        """A turn begins."""
        self._turns[turn.name] = turn
        key = exclusive_key(turn.rule, turn.vars)
        if key is not None:
            self._exclusive.setdefault(key, turn)

    def end(self, turn: Turn, status: TurnStatus, reason: TurnReason, error: str | None = None) -> None:
        """A turn is over; a second end changes nothing."""
        if self._turns.pop(turn.name, None) is None:
            return
        key = exclusive_key(turn.rule, turn.vars)
        if key is not None and self._exclusive.get(key) is turn:
            del self._exclusive[key]
        if turn.last:
            self._emit(TurnOutput(turn.name, "stdout", turn.last))
        self._emit(TurnEnded(turn.name, status, reason, error))

    # --- what the backend says --------------------------------------------------------------------------------------

    def answer(self, turn: Turn, outcome: dict[str, Json], now: float) -> None:
        """The request of a turn is answered: with that its name is known, or it is over."""
        self.touch(turn, now)
        turn.answered = True
        if "error" in outcome:
            self.finish(turn, "failed", _error_text(outcome["error"]))
            return
        result = outcome.get("result")
        turn.vars.update(variables(turn.rule, "result", result))
        if turn.rule.end == "response":
            self._end_with(turn, result)
            return
        early, turn.early = turn.early, deque()
        for method, params in early:
            if turn.name in self._turns:
                self._take(turn, method, params)

    def _end_with(self, turn: Turn, result: Json) -> None:
        rule = turn.rule
        found = result if rule.result_path is None else find(result, rule.result_path)
        if rule.result == "response" and not isinstance(found, Absent):
            turn.last = text_of(found)[:MAX_RESULT]
        flag = find(result, rule.error_flag) if rule.error_flag is not None else False
        if flag is True:
            self.finish(turn, "failed", f"the backend calls its result an error ({rule.error_flag})")
        else:
            self.finish(turn, "completed", None)

    def observe(self, method: str, params: Json, now: float) -> None:
        """The backend has said something; turns see everything, whoever else it is for."""
        for turn in self:
            if not _speaks_of(turn.rule, method):
                continue
            if turn.answered or turn.rule.end == "response":
                self._take(turn, method, params, now)
            elif turn.began and _may_concern(turn, method, params):
                _keep(turn, method, params)
                self.touch(turn, now)

    def progress(self, turn: Turn, method: str, params: Json, now: float) -> None:
        """A notification came that carries the turn's own token."""
        self.touch(turn, now)
        self._emit(TurnOutput(turn.name, "stderr", text_of({"method": method, "params": params}) + "\n"))

    def _take(self, turn: Turn, method: str, params: Json, now: float | None = None) -> None:
        rule = turn.rule
        ours = False
        if rule.progress is not None and method in rule.progress.methods:
            ours = matches(params, rule.progress.match, turn.vars)
            if ours:
                self._emit(TurnOutput(turn.name, "stderr", text_of({"method": method, "params": params}) + "\n"))
        if isinstance(rule.result, Take) and method == rule.result.method:
            ours = self._take_result(turn, rule.result, params) or ours
        if ours and now is not None:
            self.touch(turn, now)
        if isinstance(rule.end, End) and method == rule.end.method and matches(params, rule.end.match, turn.vars):
            self._end_by(turn, rule.end, params)

    def _take_result(self, turn: Turn, take: Take, params: Json) -> bool:
        value = find(params, take.path)
        if isinstance(value, Absent) or not matches(params, take.match, turn.vars):
            return False
        if take.take == "concat":
            self._emit(TurnOutput(turn.name, "stdout", text_of(value)))
        else:
            turn.last = text_of(value)[:MAX_RESULT]
        return True

    def _end_by(self, turn: Turn, end: End, params: Json) -> None:
        said = find(params, end.status) if end.status is not None else "completed"
        word = said if isinstance(said, str) else ""
        status = turn.rule.status_map.get(word, "completed" if word == "completed" else "failed")
        problem = find(params, end.error) if end.error is not None else None
        if status == "failed":
            text = f"the backend ended it as {word!r}"
            self.finish(turn, status, text if isinstance(problem, Absent) or problem is None else _error_text(problem))
        else:
            self.finish(turn, status, None)

    def finish(self, turn: Turn, status: TurnStatus, error: str | None) -> None:
        """It ended by itself, or because that was asked for: together these make the end."""
        asked = turn.ending
        if asked in ("deadline", "idle"):
            self.end(turn, "timed_out", asked, error)
        elif status == "completed":
            self.end(turn, "completed", "exit")
        elif asked is not None:
            self.end(turn, "cancelled", asked)
        elif status == "cancelled":
            self.end(turn, "cancelled", "user")  # somebody asked the backend itself
        else:
            self.end(turn, "failed", "exit", error)

    # --- limits and cancelling --------------------------------------------------------------------------------------

    def touch(self, turn: Turn, now: float) -> None:
        """It goes on."""
        if turn.idle:
            turn.idle_deadline = now + turn.idle

    def due(self) -> float | None:
        """When the next limit is over."""
        return min([when for turn in self if (when := turn.due()) is not None], default=None)

    def over(self, turn: Turn) -> None:
        """Its end was asked for, and nobody has confirmed it in time: it ends here, whatever the backend does."""
        self.finish(turn, "cancelled", "the backend did not end it in time")


def limit_passed(turn: Turn, now: float) -> TurnReason | None:
    """Which of its limits is over, before its end was asked for."""
    if turn.ending is not None:
        return None
    if turn.deadline is not None and turn.deadline <= now:
        return "deadline"
    return "idle" if turn.idle_deadline is not None and turn.idle_deadline <= now else None


def cancel_params(turn: Turn, how: Cancel) -> Json | Absent:
    """What its cancellation says; absent while the backend has not named the turn yet."""
    return fill(how.params, turn.vars)


def _speaks_of(rule: JobRule, method: str) -> bool:
    """Whether notifications of that method can mean a turn of that rule."""
    return (
        (isinstance(rule.end, End) and method == rule.end.method)
        or (isinstance(rule.result, Take) and method == rule.result.method)
        or (rule.progress is not None and method in rule.progress.methods)
    )


def _may_concern(turn: Turn, method: str, params: Json) -> bool:
    """Whether an event may be that of a turn not named yet: what is known of it fits."""
    rule = turn.rule
    wanted: list[Values] = []
    if isinstance(rule.end, End) and method == rule.end.method:
        wanted.append(rule.end.match)
    if isinstance(rule.result, Take) and method == rule.result.method:
        wanted.append(rule.result.match)
    if rule.progress is not None and method in rule.progress.methods:
        wanted.append(rule.progress.match)
    for match in wanted:
        known = {path: text for path, text in match.items() if not isinstance(fill(text, turn.vars), Absent)}
        if matches(params, known, turn.vars):
            return True
    return False


def _keep(turn: Turn, method: str, params: Json) -> None:
    """Remember it until the turn has a name; of too many, the end is the last to be forgotten."""
    turn.early.append((method, params))
    if len(turn.early) > MAX_EARLY:
        end = turn.rule.end
        last = end.method if isinstance(end, End) else ""
        oldest = next((place for place, (name, _) in enumerate(turn.early) if name != last), 0)
        del turn.early[oldest]


def _error_text(problem: Json) -> str:
    """What went wrong, in words."""
    if isinstance(problem, dict) and isinstance(message := problem.get("message"), str):
        return message
    return text_of(problem)
