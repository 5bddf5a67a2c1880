"""The client's watch over changes: by cursor, over the deaths of brokers, of more jobs than one answer holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from harness import Home, Wire
from jobclient import watch
from jobclient.client import Client, Event, Reset
from jobclient.link import Link
from jobclient.protocol import wire


@pytest.fixture
def broker(new_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch) -> Home:
    """A running broker that clients in this process find."""
    home = new_home(JOBBROKER_MAX_RUNNING="2")
    for name, value in home.environ.items():
        monkeypatch.setenv(name, value)
    home.start()
    return home


@pytest.fixture
def client(broker: Home) -> Generator[Client]:
    with Client(autospawn=False) as made:
        yield made


def told(event: Event) -> tuple[str, str]:
    match event:
        case wire.JobUpdated(job=job):
            return job.id, job.status
        case wire.JobRemoved(id=identity):
            return identity, "removed"
        case _:
            return "", type(event).__name__


def test_a_cursor_goes_on_and_skips_what_is_known(client: Client) -> None:
    first = client.start(["sleep", "60"]).job.id
    events = client.events()
    assert told(next(events)) == (first, "running")
    gone = client.start(["true"]).job.id
    last = next(event for event in events if told(event) == (gone, "completed"))
    assert isinstance(last, wire.JobUpdated)
    client.remove(gone)
    fresh = client.start(["sleep", "60"]).job.id
    again = client.events(since=last.cursor)
    assert [told(next(again)) for _ in range(2)] == [(fresh, "running"), (gone, "removed")]
    client.cancel(fresh, grace_ms=0)
    assert (fresh, "cancelled") in map(told, again), "and on with what comes"


def test_the_next_broker_cannot_go_on_and_says_so(broker: Home, client: Client) -> None:
    jobs = [client.start(["sleep", "60"]).job.id for _ in range(3)]
    state = list(zip(jobs, ["running", "running", "queued"], strict=True))
    events = client.events()
    assert [told(next(events)) for _ in jobs] == state
    broker.restart()
    assert isinstance(next(events), Reset)
    assert [told(next(events)) for _ in jobs] == state


def test_what_ended_while_no_broker_ran_is_told(broker: Home, client: Client, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    job = client.start(["sh", "-c", f"read x < {tmp_path}/gate; exit 3"]).job
    events = client.events()
    assert told(next(events)) == (job.id, "running")
    broker.kill()
    (tmp_path / "gate").write_text("go\n")
    broker.start()
    ended = next(event for event in events if told(event) == (job.id, "failed"))
    assert isinstance(ended, wire.JobUpdated)
    assert ended.job.exit_code == 3


def test_more_live_jobs_than_one_answer_holds(broker: Home, client: Client) -> None:
    with Wire(str(broker.socket)) as starter:
        starter.write([{"id": n, "method": "job/start", "params": {"argv": ["sleep", "60"]}} for n in range(2500)])
        jobs = [answer["result"]["job"]["id"] for answer in starter.read()]
        with Link(autospawn=False) as link:
            messages = watch.Watch().messages(link)
            listed = [next(messages)["params"]["job"] for _ in jobs]
            assert [job["id"] for job in listed] == jobs
            assert next(messages)["method"] == watch.CURRENT
            starter.call("job/cancel", id=jobs[-1], graceMs=0)
            assert next(messages)["params"]["job"]["id"] == jobs[-1]
            starter.send("broker/shutdown", mode="cancelJobs", graceMs=0)
            assert list(messages)[-1]["method"] == "notifications/broker/shuttingDown"
    broker.wait()


def test_changes_while_the_list_is_read_are_told_once_and_in_order(broker: Home, client: Client) -> None:
    with Wire(str(broker.socket)) as starter:
        starter.write([{"id": n, "method": "job/start", "params": {"argv": ["sleep", "60"]}} for n in range(1500)])
        jobs = [answer["result"]["job"]["id"] for answer in starter.read()]
        with Link(autospawn=False) as link:
            messages = watch.Watch().messages(link)
            next(messages)  # subscribed; the second page is still to be read
            starter.call("job/cancel", id=jobs[0], graceMs=0)  # so the next one begins
            starter.call("job/cancel", id=jobs[-1], graceMs=0)
            revs: dict[str, int] = {}
            for message in messages:
                if message["method"] == watch.CURRENT:
                    continue
                job = message["params"]["job"]
                assert revs.get(job["id"], -1) < job["rev"], "no state is told after a later one"
                revs[job["id"]] = job["rev"]
                if job["id"] == jobs[-1] and job["completedAt"]:
                    break
            assert set(revs) >= set(jobs[1:])
