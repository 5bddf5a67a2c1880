"""The record of a job: its grammar, and what a reader may conclude from it. Imports nothing: the shim loads it.

A record is a head, written by the daemon before it promises the job, and lines, written by the shim that claimed it:

    head    NUL-terminated fields: magic, id, number, kind, cwd, then counted lists: argv, env, more ("name=value")
    A       shim pid, its start time, boot id, pipe inodes (of stdin after an i; after an m the shim's descriptor of a
            file in memory, a dot and its inode: output, then index): it is about to spawn
    S       job pid, its start time, boot id, wall ms, monotonic ms: it runs
    F       stage, errno, wall ms: it surely did not run
    T, C    wall ms, monotonic ms: its leader was stopped, continued
    L       reason, wall ms, monotonic ms: a limit or a cancellation begins, before the first signal
    X       wait status, wall ms, monotonic ms, size and dropped of both streams, survivors, how many needed SIGKILL: it
            ended
    N       reason, wall ms: it never runs

Each line is written before the step it speaks of is acted on, so that a kill between any two steps leaves a record that
decides to the truth. A line without its newline was cut short and is no line.
"""

from __future__ import annotations

MAGIC = b"jobbroker-record 1"
ROOM = 4096
"""Bytes to allocate behind the head, so that the end of a job can be written on a full disk."""
ROOM_FOR_STOPS = 3072
"""No stop or continuation is written beyond this many bytes of lines: the end must fit."""

UNBEGUN, LIVE, ENDED, UNSPAWNED, NEVER, UNKNOWN, ORPHANED, REBOOTED, DAMAGED = (
    "unbegun",  # nobody has claimed it: may be handed over, again if need be
    "live",  # its shim lives and will say more
    "ended",  # X
    "unspawned",  # F
    "never",  # N
    "unknown",  # a spawn was attempted and the shim died: it may have run, never run it twice
    "orphaned",  # it ran when its shim died: watch the job itself by its identity
    "rebooted",  # it ran when the machine went down
    "damaged",  # not a record
)
VERDICTS = (UNBEGUN, LIVE, ENDED, UNSPAWNED, NEVER, UNKNOWN, ORPHANED, REBOOTED, DAMAGED)

# The most digits of each field, 0 for one that is no number: what is longer overflows somewhere on the way.
_PID, _CODE, _BIG = 7, 5, 18
_SHAPES = {
    b"A": (_PID, _BIG, 0, 0),
    b"S": (_PID, _BIG, 0, _BIG, _BIG),
    b"F": (0, _CODE, _BIG),
    b"T": (_BIG, _BIG),
    b"C": (_BIG, _BIG),
    b"L": (0, _BIG, _BIG),
    b"X": (_CODE, _BIG, _BIG, _BIG, _BIG, _BIG, _BIG, 0, _BIG),
    b"N": (0, _BIG),
}
_SHORTEST = {b"X": 8}  # fields of a line as older shims wrote it


class DamagedRecord(ValueError):
    """The bytes are not a record, or only the beginning of one."""


class Head:
    """What was asked for: all a shim needs to run the job, and all a daemon needs to rebuild its row.

    `more` holds every other member by name, as bytes: limits in milliseconds or bytes, key, labels and so on.
    """

    __slots__ = ("argv", "cwd", "env", "id", "kind", "more", "number")

    def __init__(
        self,
        identity: bytes,
        number: int,
        kind: bytes,
        cwd: bytes,
        argv: list[bytes],
        env: list[bytes],
        more: dict[bytes, bytes],
    ) -> None:
        self.id = identity
        self.number = number
        self.kind = kind
        self.cwd = cwd
        self.argv = argv
        self.env = env
        self.more = more

    def amount(self, name: bytes) -> int:
        """A whole number among `more`, 0 where it is absent."""
        return int(self.more.get(name, b"0"))

    def encode(self) -> bytes:
        """The head as written.

        Raises:
            ValueError: for a NUL in a field (the kernel takes none either), or `=` in a name among `more`.
        """
        fields = [MAGIC, self.id, b"%d" % self.number, self.kind, self.cwd]
        for items in (self.argv, self.env, [name + b"=" + value for name, value in self.more.items()]):
            fields.append(b"%d" % len(items))
            fields += items
        data = b"\0".join(fields) + b"\0"
        if data.count(b"\0") != len(fields) or any(b"=" in name for name in self.more):
            raise ValueError("a NUL in a field, or `=` in a name: the record would read as another job's")
        return data


def decode(data: bytes) -> tuple[Head, list[Line]]:
    """Read a whole record.

    Raises:
        DamagedRecord: if it is none, or its head was cut short (then the job was never promised to anybody).
    """
    fields = data.split(b"\0")
    rest = fields.pop()
    if not fields or fields[0] != MAGIC:
        raise DamagedRecord("not a record, or one of another version")
    try:
        number = int(fields[2])
        lists: list[list[bytes]] = []
        at = 5
        for _ in range(3):
            end = at + 1 + int(fields[at])
            lists.append(fields[at + 1 : end])
            at = end
        more = dict(item.split(b"=", 1) for item in lists[2])
    except (ValueError, IndexError):
        raise DamagedRecord("the head is cut short") from None
    if at != len(fields):
        raise DamagedRecord("the head does not end where its counts say")
    return Head(fields[1], number, fields[3], fields[4], lists[0], lists[1], more), decode_lines(rest)


