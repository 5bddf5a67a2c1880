"""The entry point of `jobctl`: find the verb, load its file, run it, end with its exit code."""

from __future__ import annotations

import gc
import os
import sys

from jobclient.cli import exits
from jobclient.cli.console import OUT, Console
from jobclient.cli.options import Given, Option, UsageError, Verb, help_text, parse
from jobclient.link import Link
from jobclient.paths import DEFAULT_INSTANCE, BadInstanceName
from jobclient.protocol.failure import JobBrokerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FILES = {
    "start": "start", "run": "start",
    "list": "listing",
    "status": "status", "result": "status",
    "output": "output",
    "wait": "waiting",
    "cancel": "control", "signal": "control", "pause": "control", "resume": "control", "remove": "control",
    "fg": "foreground",
    "input": "input",
    "processes": "processes",
    "clean": "cleaning", "export": "export",
    "events": "events",
    "broker status": "broker", "broker start": "broker", "broker stop": "broker", "broker restart": "broker",
    "broker logs": "broker", "broker trace": "tracing", "socket-path": "broker", "rpc": "bridge",
    "broker install": "service", "broker uninstall": "service", "doctor": "doctor",
    "backend list": "backend", "backend show": "backend", "backend test": "backend",
    "config show": "config", "config check": "config", "config path": "config",
    "timed add": "timed", "timed list": "timed", "timed show": "timed", "timed remove": "timed", "timed tick": "timed",
    "timed pause": "timed", "timed resume": "timed", "timed log": "timedlog", "timed stage": "timedlog",
    "version": "about", "help": "about",
}  # fmt: skip
"""Where each verb lives: the module of `jobclient.cli` whose `VERBS` has it. Loaded when called."""

ALIASES = {"ls": "list", "logs": "output"}
GUESSES = {
    "kill": "cancel", "stop": "cancel", "terminate": "cancel", "ps": "list", "jobs": "list", "tail": "output -f",
    "follow": "output -f", "log": "output", "cat": "output", "rm": "remove", "delete": "remove", "show": "status",
    "info": "status", "suspend": "pause", "bg": "resume", "continue": "resume", "cont": "resume", "foreground": "fg",
    "attach": "fg", "top": "processes", "tree": "processes", "exec": "run", "submit": "start", "add": "start",
    "clear": "clean", "cleanup": "clean", "watch": "events", "daemon": "broker status", "restart": "broker restart",
    "cron": "timed add", "schedule": "timed add", "every": "timed add", "schedules": "timed list",
}  # fmt: skip
"""What people type who come from other tools."""


def _nothing(_given: Given, _link: Link, _console: Console) -> int:
    return exits.OK


_LEADING = Verb("", _nothing, "", "VERB...", Option("--version", "", "print the version"), verbatim=True)
"""What may stand before the verb."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `jobctl` with these words, by default those of the command line; returns the exit code."""
    given = Given()
    try:
        return _run(list(sys.argv[1:] if argv is None else argv), given)
    except BrokenPipeError:
        _forget_stdout()
        return exits.BROKEN_PIPE
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except (UsageError, BadInstanceName) as exc:
        return _fail(str(exc), exits.USAGE, given)
    except JobBrokerError as exc:
        return _fail(exits.advice(exc), exits.of_error(exc), given)
    except Exception as exc:  # noqa: BLE001  # a fault of ours ends in a sentence, not in a traceback
        what = f"a fault of jobctl's own: {type(exc).__name__}: {exc}"
        return _fail(f"{what}  -> JOBBROKER_DEBUG=1 shows where", exits.FAILED, given)
    finally:
        if argv is None:
            gc.freeze()  # the process ends: searching all it loaded for garbage would take as long as the request did


def _run(words: list[str], given: Given) -> int:
    parse(_LEADING, words, given)
    name, rest = _name(given)
    given.operands = []
    verb = load(name)
    given.passes = verb.passes
    try:
        parse(verb, rest, given)
    except UsageError as exc:
        raise UsageError(f"{name}: {exc}  -> jobctl help {name}") from None
    console = Console(given.text("color"), given.text("instance"))
    if given.has("help") and name != "help":
        console.print(help_text(verb))
        return exits.OK
    with Link(given.text("instance") or DEFAULT_INSTANCE) as link:
        return verb.run(given, link, console)


def load(name: str) -> Verb:
    """A verb, from its file."""
    module = __import__(f"jobclient.cli.{FILES[name]}", fromlist=("VERBS",))
    verbs: tuple[Verb, ...] = module.VERBS
    return next(verb for verb in verbs if verb.name == name)


def _name(given: Given) -> tuple[str, list[str]]:
    """The verb that is meant, and the words after it."""
    words = given.operands
    if given.has("version"):
        return "version", []
    if not words:
        return ("help" if given.has("help") or not os.isatty(OUT) else "list"), []
    name = ALIASES.get(words[0], words[0])
    if name in FILES:
        return name, words[1:]
    members = [each for each in FILES if each.startswith(name + " ")]
    if not members:
        raise UsageError(f"no verb {name!r}{_guess(name)}")
    if words[1:] and f"{name} {words[1]}" in FILES:
        return f"{name} {words[1]}", words[2:]
    if given.has("help") or words[1:2] in (["-h"], ["--help"]):
        return "help", [name]
    raise UsageError(f"{name} what? one of: {', '.join(members)}  -> jobctl help {name}")


def _guess(name: str) -> str:
    near = GUESSES.get(name)
    if near is None:
        from difflib import get_close_matches  # only on the way to an error

        near = next(iter(get_close_matches(name, [*FILES, *ALIASES], 1)), None)
    return f", did you mean: jobctl {near}" if near else "  -> jobctl help"


def _fail(text: str, code: int, given: Given) -> int:
    if os.environ.get("JOBBROKER_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    Console(instance=given.text("instance")).note(text)
    passes = given.passes == "always" or given.has(given.passes)
    return exits.OURS if passes else code


def _forget_stdout() -> None:
    """Nobody reads stdout any more: let the interpreter's last flush go nowhere, without a complaint."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, OUT)
    os.close(nowhere)
