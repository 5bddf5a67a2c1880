"""When a job must end, and by which step next: its limits, a cancellation, the grace, the kill. Pure, imports nothing.

One ladder watches one running job. It knows no clock: whoever asks brings the time, in monotonic milliseconds, and does
what `step` says. The shim climbs it; a daemon climbs it for a job whose shim was killed.
"""

from __future__ import annotations

WAIT, BEGIN, KILL, FINISH = (
    "wait",  # nothing to do before `due`
    "begin",  # write down why (L), then SIGTERM and SIGCONT to the group
    "kill",  # SIGKILL to everything that descends from the job, again until nothing is left
    "finish",  # the leader has ended, and nothing is left or what is left cannot be killed: write the end
)
STEPS = (WAIT, BEGIN, KILL, FINISH)

KILL_PATIENCE_MS = 5000
"""How long a killed tree may take to vanish. What is left then (a process of another user, one stuck in the kernel) is
named as a survivor rather than waited for."""


class Ladder:
    """The end of one job, step by step.

    Attributes:
        reason: why the end was begun: `deadline`, `idle`, or what was asked; None before that.
    """

    __slots__ = (
        "_begun",
        "_grace_ms",
        "_idle_ms",
        "_kill_at",
        "_killing_since",
        "_last_output",
        "_leader_ended",
        "_started",
        "_stopped_at",
        "_timeout_ms",
        "reason",
    )

    def __init__(self, now: int, *, timeout_ms: int, idle_ms: int, grace_ms: int) -> None:
        """Begin to watch a job that started `now`; a limit of 0 is none."""
        self.reason: str | None = None
        self._timeout_ms = timeout_ms
        self._idle_ms = idle_ms
        self._grace_ms = grace_ms
        self._started = self._last_output = now
        self._stopped_at: int | None = None
        self._begun = False
        self._kill_at = 0
        self._killing_since: int | None = None
        self._leader_ended = False

    def output(self, now: int) -> None:
        """The job wrote something."""
        self._last_output = now

    def stopped(self, now: int) -> None:
        """The job was stopped; its limits stand still until it goes on."""
        if self._stopped_at is None:
            self._stopped_at = now

    def continued(self, now: int) -> None:
        """The job goes on."""
        if self._stopped_at is not None:
            self._started += now - self._stopped_at
            self._last_output = min(now, self._last_output + now - self._stopped_at)
            self._stopped_at = None

    def ask(self, reason: str, grace_ms: int, now: int) -> None:
        """End it, for that reason. Asked again, the first reason stays and the grace can only become shorter."""
        if self.reason is None:
            self.reason = reason
            self._kill_at = now + grace_ms
        else:
            self._kill_at = min(self._kill_at, now + grace_ms)
        self._killing_since = None

    def step(self, now: int, *, leader_ended: bool, tree_empty: bool) -> str:
        """The next step, one of `STEPS`. After `BEGIN` ask again at once.

        Args:
            now: monotonic milliseconds.
            leader_ended: the job's own process has ended.
            tree_empty: and nothing that descends from it is left.
        """
        if leader_ended and tree_empty:
            return FINISH
        if not self._begun and not leader_ended:
            self._check_limits(now)
            self._begun = self.reason is not None
            return BEGIN if self._begun else WAIT
        # Once the ladder has begun, the leader's end does not cut the grace of what it leaves behind. A leader that
        # ends by itself takes its tree along at once.
        if self._begun and now < self._kill_at:
            return WAIT
        if self._killing_since is None or (leader_ended and not self._leader_ended):
            self._killing_since = now  # an end that came late leaves a tree that was not killed yet
        self._leader_ended = leader_ended
        if now < self._killing_since + KILL_PATIENCE_MS:
            return KILL
        return FINISH if leader_ended else WAIT  # a leader that cannot be killed runs on, and is said to

    def due(self) -> int | None:
        """When `step`, having said `WAIT`, will say something else by the clock alone; None if only an event can."""
        if self._killing_since is not None:
            return None
        if self.reason is not None:
            return self._kill_at
        if self._stopped_at is not None:
            return None
        ends: list[int] = []
        if self._timeout_ms:
            ends.append(self._started + self._timeout_ms)
        if self._idle_ms:
            ends.append(self._last_output + self._idle_ms)
        return min(ends, default=None)

    def _check_limits(self, now: int) -> None:
        if self._stopped_at is not None:
            return
        if self._timeout_ms and now >= self._started + self._timeout_ms:
            self.ask("deadline", self._grace_ms, now)
        elif self._idle_ms and now >= self._last_output + self._idle_ms:
            self.ask("idle", self._grace_ms, now)
