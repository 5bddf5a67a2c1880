"""`export`: a job with all that is known of it and all it wrote, as a file. Whole or not at all."""

from __future__ import annotations

import errno
import os
import stat

from jobclient.cli import exits, postmortem, references, words
from jobclient.cli.console import OUT, write
from jobclient.cli.options import Option, UsageError, Verb
from jobclient.protocol.failure import JobBrokerError, RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedRandom

    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.cli.shapes import Job
    from jobclient.link import Link

    Compose = Callable[[BufferedRandom], None]

_PIECE = 1 << 20
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What file systems say that have no hard links."""


def run(given: Given, link: Link, console: Console) -> int:
    """Write jobs down."""
    as_json = given.text("format") == "json"
    target = given.text("output") or "-"
    directory = target.endswith("/") or os.path.isdir(target)
    if len(given.operands) > 1 and not directory and target != "-":
        raise UsageError(f"export: several jobs need a directory, and {target!r} is none")
    if target.endswith("/"):
        _make(target)
    code = exits.OK
    apart = False
    for found in references.look_up(link, given.operands, env=given.has("env")):
        if isinstance(found, RemoteError):
            console.note(exits.advice(found))
            code = exits.of_error(found) if len(given.operands) == 1 else exits.FAILED
            continue
        compose = _composer(link, found, as_json=as_json)
        if target == "-":
            _print(compose, apart=apart)
            apart = not as_json
        else:
            name = f"{found['id']}.{'json' if as_json else 'txt'}"
            path = os.path.join(target, name) if directory else target
            _write(path, compose, force=given.has("force"))
            console.print(path)
        if words.is_live(found):
            console.note(f"{words.title(found)} {words.end(found)}: this is what there is so far")
    return code


def _make(directory: str) -> None:
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as exc:
        raise JobBrokerError(f"export: {directory} cannot be made: {_reason(exc)}") from exc


def _composer(link: Link, job: Job, *, as_json: bool) -> Compose:
    write_record = postmortem.write_json if as_json else postmortem.write_text
    return lambda file: write_record(file, link, job)


def _print(compose: Compose, *, apart: bool) -> None:
    """To stdout, once it is complete: a section that turns out to be binary is taken back."""
    from tempfile import TemporaryFile

    try:
        with TemporaryFile() as file:
            compose(file)
            file.seek(0)
            write(OUT, b"\n" * apart)
            while data := file.read(_PIECE):
                write(OUT, data)
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise JobBrokerError(f"export: there is no room to put it together: {_reason(exc)}  -> set TMPDIR") from exc


def _write(path: str, compose: Compose, *, force: bool) -> None:
    """Under its own name only when it is complete; nobody else may read it."""
    new = f"{path}.{os.urandom(4).hex()}.new"
    try:
        _check_place(path, force=force)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(new, flags, 0o600)
        try:
            with open(descriptor, "w+b") as file:
                compose(file)
                file.flush()
                os.fsync(descriptor)
            _publish(new, path, force=force)
        finally:
            _discard(new)
    except OSError as exc:
        raise JobBrokerError(f"export: {path} cannot be written: {_reason(exc)}{_advice(exc)}") from exc


def _check_place(path: str, *, force: bool) -> None:
    """Before the work is done. A device or a directory is replaced by nobody, whatever he says."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not force:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise OSError(errno.EINVAL, "it is no plain file", path)


def _publish(new: str, path: str, *, force: bool) -> None:
    if not force:
        try:
            os.link(new, path)
        except OSError as exc:
            if exc.errno not in _NO_LINKS:
                raise
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        else:
            return
    os.replace(new, path)


def _discard(new: str) -> None:
    try:
        os.unlink(new)
    except FileNotFoundError:
        pass


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _advice(error: OSError) -> str:
    return "  -> --force replaces it" if error.errno == errno.EEXIST else ""


VERBS = (
    Verb(
        "export", run, "all that is known of jobs and all they wrote, as files", "JOB...",
        Option("-o --output", "PATH", "a file, or a directory for ID.txt and ID.json (default: stdout)"),
        Option("--format", "FORMAT", "text (default) or json, which leaves nothing out", "text", "json"),
        Option("--env", "", "the environment too"),
        Option("--force", "", "replace a file that is there"),
        needs=1, examples="jobctl export tests > tests.txt\njobctl export -o reports/ --format json @ @2",
    ),
)  # fmt: skip