class Line:
    """One step: its letter and its fields as bytes."""

    __slots__ = ("fields", "letter")

    def __init__(self, letter: bytes, fields: list[bytes]) -> None:
        self.letter = letter
        self.fields = fields

    def number(self, index: int) -> int:
        """A field as a whole number."""
        return int(self.fields[index])

    def text(self, index: int) -> str:
        """A field as text."""
        return self.fields[index].decode("ascii", "replace")


def encode_line(letter: bytes, *fields: int | bytes) -> bytes:
    """A line as written, newline included, in one write."""
    words = [field if isinstance(field, bytes) else b"%d" % field for field in fields]
    return b" ".join([letter, *words]) + b"\n"


def decode_lines(data: bytes) -> list[Line]:
    """The complete, well-formed lines; anything after the last newline was cut short and says nothing."""
    lines: list[Line] = []
    for text in data.split(b"\n")[:-1]:
        letter, *fields = text.split(b" ")
        if _is_line(letter, fields):
            lines.append(Line(letter, fields))
    return lines


def _is_line(letter: bytes, fields: list[bytes]) -> bool:
    """Whether the fields are those of such a line."""
    shape = _SHAPES.get(letter)
    if shape is None:
        return False
    return _fits(fields, shape if len(fields) != _SHORTEST.get(letter) else shape[: len(fields)])


def _fits(fields: list[bytes], shape: tuple[int, ...]) -> bool:
    """Whether the fields are as many as they should be, and numbers where they should be."""
    if len(fields) != len(shape):
        return False
    pairs = zip(fields, shape, strict=True)
    return all(not digits or (field.isdigit() and len(field) <= digits) for field, digits in pairs)


def last(lines: list[Line], letter: bytes) -> Line | None:
    """The last line with that letter."""
    for line in reversed(lines):
        if line.letter == letter:
            return line
    return None


def input_inode(claim: Line) -> int | None:
    """Of a job that reads from a pipe: the inode of that; None of any other."""
    words = [word[1:] for word in claim.fields[3].split(b",") if word.startswith(b"i")]
    return int(words[0]) if words and _fits(words, (_BIG,)) else None


def files_in_memory(claim: Line) -> list[tuple[int, int]]:
    """Of a job that keeps nothing on a disk: its shim's descriptors of output and index, each with its inode."""
    words = [word[1:].split(b".") for word in claim.fields[3].split(b",") if word.startswith(b"m")]
    if any(not _fits(word, (_PID, _BIG)) for word in words):
        return []
    return [(int(descriptor), int(inode)) for descriptor, inode in words]


def tells_of_stops(lines: list[Line]) -> bool:
    """Whether there is room in the record for what happens next: if not, stops and continuations are no longer told."""
    return sum(len(line.letter) + sum(len(field) + 1 for field in line.fields) + 1 for line in lines) < ROOM_FOR_STOPS


def is_stopped(lines: list[Line]) -> bool:
    """Whether the last of its stops was not followed by a continuation."""
    return next((line.letter == b"T" for line in reversed(lines) if line.letter in b"TC"), False)


def stood_still(lines: list[Line], now: int) -> int:
    """Milliseconds a job was stopped until `now`, of the monotonic clock: they do not count against its limits."""
    total = 0
    since: int | None = None
    for line in lines:
        if line.letter == b"T" and since is None:
            since = line.number(1)
        elif line.letter == b"C" and since is not None:
            total += line.number(1) - since
            since = None
    return total if since is None else total + max(0, now - since)


def end_of_lines(data: bytes) -> int:
    """Where in a record the next line belongs: behind the last complete one, which may be before the end of the file.

    What a killed writer left unfinished must be written over. Behind it the next line would be glued to it and be no
    line either, and an attempt nobody can read is an attempt that will be made twice.
    """
    return max(data.rfind(b"\n"), data.rfind(b"\0")) + 1


def verdict(lines: list[Line], *, locked: bool, boot: bytes) -> str:
    """What the record says, one of `VERDICTS`. Test the lock first, then read, or an end in between is missed.

    Args:
        lines: what the record holds.
        locked: whether somebody holds the claim. A lock does not outlive its holder, so it is the proof of life.
        boot: the id of this boot, as bytes; process ids of another boot mean nothing.
    """
    if locked:
        return LIVE
    letters = {line.letter for line in lines}
    for letter, conclusion in ((b"X", ENDED), (b"F", UNSPAWNED), (b"N", NEVER)):
        if letter in letters:
            return conclusion
    started = last(lines, b"S")
    if started is not None:
        return ORPHANED if started.fields[2] == boot else REBOOTED
    return UNKNOWN if b"A" in letters else UNBEGUN
