"""`cancel`, `signal`, `remove`: what is done to jobs."""

from __future__ import annotations

from jobclient.cli import exits, references, words
from jobclient.cli.options import Option, UsageError, Verb
from jobclient.protocol.failure import RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.cli.shapes import Job
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
    if given.has("all") or given.has("label"):
        given.operands = _all_live(given, link)
        if not given.operands:
            console.note("no such job is live")
            return exits.OK
    elif not given.operands:
        raise UsageError("cancel: say what: jobctl cancel JOB..., --label K=V, or --all")
    return _each(given, link, console, "job/cancel", params, _cancelled, patience=None)


def _all_live(given: Given, link: Link) -> list[str]:
    """The live jobs meant by `--all`, alone or with names, and by `--label`."""
    from jobclient.cli.filters import labels

    wanted: dict[str, object] = {"status": list(words.LIVE)}
    if given.has("label"):
        wanted["label"] = labels(given.all("label"))
    found: list[str] = []
    names: list[str | None] = [*given.operands] or [None]
    for name in names:
        before, so_far = None, len(found)
        while True:
            page = link.request("job/list", {**wanted, "name": name, "before": before})
            found += [job["id"] for job in page["jobs"]]
            before = page["next"]
            if before is None:
                break
        if len(found) == so_far and name is not None and not given.has("label"):
            found.append(name)  # no name of a live job, but an id, a number, or a mistake
    return found


def _cancelled(answer: Message) -> str:
    job = answer["job"]
    if answer["survivors"]:
        left = ", ".join(map(str, answer["survivors"]))
        from jobclient.protocol.errors import NotDelivered

        raise NotDelivered(f"{words.title(job)}: processes {left} could not be killed")
    if not answer["changed"] and not words.is_live(job):
        return f"{words.title(job)}  had already ended: {words.end(job)}"
    killed = answer.get("killed", 0)  # an older broker does not count
    took = f", {killed} process{'es' if killed > 1 else ''} took SIGKILL" if killed else ""
    return f"{words.title(job)}  {words.state(job)}{took}"


def pause(given: Given, link: Link, console: Console) -> int:
    """Let jobs stand still; their limits wait for them."""
    return _each(given, link, console, "job/pause", {}, _stands)


def resume(given: Given, link: Link, console: Console) -> int:
    """Let jobs go on."""
    return _each(given, link, console, "job/resume", {}, _stands)


def _stands(answer: Message) -> str:
    return f"{words.title(answer['job'])}  {words.state(answer['job'])}"


def signal(given: Given, link: Link, console: Console) -> int:
    """Send a signal to a job."""
    which = given.operands.pop()
    params: dict[str, object] = {"signal": which}
    params["target"] = "leader" if given.has("leader") else "group"
    return _each(given, link, console, "job/signal", params, lambda _: "", ended_is_fine=True)


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
    ended_is_fine: bool = False,
) -> int:
    """Do the same to every job named, all at once; one that fails keeps no other from being tried.

    `ended_is_fine`: that a job has ended already is worth saying, and no failure.
    """
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
            _show(answer, tell, given, console)
        except RemoteError as exc:
            if ended_is_fine and exc.data.get("status") in words.TERMINAL:
                _say_ended(str(exc.data["id"]), link, console)
            else:
                failures.append(exc)
    for failure in failures:
        console.note(exits.advice(failure))
    if not failures:
        return exits.OK
    return exits.of_error(failures[0]) if len(given.operands) == 1 else exits.FAILED


def _show(answer: Message, tell: Tell, given: Given, console: Console) -> None:
    if given.has("json"):
        console.json(answer)
    elif line := tell(answer):
        console.print(line)


def _say_ended(name: str, link: Link, console: Console) -> None:
    job: Job = link.request("job/get", {"id": name})["job"]
    console.print(f"{words.title(job)}  had already ended: {words.end(job)}")


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
        Option("--all", "", "all live jobs, or all live ones of the names given"),
        Option("-l --label", "K=V", "all live jobs with this label"),
        _JSON, examples="jobctl cancel tests\njobctl cancel --now @ @2\njobctl cancel --all tests",
    ),
    Verb(
        "pause", pause, "let jobs stand still, all their processes; their limits wait", "JOB...",
        _JSON, needs=1, examples="jobctl pause build",
    ),
    Verb(
        "resume", resume, "let paused jobs go on", "JOB...",
        _JSON, needs=1, examples="jobctl resume build",
    ),
    Verb(
        "signal", signal, "send a signal to jobs' process groups", "JOB... SIGNAL",
        Option("--leader", "", "to the first process alone"),
        _JSON, needs=2, examples="jobctl signal tests HUP",
    ),
    Verb(
        "remove", remove, "forget ended jobs, output and all", "JOB...",
        _JSON, needs=1, examples="jobctl remove k7f3qm %12",
    ),
)  # fmt: skip
