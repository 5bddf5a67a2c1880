"""`config show`, `check` and `path`: the settings a broker would start with, asked of its own program."""

from __future__ import annotations

import subprocess
import sys

from jobclient import paths, rawjson
from jobclient.cli import exits
from jobclient.cli.options import Option, Verb
from jobclient.cli.quantities import duration, size
from jobclient.cli.render import Cell, escape, quote
from jobclient.protocol.failure import JobBrokerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.link import Link
    from jobclient.raw import Message


def _explained(given: Given) -> Message:
    instance = given.text("instance") or paths.DEFAULT_INSTANCE
    paths.check_instance(instance)
    return explain(instance)


def explain(instance: str) -> Message:
    """The settings as the broker's program reads them; no broker needs to run, nor could one with a broken file.

    Raises:
        JobBrokerError: the program cannot be run.
    """
    command = [sys.executable, "-P", "-m", "jobbroker", "--show-settings", "--instance", instance]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise JobBrokerError(f"the settings cannot be read: {done.stderr.decode('utf-8', 'replace').strip()}")
    explained: Message = rawjson.decode(done.stdout.strip())
    return explained


def show(given: Given, _: Link, console: Console) -> int:
    """Print all settings."""
    explained = _explained(given)
    if given.has("json"):
        console.json(explained)
        return exits.OK
    if explained["error"] is not None:
        raise JobBrokerError(explained["error"])
    rows = [[Cell(name, "bold") for name in ("KEY", "VALUE", "FROM")]]
    for limit in explained["limits"]:
        own = limit["origin"] != "default"
        rows.append([Cell(limit["key"]), Cell(_value(limit), "bold" if own else ""), Cell(escape(limit["origin"]))])
    console.table(rows)
    console.print("", *(f"agent {escape(name)}: {_command(agent)}" for name, agent in explained["agents"].items()))
    _tell(explained, console)
    return exits.OK


def _value(limit: Message) -> str:
    number: int = limit["value"]
    if limit["unit"] == "ms":
        return duration(number) if number else "none"
    if limit["unit"] == "bytes":
        return size(number) if number else "none"
    return str(number)


def _command(agent: Message) -> str:
    return " ".join(quote(word) for word in agent["argv"])


def _tell(explained: Message, console: Console) -> None:
    for warning in explained["warnings"]:
        console.note(warning)
    if not explained["exists"]:
        console.hint(f"there is no {explained['path']}: these are the defaults")


def check(given: Given, _: Link, console: Console) -> int:
    """Say what is wrong with the settings."""
    explained = _explained(given)
    if explained["error"] is not None:
        console.note(f"{explained['error']}; no broker starts with that")
        return exits.FAILED
    _tell(explained, console)
    if explained["warnings"]:
        return exits.FAILED
    console.print(f"{explained['path']}: {'nothing is wrong' if explained['exists'] else 'not there, which is fine'}")
    return exits.OK


def path(_given: Given, _: Link, console: Console) -> int:
    """Print where the settings are, or would be."""
    console.print(paths.config_path())
    return exits.OK


VERBS = (
    Verb(
        "config show", show, "all settings, and where each comes from; a running broker has those of its start", "",
        Option("--json", "", "print them as JSON: durations in ms, sizes in bytes"),
        examples="jobctl config show",
    ),
    Verb("config check", check, "say what is wrong with the settings; exit code 1 if something is", ""),
    Verb("config path", path, "where the settings are, or would be", "", examples="jobctl config path"),
)  # fmt: skip
