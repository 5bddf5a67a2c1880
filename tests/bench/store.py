"""What a change costs, and how long a start takes, with no history and with a hundred thousand jobs.

CPU of the whole process per change, the loop's and the writer's: encoding, the thread, SQLite. Each job is put three
times (queued, running, completed), a hundred jobs to a commit. Run it alone; ratios mean more than figures.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import trio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jobbroker.core.job import Snapshot
from jobbroker.core.table import Table
from jobbroker.store import Store
from jobclient.protocol.wire import Status
from samples import snapshot

MANY = 100_000
GROUP = 100
GROUPS = 100
LIFE: tuple[Status, ...] = ("queued", "running", "completed")


def job(number: int, status: Status) -> Snapshot:
    """A job with the fields that usual ones have."""
    made = snapshot(number, status, name="tests", labels={"client": "cli"}, key=f"{number * 2654435761 % 2**64:032x}")
    made.job.argv = ["make", "-j8", "test"]
    made.digest = "d" * 32
    return made


async def fill(path: Path, amount: int) -> None:
    """History: jobs long completed."""
    store = Store.open(path)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        for first in range(1, amount, 5000):
            await store.commit(put=[job(number, "completed") for number in range(first, first + 5000)])
        nursery.cancel_scope.cancel()
    await store.close()


async def change(path: Path) -> tuple[float, float]:
    """CPU microseconds per change, in the mean and for the first of a job's three."""
    store = Store.open(path)
    cost: dict[Status, list[float]] = {status: [] for status in LIFE}
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        for _ in range(GROUPS):
            first = store.last_number + 1
            for status in LIFE:
                group = [job(number, status) for number in range(first, first + GROUP)]
                before = time.process_time()
                await store.commit(put=group)
                cost[status].append((time.process_time() - before) / GROUP * 1e6)
        nursery.cancel_scope.cancel()
    await store.close()
    means = {status: sum(each) / len(each) for status, each in cost.items()}
    return sum(means.values()) / len(means), means["queued"]


def start(path: Path) -> float:
    """Milliseconds until the store has told what a starting daemon asks."""
    times: list[float] = []
    for _ in range(15):
        before = time.perf_counter()
        store = Store.open(path)
        store.rows.counts()
        store.rows.live()
        times.append((time.perf_counter() - before) * 1e3)
        trio.run(store.close)
    return median(times)


def table(amount: int) -> float:
    """CPU microseconds per change of the table in memory, with so many live jobs in it."""
    held = Table()
    for number in range(1, amount + 1):
        held.add(job(number, "queued"))
    jobs = [job(number, "queued") for number in range(amount + 1, amount + 3001)]
    before = time.process_time()
    for each in jobs:
        held.add(each)
        for status in LIFE[1:]:
            each.job.status = status
            held.update(each)
    return (time.process_time() - before) / len(jobs) / 3 * 1e6


def main() -> None:
    """Print it all."""
    with tempfile.TemporaryDirectory() as place:
        few, many = Path(place) / "few.db", Path(place) / "many.db"
        trio.run(fill, few, 0)
        trio.run(fill, many, MANY)
        starts = start(few), start(many)
        print(f"open, counts, live   {starts[0]:6.2f} ms    {starts[1]:6.2f} ms")
        for _ in range(3):
            (none, none_first), (full, full_first) = trio.run(change, few), trio.run(change, many)
            print(f"store, per change    {none:6.1f} us    {full:6.1f} us    {full / none:.2f}x")
            print(
                f"  a job's first      {none_first:6.1f} us    {full_first:6.1f} us    {full_first / none_first:.2f}x"
            )
        cost = table(0), table(MANY)
        print(f"table, per change    {cost[0]:6.2f} us    {cost[1]:6.2f} us    {cost[1] / cost[0]:.2f}x")


if __name__ == "__main__":
    main()
