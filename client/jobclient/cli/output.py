"""`output`: what a job wrote, byte for byte, from any place on, as long as it writes."""

from __future__ import annotations

from jobclient.cli import exits, references, words
from jobclient.cli.console import OUT, write
from jobclient.cli.follow import PIECE, WAIT_MS, data_of, tell_dropped
from jobclient.cli.options import Option, UsageError, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.cli.shapes import Job
    from jobclient.cli.stamps import Stamps
    from jobclient.link import Link
    from jobclient.raw import Message

_STREAMS = {"out": "stdout", "err": "stderr", "both": "all"}


class _Budget:
    """What may still be written: so many bytes, so many lines; None is no limit."""

    __slots__ = ("bytes", "lines")

    def __init__(self, size: int | None, lines: int | None) -> None:
        self.bytes = size
        self.lines = lines

    def cut(self, data: bytes) -> bytes:
        """As much of the data as is within the budget, which shrinks by it."""
        if self.bytes is not None:
            data = data[: self.bytes]
            self.bytes -= len(data)
        if self.lines is not None:
            end = 0
            while self.lines and end < len(data):
                found = data.find(b"\n", end)
                self.lines -= found >= 0
                end = found + 1 if found >= 0 else len(data)
            data = data[:end]
        return data

    def spent(self) -> bool:
        return self.bytes == 0 or self.lines == 0

    def ask(self) -> int:
        return PIECE if self.bytes is None else min(PIECE, self.bytes)


def run(given: Given, link: Link, console: Console) -> int:
    """Print a job's output."""
    if given.has("head") and given.has("tail"):
        raise UsageError("output: --head and --tail exclude each other")
    reference = references.resolve(link, given.operands[0])
    follows, passes = given.has("f"), given.has("exit")
    if follows or passes:
        reference = references.all_of(link, [reference])[0]["id"]  # a name may mean another job later on
    try:
        _print(given, link, console, reference)
        if not passes:
            return exits.OK
        ended: Job = link.request("job/wait", {"ids": [reference]}, patience=None)["jobs"][0]
        return exits.of_job(ended)
    except KeyboardInterrupt:
        if follows or passes:
            tell_still_running(link, console, [reference])
        raise


def _print(given: Given, link: Link, console: Console, reference: str) -> None:
    follows, as_json = given.has("f"), given.has("json")
    stamps = _stamps(given)
    budget = _Budget(given.number("max-bytes"), given.number("head"))
    for piece in _pieces(given, link, reference, budget, follow=follows):
        if as_json:
            console.json(piece)
            if not follows:
                return  # one document: whoever wants more asks from its `next`
            continue
        tell_dropped(piece, console)
        data = budget.cut(data_of(piece))
        write(OUT, data if stamps is None else stamps.put(data, piece))
        if budget.spent():
            return


def _stamps(given: Given) -> Stamps | None:
    if not (given.has("t") or given.has("time")):
        return None
    from jobclient.cli.stamps import Stamps

    return Stamps(given.text("time") or "local")


def _pieces(given: Given, link: Link, reference: str, budget: _Budget, *, follow: bool) -> Iterator[Message]:
    """Pieces of output up to its end: the end for now, or for good."""
    params: dict[str, object] = {"id": reference, "stream": _STREAMS[given.text("stream") or "both"]}
    if given.has("from"):
        params["from"] = given.text("from")
    if given.has("tail"):
        params["tail"] = given.number("tail")
    if given.has("t") or given.has("time"):
        params["times"] = True
    if follow:
        params["waitMs"] = WAIT_MS
    while not budget.spent():
        params["limit"] = budget.ask()
        piece = link.request("job/output", params, patience=WAIT_MS / 1000)
        if piece["data"] or piece["dropped"] or not follow:
            yield piece
        if piece["eof"] or not (piece["data"] or piece["dropped"] or follow):
            return
        params["from"] = piece["next"]
        params.pop("tail", None)


def tell_still_running(link: Link, console: Console, ids: list[str]) -> None:
    """Ctrl-C ended the watching, not the jobs: say how to go on, if they do."""
    for job in references.all_of(link, ids):
        if words.is_live(job):
            console.note(f"still running: jobctl output -f {job['id']}")


VERBS = (
    Verb(
        "output", run, "what a job wrote, byte for byte", "JOB",
        Option("-f", "", "go on until the job has ended; Ctrl-C only stops watching"),
        Option("--tail", "N", "the last N lines"),
        Option("--head", "N", "the first N lines"),
        Option("--from", "CURSOR", "from where an earlier --json said `next`"),
        Option("--max-bytes", "N", "at most so many bytes"),
        Option("--stream", "WHICH", "out, err or both (default)", *_STREAMS),
        Option("-t", "", "begin each line with the time at which it was written, to 50 ms"),
        Option("--time", "FORMAT", "the same, as local (default of -t), iso or unix", "local", "iso", "unix"),
        Option("--exit", "", "end with the job's exit code, once it has ended"),
        Option("--json", "", "print the result as JSON, with -f one line per piece"),
        needs=1, passes="exit",
        examples="jobctl output tests --tail 40\njobctl output -t -f @\njobctl output k7 --json --from 18234",
    ),
)  # fmt: skip
