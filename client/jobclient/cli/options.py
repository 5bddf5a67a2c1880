"""A small option parser: a verb declares a table of options; parsing and `--help` come from that table.

Our own, because argparse costs as much time as all else on the way to a running broker.
"""

from __future__ import annotations

from jobclient.cli.quantities import parse_count, parse_duration, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobclient.cli.console import Console
    from jobclient.link import Link

    Run = Callable[["Given", Link, Console], int]

_NUMBERS: dict[str, Callable[[str], int]] = {"N": parse_count, "D": parse_duration, "SIZE": parse_size}
"""What stands for a value in the table tells its type; any other name stands for text."""


class UsageError(Exception):
    """The command line makes no sense; the text says where."""


class Option:
    """An option: `Option("-n --name", "NAME", "what to call it")`; without a value name it is a flag.

    Attributes:
        name: its name in `Given`: the long one without dashes.
        choices: the only values it may have, if it is so restricted.
    """

    __slots__ = ("choices", "flags", "help", "name", "value")

    def __init__(self, flags: str, value: str, help: str, *choices: str) -> None:  # noqa: A002  # the natural word
        self.flags = flags.split()
        self.value = value
        self.help = help
        self.name = self.flags[-1].lstrip("-")
        self.choices = choices


class Verb:
    """A verb of the command line.

    Attributes:
        usage: the operands, as shown in its help; without any, none are taken.
        needs: how many operands there must be.
        verbatim: the first operand ends the options, as for a command to be run.
        passes: whether its exit status is the job's: "always", "never", or the flag that makes it so.
    """

    __slots__ = ("examples", "name", "needs", "options", "passes", "run", "summary", "usage", "verbatim")

    def __init__(
        self,
        name: str,
        run: Run,
        summary: str,
        usage: str = "",
        *options: Option,
        needs: int = 0,
        verbatim: bool = False,
        passes: str = "never",
        examples: str = "",
    ) -> None:
        self.name = name
        self.run = run
        self.summary = summary
        self.usage = usage
        self.options = (*options, *GLOBAL)
        self.needs = needs
        self.verbatim = verbatim
        self.passes = passes
        self.examples = examples


class Given:
    """What the command line said. Of an option given twice the last counts, `all` has each.

    Attributes:
        operands: the words that are no options.
        passes: the verb's, see there; "never" until the verb is known.
    """

    __slots__ = ("_numbers", "_texts", "operands", "passes")

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._numbers: dict[str, int] = {}
        self.operands: list[str] = []
        self.passes = "never"

    def has(self, name: str) -> bool:
        """Whether the option was given."""
        return name in self._texts

    def text(self, name: str) -> str | None:
        """The option's value."""
        return self._texts[name][-1] if name in self._texts else None

    def all(self, name: str) -> list[str]:
        """Each value the option was given."""
        return self._texts.get(name, [])

    def number(self, name: str) -> int | None:
        """The option's value, if it is one of `N`, `D` (milliseconds) or `SIZE` (bytes)."""
        return self._numbers.get(name)

    def take(self, option: Option, flag: str, value: str) -> None:
        """Note an option.

        Raises:
            UsageError: it does not take that value.
        """
        if option.choices and value not in option.choices:
            raise UsageError(f"{flag} is one of {', '.join(option.choices)}, not {value!r}")
        if option.value in _NUMBERS:
            try:
                self._numbers[option.name] = _NUMBERS[option.value](value)
            except ValueError as exc:
                raise UsageError(f"{flag}: {exc}") from None
        self._texts.setdefault(option.name, []).append(value)


GLOBAL = (
    Option("--instance", "NAME", "the broker to talk to (default: default)"),
    Option("--color", "WHEN", "colours: auto, always or never", "auto", "always", "never"),
    Option("-h --help", "", "this text"),
)


def parse(verb: Verb, words: Sequence[str], given: Given) -> None:
    """Read the words after a verb into `given`.

    Raises:
        UsageError: they make no sense for this verb.
    """
    known = {flag: option for option in verb.options for flag in option.flags}
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        if word == "--":
            given.operands += reversed(rest)
            break
        if word[:1] != "-" or word == "-":
            given.operands.append(word)
            if verb.verbatim:
                given.operands += reversed(rest)
                break
        elif word[:2] == "--":
            _take_long(known, word, rest, given)
        else:
            _take_short(known, word, rest, given)
    if not given.has("help"):
        _check_operands(verb, given.operands)


def _take_long(known: dict[str, Option], word: str, rest: list[str], given: Given) -> None:
    """`--name`, `--name value`, `--name=value`."""
    flag, equals, value = word.partition("=")
    option = _known(known, flag)
    if option.value:
        given.take(option, flag, value if equals else _next(option, flag, rest))
    elif equals:
        raise UsageError(f"{flag} takes no value")
    else:
        given.take(option, flag, "")


def _take_short(known: dict[str, Option], word: str, rest: list[str], given: Given) -> None:
    """`-n value`, `-nvalue`, `-aq` for `-a -q`."""
    for at in range(1, len(word)):
        flag = "-" + word[at]
        option = _known(known, flag)
        if option.value:
            given.take(option, flag, word[at + 1 :] or _next(option, flag, rest))
            return
        given.take(option, flag, "")


def _known(known: dict[str, Option], flag: str) -> Option:
    if flag in known:
        return known[flag]
    near = [each for each in known if len(flag) > 3 and each.startswith(flag)]
    raise UsageError(f"no option {flag!r}" + (f", did you mean {' or '.join(near)}?" if near else ""))


def _next(option: Option, flag: str, rest: list[str]) -> str:
    if not rest:
        raise UsageError(f"{flag} needs a value: {flag} {option.value}")
    return rest.pop()


def _check_operands(verb: Verb, operands: Sequence[str]) -> None:
    if len(operands) < verb.needs:
        raise UsageError(f"say what: jobctl {verb.name} {verb.usage}")
    if operands and not verb.usage:
        raise UsageError(f"{operands[0]!r} is one word too many")
    most = len(verb.usage.split())
    if len(operands) > most and "..." not in verb.usage:
        raise UsageError(f"{operands[most]!r} is one word too many")


def help_text(verb: Verb) -> str:
    """What `--help` prints: examples first."""
    lines = [f"jobctl {verb.name}: {verb.summary}", ""]
    if verb.examples:
        lines += [*(f"  $ {example}" for example in verb.examples.splitlines()), ""]
    lines += [f"usage: jobctl {verb.name} [options] {verb.usage}".rstrip(), ""]
    left = [", ".join(option.flags) + (f" {option.value}" if option.value else "") for option in verb.options]
    width = max(map(len, left))
    lines += [f"  {flags:{width}}  {option.help}" for flags, option in zip(left, verb.options, strict=True)]
    return "\n".join(lines)
