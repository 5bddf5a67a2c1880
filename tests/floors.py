"""The floors of both packages. Imports go down or stay on a floor, never up; a new module gets its place here."""

from __future__ import annotations

from fnmatch import fnmatchcase

from source import Module

BROKER = (
    # 0: decisions as functions of values
    ("core", "core.*"),
    # 1: what a shim loads; Python and the floor below, nothing else
    (
        "capture", "claim", "clock", "complain", "fallocate", "family", "forks", "forkserver", "identity", "intake",
        "journal", "pipe", "poke", "run", "shim", "signals", "spawn", "tree",
    ),
    # 2: the daemon's tools, one thing of the system or of the protocol each
    (
        "activation", "agents", "answers", "backend_process", "census", "channels", "commandline", "descriptors",
        "events", "explain", "feeds", "following", "givenup", "history", "holding", "inflow", "jobdir", "leadership",
        "leftover", "lines", "listener", "lock", "log", "notify", "orphan", "outbox", "output", "pattern", "pausing",
        "plainfile", "processes", "profile_choice", "profile_files", "profile_lines", "requests", "rows", "scheduled",
        "schedulefacts", "schema", "searching", "settings", "stdin", "stdio", "store", "systemd", "takeover", "ticklog",
        "tickreading", "timer", "totals", "tracing", "unfinished", "values", "volatile", "waiting",
        "wiretext",
    ),
    # 3: the jobs
    (
        "admission", "attendance", "backend", "broker", "budget", "ending", "live", "recovery", "removal", "runners",
        "scheduleview", "signalling", "supervision", "ticking", "ties", "timed", "turns",
    ),
    # 4: one module per namespace of the protocol
    ("methods", "methods.*"),
    # 5: one client
    ("connection", "passage"),
    # 6: the task tree
    ("app",),
    # 7: the process
    ("__main__",),
)  # fmt: skip
CLIENT = (
    # 0: the vocabulary both sides share
    ("protocol", "protocol.*", "version"),
    # 1: places and texts
    ("paths", "rawjson", "units", "versions"),
    # 2: a socket, a process, what surrounds us
    ("asyncraw", "holder", "raw", "spawn", "surroundings", "systemctl"),
    # 3: find a broker or start one
    ("launch",),
    # 4: a connection that comes back
    ("asynclink", "link"),
    # 5: what programs use
    (
        "aio", "asyncstreams", "asynctimedclient", "calls", "client", "event", "feeding", "starting", "timedcalls",
        "timedclient", "watch",
    ),
    # 6: what people use
    ("cli", "cli.*", "__main__"),
)  # fmt: skip
SHIM = 1
TABLES = {"jobbroker": BROKER, "jobclient": CLIENT}


def floor(name: str) -> int | None:
    """The floor of a module of ours; None if the table has no place for it. The packages themselves are the roof."""
    package, _, inner = name.partition(".")
    table = TABLES[package]
    if not inner:
        return len(table)
    places = (number for number, patterns in enumerate(table) for pattern in patterns if fnmatchcase(inner, pattern))
    return next(places, None)


def climbs(module: Module, ours: dict[str, Module]) -> list[str]:
    """The imports of a module that go up, in its own package; those for type checkers count, they couple as well."""
    package = module.name.partition(".")[0]
    here = floor(module.name)
    return [
        f"{module.name} (floor {here}), line {found.line}, imports {found.name} (floor {there})"
        for found in module.imports(ours)
        if found.top == package and here is not None and (there := floor(found.name)) is not None and there > here
    ]


def circles(modules: dict[str, Module]) -> list[list[str]]:
    """Modules that import each other when they load, each circle once."""
    graph = {
        name: {found.name for found in module.imports(modules) if not found.lazy and not found.typing}
        for name, module in modules.items()
    }
    done: set[str] = set()
    found: list[list[str]] = []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for following in sorted(graph.get(name, set()) & graph.keys()):
                visit(following, [*path, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def reachable(start: str, modules: dict[str, Module]) -> set[str]:
    """All modules of ours that loading one loads, now or later."""
    seen: set[str] = set()
    left = [start]
    while left:
        name = left.pop()
        if name in modules and name not in seen:
            seen.add(name)
            left += [found.name for found in modules[name].imports(modules) if not found.typing]
    return seen
