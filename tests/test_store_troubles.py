"""The store in bad weather: what fails is said, tried again, and never mistaken for damage."""

# nothing else runs while these tests look at files

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from copy import deepcopy
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import weather
from jobbroker import store
from jobbroker.core.job import Snapshot
from jobbroker.schema import connect
from jobbroker.store import RETRY, Store
from jobclient.protocol.errors import StoreUnavailable
from jobclient.protocol.wire import Status
from samples import identity, snapshot
from stores import Watched, content, running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store.db"


@contextmanager
def refusing(opened: Store) -> Generator[None]:
    """A file system that has gone read-only under an open file, as far as SQLite can tell."""
    opened._writer.execute("PRAGMA query_only = 1")
    yield
    with suppress(sqlite3.ProgrammingError):  # closed meanwhile
        opened._writer.execute("PRAGMA query_only = 0")


Trouble = Callable[[Store], AbstractContextManager[None]]
TROUBLES: dict[str, Trouble] = {
    "files may not grow": lambda opened: weather.no_longer_files(
        Path(f"{opened.path}-wal").stat().st_size & ~4095 or 4096
    ),
    "read-only": refusing,
    **({"disk full": lambda opened: weather.full(opened.path.parent)} if weather.MAY_MOUNT else {}),
}


@pytest.fixture(params=TROUBLES)
def trouble(request: pytest.FixtureRequest, path: Path) -> Generator[Trouble]:
    path.parent.mkdir()
    with weather.mounted(path.parent, "1m") if weather.MAY_MOUNT else nullcontext():
        yield TROUBLES[request.param]


def big(number: int, status: Status = "queued") -> Snapshot:
    """A job whose row is too large for what may be left in a page."""
    return snapshot(number, status, labels={"a": "x" * 20_000})


