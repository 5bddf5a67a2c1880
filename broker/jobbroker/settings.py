"""Settings: what a person may choose, read from a TOML file and the environment.

The environment wins over the file and the file over the defaults; the table `LIMITS` is the whole list. A mistake in
one value is a warning and keeps its default, so that a typing error never costs anybody their broker; only a file that
cannot be read at all is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct, field

from jobbroker import agents
from jobbroker.core.agent import BUILT_IN, Template
from jobbroker.values import Toml, at_least_one, count, duration, section, size, take, unknown
from jobclient.protocol.errors import JobBrokerError

_MINUTE = 60 * 1000
_DAY = 24 * 60 * _MINUTE
_MIB = 1024 * 1024
_SECTIONS = ("limits", "agents", "instances")


class SettingsError(JobBrokerError):
    """The settings file cannot be read; the text names file and line."""


class BackendSection(Struct, frozen=True):
    """What the settings say of a backend, and the text of the file, to say in which line."""

    values: Toml
    text: str


class Settings(Struct, frozen=True, kw_only=True):
    """The limits of an instance. Times are milliseconds, sizes bytes.

    Attributes:
        max_running: jobs that may run at once.
        max_output: output kept of each job.
        max_total_output: output kept of all jobs, 0 for any amount; the oldest ended ones give theirs up.
        timeout_ms: time limit of a command that asks for none, 0 for none.
        turn_timeout_ms: time limit of a turn that asks for none, 0 for none.
        grace_ms: time between SIGTERM and SIGKILL.
        keep_jobs: ended jobs kept.
        keep_for_ms: how long ended jobs are kept, 0 for ever.
        idle_exit_ms: how long a broker nobody needs stays, 0 for ever.
        max_connections: clients connected at once.
        keep_timed_log_ms: how long the log of timed jobs is kept, 0 for ever.
        max_log_size: size at which the broker's own log begins anew.
        agents: how each agent is run, by name.
        origins: where a limit comes from, by its key; one that is not there has its default.
        warnings: what was wrong with the settings, each a sentence.
        backend: the section of the instance's backend, None if there is none.
    """

    max_running: int
    max_output: int = 100 * _MIB
    max_total_output: int = 2048 * _MIB
    timeout_ms: int = 0
    turn_timeout_ms: int = 30 * _MINUTE
    grace_ms: int = 5000
    keep_jobs: int = 10_000
    keep_for_ms: int = 0
    idle_exit_ms: int = 30 * _MINUTE
    max_connections: int = 1024
    keep_timed_log_ms: int = 30 * _DAY
    max_log_size: int = 10 * _MIB
    agents: Mapping[str, Template] = field(default_factory=lambda: BUILT_IN)
    origins: Mapping[str, str] = {}
    warnings: tuple[str, ...] = ()
    backend: BackendSection | None = None


class Limit(NamedTuple):
    """A key of `[limits]`: its field of `Settings`, its environment variable, how a value is read."""

    field: str
    variable: str
    read: Callable[[object], int]

    @property
    def unit(self) -> str:
        """What its number counts: `ms`, `bytes`, or nothing but itself."""
        return "ms" if self.read is duration else "bytes" if self.read is size else ""


LIMITS = {
    "maxRunning": Limit("max_running", "JOBBROKER_MAX_RUNNING", at_least_one),
    "maxOutput": Limit("max_output", "JOBBROKER_MAX_OUTPUT", size),
    "maxTotalOutput": Limit("max_total_output", "JOBBROKER_MAX_TOTAL_OUTPUT", size),
    "timeout": Limit("timeout_ms", "JOBBROKER_TIMEOUT", duration),
    "turnTimeout": Limit("turn_timeout_ms", "JOBBROKER_TURN_TIMEOUT", duration),
    "grace": Limit("grace_ms", "JOBBROKER_GRACE", duration),
    "keepJobs": Limit("keep_jobs", "JOBBROKER_KEEP_JOBS", count),
    "keepFor": Limit("keep_for_ms", "JOBBROKER_KEEP_FOR", duration),
    "keepTimedLog": Limit("keep_timed_log_ms", "JOBBROKER_KEEP_TIMED_LOG", duration),
    "idleExit": Limit("idle_exit_ms", "JOBBROKER_IDLE_EXIT", duration),
    "maxConnections": Limit("max_connections", "JOBBROKER_MAX_CONNECTIONS", at_least_one),
    "maxLogSize": Limit("max_log_size", "JOBBROKER_MAX_LOG_SIZE", size),
}


def load(path: Path, instance: str, environ: Mapping[str, str], cores: int) -> Settings:
    """The settings in a file, if it exists, and the environment.

    Raises:
        SettingsError: the file is there but cannot be read.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return parse(None, instance, environ, cores)
    except OSError as exc:
        raise SettingsError(f"{path}: {exc.strerror}") from exc
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise SettingsError(f"{path}: not UTF-8 (at line {line})") from exc
    return parse(text, instance, environ, cores, source=str(path))


def parse(
    text: str | None, instance: str, environ: Mapping[str, str], cores: int, *, source: str = "config.toml"
) -> Settings:
    """The settings a text and the environment make, for one instance on a machine with so many cores.

    Raises:
        SettingsError: the text is not TOML.
    """
    document: Toml = {} if text is None else _read(text, source)
    warnings = [unknown(source, "", key, _SECTIONS) for key in document if key not in _SECTIONS]
    instances = section(document, "instances", source, warnings)
    own = section(instances, instance, source, warnings, "instances.")
    layers = (("", document), (f"instances.{instance}.", own))
    found = _Found(warnings)
    for prefix, layer in layers:
        limits = section(layer, "limits", source, warnings, prefix)
        for key, value in limits.items():
            if key in LIMITS:
                found.take(key, value, f"{source}: {prefix}limits.{key}")
            else:
                warnings.append(unknown(source, f"{prefix}limits.", key, LIMITS))
    for key, limit in LIMITS.items():
        if environ.get(limit.variable):
            found.take(key, environ[limit.variable], limit.variable)
    templates = agents.read(layers, source, warnings)
    limited = msgspec.convert({"max_running": max(32, 4 * cores), **found.values}, Settings)
    backend = None
    if "backend" in own:
        backend = BackendSection(section(own, "backend", source, warnings, f"instances.{instance}."), text or "")
    return msgspec.structs.replace(
        limited, agents=templates, origins=found.origins, warnings=tuple(warnings), backend=backend
    )


class _Found:
    """The limits that were found, by field, and where, by key; a later one takes the place of an earlier one."""

    def __init__(self, warnings: list[str]) -> None:
        self.values: dict[str, int] = {}
        self.origins: dict[str, str] = {}
        self._warnings = warnings

    def take(self, key: str, value: object, where: str) -> None:
        taken = take(LIMITS[key].read, value, where, self._warnings)
        if taken is not None:
            self.values[LIMITS[key].field] = taken
            self.origins[key] = where


def _read(text: str, source: str) -> Toml:
    import tomllib  # not at the top: few have a file, and everybody would wait for it

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError(f"{source}: {exc}") from exc
    except RecursionError:
        raise SettingsError(f"{source}: nested too deeply") from None
