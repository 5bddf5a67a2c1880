"""The store: what is told is committed, in the order of the calls, by one writer in groups."""

# ruff: noqa: ASYNC240  # nothing else runs while these tests look at files

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from jobbroker.core.job import STATUSES, Snapshot
from jobbroker.store import COALESCE, REVS_AHEAD, Store
from jobclient.protocol.errors import StoreUnavailable
from samples import identity, snapshot
from stores import content, numbers, running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store.db"


async def test_a_new_store_is_private(path: Path) -> None:
    previous = os.umask(0)
    try:
        async with running(path) as opened:
            assert opened.is_new
            await opened.commit(put=[snapshot(1)])
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            for each in path.parent.iterdir():
                assert stat.S_IMODE(each.stat().st_mode) == 0o600
            assert {each.name for each in path.parent.iterdir()} == {"store.db", "store.db-wal", "store.db-shm"}
    finally:
        os.umask(previous)
    async with running(path) as opened:
        assert not opened.is_new


async def test_an_open_store_that_others_could_read_is_closed_to_them(path: Path) -> None:
    async with running(path):
        pass
    path.chmod(0o644)
    async with running(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_told_is_committed(path: Path) -> None:
    async with running(path) as opened:
        made = snapshot(1, name="tests", key="once", labels={"a": "1"})
        await opened.commit(put=[made])
        assert content(path) == {made.job.id: made}
        await opened.commit(delete=[made.job.id])
        assert content(path) == {}


async def test_what_was_committed_survives_a_kill(path: Path) -> None:
    """A process of its own commits, says so, and is killed before it can close anything."""
    script = (
        "import sys, trio; from pathlib import Path; from jobbroker.store import Store; from samples import snapshot\n"
        "async def main():\n"
        "    store = Store.open(Path(sys.argv[1]))\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        await nursery.start(store.run)\n"
        "        for number in range(1, 60):\n"
        "            await store.commit(put=[snapshot(number, rev=number)], delete=[snapshot(number - 5).job.id])\n"
        "            print(number, flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 40:
                process.send_signal(signal.SIGKILL)
                break
        told = [40, *(int(line) for line in process.stdout)][-1]
    async with running(path) as opened:
        assert not opened.is_new
        assert opened.last_number >= told
        assert opened.rev >= told + REVS_AHEAD
        assert numbers(opened.rows.live())[:5][-1] <= told + 1
        live = {*numbers(opened.rows.live())}
        assert live in ({*range(last - 4, last + 1)} for last in (told, told + 1))  # the next may be committed, untold


async def test_a_snapshot_is_written_as_it_was_at_the_call(path: Path) -> None:
    async with running(path) as opened:
        made = snapshot(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opened.commit, [made])
            await trio.testing.wait_all_tasks_blocked()
            made.job.status = "running"
        found = opened.rows.get(made.job.id)
        assert found is not None
        assert found.job.status == "queued"


async def test_the_order_of_calls_is_the_order_of_effects(path: Path) -> None:
    async with running(path) as opened:
        made = snapshot(1)
        for status in STATUSES:
            made.job.status = status
            opened.post(put=[made])
        await opened.commit()
        assert content(path)[made.job.id].job.status == STATUSES[-1]
        opened.post(delete=[made.job.id])
        opened.post(put=[made])
        await opened.commit()
        assert list(content(path)) == [made.job.id]
        opened.post(put=[made], delete=[])
        opened.post(delete=[made.job.id, "nobody"])
        await opened.commit()
        assert content(path) == {}


async def test_a_key_is_free_again_with_its_job(path: Path) -> None:
    async with running(path) as opened:
        await opened.commit(put=[snapshot(1, key="once")])
        opened.post(delete=[identity(1)])
        await opened.commit(put=[snapshot(2, key="once")])
        found = opened.rows.by_key("once")
        assert found is not None
        assert found.job.number == 2


async def test_a_cancelled_waiter_loses_nothing(path: Path) -> None:
    async with running(path) as opened:
        with trio.CancelScope() as scope:
            scope.cancel()
            await opened.commit(put=[snapshot(1)])
        assert scope.cancelled_caught
        await opened.commit()
        assert list(content(path)) == [identity(1)]


async def test_a_store_closed_under_cancellation_has_written_everything(path: Path) -> None:
    with trio.CancelScope() as scope:
        async with running(path) as opened:
            opened.post(put=[snapshot(number) for number in range(1, 200)])
            scope.cancel()
    assert len(content(path)) == 199


async def test_changes_before_the_writer_runs_wait_for_it(path: Path) -> None:
    opened = Store.open(path)
    opened.post(put=[snapshot(1)])
    await opened.close()
    assert list(content(path)) == [identity(1)]


async def test_after_the_end_nothing_is_taken(path: Path) -> None:
    async with running(path) as opened:
        pass
    with pytest.raises(StoreUnavailable, match="closed"):
        await opened.commit(put=[snapshot(1)])
    with pytest.raises(StoreUnavailable, match="closed"):
        opened.post(put=[snapshot(1)])
    with pytest.raises(StoreUnavailable, match="closed"):
        opened.rows.get("k7f3qm")


async def test_many_waiters_share_few_transactions(path: Path) -> None:
    async with running(path) as opened:
        async with trio.open_nursery() as nursery:
            for number in range(1, 1001):
                nursery.start_soon(opened.commit, [snapshot(number)])
        assert opened.groups <= 3
        assert len(content(path)) == 1000


async def test_posts_wait_for_company_and_commits_do_not(path: Path, mock_clock: MockClock) -> None:
    async with running(path) as opened:
        opened.post(put=[snapshot(1)])
        opened.post(put=[snapshot(2)])
        await trio.testing.wait_all_tasks_blocked()
        assert opened.groups == 0
        assert not opened.is_stored(identity(1))
        settled = opened.settled
        mock_clock.jump(COALESCE)
        await settled.wait()
        assert opened.groups == 1
        assert opened.is_stored(identity(1))
        opened.post(put=[snapshot(3)])
        await opened.commit(put=[snapshot(4)])
        assert opened.groups == 2
        assert len(content(path)) == 4


@pytest.mark.parametrize("amount", [1, 3, 4, 5, 63, 64, 65, 150, 1000])
async def test_groups_of_any_size(path: Path, amount: int) -> None:
    async with running(path) as opened:
        everything = [snapshot(number) for number in range(1, amount + 1)]
        await opened.commit(put=everything)
        assert list(content(path).values()) == everything
        await opened.commit(delete=[each.job.id for each in everything[1:]])
        assert list(content(path)) == [identity(1)]


async def test_what_contradicts_itself_is_refused_alone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of ours must not hold up everybody's writes for ever."""
    async with running(path) as opened:
        await opened.commit(put=[snapshot(1, key="once")])
        failures: list[str] = []

        async def put(made: Snapshot) -> None:
            try:
                await opened.commit(put=[made])
            except StoreUnavailable as exc:
                failures.append(exc.message)

        async with trio.open_nursery() as nursery:
            for made in (snapshot(2), snapshot(3, key="once"), snapshot(4, named=identity(1)), snapshot(5)):
                nursery.start_soon(put, made)
        assert len(failures) == 2
        assert opened.degraded is None
        opened.post(put=[snapshot(6, key="once")])
        await opened.commit()
        assert numbers(list(content(path).values())) == [1, 2, 5] or len(content(path)) == 3
    assert "UNIQUE" in caplog.text


# --- numbers --------------------------------------------------------------------------------------------------------


async def test_numbers_are_never_given_twice(path: Path) -> None:
    async with running(path) as opened:
        assert [opened.take_number(), opened.take_number()] == [1, 2]
        await opened.commit(put=[snapshot(2)])
        await opened.commit(delete=[identity(2)])
    async with running(path) as opened:
        assert opened.last_number == 2
        assert opened.take_number() == 3
        await opened.commit(put=[snapshot(70)])  # as when rows are rebuilt from records
        assert opened.take_number() == 71


async def test_revisions_go_on_where_they_were(path: Path) -> None:
    async with running(path) as opened:
        assert opened.rev == 0
        await opened.commit(put=[snapshot(1, rev=5)])
        opened.post(put=[snapshot(2, rev=9)])
        assert opened.rev == 9
    async with running(path) as opened:
        assert opened.rev == 9


def test_revisions_announced_before_the_first_write_are_covered(path: Path) -> None:
    """Killed after announcing and before writing anything: the next one must start above."""
    for kills in range(1, 4):
        opened = Store.open(path)
        assert opened.rev == (kills - 1) * REVS_AHEAD
        opened.rows.close()
        opened._writer.close()
