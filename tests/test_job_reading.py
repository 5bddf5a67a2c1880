"""`job/get`, `list`, `wait`, `output` and `result`, and how jobs are referred to."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Failed, Home, Message, Wire, eventually


def names(jobs: list[Message]) -> list[str]:
    return [job["name"] for job in jobs]


def released(wire: Wire, fifo: Path, count: int, **params: object) -> list[Message]:
    """Jobs that end, one a line, when a line is written to the fifo."""
    if not fifo.exists():
        os.mkfifo(fifo)
    return [wire.start("sh", "-c", f"read line < {fifo}", name=f"{fifo.name}-{n}", **params) for n in range(count)]


# --- references -----------------------------------------------------------------------------------------------------


def test_references(client: Wire) -> None:
    job = client.run("true", name="reference")
    for text in (job["id"], f"%{job['number']}", "reference"):
        assert client.get(text)["id"] == job["id"]
    client.write({"id": 99, "method": "job/get", "params": [job["id"]]})
    assert client.answer(99)["job"]["id"] == job["id"]


@pytest.mark.parametrize("text", ["bbbbbb", "%999999", "nobody", "../../etc", "a/b", "..", ".", str(10**30), "\0", "%"])
def test_nobody_of_that_name(client: Wire, text: str) -> None:
    for method in ("job/get", "job/output", "job/cancel", "job/remove", "job/result"):
        failed = client.refused(method, id=text)
        assert (failed.code, failed.kind) == (-31002, "job_not_found")


def test_an_empty_reference_is_a_mistake(client: Wire) -> None:
    assert client.refused("job/get", id="").code == -32602
    assert client.refused("job/get").code == -32602
    assert client.refused("job/get", id=12).code == -32602


def test_a_name_means_the_live_job_before_the_newest_ended_one(client: Wire) -> None:
    live = client.start("sleep", "60", name="twice")
    ended = [client.run("true", name="twice") for _ in range(2)]
    assert client.get("twice")["id"] == live["id"]
    other = client.start("sleep", "60", name="twice")
    failed = client.refused("job/get", id="twice")
    assert failed.code == -31004
    assert {candidate["id"] for candidate in failed.data["candidates"]} == {live["id"], other["id"]}
    for job in (live, other):
        client.call("job/cancel", id=job["id"], graceMs=0)
    assert client.get("twice")["id"] == other["id"], "the newest of those that ended"
    assert other["number"] > ended[-1]["number"]


def test_the_beginning_of_an_id(client: Wire) -> None:
    jobs = [client.run("true") for _ in range(25)]
    ids = {job["id"] for job in client.call("job/list", limit=1000)["jobs"]}
    first = jobs[0]["id"]
    short = next(first[:n] for n in range(1, 7) if sum(other.startswith(first[:n]) for other in ids) == 1)
    assert client.get(short)["id"] == first
    shared = next(a for a in ids if sum(b.startswith(a[0]) for b in ids) > 1)[0]
    failed = client.refused("job/get", id=shared)
    assert failed.code == -31004
    assert all(candidate["id"].startswith(shared) for candidate in failed.data["candidates"])


# --- list -----------------------------------------------------------------------------------------------------------


def test_r100_list_is_newest_first_with_filters(client: Wire, tmp_path: Path) -> None:
    label = {"test": "filters"}
    for n in range(3):
        client.run("sh", "-c", f"exit {n}", name=f"filter-{n}", labels=label, cwd=str(tmp_path))
    live = client.start("sleep", "60", name="filter-3", labels=label)

    def found(**params: object) -> list[str]:
        return names(client.call("job/list", label=label, **params)["jobs"])

    assert found() == ["filter-3", "filter-2", "filter-1", "filter-0"]
    assert found(order="asc") == ["filter-0", "filter-1", "filter-2", "filter-3"]
    assert found(status="failed") == ["filter-2", "filter-1"]
    assert found(status=["completed", "running"]) == ["filter-3", "filter-0"]
    assert found(name="filter-1") == ["filter-1"]
    assert found(cwd=str(tmp_path)) == ["filter-2", "filter-1", "filter-0"]
    assert found(kind="turn") == []
    client.call("job/cancel", id=live["id"], graceMs=0)
    assert found(status="running") == []
    for bad in ({"limit": 0}, {"limit": 1001}, {"before": "x"}, {"status": "gone"}, {"order": "up"}):
        assert client.refused("job/list", **bad).code == -32602


def test_pages_meet_without_gap_or_overlap(client: Wire) -> None:
    for n in range(7):
        client.start("true", labels={"test": "pages"}, name=f"page-{n}")
    for order, wanted in (("desc", range(6, -1, -1)), ("asc", range(7))):
        seen: list[str] = []
        before = None
        while True:
            page = client.call("job/list", label={"test": "pages"}, limit=3, before=before, order=order)
            seen += names(page["jobs"])
            before = page["next"]
            if before is None:
                break
        assert seen == [f"page-{n}" for n in wanted]


@pytest.mark.slow
def test_pages_beyond_memory(new_home: Callable[..., Home]) -> None:
    home = new_home()
    home.start()
    wire = home.connect()
    calls = [{"id": n, "method": "job/start", "params": {"argv": ["true"]}} for n in range(1500)]
    wire.write(calls)
    assert len(wire.read()) == 1500
    wire.call("job/wait", all=True)
    seen: list[int] = []
    before = None
    while True:
        page = wire.call("job/list", limit=400, before=before)
        seen += [job["number"] for job in page["jobs"]]
        before = page["next"]
        if before is None:
            break
    assert seen == list(range(1500, 0, -1))
    assert wire.call("broker/status")["counts"]["completed"] == 1500


# --- wait -----------------------------------------------------------------------------------------------------------


def test_wait_is_in_order_of_completion(client: Wire, tmp_path: Path) -> None:
    jobs: list[Message] = []
    for n in range(3):
        fifo = tmp_path / f"order-{n}"
        jobs += released(client, fifo, 1)
    waiting = client.send("job/wait", ids=[job["id"] for job in jobs])
    for n in (2, 0, 1):
        (tmp_path / f"order-{n}").write_text("go\n")
        client.ended(jobs[n]["id"])
    answer = client.answer(waiting)
    assert [job["id"] for job in answer["jobs"]] == [jobs[n]["id"] for n in (2, 0, 1)]
    assert (answer["stopped"], answer["timedOut"]) == ([], False)
    again = client.call("job/wait", ids=[job["id"] for job in jobs])
    assert [job["id"] for job in again["jobs"]] == [jobs[n]["id"] for n in (2, 0, 1)]


def test_r103_wait_for_any_and_with_a_timeout(client: Wire, tmp_path: Path) -> None:
    slow, quick = released(client, tmp_path / "slow", 1)[0], released(client, tmp_path / "quick", 1)[0]
    both = [slow["id"], quick["id"]]
    nothing = client.call("job/wait", ids=both, timeoutMs=0)
    assert nothing == {"jobs": [], "stopped": [], "timedOut": True, "match": None}
    waiting = client.send("job/wait", ids=both, any=True)
    (tmp_path / "quick").write_text("go\n")
    assert [job["id"] for job in client.answer(waiting)["jobs"]] == [quick["id"]]
    late = client.call("job/wait", ids=both, timeoutMs=20)
    assert ([job["id"] for job in late["jobs"]], late["timedOut"]) == ([quick["id"]], True)
    (tmp_path / "slow").write_text("go\n")
    assert client.call("job/wait", all=True)["timedOut"] is False
    assert client.call("job/wait", all=True)["jobs"] == []
    for bad in ({}, {"ids": both, "all": True}, {"ids": both, "timeoutMs": -1}, {"ids": ["nobody-here", both[0]]}):
        assert client.refused("job/wait", **bad).code in (-32602, -31002)


def test_thousands_wait_and_some_leave(client: Wire, shared: Home, tmp_path: Path) -> None:
    job = released(client, tmp_path / "popular", 1)[0]
    wires = [Wire(str(shared.socket)) for _ in range(4)]
    for wire in wires:
        calls = [{"id": -n, "method": "job/wait", "params": {"ids": [job["id"]]}} for n in range(1000)]
        wire.sock.sendall(b"".join(b"%s\n" % str(call).replace("'", '"').encode() for call in calls))
        wire.call("broker/ping")
    wires.pop().close()
    for n in range(500):
        wires[0].write({"method": "$/cancelRequest", "params": {"id": -n}})
    wires[0].call("broker/ping")
    (tmp_path / "popular").write_text("go\n")
    answers = [[*wire.answers.values(), *(wire.read() for _ in range(1000 - len(wire.answers)))] for wire in wires]
    assert {answer["result"]["jobs"][0]["status"] for answer in answers[1] + answers[2]} == {"completed"}
    assert [answer["error"]["code"] for answer in answers[0] if "error" in answer] == [-32800] * 500
    for wire in wires:
        wire.close()


def test_a_stopped_job_is_not_waited_for(client: Wire, tmp_path: Path) -> None:
    job, other = client.start("sleep", "60"), released(client, tmp_path / "other", 1)[0]
    alone = client.send("job/wait", ids=[job["id"]])
    both = client.send("job/wait", ids=[job["id"], other["id"]])
    os.kill(job["pid"], signal.SIGSTOP)
    with pytest.raises(Failed) as failed:
        client.answer(alone)
    assert failed.value.code == -31005
    assert client.get(job["id"])["status"] == "stopped"
    assert client.get(job["id"])["stoppedAt"]
    (tmp_path / "other").write_text("go\n")
    answer = client.answer(both)
    assert [left["id"] for left in answer["stopped"]] == [job["id"]]
    assert [ended["id"] for ended in answer["jobs"]] == [other["id"]]
    assert answer["timedOut"] is False
    os.kill(job["pid"], signal.SIGCONT)
    eventually(lambda: client.get(job["id"])["status"] == "running", "it goes on")
    client.call("job/cancel", id=job["id"], graceMs=0)


# --- output and result ----------------------------------------------------------------------------------------------


def test_output_by_cursor_stream_and_tail(client: Wire) -> None:
    job = client.run("sh", "-c", "echo one; echo two >&2; sleep 0.1; echo three; printf four")["id"]
    whole = client.call("job/output", id=job)
    assert (whole["start"], whole["eof"], whole["dropped"], whole["encoding"]) == ("0", True, 0, "utf-8")
    assert sorted(whole["data"].split()) == ["four", "one", "three", "two"]
    assert client.output(job, stream="stdout") == "one\nthree\nfour"
    assert client.output(job, stream="stderr") == "two\n"
    assert client.output(job, tail=1) == "four"
    assert client.output(job, tail=2, stream="stdout") == "three\nfour"
    assert client.output(job, tail=0) == ""
    assert client.output(job, tail=99, stream="stdout") == "one\nthree\nfour"
    seen, cursor = "", "0"
    for _ in range(100):
        piece = client.call("job/output", id=job, stream="stdout", limit=3, **{"from": cursor})
        seen, cursor = seen + piece["data"], piece["next"]
        if piece["eof"]:
            break
    assert seen == "one\nthree\nfour"
    beyond = client.call("job/output", id=job, **{"from": cursor})
    assert (beyond["data"], beyond["eof"]) == ("", True)
    for bad in ({"from": "1000"}, {"from": "x"}, {"from": "-1"}, {"from": "0", "tail": 1}, {"limit": 0}, {"tail": -1}):
        assert client.refused("job/output", id=job, **bad).code == -32602


def test_characters_are_not_cut_and_bytes_are_base64(client: Wire) -> None:
    job = client.run("printf", "aüböc")["id"]
    pieces: list[str] = []
    cursor, eof = "0", False
    while not eof:
        piece = client.call("job/output", id=job, limit=2, **{"from": cursor})
        assert piece["encoding"] == "utf-8"
        pieces.append(piece["data"])
        cursor, eof = piece["next"], piece["eof"]
    assert "".join(pieces) == "aüböc"
    binary = client.call("job/output", id=client.run("printf", "a\\377\\000b")["id"])
    assert (binary["encoding"], base64.b64decode(binary["data"])) == ("base64", b"a\xff\0b")


def test_waiting_for_output(client: Wire, tmp_path: Path) -> None:
    fifo = tmp_path / "more"
    os.mkfifo(fifo)
    job = client.start("sh", "-c", f"cat {fifo}")["id"]
    assert client.call("job/output", id=job, waitMs=30) == {
        "data": "", "encoding": "utf-8", "start": "0", "next": "0", "dropped": 0, "eof": False,
    }  # fmt: skip
    waiting = client.send("job/output", id=job, waitMs=30_000)
    with fifo.open("w") as file:
        file.write("hello")
        file.flush()
        piece = client.answer(waiting)
        assert (piece["data"], piece["eof"]) == ("hello", False)
        waiting = client.send("job/output", id=job, waitMs=30_000, **{"from": piece["next"]})
    assert client.answer(waiting) == {
        "data": "", "encoding": "utf-8", "start": "5", "next": "5", "dropped": 0, "eof": True,
    }  # fmt: skip


def test_dropped_output_shows_as_a_gap(client: Wire) -> None:
    job = client.run("sh", "-c", "yes 0123456789 | head -c 400000", maxOutput=50_000)["id"]
    seen, dropped, cursor, eof = 0, 0, "0", False
    while not eof:
        piece = client.call("job/output", id=job, **{"from": cursor})
        seen, dropped = seen + len(piece["data"]), dropped + piece["dropped"]
        cursor, eof = piece["next"], piece["eof"]
    assert seen + dropped == 400_000
    assert 40_000 <= seen <= 50_000
    assert client.get(job)["stdout"] == {"size": 400_000, "dropped": dropped, "closed": True}


def test_result_is_for_completed_jobs(client: Wire) -> None:
    job = client.run("sh", "-c", "echo out; echo err >&2")["id"]
    result = client.call("job/result", id=job)["result"]
    assert (result["stdout"], result["stderr"], result["exitCode"]) == ("out\n", "err\n", 0)
    assert (result["truncated"], result["encoding"]) == (False, "utf-8")
    assert result["durationMs"] >= 0
    failed = client.refused("job/result", id=client.run("sh", "-c", "exit 3")["id"])
    assert (failed.code, failed.data["status"], failed.data["exitCode"]) == (-31003, "failed", 3)
    running = client.start("sleep", "60")["id"]
    assert client.refused("job/result", id=running).data["status"] == "running"
    client.call("job/cancel", id=running, graceMs=0)


def test_a_long_result_is_its_last_part(client: Wire) -> None:
    job = client.run("sh", "-c", "head -c 1500000 /dev/zero | tr '\\0' a; printf end")["id"]
    result = client.call("job/result", id=job)["result"]
    assert result["truncated"] is True
    assert len(result["stdout"]) == 1024 * 1024
    assert result["stdout"].endswith("aend")
