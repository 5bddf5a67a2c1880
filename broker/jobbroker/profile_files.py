"""Find and read profiles: those that come with the broker, a person's own beside the settings, those in the settings.

A profile with a mistake is not used: what the broker believes about a backend decides what clients are told.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias, get_args, get_type_hints

import msgspec
from msgspec import Struct

from jobbroker.core.profile import Profile
from jobclient.protocol.errors import JobBrokerError

SHIPPED = Path(__file__).parent / "profiles"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_PLACE = re.compile(r"(.*) - at `\$\.?(.*)`")
Document: TypeAlias = dict[str, object]
Place: TypeAlias = tuple[str, ...]


class ProfileError(JobBrokerError):
    """A profile cannot be used; the text names file, line and mistake."""


class Where(Struct, frozen=True):
    """A file, its text, and what stands before the tables of a profile in it."""

    source: str
    text: str = ""
    prefix: Place = ()

    def line_of(self, place: Place) -> str:
        """File and line: where the last word of the place stands, in the table its first words name."""
        if self.prefix and place[:1] == ("backend",):
            place = place[1:]
        *tables, word = (*self.prefix, *place)
        wanted, current = ".".join(tables), ""
        begins = re.compile(rf"\s*[\"']?{re.escape(word)}[\"']?\s*=")
        inside = re.compile(rf"[{{,]\s*[\"']?{re.escape(word)}[\"']?\s*=")
        for number, line in enumerate(self.text.splitlines(), 1):
            head = re.match(r"\s*\[\[?\s*([^]]+?)\s*\]", line)
            if head is not None:
                current = head[1]
                if current == f"{wanted}.{word}".removeprefix("."):
                    return f"{self.source}, line {number}"
            elif (current == wanted and begins.match(line)) or (wanted.startswith(current) and inside.search(line)):
                return f"{self.source}, line {number}"
        return self.source


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
    document = read(path)
    check(document, Where(str(path), path.read_text(encoding="utf-8", errors="replace")))
    changed = in_place(changes or {})
    check(changed, where or Where("the settings"))
    return _made(name, _merged(document, changed), where.source if where is not None and changed else str(path))


def in_place(section: Mapping[str, object]) -> Document:
    """A profile's own fields, as they stand in the settings: those of its process need no table of their own."""
    tables = {field.name for field in msgspec.structs.fields(Profile)} - {"name"}
    found: Document = {key: value for key, value in section.items() if key in tables}
    process = {key: value for key, value in section.items() if key not in tables and key != "profile"}
    return {**found, "backend": {**_table(found.get("backend")), **process}} if process else found


def read(path: Path) -> Document:
    """A profile's file.

    Raises:
        ProfileError: it is none.
    """
    import tomllib  # not at the top: few brokers have a backend

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ProfileError(f"{path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ProfileError(f"{path}: not UTF-8") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ProfileError(f"{path}: {exc}") from exc


def _merged(document: Document, changes: Document) -> Document:
    merged = dict(document)
    for key, value in changes.items():
        changed = _table(value)
        merged[key] = {**_table(merged.get(key)), **changed} if isinstance(value, dict) else value
    return merged


def _table(value: object) -> Document:
    return msgspec.convert(value, Document) if isinstance(value, dict) else {}


def _made(name: str, document: Document, source: str) -> Profile:
    profile = msgspec.convert({**msgspec.convert(_plain(document), Document), "name": name}, Profile)
    if not profile.backend.command:
        raise ProfileError(
            f"{source}: the profile {name} does not say which program to run: add `command = [...]` to its [backend], "
            "or to the settings"
        )
    return profile


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
    wrong = [f"{where.line_of(place)}: {what}" for place, what in _unknown(document, Profile, ())]
    if wrong:
        raise ProfileError("\n".join(wrong))
    try:
        msgspec.convert({**document, "name": "x"}, Profile)
    except msgspec.ValidationError as exc:
        found = _PLACE.fullmatch(str(exc))
        what, path = (found[1], found[2]) if found else (str(exc), "")
        place = tuple(re.sub(r"\[[^]]*\]", "", path).split("."))
        raise ProfileError(f"{where.line_of(place)}: {path}: {what[:1].lower()}{what[1:]}") from exc


def _unknown(value: object, kind: object, place: Place) -> Iterator[tuple[Place, str]]:
    """Every member that no table has, with its place."""
    if isinstance(value, list):
        for each in msgspec.convert(value, list[object]):
            yield from _unknown(each, kind, place)
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
        yield inner, f"{'.'.join(inner)!r} is unknown; {hint}"


def _table_in(kind: object) -> type[Struct] | None:
    """The table a type stands for, or a tuple of it, or a union with it."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return kind
    return next((found for each in get_args(kind) if (found := _table_in(each)) is not None), None)
