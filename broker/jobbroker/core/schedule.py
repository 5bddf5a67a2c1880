"""What a schedule is, and what a runner of it is: as asked for, never changed while a tick runs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from jobbroker.core.due import Moment
from jobbroker.core.entry import FRAMEWORK
from jobbroker.core.tick import State
from jobclient.protocol.wire import StartParams

MAX_RUNNERS = 100
MAX_NAME = 200
Kind = Literal["command", "backend", "builtin"]


class Refused(ValueError):
    """A name that cannot be given."""


class Runner(Struct, frozen=True):
    """One thing a schedule runs.

    Attributes:
        name: unique in its schedule.
        kind: what it is.
        start: the job it starts, of a command or a request to the backend.
        builtin: what the broker does itself.
        timeout_ms: how long that may take; a job has its limit in `start`.
    """

    name: str
    kind: Kind
    start: StartParams | None = None
    builtin: str | None = None
    timeout_ms: int | None = None


class Config(Struct, frozen=True):
    """What every runner of a schedule gets to know. Nothing here limits anything: a runner keeps to it, or does not."""

    interval_ms: int
    max_tasks_per_tick: int = 0
    max_messages_per_tick: int = 0
    settle_delay_ms: int = 0


class Definition(Struct, frozen=True, kw_only=True):
    """A schedule as it was asked for. An interval of 0 is none: it ticks when it is told to.

    Attributes:
        order: which of all it is, in the order in which they were asked for.
        leader_lock: the file whose holder runs it; None for the broker's own lock, so for whichever broker has it.
    """

    name: str
    config: Config
    runners: tuple[Runner, ...]
    created_at: str
    order: int = 0
    jitter_ms: int = 0
    catch_up: bool = False
    leader_lock: str | None = None
    paused: bool = False


class Standing(Struct, frozen=True, kw_only=True):
    """How a schedule stands, as far as the next broker must know.

    Attributes:
        anchor: the moment its due times are counted from.
        number: the due time it waits for.
        missed: due times that passed without a tick.
        state: its tick.
    """

    anchor: Moment
    number: int = 1
    missed: int = 0
    state: State = State()


def name_of(text: str, taken: Iterable[str] = ()) -> str:
    """A name as it is kept: without blanks around it.

    Raises:
        Refused: it is empty, too long, no text for an environment, taken, or the broker's own.
    """
    name = text.strip()
    if not name:
        raise Refused("is empty")
    if len(name) > MAX_NAME or "\0" in name:
        raise Refused(f"has 1 to {MAX_NAME} characters, and no NUL")
    if name == FRAMEWORK:
        raise Refused(f"{name!r} is the broker's own")
    if name in taken:
        raise Refused(f"{name!r} is taken")
    return name
