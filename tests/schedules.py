"""Schedules for tests: added, ticked, and their log as it is on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from harness import PATIENCE, Home, Message, Wire

FRAMEWORK = "timed-jobs.framework"


def add(wire: Wire, name: str, *argv: str, every: int = 0, **params: object) -> Message:
    """A schedule with a command, ticking by hand unless said otherwise."""
    found: Message = wire.call("timed/add", name=name, everyMs=every, argv=list(argv) or ["true"], **params)["schedule"]
    return found


def append(wire: Wire, schedule: str, name: str, *argv: str, **params: object) -> Message:
    """One more runner."""
    answer = wire.call("timed/add", schedule=schedule, name=name, argv=list(argv) or ["true"], **params)
    found: Message = answer["schedule"]
    return found


def tick(wire: Wire, name: str) -> Message:
    """A tick, from beginning to end."""
    return wire.call("timed/tick", name=name, wait=True)


def show(wire: Wire, name: str) -> Message:
    found: Message = wire.call("timed/show", name=name)["schedule"]
    return found


def entries(wire: Wire, name: str | None = None, **params: object) -> list[Message]:
    """The log of a schedule, oldest first."""
    found: list[Message] = wire.call("timed/log", name=name, limit=10_000, **params)["entries"]
    return found


def stages(found: list[Message]) -> list[tuple[str, str, str | None]]:
    """What each line is about: stage, runner, result."""
    return [(each["stage"], each["runner"].removeprefix("timed-jobs."), each["result"]) for each in found]


def of_batch(found: list[Message], batch: str) -> list[Message]:
    return [each for each in found if each["batch_id"] == batch]


def until_entry(wire: Wire, name: str, wanted: Callable[[Message], object], since: str = "0000-00-00:0") -> Message:
    """The first line of a schedule that is wanted, once there is one."""
    while True:
        answer = wire.call("timed/log", name=name, since=since, limit=1000, waitMs=int(PATIENCE * 1000))
        found: list[Message] = [each for each in answer["entries"] if wanted(each)]
        if found:
            return found[0]
        assert answer["entries"], f"never came: {entries(wire, name)[-5:]}"
        since = answer["next"]


def until_stage(wire: Wire, name: str, stage: str, **also: object) -> Message:
    return until_entry(wire, name, lambda each: each["stage"] == stage and also.items() <= {**each}.items())


def on_disk(home: Home) -> list[Message]:
    """All lines of all days, as they are in the files."""
    days = sorted((home.state / "timed").glob("*.jsonl"))
    return [json.loads(line) for day in days for line in day.read_text().splitlines()]


class Gate:
    """A command that runs until somebody lets it go on, with an exit code."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self.argv = ("sh", "-c", f"read code < {path}; exit $code")

    def open(self, code: int = 0) -> None:
        self.path.write_text(f"{code}\n")
