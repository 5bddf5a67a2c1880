"""Find and read profiles: those that come with the broker, a person's own beside the settings, those in the settings.

A profile with a mistake is not used: what the broker believes about a backend decides what clients are told.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from datetime import date, time
from pathlib import Path
from typing import TypeAlias, get_args, get_type_hints

import msgspec
from msgspec import Struct

from jobbroker.core.profile import Profile
from jobbroker.core.profile_sense import Mistake, Place, mistakes
from jobbroker.profile_lines import Where
from jobclient.protocol.errors import JobBrokerError

SHIPPED = Path(__file__).parent / "profiles"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_PLACE = re.compile(r"(.*) - at `\$\.?(.*)`")
_STEP = re.compile(r"\[(\d+)\]|\[[^]]*\]|([^.[]+)")
MAX_SIZE = 1024 * 1024
"""Bytes of a file that may be a profile."""
Document: TypeAlias = dict[str, object]


class ProfileError(JobBrokerError):
    """A profile cannot be used; the text names file, line and mistake."""


class Found(Struct, frozen=True):
    """A profile that there is, and the file that holds it."""

    name: str
    path: Path


def places(settings: Path) -> list[Path]:
    """The folders profiles are looked for in, a person's own first."""
    return [settings.parent / "profiles", SHIPPED]


def known(settings: Path) -> list[Found]:
    """All profiles there are, by name; one's own hides one that is shipped."""
    found: dict[str, Path] = {}
    for folder in reversed(places(settings)):
        found |= {path.stem: path for path in sorted(folder.glob("*.toml")) if _NAME.fullmatch(path.stem)}
    return [Found(name, path) for name, path in sorted(found.items())]


def load(name: str, settings: Path, changes: Mapping[str, object] | None = None, where: Where | None = None) -> Profile:
    """The profile of that name, with what the settings say besides or instead.

    Raises:
        ProfileError: there is none, it cannot be read, or it says what cannot be.
    """
    path = next((found.path for found in known(settings) if found.name == name), None)
    if path is None:
        names = [found.name for found in known(settings)]
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)};"
        raise ProfileError(f"no profile {name!r}; {hint} your own go to {places(settings)[0]}")
    text = read(path)
    document, here = parse(text, path), Where(str(path), text)
    check(document, here)
    changed, there = in_place(changes or {}), where or Where("the settings")
    check(changed, there)
    profile = _made(name, _merged(document, changed), there.source if where is not None and changed else str(path))
    _complain([(there if _is_of(changed, place) else here, place, what) for place, what in mistakes(profile)])
    return profile


def _is_of(changed: Document, place: Place) -> bool:
    """Whether a place is one that the settings have changed."""
    members = _table(changed.get(str(place[0])))
    return place[0] in changed and (not members or place[1:2] == () or place[1] in members)


def _complain(wrong: list[tuple[Where, Place, str]]) -> None:
    """Raise what is wrong, all of it, if anything is."""
    if wrong:
        raise ProfileError("\n".join(f"{where.line_of(place)}: {what}" for where, place, what in wrong))


def in_place(section: Mapping[str, object]) -> Document:
    """A profile's own fields, as they stand in the settings: those of its process need no table of their own."""
    tables = {field.name for field in msgspec.structs.fields(Profile)} - {"name"}
    found: Document = {key: value for key, value in section.items() if key in tables}
    process = {key: value for key, value in section.items() if key not in tables and key != "profile"}
    return {**found, "backend": {**_table(found.get("backend")), **process}} if process else found


