"""From the parameters of `job/start` to a job: checked, completed with defaults, as a head and a snapshot."""

from __future__ import annotations

import hashlib
import os
import resource
import sys

import msgspec
from msgspec import Struct

from jobbroker import activation, stdin, systemd
from jobbroker.commandline import command_line
from jobbroker.core import record
from jobbroker.core.job import Snapshot, timestamp
from jobbroker.core.reference import is_id, number_of
from jobbroker.settings import Settings
from jobbroker.volatile import IN_MEMORY, MAX_IN_MEMORY
from jobbroker.wiretext import as_bytes, as_wire
from jobclient.protocol.errors import InvalidParams
from jobclient.protocol.wire import Job, Origin, ParentTick, StartParams, Text

MAX_NAME = 200
MAX_LABELS = 64
NO_LABELS: dict[str, str] = {}
"""Of all jobs without any: what ten thousand queued jobs have in common is there once."""
MAX_MS = 10**12
"""The longest limit, some thirty years; what is larger is taken for a mistake."""
SCRUBBED = (*activation.VARIABLES, *systemd.VARIABLES)
"""What the service manager tells the daemon alone."""
OURS = (b"JOBBROKER_JOB_ID=", b"JOBBROKER_SOCKET=")
"""What every job is told: its id, and where its broker listens. A job's own job does not inherit them."""
RLIMITS = frozenset(name[7:] for name in dir(resource) if name.startswith("RLIMIT_"))


class Surroundings(Struct, frozen=True):
    """What a job gets where its request says nothing: the daemon's own, from before it changed anything."""

    cwd: bytes
    env: tuple[bytes, ...]
    umask: int
    descriptors: int
    socket: bytes


class ForTick(Struct, frozen=True):
    """What a job has besides its request if a tick runs it: whose it is, and what it gets to know of that."""

    tick: ParentTick
    env: tuple[bytes, ...]


def surroundings(socket: str) -> Surroundings:
    """Look around; call it before the daemon changes its umask or limits."""
    umask = os.umask(0o077)
    os.umask(umask)
    env = tuple(key + b"=" + value for key, value in os.environb.items() if os.fsdecode(key) not in SCRUBBED)
    return Surroundings(
        cwd=os.fsencode(os.path.expanduser("~")),
        env=env,
        umask=umask,
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        socket=os.fsencode(socket),
    )


def digest(params: StartParams) -> str:
    """What tells whether two requests with one idempotency key ask for the same.

    The environment is no part of it: from one shell to the next it differs in what nobody asked for.
    """
    asked = msgspec.structs.replace(params, env=None)
    return hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()[:32]


def build(
    params: StartParams,
    *,
    identity: str,
    number: int,
    now: int,
    origin: Origin,
    settings: Settings,
    around: Surroundings,
    tick: ForTick | None = None,
) -> tuple[record.Head, Snapshot, bytes | None]:
    """Check a request and complete it; as a head, a snapshot, and the bytes it is to read, if they came along.

    Raises:
        InvalidParams: naming the member and what is wrong with it.
    """
    line = command_line(params, settings)
    reads = stdin.asked(params)
    argv = [as_bytes(word, "argv") for word in line.argv]
    cwd = as_bytes(params.cwd, "cwd") if params.cwd is not None else around.cwd
    if not cwd.startswith(b"/"):
        raise InvalidParams("`cwd` must be an absolute path")
    told = (*map(bytes.__add__, OURS, (identity.encode(), around.socket)), *(() if tick is None else tick.env))
    env = _completed(_environment(params, around), told)
    job = Job(
        id=identity,
        number=number,
        kind=line.kind,
        status="queued",
        argv=line.argv,
        cwd=_once(as_wire(cwd)),
        created_at=timestamp(now),
        name=_name(params.name),
        labels=_labels(params.labels) if params.labels else NO_LABELS,
        agent=params.agent,
        prompt=params.prompt,
        method=params.method,
        params=params.params,
        origin=origin,
        timeout_ms=_milliseconds(params.timeout_ms, "timeoutMs", line.timeout_ms),
        idle_timeout_ms=_milliseconds(params.idle_timeout_ms, "idleTimeoutMs", 0),
        grace_ms=_milliseconds(params.grace_ms, "graceMs", settings.grace_ms),
        merged=bool(params.merged),
        persist=params.persist is not False,
        stdin=reads.kind,
        stdin_file=reads.file,
        tick=None if tick is None else tick.tick,
    )
    snapshot = Snapshot(
        job=job,
        key=_key(params.idempotency_key),
        digest="" if params.idempotency_key is None else digest(params),
        on_disconnect=params.on_disconnect or "detach",
        max_output=_max_output(params, settings),
        result=line.result,
        remedy=line.remedy,
    )
    more = {**_rlimits(params, around), b"umask": b"%d" % _between(params.umask, "umask", 0, 0o777, around.umask)}
    return _head(snapshot, argv, cwd, env, more | reads.head()), snapshot, reads.data


