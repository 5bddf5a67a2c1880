"""`input`: give a job something to read."""

from __future__ import annotations

import os
import stat

from jobclient.cli import exits, references, words
from jobclient.cli.options import Option, UsageError, Verb
from jobclient.feeding import PIECE, encoded, feed
from jobclient.protocol.failure import RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.link import Link

IN = 0


def run(given: Given, link: Link, console: Console) -> int:
    """Write to a job's stdin: a line from the command line, or all that comes from ours."""
    job = references.all_of(link, given.operands[:1])[0]
    written = 0
    try:
        for piece in _pieces(given):
            feed(link, job["id"], piece)
            written += len(piece)
        if given.has("close"):
            link.request("job/input", {"id": job["id"], "close": True})
    except RemoteError as exc:
        taken = exc.data.get("written")
        if isinstance(taken, int) and (written or taken):
            console.note(f"{words.title(job)} took {written + taken} bytes of it")
        raise
    return exits.OK


def _pieces(given: Given) -> Iterator[bytes]:
    text = given.operands[1] if len(given.operands) > 1 else None
    if text not in (None, "-"):
        yield os.fsencode(text or "") + (b"" if given.has("no-newline") else b"\n")
        return
    if text is None and os.isatty(IN):
        if not given.has("close"):
            raise UsageError("input: say what: jobctl input JOB TEXT, or give it on stdin")
        return
    if text is None and given.has("close") and not _is_fed():
        return
    while piece := os.read(IN, PIECE):
        yield piece


def _is_fed() -> bool:
    """Whether somebody put a pipe or a file before us, rather than that we have just any stdin."""
    mode = os.fstat(IN).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def source(given: Given) -> str | dict[str, object] | None:
    """What `--stdin` asks for, as `job/start` takes it: `pipe`, a file, or all of our own stdin.

    Raises:
        UsageError: ours holds more than may be sent along.
    """
    from jobclient.raw import text
    from jobclient.surroundings import directory

    asked = given.text("stdin")
    if asked is None or asked == "pipe":
        return asked
    if asked != "-":
        return {"file": text(asked if os.path.isabs(asked) else os.path.join(directory(), asked))}
    data = b""
    while len(data) <= MAX_DATA and (piece := os.read(IN, PIECE)):
        data += piece
    if len(data) > MAX_DATA:
        raise UsageError("--stdin -: that is more than 8 MiB: name a file, or --stdin pipe and then jobctl input")
    sent = encoded(data)
    return {"base64" if "encoding" in sent else "text": sent["data"]}


MAX_DATA = 8 * 1024 * 1024
VERBS = (
    Verb(
        "input", run, "give a job started with --stdin pipe something to read", "JOB [TEXT]",
        Option("-n --no-newline", "", "do not end TEXT with a newline"),
        Option("--close", "", "then nothing more comes: the job reads the end"),
        needs=1, examples="jobctl input repl 'print(1)'\njobctl input --close repl",
    ),
)  # fmt: skip
"""Without TEXT, or with -, what comes on stdin. It returns when the job's pipe has it all."""