def read(path: Path) -> str:
    """The text of a profile's file, or of what a link in its place leads to; a pipe is not waited for.

    Raises:
        ProfileError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ProfileError(f"{path}: this is no plain file")
            content = file.read(MAX_SIZE + 1)
    except OSError as exc:
        raise ProfileError(f"{path}: {(exc.strerror or str(exc)).lower()}") from exc
    if len(content) > MAX_SIZE:
        raise ProfileError(f"{path}: too long for a profile")
    try:
        return content.decode()
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise ProfileError(f"{path}, line {line}: not UTF-8") from exc


def parse(text: str, path: Path) -> Document:
    """The tables of a profile.

    Raises:
        ProfileError: it is no TOML.
    """
    import tomllib  # not at the top: few brokers have a backend

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise ProfileError(f"{path}: {exc}") from exc


def check_file(path: Path) -> str:
    """See that a file is a profile by itself; its text.

    Raises:
        ProfileError: it is none.
    """
    text = read(path)
    where, document = Where(str(path), text), parse(text, path)
    check(document, where)
    _complain([(where, *mistake) for mistake in mistakes(_converted("x", document))])
    return text


def _merged(document: Document, changes: Document) -> Document:
    merged = dict(document)
    for key, value in changes.items():
        changed = _table(value)
        merged[key] = {**_table(merged.get(key)), **changed} if isinstance(value, dict) else value
    return merged


def _table(value: object) -> Document:
    return msgspec.convert(value, Document) if isinstance(value, dict) else {}


def _made(name: str, document: Document, source: str) -> Profile:
    profile = _converted(name, document)
    if not profile.backend.command:
        raise ProfileError(
            f"{source}: the profile {name} does not say which program to run: add `command = [...]` to its [backend], "
            "or to the settings"
        )
    return profile


def _converted(name: str, document: Document) -> Profile:
    return msgspec.convert({**msgspec.convert(_plain(document), Document), "name": name}, Profile)


def _plain(value: object) -> object:
    """Values as JSON has them: TOML knows no null, which is written as a text."""
    members = _table(value)
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in members.items()}
    if isinstance(value, list):
        return [_plain(each) for each in msgspec.convert(value, list[object])]
    return None if value == "null" else value


# --- mistakes -------------------------------------------------------------------------------------------------------


def check(document: Document, where: Where) -> None:
    """See that a document is a profile.

    Raises:
        ProfileError: with all that is unknown, or the first thing that does not fit.
    """
    _complain([(where, *mistake) for mistake in _unknown(document, Profile, ())])
    _complain([(where, *mistake) for mistake in _no_json(document, ())])
    try:
        msgspec.convert({**document, "name": "x"}, Profile)
    except msgspec.ValidationError as exc:
        found = _PLACE.fullmatch(str(exc))
        what, path = (found[1], found[2]) if found else (str(exc), "")
        steps = [int(number) if number else word for number, word in _STEP.findall(path)]
        place = tuple(step for step in steps if step != "") or ("",)
        said = f"{path}: {what[:1].lower()}{what[1:]}{_meant(what, place)}"
        raise ProfileError(f"{where.line_of(place)}: {said}") from exc


def _meant(what: str, place: Place) -> str:
    """For a word that is none of those that may stand there: which may, or which one is near."""
    word = re.search(r"enum value '(.*)'", what)
    if word is None:
        return ""
    words = _words_in(_kind_at(place))
    return (
        f"; did you mean {near[0]}?"
        if (near := difflib.get_close_matches(word[1], words, 1))
        else (f"; there are {', '.join(words)}")
    )


def _kind_at(place: Place) -> object:
    """The type of what may stand at a place."""
    kind: object = Profile
    for step in place:
        table = _table_in(kind)
        if isinstance(step, str) and table is not None:
            kind = get_type_hints(table)[step]
    return kind


def _words_in(kind: object) -> list[str]:
    """All words a type allows."""
    if isinstance(kind, str):
        return [kind]
    return [word for each in get_args(kind) for word in _words_in(each)]


def _no_json(value: object, place: Place) -> Iterator[Mistake]:
    """Every value that JSON does not have."""
    for key, member in _table(value).items():
        yield from _no_json(member, (*place, key))
    if isinstance(value, list):
        for number, each in enumerate(msgspec.convert(value, list[object])):
            yield from _no_json(each, (*place, number))
    elif isinstance(value, date | time) or (isinstance(value, float) and not math.isfinite(value)):
        yield place, f"{value} is nothing that JSON has; write a text"


def _unknown(value: object, kind: object, place: Place) -> Iterator[Mistake]:
    """Every member that no table has, with its place."""
    if isinstance(value, list):
        for number, each in enumerate(msgspec.convert(value, list[object])):
            yield from _unknown(each, kind, (*place, number))
        return
    table, members = _table_in(kind), _table(value)
    if table is None:
        return
    hints = get_type_hints(table)
    fields = {field.name for field in msgspec.structs.fields(table)} - ({"name"} if table is Profile else set())
    for key, member in members.items():
        inner = (*place, key)
        if key in fields:
            yield from _unknown(member, hints[key], inner)
            continue
        near = difflib.get_close_matches(key, sorted(fields), 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(fields))}"
        yield inner, f"{'.'.join(step for step in inner if isinstance(step, str))!r} is unknown; {hint}"


def _table_in(kind: object) -> type[Struct] | None:
    """The table a type stands for, or a tuple of it, or a union with it."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return kind
    return next((found for each in get_args(kind) if (found := _table_in(each)) is not None), None)
