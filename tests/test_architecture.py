"""The house rules about imports, each a test; and the rules themselves, held against small examples."""

from __future__ import annotations

import re

import pytest

from floors import BROKER, CLIENT, SHIM, TABLES, circles, climbs, floor, reachable
from import_rules import RULES, broken, standard
from source import EVERYTHING, HOUSE, Import, Module

FORK_SERVER = "jobbroker.forkserver"
VAGUE = re.compile(r"(^|_)(utils?|helpers?|common|misc|managers?)(_|$)")

# rule, module, a line it may hold, a line it may not hold
EXAMPLES = [
    ("the protocol needs Python, msgspec and itself", "jobclient.protocol.x", "import msgspec, json", "import trio"),
    (
        "the protocol needs Python, msgspec and itself",
        "jobclient.protocol.x",
        "from jobclient.protocol import errors",
        "from jobclient import paths",
    ),
    (
        "errors and framing load without msgspec",
        "jobclient.protocol.errors",
        "if TYPE_CHECKING:\n    from jobclient.protocol.jsonrpc import Json",
        "from jobclient.protocol.jsonrpc import Json",
    ),
    ("errors and framing load without msgspec", "jobclient.protocol.framing", "import re", "import msgspec"),
    ("the client is thin", "jobclient.x", "import msgspec", "import trio.socket"),
    ("the client is thin", "jobclient.cli.x", "import socket", "def f():\n    from jobbroker.core import job"),
    (
        "platformdirs is asked by paths alone, and late",
        "jobclient.paths",
        "def f():\n    import platformdirs",
        "import platformdirs",
    ),
    (
        "platformdirs is asked by paths alone, and late",
        "jobbroker.settings",
        "from jobclient import paths",
        "def f():\n    from platformdirs import user_state_path",
    ),
    (
        "the broker takes from the client what both share",
        "jobbroker.x",
        "from jobclient import paths, version\nfrom jobclient.protocol.errors import Busy",
        "from jobclient import raw",
    ),
    ("the broker takes from the client what both share", "jobbroker.x", "import jobclient.paths", "import jobclient"),
    ("the core is pure", "jobbroker.core.x", "import math, msgspec", "from os import path"),
    ("the core is pure", "jobbroker.core.x", "from jobbroker.core import job", "from jobbroker import store"),
    ("the core is pure", "jobbroker.core.x", "from jobclient.protocol import wire", "def f():\n    import time"),
    ("record and ladder import nothing", "jobbroker.core.record", "from __future__ import annotations", "import re"),
    ("the folders are not packages", "jobbroker.x", "from jobbroker import broker", "import broker.jobbroker"),
    ("the folders are not packages", "test_x", "from jobclient import client", "from client import jobclient"),
    ("fakes are written, not mocked", "test_x", "import unittest", "from unittest.mock import patch"),
    ("fakes are written, not mocked", "test_x", "import pytest", "def f():\n    import unittest.mock as m"),
]


@pytest.mark.parametrize("rule", RULES)
def test_imports_keep_the_rule(rule: str) -> None:
    assert [line for module in EVERYTHING.values() for line in broken(RULES[rule], module)] == []


@pytest.mark.parametrize(("rule", "name", "good", "bad"), EXAMPLES)
def test_the_rule_tells_good_from_bad(rule: str, name: str, good: str, bad: str) -> None:
    assert broken(RULES[rule], Module(name, good)) == []
    assert broken(RULES[rule], Module(name, bad)) != []


def test_every_rule_has_an_example() -> None:
    assert {rule for rule, *_ in EXAMPLES} == set(RULES)


def test_every_rule_concerns_somebody() -> None:
    for name, rule in RULES.items():
        assert any(rule.concerns(module) for module in HOUSE.values()), name


