"""The log of timed jobs, R170-R177: as it is on disk, and what becomes of it when the disk does not take it."""

from __future__ import annotations

import json
import os
import re
import shutil
import tracemalloc
from pathlib import Path

import pytest
import trio

from harness import Home, Message, Wire, eventually
from jobbroker import ticklog, tickreading
from jobbroker.core.entry import STAGES, Line, encode
from jobbroker.core.job import timestamp
from jobbroker.ticklog import TickLog
from jobbroker.tickreading import Place, Wanted
from schedules import FRAMEWORK, Gate, add, append, entries, of_batch, on_disk, stages, tick, until_stage

ALWAYS = ["batch_id", "duration_ms", "error", "result", "runner", "schedule", "stage", "ts"]
MIDNIGHT = 1_900_022_400_000


# --- lines ----------------------------------------------------------------------------------------------------------


def test_r170_every_line_has_all_members_and_details_beside_them(home: Home) -> None:
    wire = home.connect()
    add(wire, "one", "sh", "-c", "exit 1")
    tick(wire, "one")
    entries(wire)
    found = on_disk(home)
    assert len(found) == 5
    for each in found:
        assert list(each)[: len(ALWAYS)] == ALWAYS
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each["ts"])
        assert (each["runner"] == FRAMEWORK) == each["stage"].startswith(("tick_", "st"))
    assert found[-1]["failed_runner_count"] == 1


def test_r171_all_stages_and_those_of_a_runner_s_own(home: Home, tmp_path: Path) -> None:
    wire = home.connect()
    gate = Gate(tmp_path / "gate")
    add(wire, "all", *gate.argv)
    batch = wire.call("timed/tick", name="all")["batchId"]
    mine = {"batchId": batch, "runner": "all"}
    wire.call("timed/stage", stage="copied", result="12 files", durationMs=5, details={"files": 12}, **mine)
    for wrong in (*STAGES, "", " ", "x" * 201):
        assert wire.refused("timed/stage", stage=wrong, **mine).kind == "invalid_params"
    assert wire.refused("timed/stage", stage="x", batchId=batch, runner="other").kind == "invalid_state"
    assert wire.refused("timed/stage", stage="x", batchId="timed-jobs-1-1", runner="all").kind == "invalid_state"
    tick(wire, "all")
    gate.open(1)
    until_stage(wire, "all", "tick_completed")
    assert wire.refused("timed/stage", stage="late", **mine).kind == "invalid_state"
    wire.call("timed/pause")
    tick(wire, "all")
    wire.call("timed/resume")
    wire.call("timed/remove", name="all", runner="all")
    tick(wire, "all")
    append(wire, "all", "good")
    tick(wire, "all")
    lock = tmp_path / "lock"
    add(wire, "gateless", leaderLock=str(lock))
    lock.unlink()
    lock.mkdir()
    tick(wire, "gateless")
    wire.call("timed/remove", name="all")
    found = entries(wire)
    assert {each["stage"] for each in found} == {*STAGES, "copied"}
    (line,) = [each for each in found if each["stage"] == "copied"]
    assert (
        line.items()
        >= {"batch_id": batch, "runner": "all", "result": "12 files", "duration_ms": 5, "files": 12}.items()
    )


def write(log: TickLog, ms: int, **details: object) -> str:
    ts = timestamp(ms)
    log.write(encode(Line(stage="x", details=details), schedule="s", batch="b", ts=ts), ts)
    return ts


async def all_written(log: TickLog) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        await log.flush()
        nursery.cancel_scope.cancel()


def lines(path: Path) -> list[Message]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_r172_a_line_is_in_the_file_of_its_own_day_of_utc(tmp_path: Path) -> None:
    log = TickLog(str(tmp_path / "timed"))
    for number, ms in enumerate([MIDNIGHT - 1, MIDNIGHT, MIDNIGHT - 2, MIDNIGHT + 1]):
        write(log, ms, number=number)
    await all_written(log)
    days = {path.name: [each["number"] for each in lines(path)] for path in (tmp_path / "timed").iterdir()}
    assert days == {"2030-03-17.jsonl": [0, 2], "2030-03-18.jsonl": [1, 3]}


