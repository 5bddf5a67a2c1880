"""`broker install` and `uninstall`: whether the user's systemd listens for the broker, starts it and watches it."""

from __future__ import annotations

import os
import sys

from jobclient import holder, launch, systemctl, units
from jobclient.cli import exits
from jobclient.cli.broker import end_broker
from jobclient.cli.options import Verb
from jobclient.cli.render import escape
from jobclient.paths import DEFAULT_INSTANCE
from jobclient.protocol.failure import JobBrokerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.link import Link

PASSED_ON = ("JOBBROKER_CONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME")
"""What tells a broker its places and is ours alone: the manager may not know it."""
ON_DEMAND = "without it, the first jobctl starts a broker as well"


def install(_: Given, link: Link, console: Console) -> int:
    """Write the unit files, let systemd listen, and see that its broker answers. Jobs go on."""
    _check()
    names = _names(link.instance)
    folder = systemctl.unit_folder()
    changed = write_files(folder, texts(link.instance))
    if changed:
        systemctl.do("daemon-reload")
    systemctl.do("--quiet", "enable", *names)
    _make_way(link, console, changed=changed)
    systemctl.start_socket(link.instance)
    systemctl.do("start", *names)
    answer = _answer(link)
    what = f"{' and '.join(names)} in {escape(folder)} {'are written' if changed else 'were there already'}"
    console.note(f"{what}; the broker runs as a service (pid {answer})")
    if not systemctl.lingers():
        console.note("at your last logout the system ends the service with all its jobs  -> loginctl enable-linger")
    return exits.OK


def texts(instance: str) -> dict[str, str]:
    """The unit files as this installation of ours would have them.

    Raises:
        JobBrokerError: its program lies where systemd cannot run it.
    """
    environ = {name: os.environ[name] for name in PASSED_ON if os.path.isabs(os.environ.get(name, ""))}
    beside = os.path.join(os.path.dirname(sys.executable), "jobbrokerd")
    try:
        if os.access(beside, os.X_OK):
            program: tuple[str, ...] = (units.literal(beside),)
        else:
            program = (units.literal(sys.executable), "-P", "-m", "jobbroker")
    except ValueError as exc:
        raise JobBrokerError(f"{exc}; {ON_DEMAND}") from exc
    return units.files(instance, program, environ)


def write_files(folder: str, wanted: dict[str, str]) -> bool:
    """See to it that the files are there and read so; whether any was not.

    Raises:
        JobBrokerError: they cannot be written.
    """
    stale = [name for name, text in wanted.items() if read(folder, name) != text]
    try:
        os.makedirs(folder, exist_ok=True)
        for name in stale:
            place = os.path.join(folder, name)
            with open(f"{place}.new", "w", encoding="utf-8") as file:
                file.write(wanted[name])
            os.replace(f"{place}.new", place)
    except OSError as exc:
        raise JobBrokerError(f"{exc.filename or folder} cannot be written: {(exc.strerror or '').lower()}") from exc
    return bool(stale)


def read(folder: str, name: str) -> str | None:
    """The text of a unit file, None if there is none that can be read."""
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def _check() -> None:
    if not systemctl.usual_places():
        raise JobBrokerError(
            "the units serve the usual places, and JOBBROKER_RUNTIME_DIR or JOBBROKER_STATE_DIR says otherwise"
            "  -> unset them, or jobbrokerd as a service of your own"
        )
    if not systemctl.reachable():
        raise JobBrokerError(
            f"no systemd runs for this user here (XDG_RUNTIME_DIR has no systemd/private); {ON_DEMAND}"
        )


def _names(instance: str) -> tuple[str, str]:
    name = units.unit(instance)
    return f"{name}.socket", f"{name}.service"


def _make_way(link: Link, console: Console, *, changed: bool) -> None:
    """A broker that was started on demand goes, and so does one that runs by other unit files; jobs stay."""
    service = systemctl.main_pid(link.instance)
    if service and changed:
        systemctl.do("stop", *_names(link.instance))
        return
    found = holder.find(link.instance)
    if found is not None and found.pid != service and end_broker(link):
        console.note(f"the broker that was started on demand (pid {found.pid}) has stopped; its jobs go on")


def _answer(link: Link) -> int:
    """The pid of the service, which answers at the place where all clients look.

    Raises:
        BrokerUnavailable: nobody does.
        JobBrokerError: somebody else does.
    """
    connection = launch.reach(link.instance, link.deadline(), may_start=False)
    try:
        pid: int = connection.request("broker/ping", deadline=link.deadline())["pid"]
    finally:
        connection.close()
    service = systemctl.main_pid(link.instance)
    if service != pid:
        raise JobBrokerError(
            f"the service is process {service}, but process {pid} answers for it"
            f"  -> systemctl --user status {units.unit(link.instance)}, jobctl doctor"
        )
    return pid


def uninstall(_: Given, link: Link, console: Console) -> int:
    """Let systemd listen no more, and take the unit files away. The broker stops, jobs go on."""
    _check()
    names = _names(link.instance)
    folder = systemctl.unit_folder()
    if all(read(folder, name) is None for name in texts(link.instance)) and not systemctl.installed(link.instance):
        console.note(f"{' and '.join(names)} are not installed")
        return exits.OK
    systemctl.do("--quiet", "disable", "--now", *names)
    systemctl.forget(*names)
    if link.instance == DEFAULT_INSTANCE or not _others(folder):
        for name in texts(link.instance):
            if os.path.lexists(os.path.join(folder, name)):
                os.unlink(os.path.join(folder, name))
    systemctl.do("daemon-reload")
    console.note(f"{' and '.join(names)} are gone; jobs go on, and the next jobctl starts a broker on demand")
    return exits.OK


def _others(folder: str) -> bool:
    """Whether other instances use the templates."""
    try:
        return any(name.startswith("jobbroker@") for name in os.listdir(os.path.join(folder, "sockets.target.wants")))
    except FileNotFoundError:
        return False


VERBS = (
    Verb(
        "broker install", install, "let systemd listen for the broker, start it and watch it; jobs go on",
        examples="jobctl broker install\njobctl --instance codex broker install",
    ),
    Verb("broker uninstall", uninstall, "take the broker out of systemd's hands; jobs go on"),
)  # fmt: skip
