"""What `doctor` makes of what it sees: each judgement a plain function of values, with the command that mends it."""

from __future__ import annotations

from jobclient import units, versions
from jobclient.cli.quantities import size
from jobclient.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal

    from jobclient.holder import Holder
    from jobclient.raw import Message

    Level = Literal["ok", "warn", "fail"]

LITTLE, NEXT_TO_NOTHING = 1 << 30, 32 << 20
"""Bytes of free space under which a warning is due, and under which jobs lose output."""
_REMOTE = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "afs", "ceph", "lustre")


class Finding:
    """One line of the doctor's.

    Attributes:
        name: what was looked at.
        level: how it is.
        text: how it is, in words.
        command: what to type to mend it; empty if nothing is to be mended.
        mend: what `--fix` does; None if that is not ours to do.
    """

    __slots__ = ("command", "level", "mend", "name", "text")

    def __init__(
        self, name: str, level: Level, text: str, command: str = "", mend: Callable[[], object] | None = None
    ) -> None:
        self.name = name
        self.level = level
        self.text = text
        self.command = command
        self.mend = mend


def of_lock(held: Holder | None, *, listens: bool) -> Finding:
    """Whether a broker runs.

    Args:
        held: who holds the instance's lock.
        listens: whether systemd listens in its place.
    """
    if held is not None and held.pid:
        return Finding("lock", "ok", f"held by process {held.pid}, version {held.version or 'unknown'}")
    if held is not None:
        return Finding("lock", "warn", "held by a broker that is starting, or leaving", "jobctl doctor")
    who = "systemd starts one" if listens else "one is started"
    return Finding("lock", "ok", f"no broker runs; {who} with the next call")


def of_socket(place: str, held: Holder | None, answer: Message | str | None) -> Finding:
    """Whether the broker is to be reached where clients look for it.

    Args:
        place: where that is.
        held: who holds the lock.
        answer: to a ping there, or why there was none; None if nobody was asked.
    """
    if held is None or not held.pid:
        return Finding("socket", "ok", f"{place} is not asked while no broker runs")
    if isinstance(answer, dict) and answer["pid"] == held.pid:
        return Finding("socket", "ok", f"{place} answers")
    if isinstance(answer, dict):
        what = f"{place} is answered by process {answer['pid']}, but process {held.pid} is the broker"
        return Finding("socket", "fail", what, "jobctl broker restart")
    elsewhere = f"; it listens at {held.socket}" if held.socket not in ("", place) else ""
    return Finding("socket", "fail", f"{place}: {answer}{elsewhere}", "jobctl broker restart")


def of_version(held: Holder | None, answer: Message | str | None) -> Finding:
    """Whether broker and client are of one version."""
    version = answer["version"] if isinstance(answer, dict) else held.version if held is not None else ""
    told = versions.difference(version) if version else ""
    if not told:
        return Finding("version", "ok", f"{__version__}, as this jobctl" if version else __version__)
    text, _, command = told.partition("  -> ")
    return Finding("version", "warn", text, command)


def of_store(answer: Message | None) -> list[Finding]:
    """What the broker says of itself, if there was one to ask."""
    if answer is None:
        return []
    found = [Finding("store", "fail", what, "jobctl broker logs") for what in answer["degraded"]]
    found += [Finding("settings", "warn", what, "jobctl config check") for what in answer["warnings"]]
    return found or [Finding("store", "ok", f"{sum(answer['counts'].values())} jobs, nothing is wrong")]


def of_units(instance: str, shown: Mapping[str, str], texts: Sequence[bool | None]) -> Finding | None:
    """How the units are; None if there are none.

    Args:
        instance: whose they are.
        shown: of the socket unit: `UnitFileState` and `ActiveState`.
        texts: of each unit file whether it is as ours would be, None if it is not there.
    """
    name, again = units.unit(instance), "jobctl broker install"
    if instance != "default":
        again = f"jobctl --instance {instance} broker install"
    if not shown.get("UnitFileState"):
        return None
    if shown["UnitFileState"] != "enabled":
        return Finding("systemd", "warn", f"{name}.socket is there and not enabled", again)
    if shown.get("ActiveState") != "active":
        return Finding("systemd", "fail", f"{name}.socket is {shown.get('ActiveState')}", again)
    if None in texts or not all(texts):
        return Finding("systemd", "warn", f"the files of {name} are not those of this version", again)
    return Finding("systemd", "ok", f"{name}.socket is enabled and active")


def of_service(instance: str, pid: int, held: Holder | None) -> Finding:
    """Whether the broker is the service, where one is installed."""
    if held is None or not held.pid or held.pid == pid:
        return Finding("service", "ok", f"process {pid}" if pid else "does not run until somebody connects")
    what = f"the broker (process {held.pid}) was started on demand, though a service is installed"
    return Finding("service", "warn", what, f"systemctl --user start {units.unit(instance)}.service")


def of_linger(*, lingers: bool) -> Finding:
    """Whether jobs outlive the last logout."""
    if lingers:
        return Finding("linger", "ok", "your processes may stay after your last logout")
    what = "at your last logout the system may end all your processes, jobs included"
    return Finding("linger", "warn", what, "loginctl enable-linger")


def of_cgroup(text: str, instance: str) -> Finding:
    """With what the broker may be ended.

    Args:
        text: its /proc/PID/cgroup.
        instance: whose broker it is.
    """
    places = (line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2)
    place = next((path for _, controllers, path in places if controllers in ("", "name=systemd")), "")
    group = place.rsplit("/", 1)[-1]
    if group == f"{units.unit(instance)}.service":
        return Finding("cgroup", "ok", f"{group}, which leaves jobs alone when it is stopped")
    if group.endswith((".scope", ".service")):
        what = f"the broker belongs to {group}: what ends that may end it, and jobs with it"
        return Finding("cgroup", "warn", what, "jobctl broker install")
    return Finding("cgroup", "ok", place or "none")


def of_space(name: str, place: str, free: int, inodes: int | None, *, little: int = LITTLE) -> Finding:
    """How much may still be written; `inodes` is None where they are not counted."""
    left = f"{size(free)} free in {place}"
    if free < NEXT_TO_NOTHING or inodes == 0:
        what = left if free < NEXT_TO_NOTHING else f"no more files can be made in {place}"
        return Finding(name, "fail", f"{what}: jobs lose output, and no new ones are taken", "jobctl clean")
    return Finding(name, "warn" if free < little else "ok", left, "jobctl clean" if free < little else "")


def of_mount(place: str, kind: str) -> Finding:
    """Whether locks there are seen by all brokers, and only by those of this machine."""
    if kind.startswith(_REMOTE):
        what = f"{place} is on {kind}, which other machines may share"
        return Finding("disk", "warn", what, "JOBBROKER_STATE_DIR elsewhere, or an --instance for each machine")
    return Finding("disk", "ok", f"{place} is on {kind or 'a disk'}")
