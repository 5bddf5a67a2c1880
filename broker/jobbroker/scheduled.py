"""A schedule at work, and somebody who waits for a tick of it."""

from __future__ import annotations

import trio

from jobbroker.core.due import Beat
from jobbroker.core.schedule import Definition, Standing
from jobbroker.core.tickevents import Tick


class Scheduled:
    """A schedule at work.

    Attributes:
        definition: as it is asked for now.
        flying: as it was when its latest tick began, which is what that goes by.
        anchor: what its due times are counted from, by its `beat`.
        number: the due time it waits for.
        missed: due times that passed without a tick.
        state: its tick.
        idle: set while no tick of it is under way.
        going: it is not promised yet, or is being removed: it does not tick, and nothing of it is kept.
        gone: set when it was, or could not be.
    """

    __slots__ = ("anchor", "beat", "definition", "flying", "going", "gone", "idle", "missed", "number", "state")

    def __init__(self, definition: Definition, standing: Standing, salt: str) -> None:
        """`salt` makes its jitter another than that of the same schedule elsewhere."""
        self.definition = self.flying = definition
        self.anchor = standing.anchor
        self.number = standing.number
        self.missed = standing.missed
        self.state = standing.state
        config = definition.config
        self.beat = Beat(self.anchor.boot_ms, config.interval_ms, definition.jitter_ms, f"{salt}/{definition.name}")
        self.idle = trio.Event()
        self.idle.set()
        self.going = False
        self.gone = trio.Event()

    @property
    def name(self) -> str:
        """Its name."""
        return self.definition.name

    @property
    def standing(self) -> Standing:
        """How it stands, for the next broker."""
        return Standing(anchor=self.anchor, number=self.number, missed=self.missed, state=self.state)


class Waiting:
    """Somebody waits for a tick: what is known of it, and whether it is over."""

    def __init__(self) -> None:
        self.tick: Tick | None = None
        self.over = trio.Event()
