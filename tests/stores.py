"""Stores for tests: opened and closed as the daemon does it, filled with a history, read from outside."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from jobbroker import store
from jobbroker.core.job import STATUSES, Snapshot
from jobbroker.rows import Rows
from jobbroker.store import Store
from jobclient.protocol.wire import Base64, Filter
from samples import snapshot


class Watched(Store):
    """A store that tells when a group has been dealt with, and how many have."""

    def __init__(self, path: Path, writer: sqlite3.Connection, rows: Rows) -> None:
        super().__init__(path, writer, rows)
        self.groups = 0
        self.settled = trio.Event()

    def _settle(self, group: store._Group, failure: str | None) -> None:
        super()._settle(group, failure)
        self.groups += 1
        self.settled.set()
        self.settled = trio.Event()


@asynccontextmanager
async def running(path: Path) -> AsyncGenerator[Watched]:
    """An open store with its writer, closed in the end as the daemon closes it."""
    opened = Watched.open(path)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(opened.run)
            yield opened
            nursery.cancel_scope.cancel()
    finally:
        await opened.close()


def content(path: Path) -> dict[str, Snapshot]:
    """Everything in a store, read from outside."""
    rows = Rows(path)
    try:
        return {each.job.id: each for each in rows.between(0, 1 << 62, Filter(), descending=False)}
    finally:
        rows.close()


def numbers(found: list[Snapshot]) -> list[int]:
    return [each.job.number for each in found]


CWDS: list[str | Base64] = ["/work", "/home/ü", Base64("L3dvcms=")]
LABELS: list[dict[str, str]] = [{}, {"a": "1"}, {"a": "1", "b": 'q"ü\n\\'}, {"b": "1"}]


def history() -> list[Snapshot]:
    """Three hundred jobs of all kinds, always the same ones."""
    chance = random.Random(7)
    return [
        snapshot(
            number,
            chance.choice(STATUSES),
            name=chance.choice([None, "tests", "build", "ünï"]),
            labels=chance.choice(LABELS),
            cwd=chance.choice(CWDS),
            key=chance.choice([None, f"key {number}"]),
            ended_ms=chance.randrange(100),
        )
        for number in range(1, 301)
    ]


HISTORY = history()


def fill(path: Path) -> None:
    async def commit() -> None:
        async with running(path) as opened:
            await opened.commit(put=HISTORY)

    trio.run(commit)
