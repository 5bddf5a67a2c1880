"""Who may import what, as a table: each rule says for whom it is, and which imports it lets pass."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

from source import HOUSE, Import, Module

IMPURE = frozenset(
    {"trio", "os", "time", "psutil", "logging", "random", "subprocess", "socket", "threading", "asyncio", "select"}
)
"""What the pure core must not know: clocks, chance, processes, files, sockets, other tasks."""


class Rule(NamedTuple):
    """Which modules a rule is for, and the imports it allows them."""

    concerns: Callable[[Module], bool]
    allows: Callable[[Module, Import], bool]


def standard(found: Import) -> bool:
    """Whether it comes with Python."""
    return found.top in sys.stdlib_module_names


def ours(found: Import) -> bool:
    """Whether it is one of our modules."""
    return found.top in ("jobbroker", "jobclient")


def within(found: Import, *packages: str) -> bool:
    """Whether it is one of those packages or in one."""
    return any(f"{found.name}.".startswith(f"{package}.") for package in packages)


def _in(*names: str) -> Callable[[Module], bool]:
    def concerns(module: Module) -> bool:
        return any(module.within(name) for name in names)

    return concerns


def _anywhere(module: Module) -> bool:
    return True


def _bare(module: Module, found: Import) -> bool:
    return standard(found) or found.typing or found.name == "jobclient.protocol.failure"


def _protocol(module: Module, found: Import) -> bool:
    return standard(found) or found.top == "msgspec" or within(found, "jobclient.protocol")


def _shared(module: Module, found: Import) -> bool:
    shared = ("jobclient.protocol", "jobclient.paths", "jobclient.version")
    return found.top != "jobclient" or within(found, *shared)


def _pure(module: Module, found: Import) -> bool:
    if ours(found):
        return within(found, "jobbroker.core", "jobclient.protocol")
    return found.top not in IMPURE and (standard(found) or found.top == "msgspec")


def _places(module: Module, found: Import) -> bool:
    return found.top != "platformdirs" or (module.name == "jobclient.paths" and found.lazy)


def _no(*packages: str) -> Callable[[Module, Import], bool]:
    def allows(module: Module, found: Import) -> bool:
        return not within(found, *packages)

    return allows


def _nothing(module: Module, found: Import) -> bool:
    return found.name == "__future__"


RULES: dict[str, Rule] = {
    "the protocol needs Python, msgspec and itself": Rule(_in("jobclient.protocol"), _protocol),
    "errors and framing load without msgspec": Rule(
        _in("jobclient.protocol.errors", "jobclient.protocol.failure", "jobclient.protocol.framing"), _bare
    ),
    "the client is thin": Rule(_in("jobclient"), _no("trio", "asyncio", "psutil", "jobbroker")),
    "platformdirs is asked by paths alone, and late": Rule(_anywhere, _places),
    "the broker takes from the client what both share": Rule(_in("jobbroker"), _shared),
    "the core is pure": Rule(_in("jobbroker.core"), _pure),
    "record and ladder import nothing": Rule(_in("jobbroker.core.record", "jobbroker.core.ladder"), _nothing),
    "the folders are not packages": Rule(_anywhere, _no("broker", "client")),
    "fakes are written, not mocked": Rule(_anywhere, _no("unittest.mock", "mock", "pytest_mock")),
}


def broken(rule: Rule, module: Module) -> list[str]:
    """Where a module breaks a rule."""
    if not rule.concerns(module):
        return []
    imports = module.imports(HOUSE)
    return [f"{module.name}:{found.line} imports {found.name}" for found in imports if not rule.allows(module, found)]
