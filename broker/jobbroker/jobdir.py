"""The directory of a job, from the daemon's side: make it, read its record, ask its shim for the end, remove it.

Everything goes through descriptors and never follows a link, so that nothing outside jobs/ID is ever touched. From the
claim on the shim alone writes here, but for `ask`.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from msgspec import Struct

from jobbroker import claim, fallocate
from jobbroker.core import record
from jobbroker.plainfile import allocated, open_plain

if TYPE_CHECKING:
    from collections.abc import Generator

OUTPUT = ("output", "index")
"""What a job wrote: the two files that may go while the job stays."""
MAX_RECORD = 64 << 20
"""No record is larger: a message, which all in it came by, is at most 16 MiB."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Reading(Struct, frozen=True):
    """What a record held at one moment; `locked` was asked first, so an end cannot fall between the two."""

    head: record.Head
    lines: list[record.Line]
    locked: bool


class JobDirectories:
    """All job directories of an instance, below one path that is opened once."""

    def __init__(self, path: str) -> None:
        """Open `path`, made if need be.

        Raises:
            PermissionError: it is not ours, or others may enter.
        """
        os.makedirs(path, mode=0o700, exist_ok=True)
        self.path = path
        self._root = os.open(path, _DIRECTORY)
        status = os.fstat(self._root)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            self.close()
            raise PermissionError(errno.EPERM, "not ours alone", path)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._root)

    def names(self) -> list[str]:
        """The ids that have a directory, in order."""
        return sorted(os.listdir(self._root))

    def exists(self, name: str) -> bool:
        """Whether there is anything of that name."""
        try:
            os.stat(name, dir_fd=self._root, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def holds_at_most(self, name: str, *entries: str) -> bool:
        """Whether there is nothing in it, or nothing but these."""
        with self.opened(name) as directory:
            return set(os.listdir(directory)) <= set(entries)

    def output_size(self, name: str) -> int:
        """Bytes of a job's output, 0 while there is none; one system call, for those who look often."""
        try:
            return os.stat(f"{name}/output", dir_fd=self._root, follow_symlinks=False).st_size
        except OSError:
            return 0

    def create(self, head: record.Head, reads: bytes | None = None) -> None:
        """Make the directory and its record with room for every line to come; nothing is left behind on failure.

        What the job is to read, if that came along, is there before its record.

        Raises:
            OSError: the disk is full, or not ours to write.
        """
        name = head.id.decode()
        os.mkdir(name, 0o700, dir_fd=self._root)
        try:
            with self.opened(name) as directory:
                if reads is not None:
                    _write(directory, "input", reads)
                _write(directory, "record", head.encode(), record.ROOM)
        except OSError:
            self.remove(name)
            raise

    def open(self, name: str) -> int:
        """A descriptor on the directory, to be handed to a shim."""
        return os.open(name, _DIRECTORY, dir_fd=self._root)

    @contextmanager
    def opened(self, name: str) -> Generator[int]:
        """The same, for the length of a block."""
        directory = self.open(name)
        try:
            yield directory
        finally:
            os.close(directory)

    def read(self, name: str) -> Reading:
        """Read a record.

        Raises:
            OSError: there is none.
            DamagedRecord: there is something else.
        """
        with self.opened(name) as directory, _opened(directory, os.O_RDONLY) as descriptor:
            locked = claim.is_held(descriptor)
            head, lines = record.decode(_read_all(descriptor))
            return Reading(head, lines, locked)

    def withdraw(self, name: str, reason: bytes, wall_ms: int) -> bool:
        """Decide that the job shall never run: take the claim and write N. False if a shim was faster."""
        return self._write_first(name, record.encode_line(b"N", reason, wall_ms))

    def note_begun(self, name: str, pid: int, mono_ms: int) -> bool:
        """Note that a turn may have begun from now on, so that nobody ever begins it again; False if it has."""
        return self._write_first(name, record.encode_line(b"A", pid, mono_ms, b"turn", b"-"))

    def _write_first(self, name: str, line: bytes) -> bool:
        """Take the claim and write the first line; False if somebody was faster."""
        with self.opened(name) as directory, _opened(directory, os.O_RDWR) as descriptor:
            if not claim.take(descriptor):
                return False
            data = _read_all(descriptor)
            head, lines = record.decode(data)
            if head.id != name.encode():
                raise record.DamagedRecord("this is the record of another job")  # a link to it, for all we know
            if lines:
                return False
            os.pwrite(descriptor, line, data.rfind(b"\0") + 1)
            return True

    def ask(self, name: str, reason: str, grace_ms: int) -> None:
        """Leave word for the shim to end the job; it reads this when SIGTERM reaches it."""
        self._leave_word(name, "ask", f"{reason} {grace_ms}")

    def end_input(self, name: str) -> None:
        """Leave word for the shim to close its end of the job's stdin; it reads this when SIGTERM reaches it."""
        self._leave_word(name, "eof", "eof")

    def input_ended(self, name: str) -> bool:
        """Whether that word was left."""
        try:
            return bool(os.readlink(f"{name}/eof", dir_fd=self._root))
        except OSError:
            return False

    def _leave_word(self, name: str, entry: str, word: str) -> None:
        """The words are the target of a link that leads nowhere, because that needs no block.

        On a disk that a job has filled it must be possible to end the job.
        """
        with self.opened(name) as directory:
            with suppress(FileNotFoundError):
                os.unlink("word", dir_fd=directory)  # of a daemon that died between the next two lines
            os.symlink(word, "word", dir_fd=directory)
            os.rename("word", entry, src_dir_fd=directory, dst_dir_fd=directory)

    def output_room(self, name: str) -> int:
        """Bytes of disk that a job's output takes; 0 if it has none, or no directory of ours."""
        try:
            with self.opened(name) as directory:
                return sum(allocated(entry, directory) for entry in OUTPUT)
        except OSError:
            return 0

    def remove_output(self, name: str) -> int:
        """Remove what a job wrote, and nothing else of it; returns the bytes of disk it took.

        Raises:
            OSError: something could not be removed.
        """
        taken = self.output_room(name)
        with suppress(FileNotFoundError), self.opened(name) as directory:
            for entry in OUTPUT:
                with suppress(FileNotFoundError):
                    os.unlink(entry, dir_fd=directory)
        return taken

    def remove(self, name: str) -> int:
        """Remove the directory and the files in it, whatever they are; returns the bytes of disk the output took.

        A directory in it is none of ours: then nothing is removed at all.

        Raises:
            OSError: something could not be removed.
        """
        taken = self.output_room(name)
        with suppress(FileNotFoundError):
            with self.opened(name) as directory:
                entries = sorted(os.listdir(directory), key="record".__ne__)  # first what a job is made from again
                for entry in entries:
                    _refuse_directory(entry, directory)
                for entry in entries:
                    os.unlink(entry, dir_fd=directory)
            os.rmdir(name, dir_fd=self._root)
        return taken


def _refuse_directory(entry: str, directory: int) -> None:
    if stat.S_ISDIR(os.stat(entry, dir_fd=directory, follow_symlinks=False).st_mode):
        raise IsADirectoryError(errno.EISDIR, "a directory that is none of ours is in it", entry)


@contextmanager
def _opened(directory: int, flags: int) -> Generator[int]:
    descriptor = open_plain("record", flags, directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(directory: int, entry: str, data: bytes, room: int = 0) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(entry, flags, 0o600, dir_fd=directory)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        if room:
            _set_room_aside(descriptor, len(data), room)
    finally:
        os.close(descriptor)


def _set_room_aside(descriptor: int, start: int, room: int) -> None:
    """Allocate what the lines may need, so that the end of a job can be written on a full disk."""
    try:
        fallocate.set_aside(descriptor, start, room)
    except OSError as exc:
        if exc.errno != errno.EOPNOTSUPP:  # a file system that cannot set room aside still serves; a full one does not
            raise


def _read_all(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    if size > MAX_RECORD:
        raise record.DamagedRecord("it is too large for a record")
    data = os.pread(descriptor, size, 0)
    while more := os.pread(descriptor, 65536, len(data)):
        data += more
    return data
