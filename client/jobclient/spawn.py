"""Start a broker as a detached process."""

from __future__ import annotations

import os
import subprocess
import sys

from jobclient import paths
from jobclient.protocol.errors import BrokerUnavailable

EX_TEMPFAIL = 75
"""The exit status of a broker that found another one running."""

_TAIL_LINES = 12
_TAIL_BYTES = 4096
_NOT_FOR_IT = ("NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_")
"""What a service manager told our own process; a broker that believed it would answer in our name."""


class _Detached(subprocess.Popen[bytes]):
    """A child that is meant to outlive us: no complaint when it is forgotten."""

    def __del__(self) -> None:
        pass


_started: list[_Detached] = []
"""Brokers this process started. When one has died before us, somebody has to collect its exit status."""


class Spawned:
    """A broker started by us, while we watch it come up."""

    def __init__(self, instance: str) -> None:
        """Start it.

        Raises:
            BrokerUnavailable: it cannot even be tried.
            PathError: its log has no place to be.
        """
        _started[:] = [child for child in _started if child.poll() is None]
        if not sys.executable:
            raise BrokerUnavailable("cannot start a broker, this Python does not know its own path")
        self.log = paths.log_path(instance)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        log = os.open(self.log, flags, 0o600)
        try:
            self._begin = os.fstat(log).st_size
            self._process = _Detached(
                [sys.executable, "-P", "-m", "jobbroker", "--instance", instance],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_IT)},
                start_new_session=True,
            )
        except OSError as exc:
            raise BrokerUnavailable(f"cannot run {sys.executable}: {exc.strerror}") from exc
        finally:
            os.close(log)
        _started.append(self._process)
        self.pid = self._process.pid

    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def last_words(self) -> str:
        """The end of what it wrote to the log, indented."""
        with open(self.log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._begin, size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
        return "".join(f"\n  {line}" for line in lines[-_TAIL_LINES:])
