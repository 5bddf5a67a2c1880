"""`version` and `help`."""

from __future__ import annotations

from jobclient.cli import exits, main
from jobclient.cli.options import Option, UsageError, Verb, help_text
from jobclient.protocol import PROTOCOL_VERSION
from jobclient.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.link import Link

_HEAD = """\
jobctl: start it anywhere, see it everywhere, trust what it says

  $ jobctl start -n tests -- pytest -q     # outlives this terminal
  $ jobctl list
  $ jobctl output -f tests
  $ jobctl start --agent codex -- 'make the flaky test reliable'    # or claude, opencode, your own
  $ jobctl run -- make -j8; echo $?        # Ctrl-C goes to the job, twice cancels, Ctrl-\\ detaches

usage: jobctl [--instance NAME] VERB [options] [JOB...] [-- COMMAND...]
"""
_TAIL = """\

A JOB is an id or its beginning, %NUMBER, a name, or @: the last one to run in this directory, @2 the one before.
jobctl help VERB, jobctl help exit-codes"""


def version(given: Given, _: Link, console: Console) -> int:
    """Print our version; asks no broker."""
    if given.has("json"):
        console.json({"version": __version__, "protocol": PROTOCOL_VERSION})
    else:
        console.print(f"jobctl {__version__} (protocol {PROTOCOL_VERSION})")
    return exits.OK


def help(given: Given, _: Link, console: Console) -> int:  # noqa: A001  # the verb's name
    """Print the list of verbs, or help on one topic."""
    topic = " ".join(given.operands)
    topic = main.ALIASES.get(topic, topic)
    members = [name for name in main.FILES if not topic or name.startswith(topic + " ")]
    if topic == "exit-codes":
        console.print(exits.TABLE)
    elif topic in main.FILES:
        console.print(help_text(main.load(topic)))
    elif members:
        lines = [f"  {name:16} {main.load(name).summary}" for name in members]
        console.print(*([] if topic else [_HEAD]), *lines, *([] if topic else [_TAIL]))
    else:
        raise UsageError(f"no help on {topic!r}  -> jobctl help")
    return exits.OK


VERBS = (
    Verb("version", version, "print the version", "", Option("--json", "", "print it as JSON")),
    Verb("help", help, "this, or help on a verb", "[VERB...]", examples="jobctl help run\njobctl help exit-codes"),
)
