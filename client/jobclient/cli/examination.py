"""What `doctor` looks at, one thing after the other. Nothing is changed by looking, and no broker is started."""

from __future__ import annotations

import os
import time
from functools import partial

from jobclient import holder, paths, raw, systemctl, units
from jobclient.cli import config, findings, service
from jobclient.cli.findings import Finding
from jobclient.protocol.failure import JobBrokerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.holder import Holder
    from jobclient.raw import Message

PATIENCE = 5.0
"""Seconds a broker may take to answer before it counts as blocked."""


def examine(instance: str) -> list[Finding]:
    """How everything is."""
    found = _places(instance)
    if found[0].level == "fail":
        return found  # what is in there is not to be trusted
    held = holder.named(instance, time.monotonic() + PATIENCE)
    answer, status = _ask(instance, held)
    found += [
        findings.of_lock(held, listens=systemctl.installed(instance)),
        findings.of_socket(paths.socket_path(instance), held, answer),
        findings.of_version(held, answer),
        *findings.of_store(status),
        *_settings(instance, status),
        *_systemd(instance, held),
    ]
    if held is not None and held.pid:
        found.append(findings.of_cgroup(_text(f"/proc/{held.pid}/cgroup"), instance))
    return found + _disks(instance) + _leftovers(instance, held)


def _places(instance: str) -> list[Finding]:
    """Whether the directories are ours alone."""
    found: list[Finding] = []
    for place in (paths.runtime_dir(), paths.state_dir(), paths.instance_dir(instance)):
        try:
            paths.check_private_dir(place)
        except FileNotFoundError:
            continue
        except JobBrokerError as exc:
            text, _, command = str(exc).partition("  -> ")
            mend = partial(os.chmod, place, 0o700) if command.startswith("chmod") else None
            found.append(Finding("place", "fail", text, command, mend))
    return found or [Finding("place", "ok", f"{paths.instance_dir(instance)} is yours alone")]


def _ask(instance: str, held: Holder | None) -> tuple[Message | str | None, Message | None]:
    """The answers to a ping at the place where clients look, or why there is none; and to `broker/status`.

    Nobody is asked while nobody holds the lock: behind the place systemd may wait for somebody to connect.
    """
    if held is None or not held.pid:
        return None, None
    deadline = time.monotonic() + PATIENCE
    try:
        connection = raw.RawConnection(paths.socket_path(instance), deadline)
    except OSError as exc:
        return (exc.strerror or str(exc)).lower(), None
    try:
        ping = connection.request("broker/ping", deadline=deadline)
        return ping, connection.request("broker/status", deadline=deadline)
    except JobBrokerError as exc:
        return str(exc), None
    finally:
        connection.close()


def _settings(instance: str, status: Message | None) -> list[Finding]:
    """What is wrong with them; a broker that runs has told of its own."""
    try:
        explained = config.explain(instance)
    except JobBrokerError as exc:
        return [Finding("settings", "fail", str(exc), "jobctl config check")]
    if explained["error"] is not None:
        what = f"{explained['error']}; no broker starts with that"
        return [Finding("settings", "fail", what, f"edit {explained['path']}")]
    told: list[str] = status["warnings"] if status is not None else []
    wrong = [each for each in explained["warnings"] if each not in told]
    if wrong or told:
        return [Finding("settings", "warn", each, "jobctl config check") for each in wrong]
    where = explained["path"] if explained["exists"] else f"all defaults, there is no {explained['path']}"
    return [Finding("settings", "ok", where)]


def _systemd(instance: str, held: Holder | None) -> list[Finding]:
    """The units, where there are any; and whether processes may stay."""
    linger = findings.of_linger(lingers=systemctl.lingers())
    if not systemctl.usual_places():
        return [Finding("systemd", "ok", "not asked: variables of ours say where brokers are")]
    if not systemctl.reachable():
        return [Finding("systemd", "ok", "no manager of this user's runs; brokers are started on demand")]
    shown = systemctl.show(units.unit(instance) + ".socket", "UnitFileState", "ActiveState")
    about = findings.of_units(instance, shown, _own_texts(instance))
    if about is None:
        return [Finding("systemd", "ok", "no units are installed; brokers are started on demand"), linger]
    if about.level == "fail":
        about.mend = partial(_start_socket, instance)
    by_whom = findings.of_service(instance, systemctl.main_pid(instance), held)
    if by_whom.level != "ok":
        by_whom.mend = partial(systemctl.do, "start", units.unit(instance) + ".service")
    return [about, by_whom, linger]


