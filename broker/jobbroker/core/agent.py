"""Agents: from a template and a prompt to the words of a command.

An agent is an AI program that takes a prompt as one argument, works on its own and ends. What it said last is found by
`message`.
"""

from __future__ import annotations

from msgspec import Struct

from jobbroker.core.message import STDOUT

PROMPT = "{prompt}"
"""The word of a template the prompt takes the place of; without one the prompt is the last word."""
END_OF_OPTIONS = "--"
TEN_MINUTES = 600_000


class PromptRefused(ValueError):
    """The prompt cannot be given to this agent; the text says why and what to do."""


class Template(Struct, frozen=True, kw_only=True):
    """How an agent is run.

    Attributes:
        argv: its command; see `PROMPT`.
        timeout_ms: its time limit where the request names none, 0 for none.
        result: the rule by which its last message is found.
        install: what to do when its program is not there.
        double_dash: whether a prompt that begins with `-` may be passed behind `--`, as the last word.
    """

    argv: tuple[str, ...]
    timeout_ms: int = TEN_MINUTES
    result: str = STDOUT
    install: str = ""
    double_dash: bool = False


BUILT_IN = {
    "claude": Template(
        argv=("claude", "-p", PROMPT),
        install="npm install -g @anthropic-ai/claude-code",
        double_dash=True,
    ),
    "codex": Template(
        argv=("codex", "exec", "--yolo", PROMPT),
        install="npm install -g @openai/codex",
        double_dash=True,
    ),
    "opencode": Template(
        argv=("opencode", "run", PROMPT),
        install="npm install -g opencode-ai",
        double_dash=True,
    ),
}
"""What can be run without settings."""


def command(template: Template, prompt: str) -> list[str]:
    """The words of the command; the prompt is one of them, as it is, whatever is in it.

    Raises:
        PromptRefused: the agent would take it for an option.
    """
    words = list(template.argv)
    at = words.index(PROMPT) if PROMPT in words else len(words)
    before, after = words[:at], words[at + 1 :]
    if not prompt.startswith("-") or before[-1:] == [END_OF_OPTIONS]:
        return [*before, prompt, *after]
    if not template.double_dash:
        raise PromptRefused(
            "begins with `-`, so the agent would take it for an option; begin it with a word or a space, "
            "or set `doubleDash = true` for this agent if it takes a prompt behind `--`"
        )
    return [*before, *after, END_OF_OPTIONS, prompt]


def check_argv(argv: tuple[str, ...]) -> None:
    """See that a template can be filled in.

    Raises:
        ValueError: it cannot; the text says why.
    """
    if not argv or not argv[0] or argv[0] == PROMPT:
        raise ValueError("it begins with the program to run")
    if any("\0" in word for word in argv):
        raise ValueError("a word of a command holds no NUL")
    if argv.count(PROMPT) > 1:
        raise ValueError(f"{PROMPT} stands in one place, or nowhere if the prompt is to be the last word")
    if any(PROMPT in word and word != PROMPT for word in argv):
        raise ValueError(f"{PROMPT} is a word of its own, not part of one")