async def test_r173_the_order_of_calls_is_the_order_of_lines_and_a_failure_holds_up_nothing(tmp_path: Path) -> None:
    log = TickLog(str(tmp_path / "timed"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        for number in range(1000):
            write(log, MIDNIGHT, number=number)
            if number % 100 == 0:
                await trio.lowlevel.checkpoint()
        await log.flush()
        (tmp_path / "timed/2030-03-19.jsonl").mkdir()
        write(log, MIDNIGHT, number=1000)
        write(log, MIDNIGHT + 86_400_000, number=-1)
        write(log, MIDNIGHT, number=1001)
        await log.flush()
        assert (log.dropped, log.trouble is None) == (1, False)
        write(log, MIDNIGHT, number=1002)
        await log.flush()
        assert (log.dropped, log.trouble) == (1, None), "it is over as soon as lines are written again"
        nursery.cancel_scope.cancel()
    assert [each["number"] for each in lines(tmp_path / "timed/2030-03-18.jsonl")] == list(range(1003))


def test_r173_no_tick_waits_for_a_disk_that_takes_nothing_and_it_is_said(home: Home) -> None:
    wire = home.connect()
    folder = home.state / "timed"
    folder.write_text("in the way")
    add(wire, "goes on")
    assert [tick(wire, "goes on")["result"] for _ in range(3)] == ["scheduled"] * 3

    def said() -> list[str]:
        return [each for each in wire.call("broker/status")["degraded"] if "log of timed jobs" in each]

    eventually(said, "the broker says so")
    assert len(said()) == 1
    assert wire.call("timed/list")["droppedLines"] > 0
    assert entries(wire) == []
    assert home.log_text().count("cannot be written") == 1, "once"
    folder.unlink()
    answer = tick(wire, "goes on")
    assert len(of_batch(entries(wire), answer["batchId"])) == 4
    assert said() == []
    assert "can be written again" in home.log_text()


def test_r174_r175_what_a_runner_says_harms_no_line(home: Home, tmp_path: Path) -> None:
    wire = home.connect()
    gate = Gate(tmp_path / "gate")
    add(wire, "evil", *gate.argv)
    batch = wire.call("timed/tick", name="evil")["batchId"]
    details = {"ts": "never", "batch_id": "mine", "stage": "tick_failed", "schedule": "other", "details": 1, "fine": 2}
    for stage in ("result", "hello"):
        wire.call("timed/stage", batchId=batch, runner="evil", stage=stage, details=details)
    large = wire.refused("timed/stage", batchId=batch, runner="evil", stage="large", details={"x": "x" * 70_000})
    assert large.kind == "too_large"
    gate.open()
    line = until_stage(wire, "evil", "runner_completed", batch_id=batch)
    assert (line["result"], line["fine"], line["details"]["ts"]) == ("ok", 2, "never")
    assert until_stage(wire, "evil", "tick_completed", batch_id=batch)["result"] == "scheduled"
    assert [each["details"] for each in entries(wire) if each["stage"] == "hello"] == [
        {name: value for name, value in details.items() if name != "fine"}
    ]


async def test_r176_the_folder_is_made_private_and_each_line_is_appended_by_one_write(tmp_path: Path) -> None:
    log = TickLog(str(tmp_path / "a/timed"))
    (tmp_path / "a").mkdir()
    write(log, MIDNIGHT)
    await all_written(log)
    path = tmp_path / "a/timed/2030-03-18.jsonl"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    path.write_bytes(path.read_bytes() + b'{"torn')  # by a broker that was killed
    shutil.copy(path, tmp_path / "before")
    again = TickLog(str(tmp_path / "a/timed"))
    write(again, MIDNIGHT, number=1)
    await all_written(again)
    kept, torn, new, end = path.read_bytes().split(b"\n")
    assert kept + b"\n" + torn == (tmp_path / "before").read_bytes()
    assert (json.loads(new)["number"], end) == (1, b"")


async def test_r176_what_comes_too_fast_is_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticklog, "MAX_WAITING", 5_000)
    log = TickLog(str(tmp_path / "timed"))
    for _ in range(100):
        write(log, MIDNIGHT)
    await all_written(log)
    written = lines(tmp_path / "timed/2030-03-18.jsonl")
    assert 0 < len(written) < 100
    assert len(written) + log.dropped == 100


async def test_r176_a_full_disk_tears_no_line_but_the_one_it_was_full_at(small_disk: Path) -> None:
    log = TickLog(str(small_disk / "timed"))
    write(log, MIDNIGHT, number=0)
    await all_written(log)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096) == 4096:
                pass
        except OSError:
            pass
    log = TickLog(str(small_disk / "timed"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        for number in range(1, 2000):
            write(log, MIDNIGHT, number=number, padding="x" * 500)
        await log.flush()
        assert (log.dropped > 0, log.trouble is None) == (True, False)
        filler.unlink()
        write(log, MIDNIGHT, number=9999)
        await log.flush()
        assert log.trouble is None
        nursery.cancel_scope.cancel()
    found: list[int] = []
    torn = 0
    for line in (small_disk / "timed/2030-03-18.jsonl").read_bytes().splitlines():
        try:
            found.append(json.loads(line)["number"])
        except ValueError:
            torn += 1
    assert (found[0], found[-1], torn <= 1) == (0, 9999, True)
    assert len(found) + log.dropped == 2001


def test_r177_the_error_of_a_runner_is_a_text_or_null(client: Wire) -> None:
    add(client, "bad", "no-such-program")
    append(client, "bad", "good")
    found = of_batch(entries(client, "bad"), tick(client, "bad")["batchId"])
    found = found or of_batch(entries(client, "bad"), entries(client, "bad")[-1]["batch_id"])
    errors = {each["runner"]: each["error"] for each in found if each["stage"] in ("runner_failed", "runner_completed")}
    assert errors["good"] is None
    assert errors["bad"].startswith("exec: ENOENT")


async def test_old_days_are_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "timed"
    folder.mkdir(mode=0o700)
    names = ["2030-02-15.jsonl", "2030-02-16.jsonl", "2030-03-17.jsonl", "notes.jsonl", "2030-02-15.jsonl.gz"]
    for name in names:
        (folder / name).write_text("")
    log = TickLog(str(folder), keep_ms=29 * 86_400_000)
    write(log, MIDNIGHT)
    await all_written(log)
    assert {path.name for path in folder.iterdir()} == {*names[1:], "2030-03-18.jsonl"}


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Three days of lines, with the remains of a fault and somebody's notes between them."""
    number = 0
    for day in ("2030-01-01", "2030-01-02", "2030-01-04"):
        with (tmp_path / f"{day}.jsonl").open("wb") as file:
            for _ in range(40):
                ts = f"{day}T00:00:{number % 60:02d}.000Z"
                line = Line(stage="x", details={"number": number, "padding": "ü" * (number * 37 % 300)})
                file.write(encode(line, schedule="ab"[number % 2], batch="b", ts=ts))
                number += 1
            file.write(b'{"torn\nnotes\n\r\n[]\n{}\n{"ts":5}\n' + b"[" * 5000 + b"\n\xff\n")
    return str(tmp_path)


def numbers(found: list[tickreading.Entry]) -> list[object]:
    return [each["number"] for each in found]


@pytest.mark.parametrize("block", [16, 333, 256 * 1024])
@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_reading_on_and_on_is_reading_everything(
    folder: str, block: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickreading, "BLOCK", block)
    place, all_of_it, of_a = Place("2030-01-01", 0), list[object](), list[object]()
    while found := tickreading.onwards(folder, place, Wanted(), limit):
        all_of_it += numbers(found.entries)
        place = found.next
        if not found.entries:
            break
    assert all_of_it == list(range(120))
    assert tickreading.place_of(str(place)) == place == tickreading.end(folder, "2030-01-05")
    last = tickreading.last(folder, "2030-01-05", Wanted("a"), limit)
    of_a += numbers(last.entries)
    assert of_a == list(range(0, 120, 2))[-limit:]
    assert last.next == place


def test_what_is_no_file_of_ours_is_not_read_and_a_line_without_end_takes_no_memory(folder: str) -> None:
    os.mkfifo(os.path.join(folder, "2030-01-03.jsonl"))
    os.mkdir(os.path.join(folder, "2030-01-05.jsonl"))
    with open(os.path.join(folder, "2030-01-06.jsonl"), "wb") as file:
        file.truncate(20 * tickreading.LONGEST)  # NULs, and no end of a line
    tracemalloc.start()
    found = tickreading.onwards(folder, Place("2030-01-01", 0), Wanted(), 1000)
    assert tickreading.last(folder, "2030-01-06", Wanted(), 3).entries == found.entries[-3:]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert numbers(found.entries) == list(range(120))
    assert peak < 8 * tickreading.LONGEST


def test_reading_from_a_time(folder: str) -> None:
    wanted = Wanted(since="2030-01-02T00:00:05.000Z")
    found = tickreading.onwards(folder, Place("2030-01-02", 0), wanted, 1000)
    assert numbers(found.entries) == [*range(40, 60), *range(65, 120)], "as many as say so: seconds begin anew at 60"


@pytest.mark.parametrize("text", ["", "x", "2030-01-01", "2030-01-01:", ":5", "2030-01-01:-1", "20300101xx:1"])
def test_what_is_no_place(text: str) -> None:
    assert tickreading.place_of(text) is None


def test_a_folder_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert tickreading.last(str(tmp_path / "x"), "2030-01-05", Wanted(), 5) == ([], Place("2030-01-05", 0))


def test_a_log_is_followed_without_asking_again(client: Wire) -> None:
    add(client, "followed")
    answer = client.call("timed/log", name="followed", limit=1)
    waiting = client.send("timed/log", name="followed", since=answer["next"], waitMs=30_000)
    batch = tick(client, "followed")["batchId"]
    assert client.answer(waiting)["entries"][0]["batch_id"] == batch
    assert client.call("timed/log", since="2030-01-01T00:00:00.000Z")["entries"] == []
    for wrong in ("yesterday", "T"):
        assert client.refused("timed/log", since=wrong).kind == "invalid_params"


def test_stages_are_told_of_no_one_else_s_files(home: Home) -> None:
    """A link in the place of a day's file leads nowhere."""
    wire = home.connect()
    add(wire, "linked")
    entries(wire)
    (day,) = (home.state / "timed").iterdir()
    target = home.root / "target"
    target.write_text("mine\n")
    day.unlink()
    os.symlink(target, day)
    tick(wire, "linked")
    assert stages(entries(wire)) == []
    assert target.read_text() == "mine\n"
    assert wire.call("timed/list")["droppedLines"] > 0
