"""The client that does not block, on a real broker, under Trio and under asyncio."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread

from harness import PATIENCE, Home, eventually
from jobbroker.identity import is_dead, read_stat
from jobclient import AsyncClient, JobFailed, Reset
from jobclient.protocol import errors, wire
from scripted import JOB, Scripted, Silent, in_turn

Main: TypeAlias = Callable[[AsyncClient], Awaitable[None]]
Run: TypeAlias = Callable[[Main], None]


@pytest.fixture
def broker(new_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Home:
    """A home where clients of this process look, and where no broker runs yet."""
    home = new_home()
    for name, value in home.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture(params=["trio", "asyncio"])
def run(request: pytest.FixtureRequest, broker: Home) -> Run:
    """Runs a test with a client of its own; the broker it started ends with it, and all its jobs."""

    def run(main: Main) -> None:
        async def with_client() -> None:
            async with AsyncClient() as client:
                try:
                    with anyio.fail_after(PATIENCE):
                        await main(client)
                finally:
                    await end(client)

        anyio.run(with_client, backend=request.param)

    return run


async def end(client: AsyncClient) -> None:
    """End the broker with all its jobs, and the next one where this one is on its way out by itself."""
    while True:
        try:
            await client.shutdown(mode="cancelJobs", grace_ms=0)
            return
        except (errors.ConnectionLost, errors.ShuttingDown):
            await anyio.lowlevel.checkpoint()


async def killed(client: AsyncClient) -> None:
    """The broker, SIGKILLed."""
    pid = (await client.ping()).pid
    os.kill(pid, 9)
    await to_thread.run_sync(eventually, lambda: is_gone(pid), "the broker is dead, with all its threads")


def is_gone(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is None or is_dead(stat)


async def shell(client: AsyncClient, script: str) -> wire.Job:
    return (await client.start(["sh", "-c", script])).job


# --- jobs -----------------------------------------------------------------------------------------------------------


def test_a_job_from_start_to_end(run: Run, tmp_path: Path) -> None:
    async def main(client: AsyncClient) -> None:
        started = await client.start([b"sh", "-c", "pwd; echo err >&2"], name="tests", labels={"a": "b"})
        assert started.created
        assert (await client.wait("tests")).jobs[0].status == "completed"
        left = (await client.result("tests")).result
        assert (left.stdout, left.stderr) == (f"{tmp_path}\n", "err\n")
        assert [job.id for job in (await client.list(label={"a": "b"})).jobs] == [started.job.id]
        assert (await client.remove("tests")).removed == [started.job.id]
        with pytest.raises(errors.JobNotFound):
            await client.get("tests")
        with pytest.raises(TypeError):
            await client.wait()

    run(main)


def test_run_tells_how_it_ended(run: Run) -> None:
    async def main(client: AsyncClient) -> None:
        assert (await client.run(["sh", "-c", "exit 3"])).exit_code == 3
        with pytest.raises(JobFailed, match="failed: exit status 3") as caught:
            await client.run(["sh", "-c", "exit 3"], check=True)
        assert caught.value.job.exit_code == 3

    run(main)


def test_a_job_is_fed_and_signalled_and_cancelled(run: Run) -> None:
    async def main(client: AsyncClient) -> None:
        job = (await client.start(["cat"], stdin="pipe")).job
        await client.input(job.id, "some ")
        await client.input(job.id, b"\xff" * 600_000, close=True)
        assert (await client.wait(job.id)).jobs[0].stdout.size == 600_005
        sleeper = await shell(client, "sleep 60 & sleep 60")
        assert (await client.pause(sleeper.id)).id == (await client.last_stopped()).id == sleeper.id
        assert (await client.processes(sleeper.id)).processes[0].command == "sh -c sleep 60 & sleep 60"
        await client.resume(sleeper.id)
        assert (await client.cancel(sleeper.id)).job.reason == "user"
        assert set((await client.cleanup(max_age_ms=0)).removed) == {job.id, sleeper.id}

    run(main)


def test_backends(run: Run) -> None:
    async def main(client: AsyncClient) -> None:
        assert await client.backend_status() is None
        assert {"codex", "mcp"} <= {profile.name for profile in await client.backend_profiles()}
        with pytest.raises(errors.BackendGone):
            await client.backend_request("x")
        with pytest.raises(errors.InvalidParams, match="no backend to take a turn"):
            await client.start_turn("x", {}, name="turn")

    run(main)


def test_timed_jobs(run: Run) -> None:
    async def main(client: AsyncClient) -> None:
        async with client.events(ticks=True) as events:
            await shell(client, "sleep 60")
            await anext(events)
            made = await client.timed_add(wire.AddParams(name="nightly", every_ms=0, argv=["true"]))
            assert (await client.timed_show("nightly")).name == made.name == "nightly"
            tick = await client.timed_tick("nightly", wait=True)
            while not isinstance(told_of := await anext(events), wire.Tick):
                pass
            assert (told_of.batch_id, told_of.decision) == (tick.batch_id, "scheduled")
        assert (await client.timed_pause("nightly")).paused
        assert not (await client.timed_resume("nightly")).paused
        assert [each.name for each in (await client.timed_list()).schedules] == ["nightly"]
        with pytest.raises(errors.InvalidState, match="or no longer"):
            await client.timed_stage(wire.StageParams(batch_id=tick.batch_id, runner="nightly", stage="mine"))
        assert tick.batch_id in [line.get("batch_id") for line in (await client.timed_log("nightly")).entries]
        assert (await client.timed_remove("nightly", wait_ms=5000)).jobs == []

    run(main)


# --- many tasks -----------------------------------------------------------------------------------------------------


def test_many_tasks_share_one_connection(run: Run) -> None:
    async def main(client: AsyncClient) -> None:
        codes: dict[int, int | None] = {}

        async def one(number: int) -> None:
            job = await shell(client, f"exit {number}")
            codes[number] = (await client.wait(job.id)).jobs[0].exit_code

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(one, number)
        assert codes == {number: number for number in range(50)}
        assert (await client.status()).connections == 1

    run(main)


def test_whoever_is_cancelled_leaves_the_others_what_they_wait_for(run: Run) -> None:
    """Those that are cancelled may be the ones that read for all."""

    async def main(client: AsyncClient) -> None:
        job = await shell(client, "sleep 60")
        codes: list[int | None] = []

        async def wait() -> None:
            codes.append((await client.wait(job.id)).jobs[0].exit_code)

        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(0):
                await client.wait(job.id)
            impatient = [anyio.CancelScope() for _ in range(5)]

            async def give_up(scope: anyio.CancelScope) -> None:
                with scope:
                    await wait()

            for each in impatient:
                tasks.start_soon(give_up, each)
            for _ in range(3):
                tasks.start_soon(wait)
            await client.ping()
            for each in impatient:
                each.cancel()
            await client.cancel(job.id)
        assert codes == [None] * 3, "ended by a signal, and told to those who had not given up"

    run(main)


def test_a_wait_that_is_cancelled_is_taken_back(run: Run, broker: Home) -> None:
    """The broker has a limit of unfinished requests, and nobody shall meet it by being impatient."""

    async def main(client: AsyncClient) -> None:
        job = await shell(client, "sleep 60")
        for _ in range(4100):
            with anyio.move_on_after(0.0001):
                await client.wait(job.id)
        assert (await client.get(job.id)).status == "running"
        assert (await client.wait(job.id, timeout_ms=0)).timed_out

    run(main)


def test_an_answer_that_is_late_is_nobodys(broker: Home) -> None:
    async def main() -> None:
        async with AsyncClient(timeout=0.2) as hasty:
            with pytest.raises(errors.TimedOut):
                await hasty.get("x")
            assert (await hasty.get("x")).id == JOB["id"]

    for backend in ("trio", "asyncio"):
        get = in_turn(Silent(), {"job": JOB})
        with Scripted(str(broker.socket), job_get=get) as scripted:
            anyio.run(main, backend=backend)
            assert scripted.methods() == ["broker/ping", "job/get", "$/cancelRequest", "job/get"]
            assert scripted.connections == 1
        broker.socket.unlink()


# --- brokers die ----------------------------------------------------------------------------------------------------


def test_output_is_followed_over_the_death_of_the_broker(run: Run, tmp_path: Path) -> None:
    async def main(client: AsyncClient) -> None:
        os.mkfifo(tmp_path / "fifo")
        feed = os.open(tmp_path / "fifo", os.O_RDWR)
        job = await shell(client, 'while read -r l && [ "$l" ]; do echo "$l"; done <fifo')
        seen = b""
        os.write(feed, b"one\n")
        async for piece in client.follow(job.id):
            seen += piece
            if seen == b"one\n":
                await killed(client)
                os.write(feed, b"two\n\n")
        os.close(feed)
        assert seen == b"one\ntwo\n"

    run(main)


def test_following_goes_on_at_a_cursor_and_may_be_left_at_any_time(run: Run) -> None:
    async def main(client: AsyncClient) -> None:
        job = await shell(client, "echo one; sleep 0.3; echo two")
        first = client.follow(job.id)
        assert await anext(first) == b"one\n"
        rest = [piece async for piece in client.follow(job.id, start=first.cursor)]
        assert b"".join(rest) == b"two\n"
        assert [piece async for piece in client.follow(job.id, stream="stderr")] == []

    run(main)


def test_all_who_wait_outlive_the_broker(run: Run, tmp_path: Path) -> None:
    async def main(client: AsyncClient) -> None:
        os.mkfifo(tmp_path / "fifo")
        job = await shell(client, "read -r l <fifo; exit 4")
        codes: list[int | None] = []

        async def wait() -> None:
            codes.append((await client.wait(job.id)).jobs[0].exit_code)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(wait)
            await killed(client)
            await client.ping()
            await anyio.Path("fifo").write_text("go\n")
        assert codes == [4] * 10

    run(main)


def test_what_could_happen_twice_is_not_repeated(run: Run) -> None:
    async def main(client: AsyncClient) -> None:
        job = (await client.start(["sleep", "60"], stdin="pipe")).job
        async with anyio.create_task_group() as tasks:

            async def feed() -> None:
                with pytest.raises(errors.ConnectionLost, match="0 bytes were taken, and none to all"):
                    await client.input(job.id, b"x" * 200_000)

            tasks.start_soon(feed)
            await client.ping()
            await killed(client)
        assert (await client.get(job.id)).status == "running"

    run(main)


def test_what_was_surely_not_sent_is(run: Run) -> None:
    async def main(client: AsyncClient) -> None:
        job = await shell(client, "sleep 60")
        await killed(client)
        assert (await client.signal(job.id, "TERM")).id == job.id

    run(main)


# --- events ---------------------------------------------------------------------------------------------------------


def told(event: object) -> tuple[str, str]:
    match event:
        case wire.JobUpdated(job=job):
            return job.id, job.status
        case wire.JobRemoved(id=identity):
            return identity, "removed"
        case _:
            return "", type(event).__name__


def test_events_with_output_until_the_broker_goes(run: Run) -> None:
    async def main(client: AsyncClient) -> None:
        first = await shell(client, "sleep 60")
        events = client.events(output=True)
        assert told(await anext(events)) == (first.id, "running")
        job = (await client.run(["sh", "-c", "echo hello"])).id
        await client.cancel(first.id, grace_ms=0)
        async with AsyncClient() as other:
            await other.shutdown(mode="keepJobs")
        seen = [told(event) async for event in events]
        assert seen[-1] == ("", "BrokerShuttingDown")
        assert ("", "JobOutput") in seen[: seen.index((job, "completed"))]

    run(main)


def test_events_go_on_with_the_next_broker(run: Run) -> None:
    async def main(client: AsyncClient) -> None:
        job = await shell(client, "sleep 60")
        async with client.events() as events:
            assert told(await anext(events)) == (job.id, "running")
            await killed(client)
            assert isinstance(await anext(events), Reset)
            assert told(await anext(events)) == (job.id, "running")
            await client.cancel(job.id, grace_ms=0)
            while told(await anext(events)) != (job.id, "cancelled"):
                pass
        assert [told(event) async for event in events] == [], "it was closed"

    run(main)


def test_a_step_that_was_cancelled_loses_nothing(run: Run) -> None:
    async def main(client: AsyncClient) -> None:
        first = await shell(client, "sleep 60")
        async with client.events() as events:
            assert told(await anext(events)) == (first.id, "running")
            wanted: set[str] = set()
            ended: set[str] = set()
            for _ in range(20):
                wanted.add((await client.run(["true"])).id)
                for _ in range(3):
                    with anyio.move_on_after(0.001):
                        ended |= completed(await anext(events))
            while ended != wanted:
                ended |= completed(await anext(events))
        await client.ping()
        assert (await client.status()).connections == 1

    run(main)


def completed(event: object) -> set[str]:
    name, status = told(event)
    return {name} if status == "completed" else set()
