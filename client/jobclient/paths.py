"""Where everything is: one resolver of places for client and daemon (CONTRACT section 4).

The way to the socket needs nothing but `os`. Only where state and settings live by default, which no running broker is
asked for, is left to platformdirs.
"""

from __future__ import annotations

import os

from jobclient.protocol.failure import JobBrokerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

DEFAULT_INSTANCE = "default"
MAX_ADDRESS = 107
"""Bytes the kernel takes as the address of a Unix socket, without the NUL."""
PORTABLE_ADDRESS = 100
"""Bytes of it that every editor takes, on every system."""

_MAX_INSTANCE = 32
_INSTANCE_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_RUN_USER = "/run/user"
_SHARED = "/tmp"  # noqa: S108  # a directory there is used only after a look at its owner and mode
_O_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PathError(JobBrokerError):
    """A place cannot be used, or not safely; the text says which, why, and what to do."""


class BadInstanceName(PathError):
    """An instance is named by 1 to 32 of `a-z`, `0-9` and `-`."""


def check_instance(name: str) -> str:
    """The name, if an instance may be called so.

    Raises:
        BadInstanceName: it may not.
    """
    if not 0 < len(name) <= _MAX_INSTANCE or not _INSTANCE_CHARACTERS.issuperset(name):
        raise BadInstanceName(f"{name!r} cannot name an instance, use 1 to {_MAX_INSTANCE} of a-z, 0-9 and -")
    return name


# --- the runtime directory: socket and pid file ---------------------------------------------------------------------


def runtime_dir() -> str:
    """The directory of sockets and pid files."""
    chosen = _own_variable("JOBBROKER_RUNTIME_DIR")
    if chosen:
        return chosen
    base = _xdg_variable("XDG_RUNTIME_DIR")
    if not base:
        base = os.path.join(_RUN_USER, str(os.getuid()))
        if not _is_private(base):
            return os.path.join(_SHARED, f"jobbroker-{os.getuid()}")
    return os.path.join(base, "jobbroker")


def socket_path(instance: str) -> str:
    """The socket clients connect to."""
    return os.path.join(runtime_dir(), check_instance(instance) + ".sock")


def pid_path(instance: str) -> str:
    """The pid file: information for people, never used to decide."""
    return os.path.join(runtime_dir(), check_instance(instance) + ".pid")


# --- the state directory: everything else ---------------------------------------------------------------------------


def state_dir() -> str:
    """The directory of all instances' state."""
    chosen = _own_variable("JOBBROKER_STATE_DIR")
    if chosen:
        return chosen
    base = _xdg_variable("XDG_STATE_HOME")
    return os.path.join(base, "jobbroker") if base else _default_dir("user_state_dir", "JOBBROKER_STATE_DIR")


def instance_dir(instance: str) -> str:
    """The directory of one instance's state."""
    return os.path.join(state_dir(), check_instance(instance))


def lock_path(instance: str) -> str:
    """Locked by the running broker, the truth about whether there is one; holds where it listens."""
    return os.path.join(instance_dir(instance), "lock")


def spawn_lock_path(instance: str) -> str:
    """Locked by the one client that starts a broker."""
    return os.path.join(instance_dir(instance), "spawn.lock")


def notify_path(instance: str) -> str:
    """The datagram socket by which shims poke a daemon that is not their own."""
    return os.path.join(instance_dir(instance), "notify")


def profile_path(instance: str) -> str:
    """Which profile the instance's backend was last asked to have on the command line."""
    return os.path.join(instance_dir(instance), "profile")


def store_path(instance: str) -> str:
    """The latest snapshot of every job."""
    return os.path.join(instance_dir(instance), "store.db")


def jobs_dir(instance: str) -> str:
    """A directory per job: its record and its output."""
    return os.path.join(instance_dir(instance), "jobs")


def timed_dir(instance: str) -> str:
    """Where the log of an instance's timed jobs is, a file for each day."""
    return os.path.join(instance_dir(instance), "timed")


