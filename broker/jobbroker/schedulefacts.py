"""Schedules in the store: as they were asked for, how they stand, who led last, and whether all are paused."""

from __future__ import annotations

import logging

import msgspec

from jobbroker.core.due import Moment, placed
from jobbroker.core.schedule import Definition, Standing
from jobbroker.identity import boot_id
from jobbroker.rows import Fact
from jobbroker.store import Store

_SCHEDULE, _STANDING, _TERM, _SYSTEM = "schedule", "standing", "term", "timed"
_PAUSED, _BATCHES = "paused", "batches"

log = logging.getLogger("jobbroker.timed")


class ScheduleFacts:
    """What is kept of schedules.

    Attributes:
        boot: which boot this is.
        unreadable: names of schedules whose rows cannot be read.
    """

    def __init__(self, store: Store) -> None:
        self.boot = boot_id().decode("ascii", "replace")
        self.unreadable: list[str] = []
        self._store = store
        self._terms = {path: _number(text) for path, text in store.rows.facts(_TERM)}

    def all(self, now: Moment) -> list[tuple[Definition, Standing]]:
        """Every schedule there is, in the order in which they were added, its due times on the clock of this boot."""
        standings = dict(self._store.rows.facts(_STANDING))
        found: list[tuple[Definition, Standing]] = []
        for name, text in self._store.rows.facts(_SCHEDULE):
            try:
                definition = msgspec.json.decode(text, type=Definition)
                before = standings.get(name)
                standing = Standing(anchor=now) if before is None else msgspec.json.decode(before, type=Standing)
            except msgspec.MsgspecError as exc:
                log.error("a schedule cannot be read: %s: %s", name, exc)
                self.unreadable.append(name)
                continue
            anchor, number = placed(standing.anchor, standing.number, definition.config.interval_ms, now)
            found.append((definition, msgspec.structs.replace(standing, anchor=anchor, number=number)))
        return sorted(found, key=lambda each: each[0].order)

    async def commit(self, definition: Definition, standing: Standing | None = None) -> None:
        """Keep a schedule as it is asked for now. Raises `StoreUnavailable`."""
        facts: dict[Fact, str | None] = {(_SCHEDULE, definition.name): _text(definition)}
        if standing is not None:
            facts[_STANDING, definition.name] = _text(standing)
        await self._store.commit(facts=facts)

    async def forget(self, name: str) -> None:
        """Keep nothing of a schedule. Raises `StoreUnavailable`."""
        await self._store.commit(facts={(_SCHEDULE, name): None, (_STANDING, name): None})

    def post(self, name: str, standing: Standing) -> None:
        """Keep how a schedule stands: before whatever is committed from now on, or with it."""
        self._store.post(facts={(_STANDING, name): _text(standing)})

    def paused(self) -> bool:
        """Whether all schedules are paused."""
        return dict(self._store.rows.facts(_SYSTEM)).get(_PAUSED) is not None

    async def commit_paused(self, *, paused: bool) -> None:
        """Keep whether all are. Raises `StoreUnavailable`."""
        await self._store.commit(facts={(_SYSTEM, _PAUSED): "1" if paused else None})

    def batches(self) -> int:
        """The time that no batch id of lines that are nobody's tick is beyond, in milliseconds."""
        return _number(dict(self._store.rows.facts(_SYSTEM)).get(_BATCHES, "0"))

    def post_batches(self, floor_ms: int) -> None:
        """Keep it."""
        self._store.post(facts={(_SYSTEM, _BATCHES): str(floor_ms)})

    def term(self, path: str) -> int:
        """The latest term that is known of a leader lock; the broker's own has an empty path."""
        return self._terms.get(path, 0)

    def post_term(self, path: str, term: int) -> None:
        """Keep it."""
        self._terms[path] = term
        self._store.post(facts={(_TERM, path): str(term)})


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() else 0


def _text(value: Definition | Standing) -> str:
    return msgspec.json.encode(value).decode()
