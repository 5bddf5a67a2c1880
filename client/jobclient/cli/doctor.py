"""`doctor`: look at all a broker stands on, say of each how it is, and mend what can be mended; starts none."""

from __future__ import annotations

from jobclient.cli import exits
from jobclient.cli.examination import examine
from jobclient.cli.options import Option, Verb
from jobclient.cli.render import Cell, escape
from jobclient.protocol.failure import JobBrokerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.findings import Finding
    from jobclient.cli.options import Given
    from jobclient.link import Link

_LOOKS = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(given: Given, link: Link, console: Console) -> int:
    """Look, mend if that is wanted, look again, tell."""
    found = examine(link.instance)
    mended: list[str] = []
    if given.has("fix"):
        mended = [_mend(each) for each in found if each.mend is not None and each.level != "ok"]
        found = examine(link.instance) if mended else found
    if given.has("json"):
        checks = [{"name": f.name, "level": f.level, "text": f.text, "command": f.command or None} for f in found]
        console.json({"checks": checks, "mended": mended})
    else:
        _tell(found, mended, console)
    return exits.FAILED if any(each.level == "fail" for each in found) else exits.OK


def _tell(found: list[Finding], mended: list[str], console: Console) -> None:
    for what in mended:
        console.note(what)
    rows = [[Cell(name, "bold") for name in ("", "CHECK", "HOW IT IS")]]
    for each in found:
        text = escape(each.text) + (f"  -> {escape(each.command)}" if each.command else "")
        rows.append([Cell(each.level, _LOOKS[each.level]), Cell(each.name), Cell(text)])
    console.table(rows)


def _mend(finding: Finding) -> str:
    """What came of it, in words."""
    assert finding.mend is not None  # noqa: S101  # for the type checker
    try:
        finding.mend()
    except (JobBrokerError, OSError) as exc:
        return f"{finding.name} could not be mended: {exc}"
    return f"{finding.name} was mended: {finding.text}"


VERBS = (
    Verb(
        "doctor", doctor, "look at all a broker stands on, and say what mends what is wrong; starts none", "",
        Option("--fix", "", "mend what can be mended without asking anybody"),
        Option("--json", "", "print the checks as JSON: name, level (ok, warn, fail), text, command"),
        examples="jobctl doctor\njobctl doctor --fix",
    ),
)  # fmt: skip
