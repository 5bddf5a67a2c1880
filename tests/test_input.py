"""What a job reads: nothing, a file, bytes that came along, a pipe that is fed while it runs, by any daemon."""

from __future__ import annotations

import base64
import hashlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import PATIENCE, Failed, Home, Message, Wire, eventually
from jobbroker.inflow import MAX_PIECE, MAX_WAITING
from jobbroker.stdin import MAX_DATA
from jobctl import JOBCTL, Cli

PIPE = {"stdin": "pipe"}
BINARY = bytes(range(256)) * 700


def begin(wire: Wire, script: str) -> str:
    """A job that reads from a pipe and has said `up`."""
    job: str = wire.shell(script, stdin="pipe")["id"]
    wire.until_output(job, "up")
    return job


def written(wire: Wire, job: str) -> bytes:
    """All that an ended job wrote."""
    found, cursor = b"", "0"
    while True:
        piece = wire.call("job/output", id=job, limit=1 << 20, **{"from": cursor})
        found += base64.b64decode(piece["data"]) if piece["encoding"] == "base64" else piece["data"].encode()
        if piece["eof"]:
            return found
        cursor = piece["next"]


# --- what comes with the request ------------------------------------------------------------------------------------


def test_nothing_by_default(client: Wire) -> None:
    job = client.run("sh", "-c", "readlink /proc/self/fd/0; cat")
    assert (client.output(job["id"]), job["stdin"], job["stdinFile"]) == ("/dev/null\n", "null", None)


@pytest.mark.parametrize("source", [{"text": "hello\nwörld\n"}, {"base64": base64.b64encode(BINARY).decode()}])
def test_bytes_that_come_along(client: Wire, source: Message) -> None:
    job = client.run("cat", stdin=source)
    assert (job["status"], job["stdin"]) == ("completed", "data")
    wanted = base64.b64decode(source["base64"]) if "base64" in source else source["text"].encode()
    assert written(client, job["id"]) == wanted


def test_they_wait_with_the_job_through_a_crash_and_go_with_it(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_MAX_RUNNING="1")
    home.start()
    wire = home.connect()
    first = wire.start("sleep", "1000")
    second = wire.start("cat", stdin={"text": "kept"})
    kept = home.state / "jobs" / second["id"] / "input"
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("kept", 0o600)
    home.restart()
    wire = home.connect()
    wire.call("job/cancel", id=first["id"])
    wire.ended(second["id"])
    assert wire.output(second["id"]) == "kept"
    wire.call("job/remove", id=second["id"])
    assert not kept.parent.exists()


