"""Open files: as many as we may have, shared out so that clients, jobs and our own work never starve each other."""

from __future__ import annotations

import errno
import resource

import msgspec

from jobbroker.settings import Settings

SHORTAGES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ETOOMANYREFS, errno.EAGAIN))
"""Want of something that others give back in time: it says nothing of what was asked for."""
SHARE = 4
"""A quarter for clients, a quarter for running jobs; the rest for idle shims, files being read, and the unforeseen."""


def raise_limit() -> int:
    """Allow ourselves as many as we may have, and say how many; jobs get the limit of before (`Surroundings`)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def fit(settings: Settings, limit: int) -> Settings:
    """The settings, cut to what so many open files allow, with a warning where that makes a difference."""
    if limit == resource.RLIM_INFINITY:
        return settings
    share = max(1, limit // SHARE)
    warnings = list(settings.warnings)
    if settings.max_running > share:
        warnings.append(f"maxRunning is {share}, not {settings.max_running}: only {limit} files may be open")
    return msgspec.structs.replace(
        settings,
        max_connections=min(settings.max_connections, share),
        max_running=min(settings.max_running, share),
        warnings=tuple(warnings),
    )