async def test_a_failed_write_is_said_and_does_not_last(
    path: Path, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(path) as opened:
        await opened.commit(put=[big(1)])
        with trouble(opened):
            for _ in range(3):
                with pytest.raises(StoreUnavailable, match=r"store\.db") as caught:
                    await opened.commit(put=[big(2)])
                assert opened.degraded == caught.value.message
            assert set(content(path)) == {identity(1)}
        await opened.commit(put=[big(3)])
        assert opened.degraded is None
        assert set(content(path)) == {identity(1), identity(3)}  # 2 was refused: it must not turn up later
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


async def test_posts_outlive_failures_and_the_latest_wins(path: Path, trouble: Trouble) -> None:
    async with running(path) as opened:
        made = big(1)
        await opened.commit(put=[made, big(2)])
        with trouble(opened):
            made.job.status = "running"
            opened.post(put=[made], delete=[identity(2)])
            asked = deepcopy(made)
            asked.job.cancel_requested = True
            with pytest.raises(StoreUnavailable):
                await opened.commit(put=[asked])  # refused, so it never happened; what was posted before did
            assert not opened.is_stored(identity(1))
            made.job.pid = 4711
            opened.post(put=[made])
            with pytest.raises(StoreUnavailable):
                await opened.commit()
        await opened.commit()
        assert content(path) == {identity(1): made}
        assert opened.is_stored(identity(1))


async def pass_time(opened: Watched, clock: MockClock) -> None:
    """Let the writer try again."""
    await trio.testing.wait_all_tasks_blocked()  # until it waits for that time
    settled = opened.settled
    clock.jump(RETRY)
    await settled.wait()


async def test_a_store_recovers_by_itself(path: Path, trouble: Trouble, mock_clock: MockClock) -> None:
    async with running(path) as opened:
        with trouble(opened):
            opened.post(put=[big(1)])
            with pytest.raises(StoreUnavailable):
                await opened.commit(put=[big(2)])
            await pass_time(opened, mock_clock)
            assert opened.degraded is not None
        await pass_time(opened, mock_clock)
        assert not opened.degraded
        assert set(content(path)) == {identity(1)}


async def test_what_could_not_be_written_is_tried_once_more_at_the_end(path: Path, trouble: Trouble) -> None:
    async with running(path) as opened:
        with trouble(opened):
            opened.post(put=[big(1)])
            with pytest.raises(StoreUnavailable):
                await opened.commit()
    assert set(content(path)) == {identity(1)}


async def test_a_disk_that_stays_full_does_not_hold_up_the_end(path: Path, trouble: Trouble) -> None:
    opened = Store.open(path)
    with trouble(opened):
        opened.post(put=[big(1)])
        with trio.fail_after(5):
            await opened.close()
    async with running(path):
        assert content(path) == {}


@pytest.mark.skipif(not weather.MAY_MOUNT, reason="a disk of its own takes root; the other troubles ran")
async def test_a_full_disk_is_not_taken_for_damage(path: Path) -> None:
    path.parent.mkdir()
    with weather.mounted(path.parent, "1m"):
        with weather.full(path.parent), pytest.raises(StoreUnavailable, match=r"full|cannot be used"):
            Store.open(path)
        async with running(path) as opened:
            await opened.commit(put=[snapshot(1)])
        with weather.full(path.parent), pytest.raises(StoreUnavailable, match="cannot be used"):
            Store.open(path)
        assert set(content(path)) == {identity(1)}


@pytest.mark.skipif(not weather.MAY_MOUNT, reason="a disk of its own takes root; the other troubles ran")
async def test_after_a_kill_a_full_disk_does_not_hide_what_is_known(path: Path, mock_clock: MockClock) -> None:
    path.parent.mkdir()
    left = path.parent / "left"
    with weather.mounted(path.parent, "1m"):
        async with running(path) as opened:
            await opened.commit(put=[big(1)])
            left.mkdir()  # what a kill leaves: the file, its log and the index of that
            for part in ("", "-wal", "-shm"):
                shutil.copy(f"{path}{part}", left)
        with weather.full(path.parent):
            again = Watched.open(left / "store.db")
            assert again.degraded
            assert again.rows.live() == [big(1)]
        async with trio.open_nursery() as nursery:
            await nursery.start(again.run)
            await pass_time(again, mock_clock)
            assert not again.degraded
            nursery.cancel_scope.cancel()
        await again.close()


async def test_a_read_only_directory(path: Path) -> None:
    path.parent.mkdir()
    with weather.read_only(path.parent), pytest.raises(StoreUnavailable, match="cannot be used"):
        Store.open(path)
    async with running(path) as opened:
        await opened.commit(put=[snapshot(1)])
    with weather.read_only(path.parent), pytest.raises(StoreUnavailable, match="cannot be used"):
        Store.open(path)
    assert set(content(path)) == {identity(1)}


async def test_the_end_is_bounded_even_if_somebody_holds_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Store.open(path)
    opened.post(put=[snapshot(1)])
    other = connect(path)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(store, "CLOSING", 0.05)
    with trio.fail_after(3):
        await opened.close()
    other.execute("ROLLBACK")
    other.close()
    assert opened.degraded is not None
    assert "in time" in opened.degraded


@pytest.mark.parametrize("seed", range(20))
async def test_any_mixture_of_changes_and_failures(path: Path, seed: int) -> None:
    """What was committed or posted is there in the end; what was refused never was."""
    chance = random.Random(seed)
    model: dict[str, Snapshot] = {}
    async with running(path) as opened:
        refuses = False
        for step in range(120):
            chosen = chance.sample(range(1, 13), chance.randrange(1, 4))
            put = [snapshot(number, rev=step) for number in chosen[1:]]
            gone = [identity(number) for number in chosen[:1]]
            after = {key: each for key, each in model.items() if key not in gone} | {each.job.id: each for each in put}
            action = chance.choice(["turn", "turn", "post", "post", "commit", "commit"])
            if action == "turn":
                refuses = not refuses
                opened._writer.execute(f"PRAGMA query_only = {refuses:d}")
            elif action == "post":
                opened.post(put=put, delete=gone)
                model = after
            elif refuses:
                with pytest.raises(StoreUnavailable):
                    await opened.commit(put=put, delete=gone)
            else:
                await opened.commit(put=put, delete=gone)
                model = after
                assert content(path) == model
        opened._writer.execute("PRAGMA query_only = 0")
    assert content(path) == model
