"""A package of a later version, made from this one: for tests of what goes on when it takes over."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from jobclient.protocol import PROTOCOL_VERSION
from jobclient.version import __version__
from source import ROOT

LATER = "99.1.0"
MORE = "CREATE TABLE later AS SELECT number FROM job"


def newer(folder: Path, *, protocol: int = PROTOCOL_VERSION, store: bool = False) -> str:
    """A package of a later version: for what is written to PYTHONPATH, the only one there is."""
    for package in (ROOT / "broker/jobbroker", ROOT / "client/jobclient"):
        shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    replace(folder / "jobclient/version.py", f'"{__version__}"', f'"{LATER}"')
    replace(folder / "jobclient/protocol/__init__.py", r"VERSION = \d+", f"VERSION = {protocol}")
    if store:
        replace(
            folder / "jobbroker/schema.py", r"\n\)\n\"\"\"The statements", f'\n    ({MORE!r},),\n)\n"""The statements'
        )
    return str(folder)


def replace(path: Path, pattern: str, text: str) -> None:
    changed, count = re.subn(pattern, lambda _: text, path.read_text())
    assert count == 1
    path.write_text(changed)
