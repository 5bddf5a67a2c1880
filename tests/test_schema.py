"""The store's file: what is damaged is not believed but put aside, what is older is brought up to date."""

# ruff: noqa: ASYNC240  # nothing else runs while these tests look at files

from __future__ import annotations

import os
import random
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from jobbroker import schema
from jobbroker.rows import encode
from jobbroker.schema import MIGRATIONS, connect, migrate
from jobbroker.store import DamagedStore, NewerStore, Store, quarantine
from jobclient.protocol.errors import StoreUnavailable
from jobclient.protocol.wire import Filter
from samples import identity, snapshot
from stores import content, fill, running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store.db"


def read_everything(path: Path) -> None:
    """What a daemon does at its start, and everything a client can ask."""
    opened = Store.open(path)
    try:
        opened.rows.counts()
        opened.rows.live()
        for each in [*opened.rows.between(0, 1 << 62, Filter())]:
            opened.rows.get(each.job.id)
        opened.rows.oldest_ended(1000)
        opened.rows.by_name("tests", 1000)
    finally:
        opened.rows.close()
        opened._writer.close()


@pytest.fixture
def filled(path: Path) -> bytes:
    fill(path)
    assert not Path(f"{path}-wal").exists()
    return path.read_bytes()


@pytest.mark.parametrize("data", [b"not a database" * 100, b"x", b"SQLite format 3\0", b"\0" * 4096], ids=range(4))
def test_not_a_database(path: Path, data: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(DamagedStore, match=r"store\.db is damaged"):
        read_everything(path)


@pytest.mark.parametrize("part", [0.999, 0.9, 0.5, 0.1, 0.01])
def test_cut_short(path: Path, filled: bytes, part: float) -> None:
    path.write_bytes(filled[: int(len(filled) * part)])
    with pytest.raises(DamagedStore, match="cut short"):
        Store.open(path)


def test_any_damage_is_called_damage(path: Path, filled: bytes) -> None:
    """Noise at any place is either harmless or called by its name, at the start or when it is read; nothing crashes."""
    chance = random.Random(11)
    found = 0
    for _ in range(250):
        spoilt = bytearray(filled)
        length = chance.choice([1, 16, 4096])
        at = chance.randrange(len(spoilt) - length) & -length
        spoilt[at : at + length] = chance.randbytes(length)
        path.write_bytes(spoilt)
        for rest in (Path(f"{path}-wal"), Path(f"{path}-shm")):
            rest.unlink(missing_ok=True)
        try:
            read_everything(path)
        except (DamagedStore, NewerStore):
            found += 1
    assert found > 100


@pytest.mark.parametrize(
    "spoil",
    ["DROP TABLE job", "DROP TABLE meta", "DELETE FROM meta", "DROP INDEX job_id; ALTER TABLE job DROP COLUMN snapshot",
     "UPDATE job SET snapshot = '{}'", "UPDATE job SET snapshot = 7 WHERE number = 3", "UPDATE meta SET rev = 'x'",
     "UPDATE job SET snapshot = replace(snapshot, '\"number\":', '\"number\":9')",
     "UPDATE job SET snapshot = CAST(x'ff7b' AS TEXT)"],
)  # fmt: skip
def test_a_database_that_is_not_ours_any_more(path: Path, filled: bytes, spoil: str) -> None:
    db = connect(path)
    db.executescript(spoil)
    db.close()
    with pytest.raises(DamagedStore, match="store"):
        read_everything(path)


async def test_damage_met_while_running_is_not_committed_over(path: Path, filled: bytes) -> None:
    async with running(path) as opened:
        path.write_bytes(filled[:4096] + os.urandom(len(filled) - 4096))
        with pytest.raises(DamagedStore):
            list(opened.rows.between(0, 1 << 62, Filter()))
        with pytest.raises(StoreUnavailable, match="damaged"):
            await opened.commit(put=[snapshot(number) for number in range(1, 300)])
        assert opened.degraded is not None


async def test_a_damaged_store_is_put_aside_and_a_new_one_begun(path: Path, filled: bytes) -> None:
    path.write_bytes(filled[:5000])
    for part in ("-wal", "-shm"):
        Path(f"{path}{part}").write_bytes(part.encode())
    now = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
    aside = quarantine(path, now)
    assert aside.name == "store.db.damaged-20240203T040506Z"
    assert aside.read_bytes() == filled[:5000]
    assert Path(f"{aside}-wal").read_bytes() == b"-wal"
    assert Path(f"{aside}-shm").read_bytes() == b"-shm"
    assert not list(path.parent.glob("store.db"))
    async with running(path) as opened:
        assert opened.is_new
        assert content(path) == {}


def test_nothing_put_aside_is_overwritten(path: Path) -> None:
    path.parent.mkdir()
    now = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
    (path.parent / "store.db.damaged-20240203T040506Z-2-wal").write_bytes(b"somebody's")
    names: list[str] = []
    for content_of in (b"one", b"two", b"three"):
        path.write_bytes(content_of)
        aside = quarantine(path, now)
        assert aside.read_bytes() == content_of
        names.append(aside.name.removeprefix("store.db.damaged-20240203T040506Z"))
    assert names == ["", "-3", "-4"]


async def test_the_log_of_a_store_put_aside_goes_with_it(path: Path) -> None:
    """Killed while there is a log: what was only there is still readable under the new name."""
    opened = Store.open(path)
    async with trio.open_nursery() as nursery:
        await nursery.start(opened.run)
        await opened.commit(put=[snapshot(1)])
        nursery.cancel_scope.cancel()
    aside = quarantine(path)
    assert set(content(aside)) == {identity(1)}
    opened.rows.close()
    opened._writer.close()


# --- versions -------------------------------------------------------------------------------------------------------

OLDER = (("CREATE TABLE task (id TEXT PRIMARY KEY, state TEXT)",),)
CURRENT = (
    *OLDER,
    ("ALTER TABLE task RENAME TO job", "ALTER TABLE job RENAME COLUMN state TO status"),
    ("ALTER TABLE job ADD COLUMN name TEXT", "UPDATE job SET name = id"),
)


def version(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        found: int = db.execute("PRAGMA user_version").fetchone()[0]
        return found
    finally:
        db.close()


def test_an_older_file_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    db = connect(path)
    migrate(db, path, OLDER)
    db.execute("INSERT INTO task VALUES ('k7f3qm', 'running')")
    for _ in range(2):  # the second time there is nothing to do
        migrate(db, path, CURRENT)
        assert db.execute("SELECT * FROM job").fetchall() == [("k7f3qm", "running", "k7f3qm")]
    db.close()
    assert version(path) == 3


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    db = connect(path)
    migrate(db, path, OLDER)
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, path, (*CURRENT, ("ALTER TABLE nosuch ADD COLUMN x",)))
    assert db.execute("SELECT count(*) FROM task").fetchone() == (0,)
    db.close()
    assert version(path) == 1


async def test_a_newer_file_is_not_touched(path: Path) -> None:
    async with running(path):
        pass
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(NewerStore, match="newer jobbroker"):
        Store.open(path)
    assert path.read_bytes() == before


def test_the_first_schema_is_made_by_the_same_steps(path: Path) -> None:
    schema.open_file(path).close()
    assert version(path) == len(MIGRATIONS) == 2


async def test_a_store_of_the_first_version_keeps_its_jobs_and_gets_room_for_facts(path: Path) -> None:
    path.parent.mkdir()
    schema.open_file(path, MIGRATIONS[:1]).close()
    kept = snapshot(7)
    old = sqlite3.connect(path)
    old.execute("INSERT INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", encode(kept))
    old.execute("UPDATE meta SET number = 7, rev = 1")
    old.commit()
    old.close()
    async with running(path) as opened:
        assert opened.rows.get(kept.job.id) == kept
        assert opened.rows.facts("schedule") == []
        await opened.commit(facts={("schedule", "nightly"): "{}"})
        assert opened.rows.facts("schedule") == [("nightly", "{}")]
    assert version(path) == 2
