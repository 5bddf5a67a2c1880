"""A link that is lost and made again: what is repeated, what is not, and when it gives up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobclient.link import REPEATABLE, Link
from jobclient.protocol import errors
from scripted import JOB, PING, HangUp, Scripted, Silent, in_turn


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("JOBBROKER_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("JOBBROKER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("JOBBROKER_AUTOSPAWN", "0")
    return str(tmp_path / "run" / "default.sock")


METHODS = sorted(REPEATABLE - {"broker/ping"})
ONCE = ["job/signal", "job/remove", "job/cleanup", "job/input", "broker/shutdown", "thread/start"]


@pytest.mark.parametrize("method", METHODS)
def test_r057_what_cannot_happen_twice_is_repeated(place: str, method: str) -> None:
    answers = {method.replace("/", "_"): in_turn(HangUp(), {"done": True})}
    with Scripted(place, **answers) as broker, Link() as link:
        assert link.request(method, {"idempotencyKey": "k"}) == {"done": True}
        assert broker.methods() == ["broker/ping", method, "broker/ping", method]
        assert broker.seen[1] == broker.seen[3]


@pytest.mark.parametrize("method", ONCE)
def test_r057_what_could_happen_twice_is_not(place: str, method: str) -> None:
    with Scripted(place, **{method.replace("/", "_"): in_turn(HangUp(), {})}) as broker, Link() as link:
        with pytest.raises(errors.ConnectionLost):
            link.request(method, {})
        assert broker.methods().count(method) == 1
        assert link.request(method, {}) == {}


@pytest.mark.parametrize("method", ONCE)
def test_what_was_surely_not_sent_is_sent_to_the_next(place: str, method: str) -> None:
    with Link() as link:
        with Scripted(place, job_get=lambda _: {}):
            link.request("job/get", {})
        os.unlink(place)
        with Scripted(place, **{method.replace("/", "_"): in_turn({"done": True})}):
            assert link.request(method, {}) == {"done": True}


@pytest.mark.parametrize("method", ["job/signal", "job/get"])
def test_r064_a_broker_on_its_way_out_is_left_for_the_next(place: str, method: str) -> None:
    answers = {method.replace("/", "_"): in_turn(errors.ShuttingDown("going"), {"done": True})}
    with Scripted(place, **answers) as broker, Link() as link:
        assert link.request(method, {}) == {"done": True}
        assert broker.connections == 2


def test_a_batch_is_repeated_if_all_of_it_may_be(place: str) -> None:
    with Scripted(place, job_get=in_turn(HangUp(), {}), job_remove=in_turn(HangUp())) as broker, Link() as link:
        assert link.batch([("job/get", {}), ("job/get", {})]) == [{}, {}]
        with pytest.raises(errors.ConnectionLost):
            link.batch([("job/get", {}), ("job/remove", {})])
        assert broker.methods().count("job/remove") == 1


def test_a_wait_that_is_repeated_has_only_the_rest_of_its_time(place: str) -> None:
    with Scripted(place, job_wait=in_turn(HangUp(), {"jobs": []})) as broker, Link() as link:
        link.request("job/wait", {"ids": ["x"], "timeoutMs": 10_000}, patience=10)
        first, second = (params["timeoutMs"] for method, params in broker.seen if method == "job/wait")
        assert second < first <= 10_000


def test_a_broker_that_always_hangs_up_is_given_up(place: str) -> None:
    with Scripted(place, job_get=in_turn(HangUp())) as broker, Link() as link:
        with pytest.raises(errors.ConnectionLost):
            link.request("job/get", {})
        assert 2 < broker.methods().count("job/get") < 10


def test_an_answer_that_comes_too_late_meets_nobody(place: str) -> None:
    with Scripted(place, job_get=in_turn(Silent(), {"job": JOB})) as broker, Link(timeout=0.2) as link:
        with pytest.raises(errors.TimedOut):
            link.request("job/get", {})
        assert link.request("job/get", {}) == {"job": JOB}
        assert broker.connections == 2


def test_r064_a_slow_broker_is_not_taken_for_a_dead_one(place: str) -> None:
    with Scripted(place, broker_ping=in_turn(Silent())) as broker:
        with Link(timeout=0.3) as link, pytest.raises(errors.BrokerUnavailable, match="does not answer"):
            link.request("job/get", {})
        assert broker.methods() == ["broker/ping"] * len(broker.methods())


def test_a_broker_that_hangs_up_on_the_first_ping_is_asked_again(place: str) -> None:
    with Scripted(place, broker_ping=in_turn(HangUp(), PING), job_get=lambda _: {}), Link() as link:
        assert link.request("job/get", {}) == {}


def test_nothing_is_started_where_that_is_forbidden(place: str, tmp_path: Path) -> None:
    with Link() as link, pytest.raises(errors.BrokerUnavailable, match="JOBBROKER_AUTOSPAWN=0 forbids"):
        link.request("job/get", {})
    assert os.listdir(tmp_path) == []


def test_a_link_is_of_no_use_after_a_fork(place: str) -> None:
    with Scripted(place, job_get=lambda _: {}), Link() as link:
        link.request("job/get", {})
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                link.request("job/get", {})
            except errors.JobBrokerError as exc:
                os.write(write, str(exc).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert b"before a fork" in os.read(read, 1000)
        os.close(read)
        os.close(write)