# --- reading imports ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import a, b.c as d", [Import("a", 1), Import("b.c", 1)]),
        ("from a import b, c", [Import("a.b", 1), Import("a", 1)]),
        ("def f():\n    import a", [Import("a", 2, lazy=True)]),
        ("class C:\n    async def f():\n        if x:\n            import a", [Import("a", 4, lazy=True)]),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", [Import("a", 2, typing=True), Import("b", 4)]),
        ("if typing.TYPE_CHECKING:\n    from a import b", [Import("a.b", 2, typing=True)]),
        ("try:\n    import a\nexcept ImportError:\n    import b", [Import("a", 2), Import("b", 4)]),
    ],
)
def test_imports_are_found_wherever_they_stand(text: str, expected: list[Import]) -> None:
    assert Module("x", text).imports({"a.b"}) == expected


# --- floors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOUSE)
def test_every_module_has_a_floor(name: str) -> None:
    package, _, inner = name.partition(".")
    where = "BROKER" if TABLES[package] is BROKER else "CLIENT"
    assert floor(name) is not None, f"{name} is new: put {inner!r} on its floor in {where}, tests/floors.py"


@pytest.mark.parametrize("name", HOUSE)
def test_imports_go_down(name: str) -> None:
    assert climbs(HOUSE[name], HOUSE) == []


def test_no_module_is_on_two_floors() -> None:
    for table in (BROKER, CLIENT):
        names = [name for names in table for name in names]
        assert len(names) == len(set(names))


def test_going_up_is_seen() -> None:
    ours = {name: Module(name, "") for name in ("jobbroker.core.job", "jobbroker.rows", "jobbroker.app")}
    up = Module("jobbroker.store", "from jobbroker.core import job\nfrom jobbroker import app, rows")
    assert climbs(up, ours) == ["jobbroker.store (floor 2), line 2, imports jobbroker.app (floor 6)"]
    assert climbs(Module("jobbroker.core.x", "if TYPE_CHECKING:\n    import jobbroker.store"), ours) != []
    assert floor("jobbroker.never_heard_of") is None


def test_nobody_imports_in_circles() -> None:
    assert circles(HOUSE) == []


def test_a_circle_is_seen() -> None:
    texts = {"a.b": "import a.c", "a.c": "from a import d", "a.d": "import a.b", "a.e": "def f():\n    import a.e"}
    assert circles({name: Module(name, text) for name, text in texts.items()}) == [["a.b", "a.c", "a.d", "a.b"]]


# --- the shim -------------------------------------------------------------------------------------------------------


def test_a_shim_loads_python_its_own_floor_and_what_imports_nothing() -> None:
    """A shim is forked by a process that must stay small, and must work whatever becomes of site-packages."""
    loaded = reachable(FORK_SERVER, HOUSE)
    assert {"jobbroker.shim", "jobbroker.core.record", "jobbroker.core.ladder"} <= loaded
    for name in loaded:
        foreign = [
            found.name for found in HOUSE[name].imports(HOUSE) if not standard(found) and found.top != "jobbroker"
        ]
        assert not foreign, f"{name} is loaded by the shim, but imports {foreign}"
        if HOUSE[name].within("jobbroker.core"):
            assert {found.name for found in HOUSE[name].imports(HOUSE)} <= {"__future__"}, name


def test_the_shims_floor_is_what_the_shim_loads() -> None:
    """So that nobody adds a module there, with the freedom to be imported by the shim, that is no part of it."""
    others = {"jobbroker.forks", "jobbroker.clock"}  # how it is exec'ed; the clock both sides share
    placed = {name for name in HOUSE if name.startswith("jobbroker.") and floor(name) == SHIM}
    assert placed - others == {name for name in reachable(FORK_SERVER, HOUSE) if floor(name) == SHIM} - others


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_module_is_named_after_what_it_holds(name: str) -> None:
    assert not VAGUE.search(name.rpartition(".")[2])


@pytest.mark.parametrize("name", ["utils", "job_helpers", "common", "helper", "process_manager", "misc"])
def test_a_vague_name_is_seen(name: str) -> None:
    assert VAGUE.search(name)
    assert not VAGUE.search("commonly_used_managerial_utility")
