"""Which backend an instance has: by the command line, by the settings, or as it was told the last time.

The command line's word is kept beside the instance's store, so that the broker a client starts has the same backend.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from jobbroker import profile_files
from jobbroker.core.profile import Profile
from jobbroker.profile_files import ProfileError
from jobbroker.profile_lines import Where
from jobbroker.settings import Settings
from jobbroker.values import Toml
from jobclient import paths

NONE = "none"


def choose(asked: str, instance: str, settings: Settings) -> Profile | None:
    """The profile of the instance's backend, None if it has none; what was `asked` for is kept.

    Raises:
        ProfileError: it cannot be used; nothing is kept then.
        OSError: it cannot be kept.
    """
    path = Path(paths.config_path())
    section = settings.backend.values if settings.backend is not None else None
    text = settings.backend.text if settings.backend is not None else ""
    name = asked or _profile_in(section) or _kept(instance)
    if name == NONE or (not name and section is None):
        _keep(asked, instance)
        return None
    where = Where(str(path), text, ("instances", instance, "backend"))
    profile = profile_files.load(name or "generic", path, section, where)
    _keep(asked, instance)
    return profile


def _profile_in(section: Toml | None) -> str:
    """What the settings say; a backend that is described in place is a generic one that differs."""
    if section is None:
        return ""
    name = section.get("profile", "generic")
    if not isinstance(name, str):
        raise ProfileError("`profile` in the settings must be the name of a profile")
    return name


def _kept(instance: str) -> str:
    try:
        return Path(paths.profile_path(instance)).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def _keep(asked: str, instance: str) -> None:
    place = paths.profile_path(instance)
    if asked == NONE:
        with suppress(FileNotFoundError):
            os.unlink(place)
    elif asked:
        Path(place).write_text(asked + "\n", encoding="utf-8")
