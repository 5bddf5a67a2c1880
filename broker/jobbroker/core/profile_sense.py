"""What in a profile does not fit together, though each of its values is of the right kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from jobbroker.core.profile import Cancel, End, JobRule, Process, Profile, Take
from jobclient.protocol.jsonrpc import Json

Place: TypeAlias = tuple[str | int, ...]
"""Tables and members by name, elements of an array by number."""
Mistake: TypeAlias = tuple[Place, str]


def mistakes(profile: Profile) -> Iterator[Mistake]:
    """All of them, each with its place and in words."""
    for place, what in _in_process(profile.backend):
        yield ("backend", *place), what
    seen: set[str] = set()
    for number, rule in enumerate(profile.job):
        if rule.start in seen:
            yield ("job", number, "start"), f"there is another rule for {rule.start}"
        seen.add(rule.start)
        for place, what in _in_rule(rule):
            yield ("job", number, *place), what


def _in_process(process: Process) -> Iterator[Mistake]:
    if any("\0" in word for word in process.command):
        yield ("command",), "a word of a command cannot hold a NUL"
    for name, value in process.env.items():
        if not name or "=" in name or "\0" in name + value:
            yield ("env", name), f"{name!r} cannot be a variable with that value"
    if process.cwd is not None and (process.cwd[:1] not in ("/", "~") or "\0" in process.cwd):
        yield ("cwd",), f"{process.cwd!r} is no absolute path; begin it with / or ~"


def _in_rule(rule: JobRule) -> Iterator[Mistake]:
    for name, path in rule.vars.items():
        if path.partition(".")[0] not in ("params", "result"):
            yield ("vars", name), f"{path!r} must begin with `params.` or `result.`"
    for name in rule.exclusive:
        if rule.vars.get(name, "").partition(".")[0] != "params":
            yield ("exclusive",), f"{name!r} is no var from `params`; only what is known at the start can be exclusive"
    if isinstance(rule.cancel, Cancel) and (rule.cancel.request is None) == (rule.cancel.notify is None):
        yield ("cancel",), "say either `request` or `notify`"
    for member, values in _templates(rule):
        for name in sorted(_names(values) - set(rule.vars)):
            there = f"there are {', '.join(sorted(rule.vars))}" if rule.vars else "there are none"
            yield (member,), f"${name} is no var of this rule; {there}"


def _templates(rule: JobRule) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """Every value of a rule that may have something to fill in, and the member it is in."""
    if isinstance(rule.end, End):
        yield "end", rule.end.match
    if isinstance(rule.result, Take):
        yield "result", rule.result.match
    if rule.progress is not None:
        yield "progress", rule.progress.match
    if isinstance(rule.cancel, Cancel):
        yield "cancel", rule.cancel.params


def _names(template: Json | Mapping[str, Json]) -> set[str]:
    """The names after `$` in a template."""
    if isinstance(template, str):
        return {template[1:]} if template.startswith("$") else set()
    below: list[Json] = []
    if isinstance(template, Mapping):
        below = list(template.values())
    elif isinstance(template, list):
        below = template
    return {name for each in below for name in _names(each)}
