"""How a job is named: making ids, and finding the one job a person or a program means.

A reference is tried as an exact id, as `%number`, as a name and as the beginning of an id, in that order. Live jobs go
before ended ones, and newer before older; where that still leaves a choice there is no guess but a list.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from jobbroker.core.job import Snapshot, is_live
from jobclient.protocol.errors import AmbiguousReference, InvalidParams, JobNotFound

LETTERS = "bcdfghjkmnpqrstvwxyz"
"""No vowels, so no words; no l, so nothing that looks like a 1."""
ALPHABET = "23456789" + LETTERS
ID_LENGTH = 6
RANDOM_BYTES = 8
"""What an id is made of: enough that no id is likelier than another."""
MOST_CANDIDATES = 20
"""More than anybody reads; a common prefix of a hundred thousand ids must not fill the answer."""
_LONGEST_QUOTE = 60
_MOST_DIGITS = 18


class Source(Protocol):
    """Where jobs can be looked up: the table in memory, the rows of the store."""

    def get(self, identity: str) -> Snapshot | None:
        """The job with that id."""
        ...

    def by_number(self, number: int) -> Snapshot | None:
        """The job with that number."""
        ...

    def by_name(self, name: str, limit: int) -> list[Snapshot]:
        """Jobs with that name: the live ones and the newest of the others."""
        ...

    def by_prefix(self, prefix: str, limit: int) -> list[Snapshot]:
        """Jobs whose id begins so."""
        ...


def new_id(random: bytes) -> str:
    """An id made from random bytes; the caller makes sure that it is a new one."""
    if len(random) < RANDOM_BYTES:
        raise ValueError(f"an id takes {RANDOM_BYTES} random bytes, got {len(random)}")
    rest, first = divmod(int.from_bytes(random, "big"), len(LETTERS))
    made = LETTERS[first]
    while len(made) < ID_LENGTH:
        rest, at = divmod(rest, len(ALPHABET))
        made += ALPHABET[at]
    return made


def is_prefix(text: str) -> bool:
    """Whether an id could begin so, or be this."""
    return 0 < len(text) <= ID_LENGTH and text[0] in LETTERS and all(letter in ALPHABET for letter in text)


def is_id(text: str) -> bool:
    """Whether this could be an id; nothing else is ever made part of a path."""
    return len(text) == ID_LENGTH and is_prefix(text)


def number_of(text: str) -> int | None:
    """12 for `%12`, None for anything else; bare digits are no number, they would hit the wrong job."""
    digits = text[1:]
    if text[:1] == "%" and digits.isascii() and digits.isdecimal() and len(digits) <= _MOST_DIGITS:
        return int(digits)
    return None


def find(text: str, *sources: Source) -> Snapshot:
    """The job a reference means. Where two sources know the same job, the first is believed.

    Raises:
        InvalidParams: the reference is empty.
        JobNotFound: no job answers to it.
        AmbiguousReference: several do; `data.candidates` lists them.
    """
    return decide(text, _gather(text, sources))


def _gather(text: str, sources: tuple[Source, ...]) -> list[Snapshot]:
    number = number_of(text)
    for source in sources:
        exact = source.by_number(number) if number is not None else source.get(text) if is_id(text) else None
        if exact is not None:
            return [exact]
    if number is not None:
        return []
    limit = MOST_CANDIDATES + 1
    found = [snapshot for source in sources for snapshot in source.by_name(text, limit)]
    if is_prefix(text):
        found += [snapshot for source in sources for snapshot in source.by_prefix(text, limit)]
    return found


def decide(text: str, candidates: Iterable[Snapshot]) -> Snapshot:
    """Choose among all jobs that might be meant; see `find`."""
    if not text:
        raise InvalidParams("a reference to a job must not be empty: give its id, %number or name")
    known: dict[str, Snapshot] = {}
    for snapshot in candidates:
        known.setdefault(snapshot.job.id, snapshot)
    if is_id(text) and text in known:
        return known[text]
    ordered = sorted(known.values(), key=lambda snapshot: (not is_live(snapshot.job), -snapshot.job.number))
    number = number_of(text)
    if number is not None:
        return _only(text, [snapshot for snapshot in ordered if snapshot.job.number == number])
    named = [snapshot for snapshot in ordered if snapshot.job.name == text]
    if named:
        return _only(text, [snapshot for snapshot in named if is_live(snapshot.job)] or named[:1])
    begun = [snapshot for snapshot in ordered if snapshot.job.id.startswith(text)] if is_prefix(text) else []
    return _only(text, begun)


def _only(text: str, found: list[Snapshot]) -> Snapshot:
    if len(found) == 1:
        return found[0]
    if not found:
        raise JobNotFound(f"no job matches {_quoted(text)}{_hint(text)}")
    shown = [snapshot.job for snapshot in found[:MOST_CANDIDATES]]
    names = ", ".join(f"{job.id} {_quoted(job.name) + ' ' if job.name else ''}{job.status}" for job in shown)
    more = " and more" if len(found) > len(shown) else ""
    raise AmbiguousReference(
        f"{_quoted(text)} is ambiguous: {names}{more}",
        {"candidates": [{"id": job.id, "name": job.name, "status": job.status} for job in shown]},
    )


def _hint(text: str) -> str:
    if text.isascii() and text.isdecimal():
        return f"; the number of a job is written %{text[:_MOST_DIGITS]}"
    if number_of(text) is not None:
        return ": no job has that number, or it was removed"
    return ": no job has that id or name" + (", and no id begins so" if is_prefix(text) else "")


def _quoted(text: str) -> str:
    """Safe to print and not too long: what a client sends may hold control characters."""
    short = text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "..."
    return repr(short)
