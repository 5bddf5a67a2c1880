"""Start a job's process: its directory, its limits, its PATH, its descriptors. Standard library only, for the shim.

posix_spawn, because it costs a third of a fork in a process of this size and reports a failed exec as an error of ours,
so that "it surely did not run" is known and no exit code 127 is invented.
"""

from __future__ import annotations

import errno
import os
import resource

from jobbroker.signals import valid_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobbroker.core.record import Head

_ALL_SIGNALS = [int(number) for number in valid_signals()]
_DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"


class SpawnFailed(Exception):
    """The job's process could not be started and surely did not run: at which stage, by which errno."""

    def __init__(self, stage: bytes, number: int) -> None:
        super().__init__(stage, number)
        self.stage = stage
        self.errno = number


def spawn(head: Head, stdin: int, stdout: int, stderr: int) -> int:
    """Start the job in a session of its own with just these three descriptors; return its pid.

    The caller's own directory, umask and limits are borrowed for the moment of the spawn and put back.

    Raises:
        SpawnFailed: it surely did not run.
    """
    environment = dict(entry.split(b"=", 1) for entry in head.env)
    limits = _borrow_limits(head)
    umask = os.umask(head.amount(b"umask"))
    try:
        try:
            os.chdir(head.cwd)
        except OSError as exc:
            raise SpawnFailed(b"cwd", exc.errno or 0) from exc
        pid = _spawn_from_path(head.argv, environment, stdin, stdout, stderr)
        _mend_cpu_limit(pid, head)
        return pid
    finally:
        os.chdir("/")
        os.umask(umask)
        for which, pair in limits:
            resource.setrlimit(which, pair)


def _borrow_limits(head: Head) -> list[tuple[int, tuple[int, int]]]:
    """Take over the job's soft limits, cut to our hard ones; return what they were."""
    before: list[tuple[int, tuple[int, int]]] = []
    for name, value in head.more.items():
        if not name.startswith(b"rlimit."):
            continue
        which: int = getattr(resource, "RLIMIT_" + name[7:].decode())
        soft, hard = resource.getrlimit(which)
        wanted = _cut(int(value), hard)
        if wanted != soft:
            before.append((which, (soft, hard)))
            resource.setrlimit(which, (wanted, hard))
    return before


def _mend_cpu_limit(pid: int, head: Head) -> None:
    """Give the job the CPU limit it asked for, where the kernel has moved it while it was ours.

    A process over its soft limit is warned every second and the limit moved by one; we may have used more than a job
    is to have. Only such a moved limit is put right, not one the job has chosen itself meanwhile.
    """
    if b"rlimit.CPU" not in head.more:
        return
    moved, hard = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = _cut(int(head.more[b"rlimit.CPU"]), hard)
    try:
        if 0 <= wanted < resource.prlimit(pid, resource.RLIMIT_CPU)[0] <= moved:
            resource.prlimit(pid, resource.RLIMIT_CPU, (wanted, hard))
    except ProcessLookupError:  # it has ended already
        pass


def _cut(soft: int, hard: int) -> int:
    """A soft limit that the hard one allows; -1 is no limit."""
    if hard == resource.RLIM_INFINITY:
        return soft
    return hard if soft < 0 else min(soft, hard)


def _spawn_from_path(argv: list[bytes], environment: dict[bytes, bytes], *streams: int) -> int:
    """As execvp does: the first executable on the job's own PATH; the most telling error if there is none."""
    failure = errno.ENOENT
    for path in _candidates(argv[0] if argv else b"", environment):
        try:
            return os.posix_spawn(
                path,
                argv,
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in enumerate(streams)],
                setsid=True,
                setsigmask=(),
                setsigdef=_ALL_SIGNALS,
            )
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                raise SpawnFailed(b"exec", exc.errno or 0) from exc
            if failure != errno.EACCES:
                failure = exc.errno
    raise SpawnFailed(b"exec", failure)


def _candidates(command: bytes, environment: dict[bytes, bytes]) -> list[bytes]:
    """Where to look: the path itself if it names a directory, else what exists on PATH, so that misses cost no fork."""
    if b"/" in command:
        return [command]
    if not command:
        return []
    places = environment.get(b"PATH", _DEFAULT_PATH).split(b":")
    paths = [os.path.join(place or b".", command) for place in places]
    return [path for path in paths if os.path.isfile(path)]
