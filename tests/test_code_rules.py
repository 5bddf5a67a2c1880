"""The house rules about code, each a test; and the rules themselves, held against small examples."""

from __future__ import annotations

import pytest

from code_rules import (
    FUNCTION_LINES,
    MODULE_LINES,
    Rule,
    begins_with_docstring,
    cancellation_passes,
    channels_are_bounded,
    fits_in_a_sitting,
    functions_fit_on_a_screen,
    shields_have_deadlines,
    sleeps,
    starts_trio,
)
from source import EVERYTHING, HOUSE, TESTS, Module

MAY_CATCH_ALL = {
    "jobbroker.forkserver be_shim": "the child of a fork must end by _exit, whatever happens to it",
    "jobbroker.run go_claimed": "a fault in a shim is written into the record, or the job would look lost",
}
MAY_SLEEP = {
    "bench.shim_cost memory": "measures what runs, and lets it run",
    "bench.shim_cost trickles": "the same",
    "driver eventually": "the same for what a bare driver waits for",
    "fake_backend rest": "a backend that is slow when told so",
    "harness __exit__": "polls for processes to be gone, which nothing announces",
    "harness eventually": "the one place where tests poll: for the kernel's doing, or another process's file",
    "test_lifecycle test_an_idle_broker_does_not_wake_up": "that nothing happens shows only as time passes",
    "test_timed_survival test_nothing_wakes_up_while_nothing_is_due": "the same",
    "test_survival storm": "the moment of the kill is the point",
    "test_survival test_killed_while_it_starts": "the same",
}
MAY_START_TRIO = {"jobbroker.__main__"}


def found(rule: Rule, modules: dict[str, Module]) -> list[tuple[str, int, str]]:
    return [(name, line, what) for name, module in modules.items() for line, what in rule(module)]


# --- the house ------------------------------------------------------------------------------------------------------


def test_every_module_says_first_what_it_is() -> None:
    assert found(begins_with_docstring, EVERYTHING) == []


def test_no_module_is_long() -> None:
    assert found(fits_in_a_sitting, EVERYTHING) == []


def test_no_function_is_long() -> None:
    assert found(functions_fit_on_a_screen, EVERYTHING) == []


def test_nobody_keeps_a_cancellation_to_himself() -> None:
    caught = {f"{name} {function}" for name, _, function in found(cancellation_passes, EVERYTHING)}
    assert caught == set(MAY_CATCH_ALL)


def test_every_shield_has_a_deadline() -> None:
    assert found(shields_have_deadlines, EVERYTHING) == []


def test_every_channel_is_bounded() -> None:
    assert found(channels_are_bounded, EVERYTHING) == []


def test_trio_is_started_in_one_place() -> None:
    assert {name for name, *_ in found(starts_trio, HOUSE)} == MAY_START_TRIO


def test_tests_wait_for_what_they_wait_for() -> None:
    slept = {f"{name} {function}" for name, _, function in found(sleeps, TESTS)}
    assert slept == set(MAY_SLEEP), "wait with harness.eventually, or say in MAY_SLEEP why not"


# --- the rules ------------------------------------------------------------------------------------------------------

GOOD: list[tuple[Rule, str]] = [
    (begins_with_docstring, '"""What it is."""\n'),
    (begins_with_docstring, '# a comment\n"""What it is."""\nx = 1'),
    (fits_in_a_sitting, "x\n" * MODULE_LINES),
    (functions_fit_on_a_screen, "def f():\n" + "    x\n" * (FUNCTION_LINES - 1)),
    (cancellation_passes, "try: x\nexcept BaseException:\n    close()\n    raise"),
    (cancellation_passes, "try: x\nexcept:\n    raise"),
    (cancellation_passes, "try: x\nexcept (ValueError, OSError): pass"),
    (cancellation_passes, "try: x\nexcept* Exception: pass"),
    (cancellation_passes, "with suppress(OSError): x"),
    (cancellation_passes, "try: x\nexcept wire.Cancelled: pass"),
    (shields_have_deadlines, "with trio.move_on_after(5, shield=True): x"),
    (shields_have_deadlines, "trio.CancelScope(deadline=now + 5, shield=True)"),
    (shields_have_deadlines, "trio.CancelScope(relative_deadline=5, shield=True)"),
    (shields_have_deadlines, "trio.CancelScope(shield=False)"),
    (shields_have_deadlines, "trio.move_on_after(math.inf)"),
    (channels_are_bounded, "trio.open_memory_channel(64)"),
    (channels_are_bounded, "trio.open_memory_channel[int](64)"),
    (starts_trio, "trio.lowlevel.current_task()\nrun()"),
    (sleeps, "trio.sleep_forever()\nsleep = 3"),
]
BAD: list[tuple[Rule, str]] = [
    (begins_with_docstring, ""),
    (begins_with_docstring, 'from __future__ import annotations\n"""Too late."""'),
    (begins_with_docstring, 'f"""No docstring."""'),
    (fits_in_a_sitting, "x\n" * (MODULE_LINES + 1)),
    (functions_fit_on_a_screen, "def f():\n" + "    x\n" * FUNCTION_LINES),
    (functions_fit_on_a_screen, "class C:\n  async def f():\n" + "    x\n" * FUNCTION_LINES),
    (cancellation_passes, "try: x\nexcept BaseException: pass"),
    (cancellation_passes, "try: x\nexcept: pass"),
    (cancellation_passes, "try: x\nexcept trio.Cancelled as exc: raise ValueError from exc"),
    (cancellation_passes, "try: x\nexcept (OSError, builtins.BaseException):\n    if y:\n        raise"),
    (cancellation_passes, "try: x\nexcept* trio.Cancelled: pass"),
    (cancellation_passes, "with contextlib.suppress(OSError, trio.Cancelled): x"),
    (shields_have_deadlines, "with trio.CancelScope(shield=True): x"),
    (shields_have_deadlines, "CancelScope(shield=wanted)"),
    (shields_have_deadlines, "trio.move_on_after(math.inf, shield=True)"),
    (shields_have_deadlines, "trio.move_on_after(seconds=float('inf'), shield=True)"),
    (shields_have_deadlines, "scope.shield = True"),
    (channels_are_bounded, "trio.open_memory_channel(math.inf)"),
    (channels_are_bounded, "trio.open_memory_channel[int](float('inf'))"),
    (channels_are_bounded, "open_memory_channel(max_buffer_size=inf)"),
    (starts_trio, "trio.run(main)"),
    (starts_trio, "from trio import run"),
    (starts_trio, "start = trio.run"),
    (sleeps, "time.sleep(1)"),
    (sleeps, "async def f():\n    await trio.sleep(0.1)"),
    (sleeps, "from time import sleep"),
    (sleeps, "wait = time.sleep"),
]


@pytest.mark.parametrize(("rule", "text"), GOOD, ids=lambda value: getattr(value, "__name__", ""))
def test_good_code_passes(rule: Rule, text: str) -> None:
    assert list(rule(Module("x", text))) == []


@pytest.mark.parametrize(("rule", "text"), BAD, ids=lambda value: getattr(value, "__name__", ""))
def test_bad_code_is_found(rule: Rule, text: str) -> None:
    assert len(list(rule(Module("x", text)))) == 1


def test_a_finding_names_the_innermost_function() -> None:
    text = "def f():\n    def g():\n        time.sleep(1)\n    trio.sleep(1)\n"
    assert list(sleeps(Module("x", text))) == [(4, "f"), (3, "g")]
