"""The table of exit codes, and the words for how a job stands."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from jobclient.cli import exits, shapes, words
from jobclient.protocol import errors, wire
from scripted import JOB

if TYPE_CHECKING:
    from jobclient.cli.shapes import Job


def job(**members: Any) -> Job:
    return cast("Job", {**JOB, **members})


FAILED: dict[str, Any] = {"status": "failed", "exitCode": None}


@pytest.mark.parametrize(
    ("members", "code", "state"),
    [
        ({}, 0, "completed"),
        ({"cancelRequested": True}, 0, "completed"),
        ({"status": "failed", "exitCode": 3}, 3, "failed 3"),
        ({"method": "m", "exitCode": None}, 0, "completed"),
        ({**FAILED, "method": "m", "reason": "exit"}, 1, "failed"),
        ({**FAILED, "method": "m", "reason": "backend_exit"}, 125, "failed backend_exit"),
        ({**FAILED, "method": "m", "status": "cancelled", "reason": "user"}, 143, "cancelled"),
        ({**FAILED, "method": "m", "status": "timed_out", "reason": "deadline"}, 124, "timed out"),
        ({"status": "failed", "exitCode": 255}, 255, "failed 255"),
        ({"status": "failed", "exitCode": 124}, 124, "failed 124"),
        ({**FAILED, "reason": "signal", "signal": "SIGSEGV"}, 139, "failed SIGSEGV"),
        ({**FAILED, "reason": "signal", "signal": "SIGRTMIN+2"}, 128 + signal.SIGRTMIN + 2, "failed SIGRTMIN+2"),
        ({**FAILED, "reason": "signal", "signal": "SIG33"}, 161, "failed SIG33"),
        ({**FAILED, "reason": "spawn", "error": "exec: ENOENT: no such file: 'foo'"}, 127, "failed spawn"),
        ({**FAILED, "reason": "spawn", "error": "exec: EACCES: permission denied: 'foo'"}, 126, "failed spawn"),
        ({**FAILED, "reason": "spawn", "error": "exec: ENOEXEC: exec format error: 'foo'"}, 126, "failed spawn"),
        ({**FAILED, "reason": "spawn", "error": "exec: E2BIG: argument list too long: 'foo'"}, 126, "failed spawn"),
        ({**FAILED, "reason": "spawn", "error": "cwd: ENOENT: no such file: '/x'"}, 125, "failed spawn"),
        ({**FAILED, "reason": "spawn", "error": None}, 125, "failed spawn"),
        ({**FAILED, "reason": "lost"}, 125, "lost"),
        ({**FAILED, "reason": "internal"}, 125, "failed internal"),
        ({"status": "failed", "reason": "internal", "exitCode": 0}, 125, "failed internal"),
        ({"status": "timed_out", "reason": "deadline", "signal": "SIGTERM", "exitCode": None}, 124, "timed out"),
        ({"status": "timed_out", "reason": "idle", "exitCode": 0}, 124, "timed out (idle)"),
        ({"status": "cancelled", "reason": "user", "signal": "SIGTERM", "exitCode": None}, 143, "cancelled"),
        ({"status": "cancelled", "reason": "user", "signal": "SIGKILL", "exitCode": None}, 137, "cancelled"),
        ({"status": "cancelled", "reason": "user", "exitCode": 130}, 130, "cancelled"),
        ({"status": "cancelled", "reason": "shutdown", "exitCode": None}, 125, "cancelled (shutdown)"),
    ],
)
def test_a_job_s_end(members: dict[str, Any], code: int, state: str) -> None:
    assert exits.of_job(job(**members)) == code
    assert words.state(job(**members)) == state


@pytest.mark.parametrize("status", words.LIVE)
def test_a_live_job_s_state(status: str) -> None:
    assert words.state(job(status=status, reason=None)) == status
    assert words.state(job(status=status, reason=None, cancelRequested=True)) == "cancelling"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.JobNotFound("x"), 3), (errors.AmbiguousReference("x"), 3), (errors.InvalidState("x"), 4),
        (errors.ResultUnavailable("x"), 4), (errors.JobsActive("x"), 4), (errors.BrokerUnavailable("x"), 5),
        (errors.ConnectionLost("x"), 5), (errors.VersionMismatch("x"), 5), (errors.InvalidParams("x"), 1),
        (errors.NotDelivered("x"), 1), (errors.TimedOut("x"), 1), (errors.StoreUnavailable("x"), 1),
    ],
)  # fmt: skip
def test_an_error_s_code(error: errors.JobBrokerError, code: int) -> None:
    assert exits.of_error(error) == code


def test_advice_is_given_once() -> None:
    assert exits.advice(errors.JobNotFound("no job 'x'")) == "no job 'x'  -> jobctl list -a"
    assert exits.advice(errors.JobNotFound("no job 'x'  -> look")) == "no job 'x'  -> look"


@pytest.mark.parametrize("number", signal.Signals)
def test_every_signal_has_its_number(number: signal.Signals) -> None:
    assert exits.signal_number(number.name) == number


def test_the_shapes_are_the_wire_s() -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(wire.Job)}
    assert fields == set(shapes.Job.__annotations__)
    assert set(words.LIVE) == wire.LIVE
    assert set(words.TERMINAL) == wire.TERMINAL


def test_a_command_is_shown_as_typed_and_safe() -> None:
    argv = ["sh", "-c", "echo 'a b'", "\x1b[2J", {"base64": "/w=="}]
    assert words.command(job(argv=argv)) == "sh -c 'echo '\\\\''a b'\\\\''' '\\x1b[2J' '\\xff'".replace("\\\\", "\\")


def test_a_name_is_shown_safe() -> None:
    assert words.title(job(name="a\x1b]0;x\x07")) == "a\\x1b]0;x\\x07 (bcdfgh)"
    assert words.title(job(name=None)) == "bcdfgh"
