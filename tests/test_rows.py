"""Jobs as rows: every question gets the answer a plain list would give, and old rows can still be read."""

from __future__ import annotations

from collections.abc import Generator

import msgspec
import pytest

from jobbroker.core.job import STATUSES
from jobbroker.core.table import matcher
from jobbroker.rows import Rows, decode, encode
from jobbroker.store import DamagedStore
from jobclient.protocol.wire import LIVE, Base64, Filter, Job, Status
from samples import EPOCH, snapshot
from stores import HISTORY, LABELS, fill, numbers


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Generator[Rows]:
    path = tmp_path_factory.mktemp("history") / "store.db"
    fill(path)
    rows = Rows(path)
    yield rows
    rows.close()


def test_every_row_is_found_by_all_its_names(read: Rows) -> None:
    for each in HISTORY:
        assert read.get(each.job.id) == read.by_number(each.job.number) == each
        assert each.key is None or read.by_key(each.key) == each
        assert each in read.by_prefix(each.job.id, 1)
    assert read.get("nobody") is read.by_number(301) is read.by_key("") is None


@pytest.mark.parametrize("limit", [0, 1, 5, 1000])
def test_names_and_prefixes(read: Rows, limit: int) -> None:
    for name in ("tests", "build", "ünï", "nobody"):
        expected = [each.job.number for each in reversed(HISTORY) if each.job.name == name]
        assert numbers(read.by_name(name, limit)) == expected[:limit]
    for prefix in ("b", "z", "k7", "bb", "z9", "y2222", "\U0010ffff"[:0] + "z"):
        begun = sorted(each.job.id for each in HISTORY if each.job.id.startswith(prefix))
        assert [each.job.id for each in read.by_prefix(prefix, limit)] == begun[:limit]


def test_live_counts_and_the_oldest_ended(read: Rows) -> None:
    live = [each for each in HISTORY if each.job.status in LIVE]
    ended = [each for each in HISTORY if each.job.status not in LIVE]
    assert read.live() == live
    counts = read.counts()
    assert list(counts) == list(STATUSES)
    assert counts == {status: sum(each.job.status == status for each in HISTORY) for status in STATUSES}
    ended.sort(key=lambda each: (each.job.completed_at, each.job.number))
    assert read.oldest_ended(1000) == ended
    assert read.oldest_ended(7) == ended[:7]
    before = [
        each
        for each in ended
        if each.job.completed_at is not None and each.job.completed_at < "2023-11-14T22:13:20.050Z"
    ]
    assert read.oldest_ended(1000, EPOCH + 50) == before


STATUS_FILTERS: list[Status | list[Status] | None] = [
    None, "failed", "queued", [], ["failed"], ["failed", "completed"], ["cancelled", "queued", "timed_out"],
]  # fmt: skip


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("status", STATUS_FILTERS, ids=str)
def test_pages(read: Rows, status: Status | list[Status] | None, *, descending: bool) -> None:
    for name in (None, "tests", "ünï"):
        for cwd in (None, "/home/ü", Base64("L3dvcms=")):
            for label in (None, *LABELS):
                wanted = Filter(status=status, name=name, cwd=cwd, label=label)
                for low, high in ((0, 1 << 62), (50, 220), (100, 100), (5, 4)):
                    found = [
                        each for each in read.between(low, high, wanted, descending=descending) if matcher(wanted)(each)
                    ]
                    expected = [each for each in HISTORY if low <= each.job.number <= high and matcher(wanted)(each)]
                    assert found == (expected[::-1] if descending else expected)


def test_a_kind_nobody_has(read: Rows) -> None:
    assert list(read.between(0, 1000, Filter(kind="turn"))) == []


def test_questions_use_an_index(read: Rows) -> None:
    """The cost of a question must not grow with the history."""
    asked: list[str] = []
    read._db.set_trace_callback(asked.append)
    read.get("k7f3qm")
    read.by_number(5)
    read.by_key("key 5")
    read.by_name("tests", 5)
    read.by_prefix("k7", 5)
    read.live()
    read.oldest_ended(5, EPOCH)
    read.counts()
    for wanted in (
        Filter(),
        Filter(status="failed"),
        Filter(status=["failed", "queued"], name="tests"),
        Filter(name="tests"),
    ):
        next(read.between(0, 1 << 62, wanted))
    read._db.set_trace_callback(None)
    assert len(asked) == 13
    for sql in asked:
        plan = [row[3] for row in read._db.execute("EXPLAIN QUERY PLAN " + sql)]
        assert plan[0].startswith("SEARCH job USING") or "COVERING INDEX job_status" in plan[0], (sql, plan)
        assert "TEMP B-TREE" not in " ".join(plan) or "'stopped'" in sql, (sql, plan)


# --- snapshots as rows ----------------------------------------------------------------------------------------------


def test_rows_of_an_older_version_can_be_read() -> None:
    """A member added later has a default; its absence means that."""
    made = snapshot(3, "running", name="tests", key="once")
    whole = msgspec.json.decode(encode(made)[-1], type=dict[str, msgspec.Raw])
    job = msgspec.json.decode(whole["job"], type=dict[str, msgspec.Raw])
    required = {"job"} | {field.encode_name for field in msgspec.structs.fields(Job) if field.required}
    assert required == {"job", "id", "number", "kind", "status", "argv", "cwd", "createdAt"}
    oldest = {name: value for name, value in job.items() if name in required}
    assert decode(msgspec.json.encode({"job": oldest}).decode()) == snapshot(3, "running")
    for name in job.keys() - required:
        fewer = {key: value for key, value in job.items() if key != name}
        decode(msgspec.json.encode({**whole, "job": fewer}).decode())


def test_rows_of_a_newer_version_lose_only_what_is_unknown() -> None:
    text = encode(snapshot(1))[-1]
    assert decode('{"news":1,' + text[1:].replace('{"id"', '{"more":[],"id"')) == snapshot(1)


@pytest.mark.parametrize("text", ["", "{}", "null", '{"job":{}}', "\x00", '{"job":{"id":7}}'])
def test_what_is_no_snapshot_is_damage(text: str) -> None:
    with pytest.raises(DamagedStore):
        decode(text)