def _own_texts(instance: str) -> list[bool | None]:
    """Of each unit file whether it is as this installation would write it, None if it is not there."""
    try:
        folder, wanted = systemctl.unit_folder(), service.texts(instance)
    except JobBrokerError:
        return [None]
    there = {name: service.read(folder, name) for name in wanted}
    return [None if there[name] is None else there[name] == wanted[name] for name in wanted]


def _start_socket(instance: str) -> None:
    if not systemctl.start_socket(instance):
        raise JobBrokerError(f"systemctl --user start {units.unit(instance)}.socket has failed")


def _disks(instance: str) -> list[Finding]:
    place = _existing(paths.instance_dir(instance))
    found = [findings.of_mount(place, mounted(_text("/proc/self/mountinfo"), os.path.realpath(place)))]
    for name, each in (("space", place), ("runtime", _existing(paths.runtime_dir()))):
        there = os.statvfs(each)
        found.append(
            findings.of_space(
                name, each, there.f_bavail * there.f_frsize, there.f_favail if there.f_files else None,
                little=findings.LITTLE if name == "space" else findings.NEXT_TO_NOTHING,
            )
        )  # fmt: skip
    return found


def _existing(place: str) -> str:
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    return place


def mounted(mountinfo: str, place: str) -> str:
    """The kind of file system a place is on (proc_pid_mountinfo(5)); empty if that is not known."""
    best, kind = "", ""
    for line in mountinfo.splitlines():
        mount, _, what = line.partition(" - ")
        fields = mount.split()
        if len(fields) < 5 or not what:
            continue
        at = fields[4].replace("\\040", " ")
        if (place == at or place.startswith(at.rstrip("/") + "/")) and len(at) >= len(best):
            best, kind = at, what.split()[0]
    return kind


def _leftovers(instance: str, held: Holder | None) -> list[Finding]:
    """Files that speak of a broker that is gone, and stores that were put aside."""
    found: list[Finding] = []
    if held is None:
        if _is_stale(paths.socket_path(instance)):
            found.append(_stale(instance, paths.socket_path(instance)))
        if os.path.lexists(paths.pid_path(instance)):
            found.append(_stale(instance, paths.pid_path(instance)))
    try:
        names = os.listdir(paths.instance_dir(instance))
    except FileNotFoundError:
        names = []
    aside = sorted(name for name in names if ".damaged-" in name and not name.endswith(("-wal", "-shm")))
    for name in aside:
        place = os.path.join(paths.instance_dir(instance), name)
        what = f"{place} is a store that was damaged and put aside; jobs were rebuilt without it"
        found.append(Finding("leftover", "warn", what, f"rm {place}*"))
    return found or [Finding("leftover", "ok", "no files of brokers that are gone")]


def _stale(instance: str, place: str) -> Finding:
    what = f"{place} is of a broker that is gone; the next one replaces it"
    return Finding("leftover", "warn", what, f"rm {place}", partial(_remove, instance, place))


def _remove(instance: str, place: str) -> None:
    if holder.find(instance) is not None:
        raise JobBrokerError("a broker has come up meanwhile")
    os.unlink(place)


def _is_stale(place: str) -> bool:
    """Whether nobody listens there, though there is something; asked without connecting: that might start a broker."""
    return os.path.lexists(place) and not listening(_text("/proc/net/unix"), place)


def listening(table: str, place: str) -> bool:
    """Whether /proc/net/unix has a socket that listens (its flags say so) under that path."""
    for line in table.splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[7] == place and int(fields[3], 16) & 0x10000:
            return True
    return False


def _text(place: str) -> str:
    try:
        with open(place, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
