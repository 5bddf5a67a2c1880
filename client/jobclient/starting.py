"""What may be said of a job that is started from Python, and the parameters of `job/start` that makes."""

from __future__ import annotations

import os
import warnings
from binascii import b2a_base64
from typing import TYPE_CHECKING, Literal, TypedDict

from jobclient import surroundings
from jobclient.raw import text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    Word = str | bytes | PathLike[str] | PathLike[bytes]


class StartOptions(TypedDict, total=False):
    """How to start a job; what is left out, or None, is taken from this process, as for a child of its own.

    Attributes:
        cwd: its directory.
        env: its whole environment.
        umask: its umask.
        rlimits: its soft limits by name (`NOFILE`), -1 for none.
        name: what to call it.
        labels: to find it by.
        timeout_ms: ends it after so long; 0 is never, None is `JOBBROKER_JOB_TIMEOUT_MS` or the broker's default.
        idle_timeout_ms: ends it after so long without output.
        grace_ms: between SIGTERM and SIGKILL.
        stdin: what it reads: "null" (nothing, the default), "pipe" to be fed by `Client.input`, a path, or bytes.
        merged: whether stdout and stderr are one stream, in exact order.
        max_output: bytes of output to keep.
        persist: False keeps its output in memory only; it is gone once the job and then the broker have ended.
        on_disconnect: what becomes of it when this client's connection ends: nothing by default.
        idempotency_key: the same key names the same job; a new one by default.
    """

    cwd: Word | None
    env: Mapping[str, str] | None
    umask: int | None
    rlimits: Mapping[str, int] | None
    name: str | None
    labels: Mapping[str, str] | None
    timeout_ms: int | None
    idle_timeout_ms: int | None
    grace_ms: int | None
    stdin: Literal["null", "pipe"] | bytes | PathLike[str] | None
    merged: bool
    max_output: int | None
    persist: bool
    on_disconnect: Literal["detach", "cancel"]
    idempotency_key: str | None


def start_parameters(options: StartOptions) -> dict[str, object]:
    """All parameters of `job/start` but what is to be run."""
    cwd, env, umask = options.get("cwd"), options.get("env"), options.get("umask")
    rlimits, labels = options.get("rlimits"), options.get("labels")
    timeout_ms = options.get("timeout_ms")
    return {
        "cwd": text(surroundings.directory() if cwd is None else os.path.abspath(os.fsdecode(cwd))),
        "env": surroundings.environment(os.environ if env is None else env),
        "umask": surroundings.umask() if umask is None else umask,
        "rlimits": surroundings.soft_limits() if rlimits is None else dict(rlimits),
        "name": options.get("name"),
        "labels": None if labels is None else dict(labels),
        "timeoutMs": _timeout_of_environment() if timeout_ms is None else timeout_ms,
        "idleTimeoutMs": options.get("idle_timeout_ms"),
        "graceMs": options.get("grace_ms"),
        "stdin": _stdin(options.get("stdin")),
        "merged": options.get("merged", False),
        "maxOutput": options.get("max_output"),
        "persist": None if options.get("persist", True) else False,
        "onDisconnect": options.get("on_disconnect", "detach"),
        "idempotencyKey": options.get("idempotency_key") or surroundings.idempotency_key(),
    }


def _stdin(given: str | bytes | PathLike[str] | None) -> object:
    if given is None or given in ("null", "pipe"):
        return given
    if isinstance(given, bytes):
        return {"base64": b2a_base64(given, newline=False).decode()}
    if isinstance(given, str):
        raise TypeError("stdin is 'null', 'pipe', bytes, or a pathlib.Path")
    return {"file": text(os.path.abspath(os.fspath(given)))}


def _timeout_of_environment() -> int | None:
    try:
        return surroundings.timeout_ms()
    except ValueError as exc:
        warnings.warn(str(exc), stacklevel=5)
        return None
