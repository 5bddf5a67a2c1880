"""What jobs write, as a real broker pushes it: complete, in order, before the news of the end, for all alike."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from harness import Home, Message, Wire, eventually

MIB = 1024 * 1024
OUTPUT = "notifications/job/output"


@pytest.fixture
def subscriber(shared: Home, client: Wire) -> Generator[Wire]:
    with Wire(str(shared.socket)) as made:
        made.call("events/subscribe", output=True)
        yield made


def until_end(wire: Wire, job: str) -> tuple[list[Message], Message]:
    """All pieces of a job's output, and the news of its end; nothing of it comes after that."""
    pieces: list[Message] = []
    while True:
        message = wire.notes.pop(0) if wire.notes else wire.read()
        params = message.get("params", {})
        if message["method"] == OUTPUT and params["id"] == job:
            pieces.append(params)
        elif params.get("job", {}).get("id") == job and params["job"]["completedAt"]:
            wire.call("broker/ping")
            assert not [note for note in wire.notes if note["params"].get("id") == job]
            return pieces, params["job"]


def data(pieces: list[Message], stream: str = "stdout") -> bytes:
    """What the pieces of a stream hold."""
    found = b""
    for piece in pieces:
        if piece["stream"] == stream:
            raw = piece["data"]
            found += base64.b64decode(raw) if piece["encoding"] == "base64" else raw.encode()
    return found


def gated(wire: Wire, gate: Path, script: str, **params: object) -> str:
    os.mkfifo(gate)
    return str(wire.shell(f"read x < {gate}; {script}", **params)["id"])


def test_all_of_it_comes_in_order_and_before_the_end(client: Wire, subscriber: Wire) -> None:
    job = client.shell("echo one; echo two >&2; sleep 0.2; echo three; echo four >&2")["id"]
    pieces, ended = until_end(subscriber, job)
    assert (data(pieces), data(pieces, "stderr")) == (b"one\nthree\n", b"two\nfour\n")
    assert ended["status"] == "completed"
    assert {piece["dropped"] for piece in pieces} == {0}
    for stream in ("stdout", "stderr"):
        starts = [int(piece["start"]) for piece in pieces if piece["stream"] == stream]
        assert starts == sorted(starts)
    assert max(int(piece["next"]) for piece in pieces) == 19


def test_it_comes_while_the_job_runs(client: Wire, subscriber: Wire) -> None:
    job = client.shell("echo up; sleep 60", merged=True)["id"]
    assert subscriber.note(OUTPUT) == {
        "id": job, "stream": "stdout", "start": "0", "next": "3", "data": "up\n", "encoding": "utf-8", "dropped": 0,
    }  # fmt: skip
    assert client.get(job)["status"] == "running"
    client.call("job/cancel", id=job, graceMs=0)


def test_a_job_that_is_over_at_once_has_said_it_all(client: Wire, subscriber: Wire) -> None:
    for n in range(30):
        job = client.run("echo", str(n))["id"]
        assert data(until_end(subscriber, job)[0]) == b"%d\n" % n


def test_a_running_job_from_the_moment_of_the_subscription(client: Wire, shared: Home, tmp_path: Path) -> None:
    job = gated(client, tmp_path / "gate", "echo after")
    early = client.shell("echo before; sleep 60")["id"]
    client.until_output(early, "before")
    with Wire(str(shared.socket)) as late:
        late.call("events/subscribe", output=True)
        (tmp_path / "gate").write_text("go\n")
        assert data(until_end(late, job)[0]) == b"after\n"
        client.call("job/cancel", id=early, graceMs=0)
        assert until_end(late, early)[0] == []


def test_characters_are_whole_and_bytes_are_base64(client: Wire, subscriber: Wire) -> None:
    script = r"printf '\303'; sleep 0.3; printf '\251'; sleep 0.3; printf '\377\000'"
    pieces, _ = until_end(subscriber, client.shell(script, merged=True)["id"])
    assert [(piece["data"], piece["encoding"]) for piece in pieces] == [("é", "utf-8"), ("/wA=", "base64")]
    pieces, _ = until_end(subscriber, client.shell(r"printf 'a\303'", merged=True)["id"])
    assert data(pieces) == b"a\xc3", "what is never finished comes at the end"


