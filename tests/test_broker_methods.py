"""`broker/*`, `events/*` and the life cycle that editors send: who answers, what is told, in which order."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness import Failed, Home, Message, Wire, alive, lines

UPDATED, REMOVED, LEAVING = (
    "notifications/job/updated", "notifications/job/removed", "notifications/broker/shuttingDown",
)  # fmt: skip


def test_r063_ping_and_status(client: Wire, shared: Home) -> None:
    assert shared.process is not None
    ping = client.call("broker/ping")
    assert (ping["pid"], ping["protocol"], ping["instance"]) == (shared.process.pid, 1, "default")
    assert ping["uptimeMs"] >= 0
    status = client.call("broker/status")
    assert status["counts"] == dict.fromkeys(status["counts"], 0)
    assert status["connections"] == 1
    assert (status["degraded"], status["backend"], status["warnings"]) == ([], None, [])
    assert status["paths"]["socket"] == str(shared.socket)
    assert status["limits"]["graceMs"] == 2000


def test_initialize_is_optional_and_may_be_repeated(client: Wire) -> None:
    first = client.call("initialize", processId=1, clientInfo={"name": "editor"}, capabilities={"x": [1, {"y": None}]})
    assert first["capabilities"] == {}
    assert first["serverInfo"]["name"] == "jobbroker"
    assert {"job/start", "events/subscribe", "broker/ping"} <= set(first["methods"])
    client.write({"jsonrpc": "2.0", "method": "initialized", "params": {}})
    client.write({"method": "$/setTrace", "params": {"value": "off"}})
    client.write({"method": "never/heard/of"})
    assert client.call("initialize") == first
    assert client.start("true")["origin"]["client"] == "editor"
    assert client.call("shutdown") is None
    assert client.call("broker/ping")["protocol"] == 1


def test_exit_ends_this_connection_only(client: Wire, shared: Home) -> None:
    with Wire(str(shared.socket)) as other:
        other.write({"method": "exit"})
        assert list(lines(other)) == []
    client.call("broker/ping")


# --- taking a request back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["params", "top"])
def test_a_request_is_taken_back_and_its_job_is_not(client: Wire, where: str) -> None:
    job = client.start("sleep", "60")["id"]
    for identity in (0, "a b", -7, 12345678901):
        client.write({"id": identity, "method": "job/wait", "params": {"ids": [job]}})
        back: Message = {"method": "$/cancelRequest"}
        client.write(back | ({"params": {"id": identity}} if where == "params" else {"id": identity}))
        with pytest.raises(Failed) as failed:
            client.answer(identity)
        assert (failed.value.code, failed.value.kind) == (-32800, "request_cancelled")
    client.write({"method": "$/cancelRequest", "params": {"id": "nobody"}})
    assert client.get(job)["status"] == "running"
    client.call("job/cancel", id=job, graceMs=0)


def test_a_cancellation_goes_on_though_its_request_was_taken_back(client: Wire) -> None:
    job = client.shell("trap '' TERM; echo up; while :; do sleep 0.01; done")["id"]
    client.until_output(job, "up")
    asked = client.send("job/cancel", id=job, graceMs=200)
    client.write({"method": "$/cancelRequest", "params": {"id": asked}})
    assert client.ended(job)["reason"] == "user"


def test_a_start_goes_on_though_its_request_was_taken_back(client: Wire) -> None:
    asked = client.send("job/start", argv=["true"], name="taken-back")
    client.write({"method": "$/cancelRequest", "params": {"id": asked}})
    try:
        client.answer(asked)
    except Failed as exc:
        assert exc.code == -32800  # noqa: PT017  # either answer is right, it depends on who is first
    while not (found := client.call("job/list", name="taken-back")["jobs"]):
        pass
    assert client.ended(found[0]["id"])["status"] == "completed"


# --- events ---------------------------------------------------------------------------------------------------------


def statuses(wire: Wire, job: str) -> Iterator[str]:
    """The statuses told of a job, as they come."""
    while True:
        told = wire.note(UPDATED)["job"]
        if told["id"] == job:
            yield told["status"]


def until(wire: Wire, job: str, last: str) -> list[str]:
    told = statuses(wire, job)
    return [*itertools.takewhile(lambda status: status != last, told), last]


def test_subscribe_tells_the_state_and_every_change_after_it(client: Wire, shared: Home) -> None:
    before = client.start("sleep", "60")
    with Wire(str(shared.socket)) as other:
        state = other.call("events/subscribe")
        assert [job["id"] for job in state["jobs"]] == [before["id"]]
        assert (state["reset"], "." in state["cursor"]) == (True, True)
        after = client.run("true", name="told")["id"]
        assert until(other, after, "completed") == ["queued", "running", "completed"]
        client.call("job/cancel", id=before["id"], graceMs=0)
        assert set(until(other, before["id"], "cancelled")) == {"running", "cancelled"}
        client.call("job/remove", id=after)
        assert other.note(REMOVED)["id"] == after
        assert other.call("events/unsubscribe") == {}
        client.run("true")
        other.call("broker/ping")
        assert other.notes == []


def test_filters_of_a_subscription(client: Wire, shared: Home) -> None:
    with Wire(str(shared.socket)) as other:
        other.call("events/subscribe", jobs={"label": {"of": "me"}})
        client.run("true")
        mine = client.run("true", labels={"of": "me"})["id"]
        assert until(other, mine, "completed") == ["queued", "running", "completed"]
        other.call("events/subscribe", jobs={"status": ["completed", "failed"]})
        theirs = client.run("true")["id"]
        assert other.note(UPDATED)["job"]["id"] == theirs
        assert other.notes == []
        assert other.refused("events/subscribe", jobs={"nonsense": 1}).code == -32602


def test_the_answer_to_a_start_comes_before_any_news_of_its_job(client: Wire) -> None:
    client.call("events/subscribe")
    for _ in range(30):
        client.write({"id": "s", "method": "job/start", "params": {"argv": ["true"]}})
        job = None
        while job is None:
            message = client.read()
            if message.get("id") == "s":
                job = message["result"]["job"]["id"]
                continue
            assert message["params"]["job"]["status"] in ("running", "completed"), "of an earlier job"
        told = next(statuses(client, job))
        assert told == "queued"


def test_the_same_in_a_batch(client: Wire) -> None:
    client.call("events/subscribe")
    client.write([{"id": n, "method": "job/start", "params": {"argv": ["true"]}} for n in range(20)])
    said: list[Any] = []
    while not said or isinstance(said[-1], dict):
        said.append(client.read())
    jobs = {answer["result"]["job"]["id"] for answer in said.pop()}
    assert not jobs & {note["params"]["job"]["id"] for note in said}
    told = [client.note(UPDATED)["job"]["id"] for _ in range(60)]
    assert set(told) == jobs


def test_revisions_grow_with_every_change_and_over_restarts(home: Home) -> None:
    last = 0
    for _ in range(3):
        wire = home.connect()
        wire.call("events/subscribe")
        jobs = [wire.start("true")["id"] for _ in range(5)]
        for _ in range(3 * len(jobs)):
            rev = wire.note(UPDATED)["job"]["rev"]
            assert rev > last
            last = rev
        home.restart()


def test_news_of_an_end_comes_before_the_answer_of_a_wait(client: Wire) -> None:
    client.call("events/subscribe")
    job = client.start("sleep", "0.05")["id"]
    waiting = client.send("job/wait", ids=[job])
    client.answer(waiting)
    assert [note["params"]["job"]["status"] for note in client.notes][-1] == "completed"


# --- the end of the broker ------------------------------------------------------------------------------------------


def test_r087_if_idle_is_refused_while_jobs_are_live(home: Home) -> None:
    wire = home.connect()
    job = wire.start("sleep", "60")["id"]
    failed = wire.refused("broker/shutdown")
    assert (failed.code, failed.data["live"]) == (-31010, 1)
    assert wire.refused("broker/shutdown", mode="now").code == -32602
    wire.call("job/cancel", id=job, graceMs=0)
    assert wire.call("broker/shutdown") == {}
    assert [note["method"] for note in lines(wire)] == [LEAVING]
    assert home.wait() == 0


def test_r086_keep_jobs_keeps_them(home: Home) -> None:
    wire = home.connect()
    job = wire.start("sleep", "60")
    wire.call("broker/shutdown", mode="keepJobs")
    assert home.wait() == 0
    assert alive(job["pid"])
    home.start()
    again = home.connect().get(job["id"])
    assert (again["status"], again["pid"]) == ("running", job["pid"])


def test_cancel_jobs_ends_them_with_grace(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_MAX_RUNNING="3")
    home.start()
    wire = home.connect()
    polite = wire.shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done")["id"]
    stubborn = wire.shell("trap '' TERM; echo up; while :; do sleep 0.01; done")["id"]
    for job in (polite, stubborn):
        wire.until_output(job, "up")
    stopped = wire.start("sleep", "60")
    os.kill(stopped["pid"], signal.SIGSTOP)
    queued = wire.start("true")["id"]
    waiting = wire.send("job/wait", ids=[polite, stubborn, stopped["id"], queued])
    wire.send("broker/shutdown", mode="cancelJobs", graceMs=200)
    assert len(wire.answer(waiting)["jobs"]) == 4
    assert home.wait() == 0
    home.start()
    wire = home.connect()
    assert [wire.get(polite)[key] for key in ("status", "reason")] == ["completed", "exit"]
    for job in (stubborn, stopped["id"], queued):
        assert [wire.get(job)[key] for key in ("status", "reason")] == ["cancelled", "shutdown"]
    assert wire.output(polite).endswith("bye\n")


def test_r082_nothing_is_started_while_the_broker_leaves(home: Home) -> None:
    wire = home.connect()
    slow = wire.shell("trap 'sleep 0.3' TERM; echo up; while :; do sleep 0.01; done")["id"]
    wire.until_output(slow, "up")
    wire.send("broker/shutdown", mode="cancelJobs", graceMs=300)
    failed = wire.refused("job/start", argv=["true"])
    assert (failed.code, failed.kind) == (-31007, "shutting_down")
    assert home.wait() == 0


def test_r082_what_is_unfinished_is_answered_and_everybody_is_told(home: Home) -> None:
    wire, silent, batch = home.connect(), home.connect(), home.connect()
    job = wire.start("sleep", "60")["id"]
    waiting = wire.send("job/wait", ids=[job])
    more = wire.send("job/output", id=job, waitMs=60_000)
    batch.write([{"id": n, "method": "job/wait", "params": {"ids": [job]}} for n in range(3)])
    batch.call("broker/ping")
    wire.call("broker/ping")
    assert home.process is not None
    home.process.send_signal(signal.SIGTERM)
    said = list(lines(wire))
    assert [message.get("error", {}).get("code") for message in said if "id" in message] == [-31007, -31007]
    assert {message["id"] for message in said if "id" in message} == {waiting, more}
    assert said[-1]["method"] == LEAVING
    assert said[-1]["params"]["reason"] == "SIGTERM"
    answers, notice = list(lines(batch))
    assert [answer["error"]["code"] for answer in answers] == [-31007] * 3
    assert notice["method"] == LEAVING
    assert [message["method"] for message in lines(silent)] == [LEAVING]
    assert home.wait() == 0
    home.start()
    assert home.connect().get(job)["status"] == "running"
