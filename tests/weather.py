"""Bad weather for files: a disk that fills up, a directory that turns read-only. Real ones where we may mount."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path


def _may_mount() -> bool:
    with tempfile.TemporaryDirectory() as place:
        tried = subprocess.run(["mount", "-t", "tmpfs", "none", place], capture_output=True, check=False)
        if tried.returncode == 0:
            subprocess.run(["umount", place], check=True)
    return tried.returncode == 0


MAY_MOUNT = os.geteuid() == 0 and _may_mount()


@contextmanager
def mounted(place: Path, size: str) -> Generator[None]:
    """A small disk of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def full(place: Path) -> Generator[None]:
    """Nothing more fits on the disk of `place`, down to the last byte."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            while _fits(file, b"x" * size):
                pass
    try:
        yield
    finally:
        filler.unlink()


def _fits(file: FileIO, data: bytes) -> bool:
    try:
        return file.write(data) == len(data)
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            return False
        raise


@contextmanager
def no_longer_files(limit: int) -> Generator[None]:
    """No file may grow beyond `limit` bytes, for anybody in this process: as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(place: Path) -> Generator[None]:
    """Nothing in `place` can be changed. Modes do not bind root, so for root it is mounted over itself."""
    if MAY_MOUNT:
        subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
    else:
        place.chmod(0o500)
        for each in place.iterdir():
            each.chmod(0o400)
    try:
        yield
    finally:
        if MAY_MOUNT:
            subprocess.run(["umount", str(place)], check=True)
        else:
            place.chmod(0o700)
            for each in place.iterdir():
                each.chmod(0o600)