def test_filters(client: Wire, shared: Home) -> None:
    with Wire(str(shared.socket)) as other:
        other.call("events/subscribe", jobs={"label": {"of": "me"}, "status": "failed"}, output=True)
        client.run("echo", "theirs")
        mine = client.shell("echo mine; exit 1", labels={"of": "me"})["id"]
        assert data(until_end(other, mine)[0]) == b"mine\n"
        assert other.notes == []
        other.call("events/subscribe")
        client.ended(client.start("echo", "silent")["id"])
        other.call("events/unsubscribe")
        assert OUTPUT not in {note["method"] for note in other.notes}


def test_news_of_a_start_come_after_its_answer(client: Wire) -> None:
    client.call("events/subscribe", output=True)
    for _ in range(20):
        identity = client.send("job/start", argv=["echo", "x"])
        job = client.answer(identity)["job"]["id"]
        assert not [note for note in client.notes if note["params"].get("id") == job]
        assert data(until_end(client, job)[0]) == b"x\n"


def test_what_was_not_kept_is_said(client: Wire, subscriber: Wire) -> None:
    job = client.shell(f"head -c {4 * MIB} /dev/zero | tr '\\0' x", maxOutput=MIB, merged=True)["id"]
    pieces, _ = until_end(subscriber, job)
    assert len(data(pieces)) + sum(piece["dropped"] for piece in pieces) == 4 * MIB


def test_much_comes_in_pieces_and_can_be_completed(client: Wire, subscriber: Wire) -> None:
    """Twelve MiB, faster than anybody reads: what did not come is said, and is there to be read."""
    job = client.shell(f"head -c {6 * MIB} /dev/zero | tr '\\0' x; head -c {6 * MIB} /dev/zero | tr '\\0' y >&2")["id"]
    pieces, _ = until_end(subscriber, job)
    for stream, letter in (("stdout", b"x"), ("stderr", b"y")):
        mine = [piece for piece in pieces if piece["stream"] == stream]
        got = data(mine, stream)
        assert got.strip(letter) == b""
        assert len(got) + sum(piece["dropped"] for piece in mine) == 6 * MIB
        assert all(len(piece["data"]) <= 64 * 1024 for piece in mine)
        whole = client.call("job/output", id=job, stream=stream, limit=MIB)
        assert (whole["dropped"], whole["data"]) == (0, letter.decode() * MIB)


def test_a_client_that_does_not_read_costs_the_others_nothing(new_home: Callable[..., Home]) -> None:
    home = new_home()
    home.start()
    deaf, good, starter = home.connect(), home.connect(), home.connect()
    for wire in (deaf, good):
        wire.call("events/subscribe", output=True)
    script = f"for n in 1 2 3 4 5 6 7 8; do head -c {MIB} /dev/zero | tr '\\0' x; sleep 0.1; done"
    job = starter.shell(script, merged=True)["id"]
    pieces, _ = until_end(good, job)
    assert (len(data(pieces)), {piece["dropped"] for piece in pieces}) == (8 * MIB, {0})
    little = starter.run("echo", "little")["id"]
    assert data(until_end(good, little)[0]) == b"little\n"
    ours, ended = until_end(deaf, job)
    assert len(data(ours)) < 4 * MIB, "it was not sent what it did not read"
    assert len(data(ours)) + sum(piece["dropped"] for piece in ours) == 8 * MIB, "and is told how much that is"
    assert ended["status"] == "completed", "but every state"
    assert data(until_end(deaf, little)[0]) in (b"little\n", b"")


def test_nobody_wakes_up_for_a_job_that_nobody_follows_any_more(home: Home) -> None:
    with Wire(str(home.socket)) as subscriber:
        subscriber.call("events/subscribe", output=True)
        job = subscriber.shell("echo up; sleep 60")["id"]
        subscriber.note(OUTPUT)
    wire = home.connect()
    eventually(lambda: wire.call("broker/status")["connections"] == 1, "it is gone")
    assert home.process is not None
    status = Path(f"/proc/{home.process.pid}/status")

    def is_quiet() -> bool:
        """A second of waiting: two turns for the request itself, five more if anybody looked at the job."""
        before = int(status.read_text().partition("voluntary_ctxt_switches:")[2].split()[0])
        wire.call("job/wait", ids=[job], timeoutMs=1000)
        return int(status.read_text().partition("voluntary_ctxt_switches:")[2].split()[0]) - before <= 4

    eventually(is_quiet, "nobody looks at it")


def test_output_that_is_in_memory_only_is_pushed_too(client: Wire, subscriber: Wire) -> None:
    for _ in range(5):
        job = client.shell("echo one; echo two >&2", persist=False)["id"]
        pieces, _ = until_end(subscriber, job)
        assert (data(pieces), data(pieces, "stderr")) == (b"one\n", b"two\n")