def _head(snapshot: Snapshot, argv: list[bytes], cwd: bytes, env: list[bytes], more: dict[bytes, bytes]) -> record.Head:
    job = snapshot.job
    more |= {
        b"timeoutMs": b"%d" % job.timeout_ms,
        b"idleTimeoutMs": b"%d" % job.idle_timeout_ms,
        b"graceMs": b"%d" % job.grace_ms,
        b"maxOutput": b"%d" % snapshot.max_output,
        b"merged": b"%d" % job.merged,
        b"persist": b"%d" % job.persist,
        b"snapshot": msgspec.json.encode(snapshot),  # what a lost row is made from again
    }
    return record.Head(job.id.encode(), job.number, job.kind.encode(), cwd, argv, env, more)


def restore(head: record.Head) -> Snapshot:
    """The row as it was when the job was accepted, from its record.

    Raises:
        DamagedRecord: the head holds none.
    """
    try:
        return msgspec.json.decode(head.more[b"snapshot"], type=Snapshot)
    except (KeyError, msgspec.MsgspecError) as exc:
        raise record.DamagedRecord("the head holds no snapshot") from exc


def _environment(params: StartParams, around: Surroundings) -> list[bytes]:
    if params.env is None:
        return list(around.env)
    if isinstance(params.env, dict):
        entries = [as_bytes(key, "env") + b"=" + as_bytes(value, "env") for key, value in params.env.items()]
        if any("=" in key or not key for key in params.env):
            raise InvalidParams("`env` holds a name that is empty or has a `=` in it")
        return entries
    entries = [as_bytes(entry, "env") for entry in params.env]
    if any(entry.find(b"=") < 1 for entry in entries):
        raise InvalidParams("`env` as a list holds `NAME=value`")
    return entries


def _completed(env: list[bytes], told: tuple[bytes, ...]) -> list[bytes]:
    """An environment with what is ours to say in it, which it may have from a job that asked for this one."""
    ours = tuple(entry[: entry.index(b"=") + 1] for entry in told)
    return [*(entry for entry in env if not entry.startswith(ours)), *told]


def _name(name: str | None) -> str | None:
    if name is None:
        return None
    if not name or len(name) > MAX_NAME or "\0" in name:
        raise InvalidParams(f"`name` has 1 to {MAX_NAME} characters, and no NUL")
    if number_of(name) is not None or name.startswith("@"):
        raise InvalidParams("`name` looks like a reference: `%12` and `@` have a meaning of their own")
    if is_id(name):
        raise InvalidParams(f"`name` {name!r} looks like the id of a job; add a letter")
    return name


def _once(text: Text) -> Text:
    """The same text, but of all that are equal one: many jobs have the same directory."""
    return sys.intern(text) if isinstance(text, str) else text


def _labels(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > MAX_LABELS:
        raise InvalidParams(f"`labels` has more than {MAX_LABELS} members")
    for key, value in labels.items():
        if not key or len(key) > MAX_NAME or len(value) > MAX_NAME or "\0" in key + value:
            raise InvalidParams(f"`labels`: keys have 1 to {MAX_NAME} characters, values at most as many, and no NUL")
    return labels


def _key(key: str | None) -> str | None:
    if key is not None and (not key or len(key) > MAX_NAME):
        raise InvalidParams(f"`idempotencyKey` has 1 to {MAX_NAME} characters")
    return key


def _rlimits(params: StartParams, around: Surroundings) -> dict[bytes, bytes]:
    wanted = {"NOFILE": around.descriptors, **(params.rlimits or {})}
    for name, soft in wanted.items():
        if name not in RLIMITS:
            raise InvalidParams(f"`rlimits` has no {name!r}; known are {', '.join(sorted(RLIMITS))}")
        if not -1 <= soft < 1 << 63:
            raise InvalidParams(f"`rlimits.{name}` is out of range; -1 is no limit")
    return {f"rlimit.{name}".encode(): b"%d" % soft for name, soft in wanted.items()}


def _max_output(params: StartParams, settings: Settings) -> int:
    """Memory is not ours to give without a limit."""
    if params.persist is not False:
        return _between(params.max_output, "maxOutput", 0, 1 << 53, settings.max_output)
    if params.max_output is not None and not 1 <= params.max_output <= MAX_IN_MEMORY:
        raise InvalidParams(f"`maxOutput` must be between 1 and {MAX_IN_MEMORY} where `persist` is false")
    return params.max_output or min(IN_MEMORY, settings.max_output or IN_MEMORY)


def _milliseconds(value: int | None, member: str, default: int) -> int:
    return _between(value, member, 0, MAX_MS, default)


def _between(value: int | None, member: str, low: int, high: int, default: int) -> int:
    if value is None:
        return default
    if not low <= value <= high:
        raise InvalidParams(f"`{member}` must be between {low} and {high}")
    return value
