"""The source as data: modules by import name, their syntax trees, what they import. The house rules read it."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Import(NamedTuple):
    """One imported name: `a.b` where `a.b` is a module of ours, else the module it was taken from.

    Attributes:
        lazy: within a function.
        typing: only for type checkers.
    """

    name: str
    line: int
    lazy: bool = False
    typing: bool = False

    @property
    def top(self) -> str:
        """The package it comes from."""
        return self.name.partition(".")[0]


class Module:
    """A source file, read and parsed once."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text)

    def imports(self, ours: Container[str]) -> list[Import]:
        """Everything it imports, wherever the statement stands; `ours` tells modules from names in modules."""
        return list(_imports(self.tree, ours, lazy=False, typing=False))

    def within(self, package: str) -> bool:
        """Whether it is that package or in it."""
        return f"{self.name}.".startswith(f"{package}.")


def _imports(node: ast.AST, ours: Container[str], *, lazy: bool, typing: bool) -> Iterator[Import]:
    match node:
        case ast.Import(names=names):
            yield from (Import(alias.name, node.lineno, lazy, typing) for alias in names)
        case ast.ImportFrom(module=str(module), names=names):
            for alias in names:
                inner = f"{module}.{alias.name}"
                yield Import(inner if inner in ours else module, node.lineno, lazy, typing)
        case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"), body=body, orelse=orelse):
            for child in body:
                yield from _imports(child, ours, lazy=lazy, typing=True)
            for child in orelse:
                yield from _imports(child, ours, lazy=lazy, typing=typing)
        case _:
            deeper = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for inside in ast.iter_child_nodes(node):
                yield from _imports(inside, ours, lazy=deeper, typing=typing)


def read(folder: Path) -> dict[str, Module]:
    """All modules below a folder that is on the import path."""
    modules: dict[str, Module] = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = Module(name, path.read_text())
    return modules


HOUSE = read(ROOT / "broker") | read(ROOT / "client")
"""What we ship."""
TESTS = read(ROOT / "tests")
EVERYTHING = HOUSE | TESTS
