"""`broker ...` and `socket-path`: the broker itself."""

from __future__ import annotations

import os
import time

from jobclient import holder, launch, paths, systemctl, units, versions
from jobclient.cli import exits
from jobclient.cli.console import OUT, write
from jobclient.cli.options import Option, Verb
from jobclient.cli.quantities import duration
from jobclient.cli.render import escape
from jobclient.link import Link
from jobclient.protocol import errors
from jobclient.raw import RawConnection
from jobclient.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.raw import Message

STOP_SECONDS = 15.0
"""How long a broker may take to leave after it was asked; jobs that are to be cancelled take their grace besides."""
_TAIL_BLOCK = 64 * 1024
_LOOK_SECONDS = 0.2


def status(given: Given, link: Link, console: Console) -> int:
    """Say how the broker is, without starting one: not by connecting to a socket unit, either."""
    if systemctl.installed(link.instance) and holder.find(link.instance) is None:
        raise errors.BrokerUnavailable("no broker is running, systemd starts one with the next call  -> jobctl list")
    with Link(link.instance, autospawn=False) as careful:
        answer = careful.request("broker/status")
    if given.has("json"):
        console.json(answer)
    elif given.has("quiet"):
        console.print(str(answer["pid"]))
    else:
        console.print(*_describe(answer), *_service(link.instance, answer["pid"]))
        told = versions.difference(answer["version"])
        console.print(*([f"  version {told}"] if told else []))
    return exits.FAILED if answer["degraded"] else exits.OK


def _describe(answer: Message) -> list[str]:
    counts = ", ".join(f"{count} {name}" for name, count in answer["counts"].items() if count) or "none"
    lines = [
        f"broker {answer['version']}, instance {answer['instance']}, process {answer['pid']}",
        f"  up      {duration(answer['uptimeMs'])}, {answer['connections']} connections",
        f"  jobs    {counts}",
    ]
    backend = answer["backend"]
    if backend is not None:
        lines.append(f"  backend {escape(backend['profile'])}: {backend['state']}  -> jobctl backend show")
    lines += [f"  {name:6}  {escape(place)}" for name, place in answer["paths"].items()]
    lines += [f"  BROKEN  {escape(what)}" for what in answer["degraded"]]
    return lines + [f"  warning {escape(what)}" for what in answer["warnings"]]


def _service(instance: str, pid: int) -> list[str]:
    """How its units are, if there are any."""
    if not (systemctl.usual_places() and systemctl.reachable()):
        return []
    name = units.unit(instance)
    socket = systemctl.show(f"{name}.socket", "ActiveState", "UnitFileState")
    if not socket.get("UnitFileState"):
        return []
    how = f"{name}.socket is {socket['UnitFileState']} and {socket.get('ActiveState')}"
    ours = "runs this broker" if systemctl.main_pid(instance) == pid else "does not run this broker  -> jobctl doctor"
    return [f"  systemd {how}, {name}.service {ours}"]


def start(_: Given, link: Link, console: Console) -> int:
    """Start a broker, unless one runs; asked for by name, it is started whatever JOBBROKER_AUTOSPAWN says."""
    connection = launch.reach(link.instance, link.deadline(), may_start=True)
    answer = connection.request("broker/ping", deadline=link.deadline())
    connection.close()
    console.note(f"the broker runs (pid {answer['pid']}, version {answer['version']})")
    return exits.OK


def stop(given: Given, link: Link, console: Console) -> int:
    """Stop the broker."""
    mode = "cancelJobs" if given.text("jobs") == "cancel" else "keepJobs"
    service = systemctl.main_pid(link.instance)
    if end_broker(link, mode):
        console.note("the broker has stopped" + ("; its jobs go on" if mode == "keepJobs" else "; so have its jobs"))
        if service:
            console.note(f"systemd starts it again when somebody connects  -> {_stop_command(link.instance)}")
    else:
        console.note("no broker is running")
    return exits.OK


def _stop_command(instance: str) -> str:
    return f"systemctl --user stop {units.unit(instance)}.socket"


def restart(given: Given, link: Link, console: Console) -> int:
    """Stop the broker, whatever version it is, and start one; jobs go on."""
    _check_way_back(link)
    _check_settings()
    end_broker(link)
    return start(given, link, console)


def _check_way_back(link: Link) -> None:
    """See that whoever comes next is not older than who goes, and may not be able to read what that has written.

    Raises:
        BrokerUnavailable: it would be. systemd starts its own program, so there is nothing to be afraid of.
    """
    found = holder.find(link.instance)
    if found is None or not versions.is_newer(found.version) or systemctl.installed(link.instance):
        return
    raise errors.BrokerUnavailable(
        f"the broker (pid {found.pid}) is version {found.version}, this jobctl would start {__version__}"
        " in its place  -> update this jobctl; to go back nevertheless: jobctl broker stop, jobctl broker start"
    )


