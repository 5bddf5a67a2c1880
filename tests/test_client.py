"""The typed client on a real broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

import jobclient
from harness import Home, alive, eventually
from jobbroker.methods import METHODS
from jobclient import Client, JobFailed
from jobclient.protocol import errors, wire
from source import HOUSE


@pytest.fixture
def client(new_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[Client]:
    """A client where no broker runs yet."""
    for name, value in new_home().environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with Client() as made:
        yield made
        made.shutdown(mode="cancelJobs", grace_ms=0)


def kill_broker(client: Client) -> None:
    pid = client.ping().pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid), "the broker is dead")


def shell(client: Client, script: str) -> wire.Job:
    return client.start(["sh", "-c", script]).job


def test_a_job_from_start_to_end(client: Client, tmp_path: Path) -> None:
    started = client.start([b"sh", "-c", "pwd; echo err >&2"], name="tests", labels={"a": "b"}, timeout_ms=60_000)
    assert started.created
    assert (started.job.name, started.job.labels, started.job.timeout_ms) == ("tests", {"a": "b"}, 60_000)
    assert client.wait("tests").jobs[0].status == "completed"
    left = client.result("tests").result
    assert (left.stdout, left.stderr, left.exit_code) == (f"{tmp_path}\n", "err\n", 0)
    assert client.output("tests", stream="stdout", tail=1).data == f"{tmp_path}\n"
    assert [job.id for job in client.list(label={"a": "b"}, limit=5).jobs] == [started.job.id]
    assert client.remove("tests").removed == [started.job.id]
    with pytest.raises(errors.JobNotFound):
        client.get("tests")


def test_r071_the_environment_is_ours_or_as_given(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    ours = client.start(["true"]).job.id
    given = client.start(["true"], env={"GIVEN": "caf\udce9"}).job.id
    assert "OURS=1" in (client.get(ours, env=True).env or [])
    assert wire.Base64("R0lWRU49Y2Fm6Q==") in (client.get(given, env=True).env or [])


def test_the_broker_is_known(client: Client) -> None:
    assert client.ping().pid == client.status().pid
    shell(client, "sleep 60")
    with pytest.raises(errors.JobsActive):
        client.shutdown()


def test_waiting(client: Client) -> None:
    quick, slow = shell(client, "exit 3"), shell(client, "sleep 60")
    assert [job.id for job in client.wait(quick.id, slow.id, any=True).jobs] == [quick.id]
    assert client.wait(all=True, timeout_ms=20).timed_out
    client.cancel(slow.id, grace_ms=0)
    assert [job.id for job in client.wait(quick.id, slow.id).jobs] == [quick.id, slow.id]


def test_a_stopped_job_is_not_waited_for(client: Client) -> None:
    job = client.start(["sleep", "60"]).job
    assert client.signal(job.id, "stop").id == job.id
    with pytest.raises(errors.InvalidState):
        client.wait(job.id)


def test_cancel(client: Client) -> None:
    job = shell(client, "sleep 60 & sleep 60")
    done = client.cancel(job.id)
    assert (done.changed, done.survivors, done.job.status, done.job.reason) == (True, [], "cancelled", "user")
    assert not client.cancel(job.id).changed
    assert client.cleanup(max_age_ms=0, dry_run=True).removed == [job.id]
    assert client.cleanup(max_age_ms=0).removed == [job.id]


def test_output_is_followed_over_the_death_of_the_broker(client: Client, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    feed = os.open(tmp_path / "fifo", os.O_RDWR)
    job = shell(client, 'while read -r l && [ "$l" ]; do echo "$l"; done <fifo')
    seen = b""
    os.write(feed, b"one\n")
    for piece in client.follow(job.id):
        seen += piece
        if seen == b"one\n":
            with Client() as other:
                kill_broker(other)
            os.write(feed, b"two\n\n")
    os.close(feed)
    assert seen == b"one\ntwo\n"


def test_a_wait_outlives_the_broker(client: Client, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    job = shell(client, "read -r l <fifo; exit 4")
    script = f"from jobclient import Client; print(Client().wait({job.id!r}).jobs[0].exit_code)"
    waiter = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    eventually(lambda: client.status().connections == 2, "the waiter is there")
    kill_broker(client)
    eventually(lambda: client.status().connections == 2, "the waiter is there again")
    (tmp_path / "fifo").write_text("go\n")
    assert waiter.communicate()[0] == "4\n"


def test_changes_are_told_and_none_is_missed_when_the_broker_dies(client: Client) -> None:
    shell(client, "sleep 60")
    events = client.events()
    first = next(events)
    assert isinstance(first, wire.JobUpdated)
    assert first.job.status == "running"
    kill_broker(client)
    client.cancel(first.job.id, grace_ms=0)
    ended = next(event for event in events if isinstance(event, wire.JobUpdated) and event.job.status == "cancelled")
    assert ended.job.id == first.job.id
    client.shutdown(mode="keepJobs")
    assert isinstance(list(events)[-1], wire.BrokerShuttingDown)


def test_an_invalid_time_limit_in_the_environment_warns(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBBROKER_JOB_TIMEOUT_MS", "soon")
    with pytest.warns(UserWarning, match="the default stays"):
        assert client.start(["true"]).job.timeout_ms == 0
    monkeypatch.setenv("JOBBROKER_JOB_TIMEOUT_MS", "5000")
    assert client.start(["true"]).job.timeout_ms == 5000


def test_one_key_one_job(client: Client) -> None:
    env = {"PATH": os.environ["PATH"]}
    first, second = (client.start(["true"], env=env, idempotency_key="k") for _ in range(2))
    assert (first.created, second.created, first.job.id) == (True, False, second.job.id)
    with pytest.raises(errors.InvalidParams):
        client.start(["false"], env=env, idempotency_key="k")


def test_timed_jobs(client: Client) -> None:
    client.timed_add(wire.AddParams(name="nightly", every_ms=0, argv=["true"]))
    assert client.timed_tick("nightly", wait=True).decision == "scheduled"
    assert [each.name for each in client.timed_list().schedules] == ["nightly"]
    assert client.timed_remove("nightly").jobs == []


def test_run_tells_how_it_ended(client: Client) -> None:
    assert client.run(["sh", "-c", "exit 3"]).exit_code == 3
    with pytest.raises(JobFailed, match="failed: exit status 3"):
        client.run(["sh", "-c", "exit 3"], check=True)


NOT_FOR_PROGRAMS = {"broker/trace", "events/unsubscribe", "initialize", "shutdown"}


def test_every_method_of_the_protocol_is_there() -> None:
    """Those aside that belong to a connection of one's own."""
    homes = ("calls", "timedcalls", "client", "timedclient", "watch")
    said = "".join(HOUSE[f"jobclient.{home}"].text for home in homes)
    assert {name for name in METHODS if f'"{name}"' not in said} == NOT_FOR_PROGRAMS


@pytest.mark.parametrize("name", jobclient.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(jobclient, name) is not None
    assert name in dir(jobclient)


def test_names_load_when_used() -> None:
    script = "import sys, jobclient; jobclient.{}; print('msgspec' in sys.modules)"
    for name, loaded in (("JobNotFound", "False"), ("Client", "True")):
        argv = [sys.executable, "-c", script.format(name)]
        assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() == loaded
    assert not hasattr(jobclient, "Nothing")
