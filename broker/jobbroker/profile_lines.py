"""Where in a TOML text something stands, as far as it can be told without reading it as TOML."""

from __future__ import annotations

import re

from msgspec import Struct

from jobbroker.core.profile_sense import Place

_HEAD = re.compile(r"\s*(\[\[?)\s*([^]]+?)\s*\]")


class Where(Struct, frozen=True):
    """A file, its text, and what stands before the tables of a profile in it."""

    source: str
    text: str = ""
    prefix: tuple[str, ...] = ()

    def line_of(self, place: Place) -> str:
        """File and line: where the last word of the place stands, in the table its first words name."""
        if self.prefix and place[:1] == ("backend",):
            place = place[1:]
        *tables, word = (*self.prefix, *(step for step in place if isinstance(step, str)))
        wanted, elements = ".".join(tables), self._elements(place)
        begins = re.compile(rf"\s*[\"']?{re.escape(word)}[\"']?\s*=")
        inside = re.compile(rf"[{{,]\s*[\"']?{re.escape(word)}[\"']?\s*=")
        current, counts, elsewhere = "", dict.fromkeys(elements, -1), False
        for number, line in enumerate(self.text.splitlines(), 1):
            head = _HEAD.match(line)
            if head is not None:
                current = head[2]
                if head[1] == "[[" and current in counts:
                    counts[current] += 1
                elsewhere = any(
                    counts[name] not in (-1, element) and f"{current}.".startswith(f"{name}.")
                    for name, element in elements.items()
                )
                if not elsewhere and current == f"{wanted}.{word}".removeprefix("."):
                    return f"{self.source}, line {number}"
            elif not elsewhere and (
                (current == wanted and begins.match(line))
                or (f"{wanted}.".startswith(f"{current}." if current else "") and inside.search(line))
            ):
                return f"{self.source}, line {number}"
        return self.source

    def _elements(self, place: Place) -> dict[str, int]:
        """Which table is meant of those of one name."""
        found: dict[str, int] = {}
        names = list(self.prefix)
        for step in place:
            if isinstance(step, int):
                found[".".join(names)] = step
            else:
                names.append(step)
        return found
