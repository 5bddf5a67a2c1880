"""Events from a real broker: where one begins, how one goes on after a lost connection, and what is too long ago."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import Home, Message, Wire

UPDATED = "notifications/job/updated"
REMOVED = "notifications/job/removed"


def ids(jobs: list[Message]) -> list[str]:
    return [job["id"] for job in jobs]


def ending(wire: Wire, job: str) -> Message:
    """The notification of a job's end."""
    while True:
        told = wire.note(UPDATED)
        if told["job"]["id"] == job and told["job"]["completedAt"]:
            return told


def test_a_cursor_goes_on_where_the_last_message_was(client: Wire, shared: Home) -> None:
    gone, ended = client.run("true")["id"], client.start("sleep", "60")["id"]
    with Wire(str(shared.socket)) as first:
        assert first.call("events/subscribe")["reset"] is True
        cursor = ending_of(first, client)["cursor"]
    client.call("job/cancel", id=ended, graceMs=0)
    live = client.start("sleep", "60")["id"]
    client.call("job/remove", id=gone)
    fleeting = client.run("true")["id"]
    client.call("job/remove", id=fleeting)
    with Wire(str(shared.socket)) as again:
        state = again.call("events/subscribe", since=cursor)
        assert (state["reset"], ids(state["jobs"]), state["removed"]) == (False, [ended, live], [gone])
        assert state["jobs"][0]["status"] == "cancelled"
        client.call("job/cancel", id=live, graceMs=0)
        assert ending(again, live)["job"]["status"] == "cancelled"
        state = again.call("events/subscribe", since=state["cursor"])
        assert (state["reset"], ids(state["jobs"]), state["removed"]) == (False, [live], [])
        assert again.call("events/subscribe", since=state["cursor"])["jobs"] == []


def ending_of(subscriber: Wire, client: Wire) -> Message:
    """A job runs and ends; the notification of that."""
    return ending(subscriber, client.run("true")["id"])


def test_the_cursor_of_a_removal(client: Wire) -> None:
    job = client.run("true")["id"]
    client.call("events/subscribe")
    client.call("job/remove", id=job)
    told = client.note(REMOVED)
    state = client.call("events/subscribe", since=told["cursor"])
    assert (state["cursor"], state["jobs"], state["removed"], state["reset"]) == (told["cursor"], [], [], False)


@pytest.mark.parametrize(
    "cursor", ["", "nonsense", "1a.5", "{epoch}.", "{epoch}.x", "{epoch}.-1", "{epoch}.99999999999"]
)
def test_a_cursor_of_somebody_else_begins_anew(client: Wire, cursor: str) -> None:
    live = client.start("sleep", "60")["id"]
    epoch = client.call("events/subscribe")["cursor"].partition(".")[0]
    state = client.call("events/subscribe", since=cursor.format(epoch=epoch))
    assert (state["reset"], ids(state["jobs"]), state["removed"]) == (True, [live], [])
    client.call("job/cancel", id=live, graceMs=0)


def test_another_broker_begins_anew(home: Home) -> None:
    wire = home.connect()
    live = wire.start("sleep", "60")["id"]
    cursor = wire.call("events/subscribe")["cursor"]
    home.restart()
    state = home.connect().call("events/subscribe", since=cursor)
    assert (state["reset"], ids(state["jobs"])) == (True, [live])
    assert int(state["cursor"].partition(".")[2]) >= int(cursor.partition(".")[2])


def test_removals_have_their_place_over_restarts(home: Home) -> None:
    wire = home.connect()
    jobs = [wire.run("true")["id"] for _ in range(3)]
    wire.call("events/subscribe")
    wire.call("job/cleanup", maxAgeMs=0)
    last = [wire.note(REMOVED)["cursor"] for _ in jobs][-1]
    wire.call("broker/shutdown")
    home.wait()
    home.start()
    assert home.connect().run("true")["rev"] > int(last.partition(".")[2])


def test_a_filter_and_a_cursor(client: Wire, shared: Home) -> None:
    mine, other = (client.start("sleep", "60", labels={"of": owner})["id"] for owner in ("me", "you"))
    wanted = {"label": {"of": "me"}, "status": "running"}
    state = client.call("events/subscribe", jobs=wanted)
    assert ids(state["jobs"]) == [mine]
    for job in (mine, other):
        client.call("job/cancel", id=job, graceMs=0)
    unseen = client.run("true", labels={"of": "me"})["id"]
    with Wire(str(shared.socket)) as again:
        told = again.call("events/subscribe", jobs=wanted, since=state["cursor"])
        assert [(job["id"], job["status"]) for job in told["jobs"]] == [(mine, "cancelled")]
        told = again.call("events/subscribe", jobs={"status": "completed"}, since=state["cursor"])
        assert ids(told["jobs"]) == [unseen]


def test_too_much_has_changed(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_MAX_RUNNING="1")
    home.start()
    wire = home.connect()
    first = wire.start("sleep", "60")["id"]
    cursor = wire.call("events/subscribe")["cursor"]
    wire.call("events/unsubscribe")
    wire.write([{"id": n, "method": "job/start", "params": {"argv": ["true"]}} for n in range(1000)])
    jobs = [answer["result"]["job"]["id"] for answer in wire.read()]
    state = wire.call("events/subscribe", since=cursor)
    assert (state["reset"], ids(state["jobs"])) == (False, jobs)
    last = wire.start("true")["id"]
    state = wire.call("events/subscribe", since=cursor)
    assert (state["reset"], ids(state["jobs"])) == (True, [first, *jobs[:-1]])
    rest = wire.call("job/list", status=["queued", "running", "stopped"], order="asc", before=state["next"])
    assert (ids(rest["jobs"]), rest["next"]) == ([jobs[-1], last], None)


def test_jobs_too_large_for_one_answer_come_in_pages(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_MAX_RUNNING="1")
    home.start()
    wire = home.connect()
    jobs = [wire.start("sleep", "60")["id"]]
    jobs += [wire.start("true", *["x" * 100_000] * 30)["id"] for _ in range(6)]
    state = wire.call("events/subscribe")
    assert ids(state["jobs"]) == jobs[:3]
    seen, following = ids(state["jobs"]), state["next"]
    while following is not None:
        page = wire.call("job/list", order="asc", before=following, limit=1000)
        assert len(page["jobs"]) <= 2
        seen += ids(page["jobs"])
        following = page["next"]
    assert seen == jobs
    assert ids(wire.call("job/list")["jobs"]) == jobs[:-3:-1], "newest first, as many as fit"
