"""`jobbrokerd`: become the broker of an instance, or say in one line and an exit status why not.

Exit status: 0 ended as asked, 1 its backend died, 2 usage, 70 a fault of ours, 75 another broker has the lock, 78 the
settings, the store or the directories are not usable.
"""

from __future__ import annotations

import os
import sys

from jobbroker.lock import InstanceLock, LockHeld
from jobclient import paths
from jobclient.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from jobbroker.settings import Settings

USAGE, FAULT, HELD, CONFIGURATION = 2, 70, 75, 78

_HELP = """usage: jobbrokerd [--instance NAME] [--backend PROFILE] [--stderr | --show-settings]

Become the broker of an instance, in the foreground. `jobctl` starts one by itself when it needs it.

  --instance NAME  which broker to be; a-z, 0-9 and -, at most 32; default: default
  --backend PROFILE
                   front a backend: codex, mcp, lsp, generic, or a profile of your own; the instance keeps it until it
                   is told another one, or `none`
  --stderr         log to stderr instead of the instance's broker.log
  --show-settings  print the settings it would have as JSON, and end
  --version        say the version and end
  --help           this text
"""


class Usage(Exception):
    """The command line cannot be understood."""


def main(argv: list[str] | None = None) -> int:
    """The whole program; its exit status."""
    _open_standard_streams()
    try:
        asked = _parse(sys.argv[1:] if argv is None else argv)
    except Usage as exc:
        print(f"jobbrokerd: {exc}  -> jobbrokerd --help", file=sys.stderr)  # noqa: T201
        return USAGE
    if asked.said:
        print(asked.said)  # noqa: T201
        return 0
    instance = asked.instance
    if asked.show_settings:
        return _show_settings(instance)
    try:
        asked.activated = _activated()
        # Before anything heavy is loaded: of fifty started at once, forty-nine end here.
        paths.make_private_dir(paths.instance_dir(instance))
        paths.make_private_dir(paths.runtime_dir())
        lock = _lock(paths.lock_path(instance), asked.activated)
    except LockHeld as exc:
        return _give_way(f"{_who(instance, str(exc))}  -> jobctl --instance {instance} broker stop (jobs go on)")
    except (paths.PathError, OSError, _Unusable) as exc:
        return _refuse(exc)
    return _run(asked, lock)


def _who(instance: str, holder: str) -> str:
    """What holds the lock, from what it wrote into it."""
    import json

    try:
        return f"a broker of {instance!r} is running, with pid {json.loads(holder)['pid']}"
    except (ValueError, TypeError, KeyError):
        return f"a broker of {instance!r} is running: {holder}"


class _Unusable(Exception):
    """What we were given is of no use; the text says what it is."""


def _activated() -> socket.socket | None:
    """The socket a service manager has passed on, if that is how we were started."""
    if "LISTEN_PID" not in os.environ:
        return None
    from jobbroker import activation

    try:
        return activation.take(os.environ)
    except activation.BadActivation as exc:
        raise _Unusable(str(exc)) from exc


def _lock(path: str, activated: socket.socket | None) -> InstanceLock:
    """The instance's lock. Who was activated has the socket everybody comes to, so another broker gives way to it."""
    try:
        return InstanceLock(path)
    except LockHeld:
        if activated is None:
            raise
    from jobbroker.takeover import take_over

    return take_over(path, activated.getsockname())


def _open_standard_streams() -> None:
    """Whoever started us may have closed them; what we open first would take their place, and be written to."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, so this one
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


class _Asked:
    """What the command line asks for."""

    def __init__(self) -> None:
        self.instance = "default"
        self.backend = ""  # a profile, `none`, or nothing
        self.to_stderr = self.show_settings = False
        self.said = ""  # all there is to do
        self.activated: socket.socket | None = None  # what we were told otherwise


def _parse(words: list[str]) -> _Asked:
    asked = _Asked()
    rest = iter(words)
    for word in rest:
        name, _, value = word.partition("=")
        if word in ("--version", "--help", "-h"):
            asked.said = _HELP if word != "--version" else f"jobbrokerd {__version__}"
            break
        if word == "--stderr":
            asked.to_stderr = True
        elif word == "--show-settings":
            asked.show_settings = True
        elif name == "--instance":
            asked.instance = value or next(rest, "")
            _check_instance(asked.instance)
        elif name == "--backend":
            asked.backend = value or next(rest, "")
            if not asked.backend:
                raise Usage("--backend needs a profile")
        else:
            raise Usage(f"unknown argument {word!r}")
    return asked


def _show_settings(instance: str) -> int:
    from pathlib import Path

    from jobbroker.explain import explain_json

    print(explain_json(Path(paths.config_path()), instance, os.environ, os.cpu_count() or 1))  # noqa: T201
    return 0


def _check_instance(name: str) -> None:
    try:
        paths.check_instance(name)
    except paths.BadInstanceName as exc:
        raise Usage(str(exc)) from exc


def _run(asked: _Asked, lock: InstanceLock) -> int:
    from pathlib import Path  # only now: we are the broker

    import trio

    from jobbroker import app, descriptors, log, profile_choice, systemd
    from jobbroker.listener import PlaceTaken
    from jobbroker.profile_files import ProfileError
    from jobbroker.requests import surroundings
    from jobbroker.settings import SettingsError, load
    from jobbroker.store import DamagedStore, NewerStore
    from jobclient.protocol.errors import StoreUnavailable

    instance = asked.instance
    manager = systemd.manager(os.environ, os.getpid())
    around = surroundings(paths.socket_path(instance) if asked.activated is None else asked.activated.getsockname())
    os.umask(0o077)
    os.chdir("/")
    try:
        settings = load(Path(paths.config_path()), instance, os.environ, os.cpu_count() or 1)
        profile = profile_choice.choose(asked.backend, instance, settings)
        if not asked.to_stderr:
            log.write_to_file(paths.log_path(instance), settings.max_log_size)
        log.start(dump_when_aborted=bool(manager.watchdog_seconds))
        settings = _as_service(settings, managed=bool(manager.address or asked.activated))
        settings = descriptors.fit(settings, descriptors.raise_limit())
    except (SettingsError, ProfileError, paths.PathError, OSError) as exc:
        return _refuse(exc)
    try:
        return trio.run(app.run, app.Setup(instance, settings, lock, around, profile, manager, asked.activated))
    except Exception as exc:  # noqa: BLE001  # nothing is above us, and all of it is written down
        found = _first(exc)
        if isinstance(found, (NewerStore, DamagedStore, StoreUnavailable, paths.PathError)):
            return _refuse(found)
        if isinstance(found, PlaceTaken):
            return _give_way(str(found))
        log.fault(exc)
        return FAULT


def _as_service(settings: Settings, *, managed: bool) -> Settings:
    """A service stays, whether anybody needs it or not, unless the settings say otherwise."""
    if managed and "idleExit" not in settings.origins:
        from msgspec.structs import replace

        settings = replace(settings, idle_exit_ms=0)
    return settings


def _give_way(why: str) -> int:
    print(f"jobbrokerd: {why}", file=sys.stderr)  # noqa: T201
    return HELD


def _refuse(why: BaseException) -> int:
    print(f"jobbrokerd: {why}", file=sys.stderr)  # noqa: T201
    return CONFIGURATION


def _first(exc: BaseException) -> BaseException:
    """What is at the bottom of a group of one."""
    nested: tuple[BaseException, ...] = getattr(exc, "exceptions", ())
    return _first(nested[0]) if len(nested) == 1 else exc


if __name__ == "__main__":
    sys.exit(main())
