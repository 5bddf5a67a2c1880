"""Many jobs at once, from tasks of Trio or asyncio: `python many.py trio`, `python many.py asyncio`."""

import sys

import anyio
from jobclient import AsyncClient


async def count(broker: AsyncClient, number: int) -> None:
    """One of them."""
    job = (await broker.start(["sh", "-c", f"sleep 0.{number}; seq {number}"])).job
    print(number, b"".join([piece async for piece in broker.follow(job.id)]).split())


async def main() -> None:
    """All of them."""
    async with AsyncClient() as broker, anyio.create_task_group() as tasks:
        for number in (3, 1, 2):
            tasks.start_soon(count, broker, number)


anyio.run(main, backend=sys.argv[1])
