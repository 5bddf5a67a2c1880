"""The ladder: its table walked by hand, then a machine that tries everything."""

from __future__ import annotations

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jobbroker.core.ladder import BEGIN, FINISH, KILL, KILL_PATIENCE_MS, WAIT, Ladder


def ladder(*, timeout_ms: int = 0, idle_ms: int = 0, grace_ms: int = 100) -> Ladder:
    return Ladder(1000, timeout_ms=timeout_ms, idle_ms=idle_ms, grace_ms=grace_ms)


def running(it: Ladder, now: int) -> str:
    return it.step(now, leader_ended=False, tree_empty=False)


def orphaned(it: Ladder, now: int) -> str:
    return it.step(now, leader_ended=True, tree_empty=False)


def over(it: Ladder, now: int) -> str:
    return it.step(now, leader_ended=True, tree_empty=True)


def test_without_limits_it_waits_for_ever() -> None:
    it = ladder()
    assert running(it, 10**12) == WAIT
    assert it.due() is None
    assert over(it, 10**12) == FINISH


def test_a_leader_that_ends_by_itself_takes_its_tree_along_at_once() -> None:
    it = ladder()
    assert orphaned(it, 1001) == KILL
    assert orphaned(it, 1001 + KILL_PATIENCE_MS - 1) == KILL
    assert orphaned(it, 1001 + KILL_PATIENCE_MS) == FINISH
    assert it.reason is None


@pytest.mark.parametrize(("limits", "reason"), [({"timeout_ms": 50}, "deadline"), ({"idle_ms": 50}, "idle")])
def test_a_limit_begins_the_end_with_the_jobs_own_grace(limits: dict[str, int], reason: str) -> None:
    it = ladder(**limits)
    assert (running(it, 1049), it.due()) == (WAIT, 1050)
    assert (running(it, 1050), it.reason) == (BEGIN, reason)
    assert (running(it, 1050), it.due()) == (WAIT, 1150)
    assert running(it, 1149) == WAIT
    assert running(it, 1150) == KILL


def test_output_puts_off_idleness_but_not_the_deadline() -> None:
    it = ladder(timeout_ms=100, idle_ms=50)
    it.output(1040)
    assert (running(it, 1089), it.due()) == (WAIT, 1090)
    it.output(1089)
    assert (running(it, 1099), it.due()) == (WAIT, 1100)
    assert (running(it, 1100), it.reason) == (BEGIN, "deadline")


def test_the_grace_is_not_cut_by_the_leaders_end() -> None:
    it = ladder()
    it.ask("user", 100, 1000)
    assert running(it, 1000) == BEGIN
    assert orphaned(it, 1050) == WAIT
    assert orphaned(it, 1100) == KILL
    assert over(it, 1101) == FINISH


def test_an_end_within_the_grace_finishes_at_once() -> None:
    it = ladder()
    it.ask("user", 100, 1000)
    assert running(it, 1000) == BEGIN
    assert over(it, 1001) == FINISH


def test_a_second_ask_keeps_the_reason_and_can_only_shorten_the_grace() -> None:
    it = ladder()
    it.ask("disconnect", 100, 1000)
    assert running(it, 1000) == BEGIN
    it.ask("user", 500, 1010)
    assert (running(it, 1020), it.reason, it.due()) == (WAIT, "disconnect", 1100)
    it.ask("user", 20, 1030)
    assert (running(it, 1049), it.due()) == (WAIT, 1050)
    assert running(it, 1050) == KILL


def test_asked_after_the_leader_ended_by_itself_it_stays_an_end_of_its_own() -> None:
    it = ladder()
    assert orphaned(it, 1000) == KILL
    it.ask("user", 100, 1001)
    assert orphaned(it, 1002) == KILL  # not begun: nothing says that the end was asked for


def test_a_leader_that_cannot_be_killed_is_waited_for_and_its_tree_killed_afterwards() -> None:
    it = ladder()
    it.ask("user", 0, 1000)
    assert running(it, 1000) == BEGIN
    assert running(it, 1000) == KILL
    assert running(it, 1000 + KILL_PATIENCE_MS) == WAIT
    assert it.due() is None
    assert orphaned(it, 90_000) == KILL
    assert orphaned(it, 90_000 + KILL_PATIENCE_MS) == FINISH


def test_asking_again_tries_again() -> None:
    it = ladder()
    it.ask("user", 0, 1000)
    assert running(it, 1000) == BEGIN
    assert running(it, 1000) == KILL
    assert running(it, 9000) == WAIT
    it.ask("user", 0, 9001)
    assert running(it, 9001) == KILL


