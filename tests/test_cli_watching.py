"""`jobctl wait`, `events` and `list --watch`: waiting and watching from the command line, on a real broker."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from harness import PATIENCE, eventually
from jobctl import JOBCTL, Cli

LEAVING = "notifications/broker/shuttingDown"


def told(watcher: subprocess.Popen[str]) -> Iterator[Any]:
    """What a watcher prints, line by line."""
    assert watcher.stdout is not None
    for line in watcher.stdout:
        yield json.loads(line)


def job_of(message: Any) -> tuple[str, str]:
    job = message["params"].get("job", {})
    return job.get("id", ""), job.get("status", message["method"])


# --- wait -----------------------------------------------------------------------------------------------------------


def test_wait_for_those_that_a_filter_means(cli: Cli) -> None:
    mine = [cli.start("-l", "of=me", "--", "sh", "-c", f"sleep 2.{n}; exit {n}") for n in (1, 2)]
    other = cli.start("sleep", "60")
    done = cli("wait", "-l", "of=me", "--json")
    assert sorted(job["id"] for job in json.loads(done.stdout)["jobs"]) == sorted(mine)
    assert done.returncode in (1, 2), "the exit code of one that failed"
    assert cli("wait", "--here", "--status", "running", "--timeout", "0.1").returncode == 124
    gone = cli("wait", "--name", "nobody")
    assert (gone.returncode, "has not ended" in gone.stderr) == (125, True), "they may have failed before we looked"
    assert cli("wait", "--status", "failed").returncode == 125, "what has ended is not waited for"
    assert cli("wait", "--status", "nonsense").returncode == 125
    assert "has the status failed" in cli("list", "--status", "lost").stderr
    assert cli("wait", "-l", "of=me", other).returncode == 125, "a filter and a name exclude each other"
    cli.ok("cancel", "--now", other)


def test_wait_until_a_line_is_written(cli: Cli) -> None:
    server = cli.start("-n", "server", "--", "sh", "-c", "echo starting; sleep 0.3; echo Listening on 80; sleep 60")
    assert cli.ok("wait", "server", "--until-output", r"Listening on \d+", "--timeout", "30s") == "Listening on 80\n"
    assert json.loads(cli.ok("wait", "@", "--until-output", "start", "--json"))["match"]["start"] == "0"
    assert cli.ok("wait", "@", "--until-output", "start", "-q") == ""
    late = cli("wait", server, "--until-output", "never", "--timeout", "0.1")
    assert (late.returncode, late.stdout) == (124, "")
    assert "no line has matched yet" in late.stderr
    bad = cli("wait", server, "--until-output", "(")
    assert (bad.returncode, "missing )" in bad.stderr) == (125, True)
    assert cli("wait", server, server[:-1], "--until-output", "x").returncode in (0, 4, 124, 125)
    cli.ok("cancel", "--now", server)
    over = cli("wait", server, "--until-output", "never")
    assert over.returncode == 4
    assert "no line matched" in over.stderr


# --- events ---------------------------------------------------------------------------------------------------------


def test_events_go_on_at_a_cursor(cli: Cli) -> None:
    first = cli.start("sleep", "60")
    watcher = cli.begin("events", "--json")
    lines = told(watcher)
    message = next(lines)
    assert job_of(message) == (first, "running")
    watcher.send_signal(signal.SIGINT)
    assert watcher.wait(PATIENCE) == 130
    assert watcher.communicate() == ("", "")
    second = cli.start("sleep", "60")
    again = cli.begin("events", "--json", "--since", message["params"]["cursor"])
    assert job_of(next(told(again))) == (second, "running")
    again.send_signal(signal.SIGINT)
    again.communicate()
    stranger = cli.begin("events", "--json", "--since", "nobody.1")
    lines = told(stranger)
    assert [next(lines)["method"], *(job_of(next(lines)) for _ in range(2))] == [
        "reset", (first, "running"), (second, "running"),
    ]  # fmt: skip
    stranger.send_signal(signal.SIGINT)
    stranger.communicate()


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_events_go_on_with_the_next_broker(cli: Cli, how: str) -> None:
    job = cli.start("sleep", "60")
    watcher = cli.begin("events", "--json")
    lines = told(watcher)
    assert job_of(next(lines)) == (job, "running")
    if how == "killed":
        os.kill(cli.broker(), signal.SIGKILL)
    else:
        cli.ok("broker", "restart")
        assert next(lines)["method"] == LEAVING
    assert next(lines)["method"] == "reset"
    assert job_of(next(lines)) == (job, "running")
    cli.ok("cancel", "--now", job)
    while job_of(message := next(lines)) != (job, "cancelled"):
        assert job_of(message)[0] == job
    cli.ok("broker", "stop")
    assert json.loads(watcher.communicate(timeout=PATIENCE)[0].splitlines()[-1])["method"] == LEAVING
    assert watcher.returncode == 0


def test_events_with_output_and_a_filter(cli: Cli) -> None:
    cli.ok("list")
    watcher = cli.begin("events", "--output", "-l", "of=me")
    assert watcher.stdout is not None
    eventually(lambda: cli.json("broker", "status", "--json")["connections"] == 2, "it watches")
    cli.start("--", "echo", "theirs")
    job = cli.start("-l", "of=me", "--", "printf", r"one\ntwo\033\n")
    seen: list[str] = []
    while "completed" not in (seen or [""])[-1]:
        seen.append(watcher.stdout.readline())
    assert [line for line in seen if "  stdout  " in line] == [f"{job}  stdout  one\n", f"{job}  stdout  two\\x1b\n"]
    assert not [line for line in seen if "theirs" in line]
    watcher.send_signal(signal.SIGINT)
    watcher.communicate()


# --- list --watch ---------------------------------------------------------------------------------------------------


def test_a_list_that_is_watched_by_a_program(cli: Cli) -> None:
    job = cli.start("sleep", "60")
    watcher = cli.begin("list", "--watch", "--status", "running,cancelled")
    lines = told(watcher)
    assert job_of(next(lines)) == (job, "running")
    cli.ok("cancel", "--now", job)
    while job_of(next(lines)) != (job, "cancelled"):
        pass
    cli.ok("remove", job)
    assert next(lines)["params"]["id"] == job
    watcher.send_signal(signal.SIGINT)
    assert watcher.wait(PATIENCE) == 130
    assert watcher.communicate()[1] == ""


def screen(descriptor: int, wanted: Callable[[str], bool]) -> str:
    """The table as it was drawn last, once it is as wanted."""
    seen = ""
    while True:
        try:
            seen += os.read(descriptor, 65536).decode("utf-8", "replace")
        except OSError as exc:
            raise AssertionError(f"never so: {seen}") from exc
        drawn = seen.rpartition("\x1b[H\x1b[J")[2]
        if wanted(drawn):
            return drawn


def test_a_list_that_is_watched_fits_the_terminal(cli: Cli) -> None:
    jobs = [cli.start("-n", f"a-rather-long-name-{n}", "--", "true", "and", "words") for n in range(9)]
    cli.ok("wait", *jobs)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 8, 40, 0, 0))
    watcher = subprocess.Popen(
        [*JOBCTL, "list", "--watch", "--color", "never"],
        env=cli.home.environ,
        cwd=cli.cwd,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    lines = screen(master, lambda drawn: "more" in drawn).split("\r\n")
    assert lines[-2:] == ["and 5 more", ""]
    assert len(lines) == 8
    assert [line for line in lines if len(line) > 40] == []
    watcher.send_signal(signal.SIGINT)
    left = ""
    with suppress(OSError):  # the terminal is gone with the last who has it open
        while piece := os.read(master, 65536).decode():
            left += piece
    assert watcher.wait(PATIENCE) == 130
    assert all(job in left.partition("\x1b[?1049l")[2] for job in jobs), "what was there last can still be read"
    os.close(master)


def test_a_list_that_is_watched_by_a_person(cli: Cli) -> None:
    job = cli.start("-n", "long", "--", "sleep", "60")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    environ = {**cli.home.environ, "TERM": "xterm", "PYTHONUTF8": "1"}
    watcher = subprocess.Popen(
        [*JOBCTL, "list", "--watch"], env=environ, cwd=cli.cwd, stdin=slave, stdout=slave, stderr=subprocess.PIPE
    )
    os.close(slave)
    assert "1 running" in screen(master, lambda drawn: "long" in drawn and "running" in drawn)
    second = cli.start("-n", "short", "--", "true")
    assert "long" in screen(master, lambda drawn: second in drawn and "completed" in drawn)
    cli.ok("cancel", "--now", job)
    cli.ok("remove", second)
    last = screen(master, lambda drawn: "nothing runs" in drawn and "cancelled" in drawn and second not in drawn)
    assert "cancelled" in last
    watcher.send_signal(signal.SIGINT)
    assert watcher.wait(PATIENCE) == 130
    assert watcher.stderr is not None
    assert watcher.stderr.read() == b""
    watcher.stderr.close()
    os.close(master)