def test_a_file(client: Wire, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(BINARY)
    job = client.run("cat", stdin={"file": str(source)})
    assert (job["stdin"], job["stdinFile"]) == ("file", str(source))
    assert written(client, job["id"]) == BINARY


@pytest.mark.parametrize(
    ("name", "said"), [("none", "ENOENT"), ("directory", "EISDIR"), ("fifo", "neither a file nor a device")]
)
def test_a_file_that_cannot_be_read(client: Wire, tmp_path: Path, name: str, said: str) -> None:
    """A named pipe is not waited for: nobody may ever write to it."""
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    job = client.run("cat", stdin={"file": str(tmp_path / name)})
    assert (job["status"], job["reason"]) == ("failed", "spawn")
    assert said in job["error"]
    assert str(tmp_path / name) in job["error"]


@pytest.mark.parametrize("stdin", [
    {}, {"text": "a", "file": "/a"}, {"file": "relative"}, {"base64": "?"}, {"text": "a", "more": 1}, "inherit",
])  # fmt: skip
def test_what_makes_no_sense_is_refused(client: Wire, stdin: object) -> None:
    assert client.refused("job/start", argv=["cat"], stdin=stdin).code == -32602


def test_more_than_may_come_along_is_refused(client: Wire) -> None:
    refused = client.refused("job/start", argv=["cat"], stdin={"text": "x" * (MAX_DATA + 1)})
    assert refused.kind == "too_large"
    assert "job/input" in str(refused)


# --- a pipe ---------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_and_the_end_is_seen(client: Wire) -> None:
    job = begin(client, "echo up; while read line; do echo got $line; done; echo end")
    assert client.call("job/input", id=job, data="one\n") == {}
    client.until_output(job, "got one\n")
    client.call("job/input", id=job, data=base64.b64encode(b"two\n").decode(), encoding="base64")
    client.until_output(job, "got two\n")
    client.call("job/input", id=job, data="three\n", close=True)
    assert client.ended(job)["status"] == "completed"
    assert client.output(job).endswith("got three\nend\n")


def test_it_reads_on_with_the_next_daemon(home: Home) -> None:
    wire = home.connect()
    job = begin(wire, "echo up; while read line; do echo got $line; done; echo end")
    wire.call("job/input", id=job, data="one\n")
    home.restart()
    wire = home.connect()
    wire.call("job/input", id=job, data="two\n")
    wire.until_output(job, "got two\n")
    wire.call("job/input", id=job, close=True)
    wire.call("job/input", id=job, close=True)  # once more changes nothing
    assert wire.ended(job)["status"] == "completed"
    assert wire.output(job) == "up\ngot one\ngot two\nend\n"


def test_a_daemon_that_dies_without_telling_the_shim_of_the_end_leaves_word(home: Home) -> None:
    """The word is in the directory; the signal that says so is what the daemon did not come to send."""
    wire = home.connect()
    job = begin(wire, "echo up; cat; echo end")
    home.kill()
    (home.state / "jobs" / job / "eof").symlink_to("eof")
    home.start()
    assert home.connect().ended(job)["status"] == "completed"


def test_inputs_keep_their_order_however_slow_the_reader(client: Wire) -> None:
    """Fifteen calls of 100 KB at once, none answered before the job has read the one before."""
    job = begin(client, "echo up; sleep 0.2; sha256sum")
    data = [bytes([65 + n]) * 100_000 for n in range(MAX_WAITING - 1)]
    sent = [client.send("job/input", id=job, data=piece.decode()) for piece in data]
    for each in sent:
        assert client.answer(each) == {}
    client.call("job/input", id=job, close=True)
    client.ended(job)
    assert hashlib.sha256(b"".join(data)).hexdigest() in client.output(job)


def test_a_job_that_does_not_read_bounds_what_waits_for_it(client: Wire) -> None:
    job = begin(client, "echo up; sleep 1000")
    waiting = [client.send("job/input", id=job, data="x" * MAX_PIECE) for _ in range(MAX_WAITING)]
    assert client.refused("job/input", id=job, data="y").kind == "busy"
    assert client.refused("job/input", id=job, data="x" * (MAX_PIECE + 1)).kind == "too_large"
    assert client.call("broker/ping")["pid"]
    client.call("job/cancel", id=job, graceMs=0)
    taken: list[int] = []
    for each in waiting:
        with pytest.raises(Failed) as refused:
            client.answer(each)
        assert refused.value.kind == "invalid_state"
        taken.append(refused.value.data["written"])
    assert taken[0] >= 4096
    assert taken[1:] == [0] * (MAX_WAITING - 1)


def test_who_leaves_while_he_waits_lets_the_next_one_through(home: Home) -> None:
    job = begin(home.connect(), "echo up; read go; cat | wc -c")
    with Wire(str(home.socket)) as leaver:
        leaver.send("job/input", id=job, data="x" * 500_000)
        eventually(lambda: leaver.call("broker/ping"), "asked")
    wire = home.connect()
    wire.call("job/input", id=job, data="\nend", close=True)
    assert wire.ended(job)["status"] == "completed"


def test_a_closed_stdin_is_the_callers_news_and_nobody_elses_trouble(client: Wire) -> None:
    job = begin(client, "exec <&-; echo up; sleep 0.3; exit 3")
    refused = client.refused("job/input", id=job, data="x")
    assert (refused.kind, refused.data["written"]) == ("invalid_state", 0)
    ended = client.ended(job)
    assert (ended["status"], ended["exitCode"]) == ("failed", 3)
    assert client.refused("job/input", id=job, data="x").kind == "invalid_state"


def test_after_the_end_nothing_more_comes(client: Wire) -> None:
    job = begin(client, "echo up; cat; sleep 1000")
    client.call("job/input", id=job, close=True)
    assert client.refused("job/input", id=job, data="x").kind == "invalid_state"
    client.call("job/cancel", id=job)


def test_what_waits_behind_the_end_is_refused(home: Home) -> None:
    """The job stands still until all are sent, and its shim until all are answered: it has not let go of the pipe."""
    wire = home.connect()
    job = begin(wire, "echo up; kill -STOP $$; wc -c")
    eventually(lambda: wire.get(job)["status"] == "stopped", "stopped")
    shim = int(home.record(job).rpartition(b"\0")[2].split()[1])
    os.kill(shim, signal.SIGSTOP)
    wanted: list[Message] = [{"data": "x" * 300_000}, {"close": True}, {"data": "late"}, {"close": True}]
    sent = [wire.send("job/input", id=job, **each) for each in wanted]
    wire.call("broker/ping")
    os.kill(wire.get(job)["pid"], signal.SIGCONT)
    try:
        assert wire.answer(sent[0]) == wire.answer(sent[1]) == {}
        with pytest.raises(Failed) as refused:
            wire.answer(sent[2])
        assert (refused.value.kind, refused.value.data["written"]) == ("invalid_state", 0)
        assert wire.answer(sent[3]) == {}
    finally:
        os.kill(shim, signal.SIGCONT)
    eventually(lambda: wire.get(job)["status"] != "stopped", "known to go on")
    wire.ended(job)
    assert wire.output(job) == "up\n300000\n"


def test_an_input_ends_with_its_job_though_a_stranger_could_read_it(client: Wire) -> None:
    job = begin(client, "echo up; sleep 1000")
    stranger = os.open(f"/proc/{client.get(job)['pid']}/fd/0", os.O_RDONLY)
    try:
        waiting = client.send("job/input", id=job, data="x" * MAX_PIECE)
        client.call("job/cancel", id=job, graceMs=0)
        with pytest.raises(Failed) as refused:
            client.answer(waiting)
        assert (refused.value.kind, refused.value.data["id"]) == ("invalid_state", job)
    finally:
        os.close(stranger)


def test_only_a_pipe_is_fed(client: Wire) -> None:
    job = client.start("sleep", "1000")["id"]
    assert "pipe" in str(client.refused("job/input", id=job, data="x"))
    assert client.refused("job/input", id=job).code == -32602
    client.call("job/cancel", id=job)


def test_r141_output_is_drained_while_input_is_fed(client: Wire) -> None:
    """More than both pipes hold goes through `cat`: were one waited for, both would wait for ever."""
    job = client.start("cat", stdin="pipe", maxOutput=0)["id"]
    data = "0123456789abcdef" * (MAX_PIECE // 16)
    for _ in range(5):
        client.call("job/input", id=job, data=data)
    client.call("job/input", id=job, close=True)
    ended = client.ended(job)
    assert (ended["status"], ended["stdout"]["size"]) == ("completed", 5 * MAX_PIECE)


def test_a_killed_shim_lets_go_of_the_pipe(home: Home) -> None:
    wire = home.connect()
    job = begin(wire, "echo up; cat; exit 0")
    shim = int(home.record(job).rpartition(b"\0")[2].split()[1])
    os.kill(shim, signal.SIGKILL)
    assert wire.ended(job)["reason"] == "lost"
    assert wire.refused("job/input", id=job, data="x").kind == "invalid_state"


# --- jobctl, and the Python client ----------------------------------------------------------------------------------


def feed(cli: Cli, data: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*JOBCTL, *words], env=cli.home.environ, cwd=cli.cwd, input=data, capture_output=True, timeout=PATIENCE
    )


def test_from_the_command_line(cli: Cli) -> None:
    (cli.cwd / "source").write_bytes(b"from a file\n")
    assert cli.ok("run", "--stdin", "source", "cat") == "from a file\n"
    done = feed(cli, BINARY, "run", "--stdin", "-", "--", "cat")
    assert (done.returncode, done.stdout) == (0, BINARY)
    job = cli.start("--stdin", "pipe", "--", "cat")
    cli.ok("input", job, "a line")
    cli.ok("input", "-n", job, "half a ")
    assert feed(cli, b"line\n" + BINARY, "input", job).returncode == 0
    assert feed(cli, BINARY * 3, "input", job, "-").returncode == 0
    assert feed(cli, BINARY, "input", "--close", job).returncode == 0, "what comes by a pipe is read before"
    cli.ok("wait", job)
    out = subprocess.run([*JOBCTL, "output", job], env=cli.home.environ, capture_output=True, check=True).stdout
    assert out == b"a line\nhalf a line\n" + BINARY * 5
    assert cli("input", job, "more").returncode == 4
    assert "stdin      pipe" in cli.ok("status", job)


def test_from_python(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from jobclient import Client, InvalidState

    for name, value in home.environ.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "source").write_text("file")
    with Client() as broker:
        sent = broker.start(["cat"], stdin=b"bytes"), broker.start(["cat"], stdin=tmp_path / "source")
        assert [b"".join(broker.follow(each.job.id)) for each in sent] == [b"bytes", b"file"]
        job = broker.start(["cat"], stdin="pipe").job.id
        broker.input(job, BINARY * 5)
        broker.input(job, "text", close=True)
        assert b"".join(broker.follow(job)) == BINARY * 5 + b"text"
        with pytest.raises(InvalidState):
            broker.input(job, "more")
        with pytest.raises(TypeError):
            broker.start([sys.executable], stdin="text")  # type: ignore[arg-type]


# --- brokers come and go --------------------------------------------------------------------------------------------

BLOCKED = "echo up; while [ ! -e {0} ]; do sleep 0.01; done; sha256sum"
"""A job that reads when a file is there, and not before."""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_full(home: Home, job: str) -> bool:
    """Whether the pipe a job reads from takes no more: what was sent is on its way then, in part."""
    with os.fdopen(os.open(f"/proc/{home.connect().get(job)['pid']}/fd/0", os.O_WRONLY | os.O_NONBLOCK), "wb") as pipe:
        poller = select.poll()
        poller.register(pipe, select.POLLOUT)
        return not poller.poll(0)


def test_what_a_broker_passed_on_before_it_ended_is_not_sent_again(cli: Cli) -> None:
    """The pipe takes 64 KiB of it; the broker ends, and the next one gets the rest, and only that."""
    flag, data = cli.cwd / "flag", os.urandom(300_000)
    (cli.cwd / "data").write_bytes(data)
    job = cli.start("--stdin", "pipe", "--", "sh", "-c", BLOCKED.format(flag))
    with (cli.cwd / "data").open("rb") as source:
        feeding = subprocess.Popen([*JOBCTL, "input", job, "-", "--close"], env=cli.home.environ, stdin=source)
    eventually(lambda: is_full(cli.home, job), "the pipe is full")
    cli.ok("broker", "restart")
    flag.touch()
    assert feeding.wait(PATIENCE) == 0
    cli.ok("wait", job)
    assert digest(data) in cli.ok("output", job)


def test_who_takes_it_back_is_told_how_much_was_written(client: Wire, shared: Home, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    job = begin(client, BLOCKED.format(flag))
    sent = client.send("job/input", id=job, data="x" * 100_000)
    eventually(lambda: is_full(shared, job), "the pipe is full")
    client.write({"method": "$/cancelRequest", "params": {"id": sent}})
    with pytest.raises(Failed) as cut:
        client.answer(sent)
    assert cut.value.kind == "request_cancelled"
    written = cut.value.data["written"]
    assert 4096 <= written < 100_000
    flag.touch()
    client.call("job/input", id=job, close=True)
    client.ended(job)
    assert digest(b"x" * written) in client.output(job)


def test_a_killed_broker_leaves_the_question_open_and_says_so(cli: Cli) -> None:
    job = cli.start("--stdin", "pipe", "--", "sleep", "1000")
    (cli.cwd / "data").write_bytes(b"x" * 300_000)
    with (cli.cwd / "data").open("rb") as source:
        feeding = subprocess.Popen(
            [*JOBCTL, "input", job, "-"], env=cli.home.environ, stdin=source, stderr=subprocess.PIPE, text=True
        )
    eventually(lambda: is_full(cli.home, job), "the pipe is full")
    os.kill(cli.broker(), signal.SIGKILL)
    _, said = feeding.communicate(timeout=PATIENCE)
    assert feeding.returncode == 5
    assert "0 bytes were taken, and none to all of the next 262144" in said
    cli.ok("cancel", job)
