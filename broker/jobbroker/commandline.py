"""What a job runs: words as they came, those of an agent's template and a prompt, or a method of the backend."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from jobbroker.core.agent import PromptRefused, Template, command
from jobbroker.core.message import STDOUT
from jobbroker.settings import Settings
from jobclient import paths
from jobclient.protocol.errors import InvalidParams, TooLarge
from jobclient.protocol.wire import Kind, StartParams, Text

MAX_PROMPT = 1024 * 1024
"""Bytes. A job holds its prompt twice and must fit into a message; the system takes an eighth of this at most."""


class CommandLine(Struct, frozen=True):
    """What a job runs, and what goes with it where the request says nothing.

    Attributes:
        kind: of the job.
        argv: the words.
        timeout_ms: its time limit.
        result: the rule by which its last message is found.
        remedy: what to do if the program is not there.
    """

    kind: Kind
    argv: list[Text]
    timeout_ms: int
    result: str = STDOUT
    remedy: str = ""


def command_line(params: StartParams, settings: Settings) -> CommandLine:
    """What the request asks to run.

    Raises:
        InvalidParams: it asks for nothing, for too much, or for an agent nobody knows.
    """
    _check_kind(params)
    if params.method is not None:
        return CommandLine("turn", [], settings.turn_timeout_ms)
    if params.agent is None:
        if not params.argv:
            raise InvalidParams("`argv` is empty: name the program to run" if params.argv is not None else _NOTHING)
        return CommandLine("command", list(params.argv), settings.timeout_ms)
    template = _template(params.agent, settings.agents)
    try:
        words = command(template, _prompt(params))
    except PromptRefused as exc:
        raise InvalidParams(f"`prompt` {exc} ({_section(params.agent)})") from None
    remedy = f"change argv in {_section(params.agent)}"
    if template.install:
        remedy = f"install it: {template.install}, or {remedy}"
    return CommandLine("agent", list(words), template.timeout_ms, template.result, remedy)


_NOTHING = "`argv` is missing: name the program to run, or give `agent` and `prompt`, or `method`"
_PROCESS = ("argv", "agent", "prompt", "env", "umask", "rlimits", "merged", "persist", "stdin")


def _check_kind(params: StartParams) -> None:
    if params.kind == "turn" or params.method is not None:
        _check_turn(params)
        return
    if params.params is not None:
        raise InvalidParams("`params` belongs to `method`, which is missing")
    kind = params.kind or ("command" if params.agent is None else "agent")
    if kind not in ("command", "agent"):
        raise InvalidParams(f"`kind` {kind!r} is not known to this broker; it runs `command`, `agent` and `turn`")
    if kind == "agent" and params.agent is None:
        raise InvalidParams("`agent` is missing, which `kind` `agent` needs; say in `prompt` what it is to do")
    if params.agent is None:
        if params.prompt is not None:
            raise InvalidParams("`prompt` is for an agent: say which in `agent`, or what to run in `argv`")
    elif kind == "command":
        raise InvalidParams("`kind` `command` runs `argv`; leave it out to run an agent")
    elif params.argv is not None:
        raise InvalidParams("give either `argv` or `agent` and `prompt`; the words of an agent come from the settings")


def _check_turn(params: StartParams) -> None:
    if not params.method:
        raise InvalidParams("`method` is missing: a turn is a request to the backend")
    if params.kind not in (None, "turn"):
        raise InvalidParams(f"`method` makes a turn, not a job of `kind` {params.kind!r}")
    for member in _PROCESS:
        if getattr(params, member) is not None:
            raise InvalidParams(f"`{member}` is for what runs as a process of its own; a turn runs on the backend")


def _template(name: str, known: Mapping[str, Template]) -> Template:
    if name not in known:
        raise InvalidParams(f"no agent {name!r}; known are {', '.join(known)}; add it to {_section(name)}")
    return known[name]


def _prompt(params: StartParams) -> str:
    prompt = params.prompt
    if prompt is None or not prompt.strip():
        raise InvalidParams(f"`prompt` is {'missing' if prompt is None else 'empty'}: say what the agent is to do")
    if len(prompt.encode("utf-8", "replace")) > MAX_PROMPT:
        raise TooLarge(
            f"`prompt` has more than {MAX_PROMPT} bytes: put it into a file, and tell the agent to read that"
        )
    if "\0" in prompt:
        raise InvalidParams("`prompt` holds a NUL, which no program can be given")
    return prompt


def _section(agent: str) -> str:
    return f"[agents.{agent}] of {paths.config_path()}"
