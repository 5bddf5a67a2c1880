"""The user's systemd, asked through its own program: whether it is there, how a unit is, and to start or stop it."""

from __future__ import annotations

import os
import subprocess

from jobclient import units
from jobclient.protocol.failure import JobBrokerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS = 60.0
"""How long it may take: a unit that is stopped has twenty seconds, one that is killed some more."""
_LINGER = "/var/lib/systemd/linger"


class SystemdRefused(JobBrokerError):
    """systemd did not do what it was asked for; the text has its words."""


def reachable() -> bool:
    """Whether a user manager runs that can be asked."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return bool(runtime) and os.path.exists(os.path.join(runtime, "systemd", "private"))


def usual_places() -> bool:
    """Whether we look for brokers where the units put them: no variable of ours says otherwise."""
    return not (os.environ.get("JOBBROKER_RUNTIME_DIR") or os.environ.get("JOBBROKER_STATE_DIR"))


def installed(instance: str) -> bool:
    """Whether the user's systemd would start this broker at the place where we look for it."""
    return usual_places() and reachable() and _run("--quiet", "is-enabled", units.unit(instance) + ".socket")[0] == 0


def start_socket(instance: str) -> bool:
    """Start the socket unit, whatever became of it and its service before; whether systemd says it is up."""
    name = units.unit(instance)
    forget(f"{name}.service", f"{name}.socket")
    return _run("--quiet", "start", f"{name}.socket")[0] == 0


def forget(*names: str) -> None:
    """Forget how units have failed."""
    _run("--quiet", "reset-failed", *names)


def do(*words: str) -> str:
    """`systemctl --user` with these words; what it prints.

    Raises:
        SystemdRefused: it failed.
    """
    code, out, err = _run(*words)
    if code:
        raise SystemdRefused(f"systemctl --user {' '.join(words)}: {err.strip() or out.strip() or f'exit {code}'}")
    return out


def show(unit: str, *properties: str) -> dict[str, str]:
    """Properties of a unit; empty ones of a unit there is not, and none if nobody can be asked."""
    code, out, _ = _run("show", unit, *(f"--property={name}" for name in properties))
    lines = (line.partition("=") for line in out.splitlines()) if code == 0 else ()
    return {name: value for name, _, value in lines}


def main_pid(instance: str) -> int:
    """The process of the instance's service, 0 if it does not run."""
    if not (usual_places() and reachable()):
        return 0
    found = show(units.unit(instance) + ".service", "MainPID").get("MainPID", "")
    return int(found) if found.isdecimal() else 0


def lingers() -> bool:
    """Whether the user's processes may stay after his last logout: what `loginctl enable-linger` sees to."""
    import pwd

    try:
        return os.path.exists(os.path.join(_LINGER, pwd.getpwuid(os.getuid()).pw_name))
    except KeyError:
        return False


def unit_folder() -> str:
    """Where the manager looks for a user's own units; it may have other ideas of his places than our environment.

    Raises:
        SystemdRefused: it does not say.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for place in do("show", "--property=UnitPath", "--value").split():
        if place.endswith("/systemd/user") and not place.startswith(f"{runtime}/"):
            return place
    raise SystemdRefused("systemctl --user show --property=UnitPath: names no place for a user's own units")


def _run(*words: str) -> tuple[int, str, str]:
    command: Sequence[str] = ("systemctl", "--user", *words)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False, errors="replace"
        )
    except OSError as exc:
        return 127, "", f"cannot be run: {exc.strerror}"
    except subprocess.TimeoutExpired:
        return 124, "", f"no answer in {SECONDS:.0f} s"
    return done.returncode, done.stdout, done.stderr
