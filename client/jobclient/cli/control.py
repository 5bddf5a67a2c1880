"""`cancel`, `signal`, `remove`: what is done to jobs."""

from __future__ import annotations

from jobclient.cli import exits, references, words
from jobclient.cli.options import Option, Verb
from jobclient.protocol.failure import RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.link import Link
    from jobclient.raw import Call, Message

    Tell = Callable[[Message], str]
    """What to print about one result; empty for nothing."""


def cancel(given: Given, link: Link, console: Console) -> int:
    """End jobs, and return when nothing is left of them."""
    params: dict[str, object] = {"confirm": not given.has("no-wait")}
    if given.has("now"):
        params["graceMs"] = 0
    elif given.has("grace"):
        params["graceMs"] = given.number("grace")
    return _each(given, link, console, "job/cancel", params, _cancelled, patience=None)


def _cancelled(answer: Message) -> str:
    job = answer["job"]
    if answer["survivors"]:
        left = ", ".join(map(str, answer["survivors"]))
        from jobclient.protocol.errors import NotDelivered

        raise NotDelivered(f"{words.title(job)}: processes {left} could not be killed")
    if not answer["changed"] and not words.is_live(job):
        return f"{words.title(job)}  had already ended: {words.end(job)}"
    return f"{words.title(job)}  {words.state(job)}"


def signal(given: Given, link: Link, console: Console) -> int:
    """Send a signal to a job."""
    which = given.operands.pop()
    params: dict[str, object] = {"signal": int(which) if which.isdigit() else which}
    params["target"] = "leader" if given.has("leader") else "group"
    return _each(given, link, console, "job/signal", params, lambda _: "")


def remove(given: Given, link: Link, console: Console) -> int:
    """Forget ended jobs, with all they left."""
    return _each(given, link, console, "job/remove", {}, _removed)


def _removed(answer: Message) -> str:
    if not answer["removed"]:
        raise RemoteError("a job could not be removed, something strange is in its directory  -> jobctl broker logs")
    return f"{', '.join(answer['removed'])}  removed"


def _each(
    given: Given,
    link: Link,
    console: Console,
    method: str,
    params: dict[str, object],
    tell: Tell,
    *,
    patience: float | None = 0.0,
) -> int:
    """Do the same to every job named, all at once; one that fails keeps no other from being tried."""
    failures: list[RemoteError] = []
    calls: list[Call] = []
    for reference in given.operands:
        try:
            calls.append((method, {**params, "id": references.resolve(link, reference)}))
        except RemoteError as exc:
            failures.append(exc)
    for answer in _call(link, calls, patience):
        try:
            if isinstance(answer, RemoteError):
                raise answer
            if given.has("json"):
                console.json(answer)
            elif line := tell(answer):
                console.print(line)
        except RemoteError as exc:
            failures.append(exc)
    for failure in failures:
        console.note(exits.advice(failure))
    if not failures:
        return exits.OK
    return exits.of_error(failures[0]) if len(given.operands) == 1 else exits.FAILED


def _call(link: Link, calls: list[Call], patience: float | None) -> list[Message | RemoteError]:
    if len(calls) != 1:
        return link.batch(calls, patience=patience)
    try:
        return [link.request(*calls[0], patience=patience)]
    except RemoteError as exc:
        return [exc]


_JSON = Option("--json", "", "print the result as JSON, one line per job")
VERBS = (
    Verb(
        "cancel", cancel, "end jobs: returns when every process of theirs is dead", "JOB...",
        Option("--grace", "D", "time between SIGTERM and SIGKILL"),
        Option("--now", "", "SIGKILL at once"),
        Option("--no-wait", "", "do not wait for the end"),
        _JSON, needs=1, examples="jobctl cancel tests\njobctl cancel --now @ @2",
    ),
    Verb(
        "signal", signal, "send a signal to a job's process group", "JOB SIGNAL",
        Option("--leader", "", "to its first process alone"),
        _JSON, needs=2, examples="jobctl signal tests HUP",
    ),
    Verb(
        "remove", remove, "forget ended jobs, output and all", "JOB...",
        _JSON, needs=1, examples="jobctl remove k7f3qm %12",
    ),
)  # fmt: skip