def test_limits_stand_still_while_the_job_is_stopped() -> None:
    it = ladder(timeout_ms=100, idle_ms=60)
    it.stopped(1050)
    it.stopped(1055)  # the kernel may say so twice
    assert (running(it, 5000), it.due()) == (WAIT, None)
    it.continued(5050)
    it.continued(5051)
    assert (running(it, 5059), it.due()) == (WAIT, 5060)
    it.output(5059)
    assert (running(it, 5099), it.due()) == (WAIT, 5100)
    assert running(it, 5100) == BEGIN


def test_output_during_a_stop_buys_no_time() -> None:
    it = ladder(idle_ms=50)
    it.stopped(1010)
    it.output(1900)
    it.continued(2000)
    assert (running(it, 2049), it.due()) == (WAIT, 2050)
    assert running(it, 2050) == BEGIN


TIMES = st.integers(0, 300)


class Everything(RuleBasedStateMachine):
    """All events in any order, and a second opinion on when what must happen."""

    @initialize(timeout=TIMES, idle=TIMES, grace=TIMES)
    def start(self, timeout: int, idle: int, grace: int) -> None:
        self.now = 10_000
        self.timeout, self.idle, self.grace = timeout, idle, grace
        self.ladder = Ladder(self.now, timeout_ms=timeout, idle_ms=idle, grace_ms=grace)
        self.active = self.quiet = 0  # running time, and running time since the last output
        self.is_stopped = self.leader_ended = self.tree_empty = False
        self.asked: list[int] = []  # when a grace ends
        self.begun = 0
        self.ended_unasked = False
        self.step = WAIT

    @rule(by=st.integers(1, 200))
    def time_passes(self, by: int) -> None:
        before, due = self.step, self.ladder.due()
        if before == WAIT and due is not None and due > self.now:
            by = min(by, due - self.now)  # nobody sleeps longer
        self.now += by
        if not self.is_stopped:
            self.active += by
            self.quiet += by
        self.ask_step()
        if before == WAIT and (due is None or self.now < due):
            assert not self.news, "something new before it was due"
        if before == WAIT and due == self.now:
            assert self.news, "due, and nothing new"

    @rule()
    def output(self) -> None:
        self.ladder.output(self.now)
        self.quiet = 0

    @rule()
    def stop(self) -> None:
        self.is_stopped = True
        self.ladder.stopped(self.now)

    @rule()
    def go_on(self) -> None:
        self.is_stopped = False
        self.ladder.continued(self.now)

    @rule(grace=TIMES)
    def ask(self, grace: int) -> None:
        self.ladder.ask("user", grace, self.now)
        self.asked.append(self.now + grace)
        self.ask_step()

    @precondition(lambda self: not self.leader_ended)
    @rule()
    def leader_ends(self) -> None:
        self.leader_ended = True
        self.ended_unasked = self.begun == 0
        self.ask_step()

    @precondition(lambda self: self.leader_ended)
    @rule()
    def tree_is_empty(self) -> None:
        self.tree_empty = True
        self.ask_step()

    def ask_step(self) -> None:
        self.step = self.ladder.step(self.now, leader_ended=self.leader_ended, tree_empty=self.tree_empty)
        self.news = self.step != WAIT
        if self.step == BEGIN:
            self.begun += 1
            assert not self.leader_ended
            if not self.asked:
                self.check_limit()
                self.asked.append(self.now + self.grace)
            self.step = self.ladder.step(self.now, leader_ended=False, tree_empty=False)
            assert self.step != BEGIN

    def check_limit(self) -> None:
        assert not self.is_stopped
        if self.ladder.reason == "deadline":
            assert self.active >= self.timeout > 0
        else:
            assert self.ladder.reason == "idle"
            assert self.quiet >= self.idle > 0

    @invariant()
    def truth(self) -> None:
        if not hasattr(self, "step"):
            return
        assert self.begun <= 1
        if self.step == FINISH:
            assert self.leader_ended
        if self.step == KILL:
            assert self.ended_unasked or self.now >= min(self.asked)
        if self.tree_empty:
            assert self.step == FINISH
        if not self.asked and not self.leader_ended and not self.is_stopped:
            assert not self.timeout or self.active <= self.timeout
            assert not self.idle or self.quiet <= self.idle


Everything.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestEverything = Everything.TestCase
