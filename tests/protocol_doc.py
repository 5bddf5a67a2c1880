"""docs/protocol.md as data: its sections and their tables; and the same tables as the types of the wire have them."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator

import msgspec
from msgspec import Struct, UnsetType

from jobclient.protocol import wire
from jobclient.protocol.jsonrpc import Json
from source import ROOT

DOCUMENT = (ROOT / "docs/protocol.md").read_text()

Table = tuple[str, list[list[str]]]
"""What the first column is called, and the rows."""

WORDS: dict[object, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    object: "anything",
    typing.Any: "anything",
    msgspec.Raw: "string or integer",
    types.NoneType: "null",
    UnsetType: "absent",
    wire.Status: "[status](#status)",
    wire.Decision: "[decision](#decision)",
    wire.Reason: "[reason](#reason)",
}
TEXT: frozenset[object] = frozenset(typing.get_args(wire.Text))


def sections(document: str) -> Iterator[tuple[str, str]]:
    """Name and text of every section that is about one thing of the protocol: a heading in code."""
    for part in re.split(r"^(?=#{2,4} )", document, flags=re.MULTILINE):
        heading = re.match(r"#{3} `([^`]+)`\n", part)
        if heading is not None:
            yield heading[1], part


def tables(text: str) -> list[Table]:
    """All tables of a text."""
    found: list[Table] = []
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        head, _, *rows = [
            [cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in block.splitlines()
        ]
        found.append((head[0], rows))
    return found


def examples(document: str) -> list[Json]:
    """Every message in the examples: lines of JSON, and what the shell sends."""
    blocks = re.findall(r"^```\w+\n(.*?)^```", document, flags=re.MULTILINE | re.DOTALL)
    texts = re.findall(r"^(?:printf .*? ')?([{\[].*[}\]])(?:' \| nc .*)?$", "\n".join(blocks), flags=re.MULTILINE)
    return [msgspec.json.decode(text) for text in texts]


def members(struct: type[Struct]) -> list[list[str]]:
    """Name and type of every member, as the document writes them."""
    hints = typing.get_type_hints(struct)
    found: list[list[str]] = []
    for field in msgspec.structs.fields(struct):
        text = spell(hints[field.name])
        if issubclass(struct, wire.Params | wire.InitializeParams):
            text = f"{text}, required" if field.required else text.removesuffix(" or null")
        found.append([f"`{field.encode_name}`", text])
    return found


def spell(hint: object) -> str:
    """A type in words; types with a section of their own are links to it."""
    if hint in WORDS:
        return WORDS[hint]
    if isinstance(hint, type) and issubclass(hint, Struct):
        name = hint.__name__
        return f"[{name[0].lower()}{name[1:]}](#{name.lower()})"
    arguments = typing.get_args(hint)
    match typing.get_origin(hint):
        case typing.Literal:
            return " or ".join(f'`"{value}"`' for value in arguments)
        case origin if origin is list:
            return f"array of {spell(arguments[0])}"
        case origin if origin is dict:
            return f"object of {spell(arguments[1])}"
        case _:
            return _spell_union(arguments)


def _spell_union(arguments: tuple[object, ...]) -> str:
    words = [spell(each) for each in arguments if each not in TEXT]
    if set(arguments) >= TEXT:  # a union within a union leaves no trace but its members
        return " or ".join(["[text](#text)", *words])
    return " or ".join(spell(each) for each in arguments)
