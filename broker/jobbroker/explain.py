"""The settings in force, and where each of them comes from: what `jobctl config` shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from jobbroker.core.agent import Template
from jobbroker.settings import LIMITS, SettingsError, load


class Limit(Struct, frozen=True):
    """A value of `[limits]`: its unit is `ms`, `bytes` or nothing."""

    key: str
    value: int
    unit: str
    origin: str


class Explanation(Struct, frozen=True, rename="camel"):
    """All of them; without limits and agents, if there is an `error` that keeps a broker from starting."""

    instance: str
    path: str
    exists: bool
    error: str | None
    warnings: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()
    agents: Mapping[str, Template] = {}


def explain(path: Path, instance: str, environ: Mapping[str, str], cores: int) -> Explanation:
    """What a broker of that instance would start with now."""
    exists = path.exists()
    try:
        settings = load(path, instance, environ, cores)
    except SettingsError as exc:
        return Explanation(instance, str(path), exists, str(exc))
    limits = tuple(
        Limit(key, getattr(settings, limit.field), limit.unit, settings.origins.get(key, "default"))
        for key, limit in LIMITS.items()
    )
    return Explanation(instance, str(path), exists, None, settings.warnings, limits, settings.agents)


def explain_json(path: Path, instance: str, environ: Mapping[str, str], cores: int) -> str:
    """The same as one line of JSON."""
    return msgspec.json.encode(explain(path, instance, environ, cores)).decode()
