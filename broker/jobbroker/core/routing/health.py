"""Whether the backend lives: silence is asked about, and silence upon that, several times, is a hang.

A turn may be silent for as long as it likes while its backend answers: only its own limits end it.
"""

from __future__ import annotations

from jobbroker.core.profile import Probe


class Health:
    """The judgement, by what was heard and when.

    Attributes:
        hung: it does not answer.
        heard: when it said anything last.
    """

    def __init__(self, rules: Probe, now: float) -> None:
        self._rules = rules
        self._probed: float | None = None
        self._missed = 0
        self.heard = now
        self.hung = False

    def said(self, now: float) -> None:
        """It wrote something, whatever it was: it lives."""
        self.heard = now
        self._probed = None
        self._missed = 0
        self.hung = False

    def due(self, *, since: float | None, busy: bool) -> float | None:
        """When to look again; None while nothing is expected of it.

        Args:
            since: when it was given the oldest of what it owes, if it owes anything.
            busy: it works, and some cannot answer then.
        """
        if since is None or self.hung or (busy and not self._rules.while_busy):
            return None
        if self._probed is not None:
            return self._probed + self._rules.wait
        return max(self.heard, since) + self._rules.idle

    def step(self, now: float, due: float | None) -> str | None:
        """What to do now: `probe` it, declare it `hung`, or nothing."""
        if due is None or now < due:
            return None
        if self._probed is not None:
            self._missed += 1
            if self._missed >= self._rules.misses:
                self.hung = True
                return "hung"
        self._probed = now
        return "probe"
