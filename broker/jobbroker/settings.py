"""Settings: what a person may choose, read from a TOML file and the environment.

The environment wins over the file and the file over the defaults; the table `_LIMITS` is the whole list. A mistake in
one value is a warning and keeps its default, so that a typing error never costs anybody their broker; only a file that
cannot be read at all is an error.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct

from jobclient.protocol.errors import JobBrokerError

Toml: TypeAlias = Mapping[str, object]

_MINUTE = 60 * 1000
_MIB = 1024 * 1024
_SECTIONS = ("limits", "agents", "instances")
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_MILLISECONDS = {"ms": 1, "s": 1000, "m": _MINUTE, "h": 60 * _MINUTE, "d": 24 * 60 * _MINUTE}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kKmMgG]?)(?:i?[bB])?", re.ASCII)
_BYTES = {"": 1, "k": 1024, "m": _MIB, "g": 1024 * _MIB}
_LARGEST = 1 << 53  # beyond it, JSON readers lose count


class SettingsError(JobBrokerError):
    """The settings file cannot be read; the text names file and line."""


class Settings(Struct, frozen=True, kw_only=True):
    """The limits of an instance. Times are milliseconds, sizes bytes.

    Attributes:
        max_running: jobs that may run at once.
        max_output: output kept of each job.
        timeout_ms: time limit of a command that asks for none, 0 for none.
        grace_ms: time between SIGTERM and SIGKILL.
        keep_jobs: ended jobs kept.
        keep_for_ms: how long ended jobs are kept, 0 for ever.
        idle_exit_ms: how long a broker nobody needs stays, 0 for ever.
        max_connections: clients connected at once.
        max_log_size: size at which the broker's own log begins anew.
        warnings: what was wrong with the settings, each a sentence.
        backend: what the section of the instance's backend says, None if there is none.
        text: of the file, for whoever has to say in which line something is.
    """

    max_running: int
    max_output: int = 100 * _MIB
    timeout_ms: int = 0
    grace_ms: int = 5000
    keep_jobs: int = 10_000
    keep_for_ms: int = 0
    idle_exit_ms: int = 30 * _MINUTE
    max_connections: int = 1024
    max_log_size: int = 10 * _MIB
    warnings: tuple[str, ...] = ()
    backend: dict[str, object] | None = None
    text: str = ""


def _duration(value: object) -> int:
    """Milliseconds, from seconds or from a text such as `30m`, `1h30m`, `500ms`."""
    if isinstance(value, str):
        text = value.replace(" ", "")
        if _NUMBER.fullmatch(text):
            return _duration(float(text))
        if _DURATION.sub("", text) or not text:
            raise ValueError("a duration is a number of seconds, or a text such as 30m, 1h30m or 500ms")
        return _whole(sum(float(amount) * _MILLISECONDS[unit] for amount, unit in _DURATION.findall(text)))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a duration is a number of seconds, or a text such as 30m, 1h30m or 500ms")  # noqa: TRY004  # one kind of mistake
    return _whole(value * 1000)


def _size(value: object) -> int:
    """Bytes, from a number or from a text such as `100M`; the units are powers of 1024."""
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.replace(" ", ""))
        if found is not None:
            return _whole(float(found[1]) * _BYTES[found[2].lower()])
    elif isinstance(value, int) and not isinstance(value, bool):
        return _whole(value)
    raise ValueError("a size is a number of bytes, or a text such as 100M")


def _count(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:20])
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("this is a whole number")  # noqa: TRY004  # one kind of mistake
    return _whole(value)


def _at_least_one(value: object) -> int:
    number = _count(value)
    if number < 1:
        raise ValueError("this is at least 1")
    return number


def _whole(value: float) -> int:
    if not math.isfinite(value) or not 0 <= value <= _LARGEST:
        raise ValueError("this is out of range")
    return round(value)


# key in [limits]: field of Settings, environment variable, how a value is read
_LIMITS: dict[str, tuple[str, str, Callable[[object], int]]] = {
    "maxRunning": ("max_running", "JOBBROKER_MAX_RUNNING", _at_least_one),
    "maxOutput": ("max_output", "JOBBROKER_MAX_OUTPUT", _size),
    "timeout": ("timeout_ms", "JOBBROKER_TIMEOUT", _duration),
    "grace": ("grace_ms", "JOBBROKER_GRACE", _duration),
    "keepJobs": ("keep_jobs", "JOBBROKER_KEEP_JOBS", _count),
    "keepFor": ("keep_for_ms", "JOBBROKER_KEEP_FOR", _duration),
    "idleExit": ("idle_exit_ms", "JOBBROKER_IDLE_EXIT", _duration),
    "maxConnections": ("max_connections", "JOBBROKER_MAX_CONNECTIONS", _at_least_one),
    "maxLogSize": ("max_log_size", "JOBBROKER_MAX_LOG_SIZE", _size),
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
    warnings = [_unknown(source, "", key, _SECTIONS) for key in document if key not in _SECTIONS]
    found: dict[str, int] = {"max_running": max(32, 4 * cores)}
    instances = _section(document, "instances", source, warnings)
    own = _section(instances, instance, source, warnings, "instances.")
    backend = None
    if "backend" in own:
        backend = dict(_section(own, "backend", source, warnings, f"instances.{instance}."))
    for section, name in ((document, "limits"), (own, f"instances.{instance}.limits")):
        limits = _section(section, "limits", source, warnings, name.removesuffix("limits"))
        for key, value in limits.items():
            if key in _LIMITS:
                field, _, read = _LIMITS[key]
                _take(found, field, read, value, f"{source}: {name}.{key}", warnings)
            else:
                warnings.append(_unknown(source, f"{name}.", key, _LIMITS))
    for field, variable, read in _LIMITS.values():
        if environ.get(variable):
            _take(found, field, read, environ[variable], variable, warnings)
    more = {"warnings": tuple(warnings), "backend": backend, "text": text or ""}
    return msgspec.convert({**found, **more}, Settings)


def _read(text: str, source: str) -> Toml:
    import tomllib  # not at the top: few have a file, and everybody would wait for it

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError(f"{source}: {exc}") from exc
    except RecursionError:
        raise SettingsError(f"{source}: nested too deeply") from None


def _section(parent: Toml, name: str, source: str, warnings: list[str], prefix: str = "") -> Toml:
    value = parent.get(name, {})
    if isinstance(value, Mapping):
        return msgspec.convert(value, dict[str, object])
    warnings.append(f"{source}: {prefix}{name} is not a section: write [{prefix}{name}]")
    return {}


def _take(
    found: dict[str, int], field: str, read: Callable[[object], int], value: object, where: str, warnings: list[str]
) -> None:
    try:
        found[field] = read(value)
    except ValueError as exc:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:60] + "..."
        warnings.append(f"{where} = {shown} is ignored: {exc}")


def _unknown(source: str, section: str, key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), 1)
    hint = f", did you mean {section}{near[0]}?" if near else ""
    return f"{source}: {section + key!r} is unknown and ignored{hint}"