def _check_settings() -> None:
    """See that the next broker can start, before there is none.

    Raises:
        JobBrokerError: it could not, with these settings.
    """
    import tomllib

    path = paths.config_path()
    try:
        with open(path, "rb") as file:
            tomllib.load(file)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as exc:
        text = f"the broker runs on, for another could not start: {path}: {exc}"
        raise errors.JobBrokerError(f"{text}  -> jobctl config check") from exc


def end_broker(link: Link, mode: str = "keepJobs") -> bool:
    """Let the broker end and wait until it has; False if there is none.

    Works across versions of the protocol: shutdown is asked for without a look at the version, and a broker that does
    not understand gets SIGTERM, which keeps jobs.

    Raises:
        BrokerUnavailable: it is still there.
    """
    deadline = time.monotonic() + STOP_SECONDS
    found = holder.named(link.instance, deadline)
    if found is None:
        return False
    try:
        _ask_to_leave(found.socket or paths.socket_path(link.instance), mode, deadline)
    except (OSError, errors.JobBrokerError) as exc:
        if mode != "keepJobs":
            raise errors.BrokerUnavailable(f"the broker was asked to cancel its jobs and stop, but: {exc}") from exc
        holder.terminate(link.instance)
        deadline = time.monotonic() + STOP_SECONDS
    if not holder.await_gone(link.instance, found.pid, deadline):
        raise errors.BrokerUnavailable(
            f"the broker (pid {found.pid}) was asked to stop and has not  -> kill -9 {found.pid} (jobs survive that)"
        )
    return True


def _ask_to_leave(path: str, mode: str, deadline: float) -> None:
    connection = RawConnection(path, deadline)
    try:
        connection.request("broker/shutdown", {"mode": mode}, deadline if mode == "keepJobs" else None)
    except errors.ConnectionLost:
        pass  # it may leave before it has answered
    finally:
        connection.close()


def logs(given: Given, link: Link, console: Console) -> int:
    """Print what the broker has to say. A service says it to systemd, and the file is of brokers before it."""
    if systemctl.main_pid(link.instance):
        console.note(f"the broker runs as a service  -> journalctl --user -u {units.unit(link.instance)}")
        return exits.FAILED
    path = paths.log_path(link.instance)
    try:
        file: BinaryIO = open(path, "rb")  # noqa: SIM115  # may be replaced by another while we follow
    except FileNotFoundError:
        console.note(f"there is no {path}; under systemd  -> journalctl --user -u {units.unit(link.instance)}")
        return exits.FAILED
    lines = given.number("tail")
    _seek_tail(file, 40 if lines is None else lines)
    while True:
        while block := file.read(_TAIL_BLOCK):
            write(OUT, block)
        if not given.has("f"):
            file.close()
            return exits.OK
        time.sleep(_LOOK_SECONDS)
        file = _newest(file, path)


def _seek_tail(file: BinaryIO, lines: int) -> None:
    """Put the file where its last lines begin, as far as a block reaches back."""
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - _TAIL_BLOCK))
    block = file.read()
    at = len(block) - block.endswith(b"\n")
    for _ in range(lines):
        at = block.rfind(b"\n", 0, max(at, 0))
    file.seek(start + (at + 1 if lines else len(block)))


def _newest(file: BinaryIO, path: str) -> BinaryIO:
    """The file that has that name now: the log may have been put aside, or cut."""
    try:
        now = os.stat(path)
    except FileNotFoundError:
        return file
    if not os.path.samestat(now, os.fstat(file.fileno())):
        file.close()
        return open(path, "rb")
    if now.st_size < file.tell():
        file.seek(0)
    return file


def socket_path(given: Given, link: Link, console: Console) -> int:
    """Print where to connect to, having seen to it that somebody listens there."""
    if not given.has("no-start"):
        link.connection()
    found = holder.find(link.instance)
    place = found.socket if found is not None and found.socket else paths.socket_path(link.instance)
    console.print(place)
    if len(os.fsencode(place)) > paths.PORTABLE_ADDRESS:
        console.note("that is too long for some programs to connect to  -> jobctl rpc, or a JOBBROKER_RUNTIME_DIR")
    return exits.OK


_JSON = Option("--json", "", "print the result as JSON")
VERBS = (
    Verb(
        "broker status", status, "how the broker is; starts none", "",
        _JSON, Option("-q --quiet", "", "print its process id alone"),
        examples="jobctl broker status\nkill -9 $(jobctl broker status -q)   # jobs survive even this",
    ),
    Verb("broker start", start, "start the broker, unless it runs"),
    Verb(
        "broker stop", stop, "stop the broker; jobs go on unless told otherwise", "",
        Option("--jobs", "WHAT", "keep (default) or cancel", "keep", "cancel"),
    ),
    Verb("broker restart", restart, "stop the broker, whatever its version, and start it; jobs go on"),
    Verb(
        "broker logs", logs, "what the broker has to say", "",
        Option("-f", "", "go on as it says more"), Option("--tail", "N", "the last N lines (default 40)"),
    ),
    Verb(
        "socket-path", socket_path, "where the broker listens, for editors and scripts; starts it if need be", "",
        Option("--no-start", "", "only say where"),
    ),
)  # fmt: skip