def log_path(instance: str) -> str:
    """What the broker has to say."""
    return os.path.join(instance_dir(instance), "broker.log")


def config_path() -> str:
    """The settings file; it need not exist."""
    chosen = _own_variable("JOBBROKER_CONFIG")
    if chosen:
        return chosen
    base = _xdg_variable("XDG_CONFIG_HOME")
    home = os.path.join(base, "jobbroker") if base else _default_dir("user_config_dir", "JOBBROKER_CONFIG")
    return os.path.join(home, "config.toml")


def _own_variable(name: str) -> str:
    value = os.environ.get(name, "")
    if value and not os.path.isabs(value):
        raise PathError(f"{name} must be an absolute path, not {value!r}")
    return os.path.normpath(value) if value else ""


def _xdg_variable(name: str) -> str:
    """An XDG variable; a relative path in one is to be ignored, says the XDG specification."""
    value = os.environ.get(name, "")
    return value if os.path.isabs(value) else ""


def _default_dir(which: str, variable: str) -> str:
    import platformdirs  # 25 ms that the way to a running broker does not need

    try:
        found: str = getattr(platformdirs, which)("jobbroker")
    except RuntimeError:
        found = ""
    if not os.path.isabs(found):
        raise PathError(f"no home directory is known for user {os.getuid()}  -> set HOME or {variable}")
    return found


# --- directories nobody else may enter ------------------------------------------------------------------------------


def check_private_dir(path: str) -> None:
    """See to it that a directory is ours alone.

    Raises:
        FileNotFoundError: there is nothing of that name.
        PathError: it is a link, no directory, somebody else's, or open to others.
    """
    try:
        descriptor = os.open(path, _O_DIRECTORY)
    except FileNotFoundError:
        raise
    except OSError as exc:
        what = "is a symbolic link" if os.path.islink(path) else f"cannot be used: {(exc.strerror or '').lower()}"
        raise PathError(f"{path} {what}, it must be a directory of your own  -> remove it") from exc
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if status.st_uid != os.geteuid():
        raise PathError(
            f"{path} belongs to user {status.st_uid}, not to you  -> set JOBBROKER_RUNTIME_DIR or JOBBROKER_STATE_DIR"
        )
    if status.st_mode & 0o077:
        raise PathError(f"{path} is open to other users (mode {status.st_mode & 0o777:o})  -> chmod 700 {path}")


def make_private_dir(path: str) -> None:
    """Make a directory that is ours alone, with its parents, or check the one that is there.

    Raises:
        PathError: there is something else, or it cannot be made.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as exc:
        raise PathError(f"cannot make {path}: {(exc.strerror or '').lower()}") from exc
    try:
        check_private_dir(path)
    except FileNotFoundError as exc:
        raise PathError(f"{path} was removed again while it was being made") from exc


def _is_private(path: str) -> bool:
    try:
        check_private_dir(path)
    except (OSError, PathError):
        return False
    return True


# --- addresses ------------------------------------------------------------------------------------------------------


class ShortAddress:
    """An address to bind or connect to, good for the length of a `with` block, for a path of any length.

    What the kernel takes as an address ends at 107 bytes. A longer path is reached through a descriptor of its
    directory: `/proc/self/fd/N/NAME`.
    """

    __slots__ = ("_directory", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._directory = -1

    def __enter__(self) -> str:
        """The address.

        Raises:
            OSError: the directory cannot be opened.
            PathError: the name of the socket alone is too long.
        """
        if len(os.fsencode(self._path)) <= MAX_ADDRESS:
            return self._path
        directory, name = os.path.split(self._path)
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        address = f"/proc/self/fd/{self._directory}/{name}"
        if len(os.fsencode(address)) > MAX_ADDRESS:
            self.__exit__(None, None, None)
            raise PathError(f"{name!r} is too long for the name of a socket")
        return address

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1


def short_address(path: str) -> ShortAddress:
    """An address by which the socket at `path` can be bound or connected to, whatever the path's length."""
    return ShortAddress(path)
