"""The option parser: every way to write an option, and every way to get one wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from jobclient.cli.console import Console
from jobclient.cli.main import FILES, load
from jobclient.cli.options import Given, Option, UsageError, Verb, help_text, parse
from jobclient.link import Link


def nothing(_given: Given, _link: Link, _console: Console) -> int:
    return 0


OPTIONS = (
    Option("-n --name", "NAME", "a name"),
    Option("-l --label", "K=V", "a label"),
    Option("-a --all", "", "all"),
    Option("-q --quiet", "", "quiet"),
    Option("--timeout", "D", "a time"),
    Option("--max", "SIZE", "a size"),
    Option("-c --count", "N", "a number"),
    Option("--jobs", "WHAT", "which", "keep", "cancel"),
)
ONE = Verb("one", nothing, "with operands", "JOB...", *OPTIONS)
COMMAND = Verb("command", nothing, "with a command", "[--] COMMAND...", *OPTIONS, verbatim=True)


def read(*words: str, verb: Verb = ONE) -> Given:
    found = Given()
    parse(verb, words, found)
    return found


@pytest.mark.parametrize("words", [("-n", "x"), ("-nx",), ("--name", "x"), ("--name=x",), ("-aqn", "x"), ("-aqnx",)])
def test_a_value_is_given(words: tuple[str, ...]) -> None:
    assert read(*words).text("name") == "x"


@pytest.mark.parametrize("value", ["", "-5", "--", "a=b", "=", "a b", "-"])
def test_a_value_may_be_anything(value: str) -> None:
    assert read(f"--name={value}").text("name") == value
    assert read("--name", value).text("name") == value


def test_flags_are_bundled() -> None:
    found = read("-aq", "job")
    assert (found.has("all"), found.has("quiet"), found.operands) == (True, True, ["job"])


def test_the_last_of_two_values_counts_and_all_are_kept() -> None:
    found = read("-l", "a=1", "--label=b=2")
    assert found.text("label") == "b=2"
    assert found.all("label") == ["a=1", "b=2"]


def test_what_is_not_given_is_not_there() -> None:
    found = read()
    assert (found.has("all"), found.text("name"), found.all("label"), found.number("timeout")) == (
        False,
        None,
        [],
        None,
    )


def test_numbers_are_read() -> None:
    found = read("--timeout", "1m", "--max=2K", "-c7")
    assert (found.number("timeout"), found.number("max"), found.number("count")) == (60_000, 2048, 7)


def test_options_and_operands_mix() -> None:
    assert read("a", "-q", "b", "--name", "n", "c").operands == ["a", "b", "c"]


def test_a_dash_is_an_operand() -> None:
    assert read("-").operands == ["-"]


def test_everything_after_two_dashes_is_an_operand() -> None:
    assert read("a", "--", "-q", "--", "--nope").operands == ["a", "-q", "--", "--nope"]


@pytest.mark.parametrize("before", [(), ("-q",), ("--name", "x"), ("-n", "--")])
def test_a_command_ends_the_options(before: tuple[str, ...]) -> None:
    found = read(*before, "make", "-j8", "--name", "y", "--", "z", verb=COMMAND)
    assert found.operands == ["make", "-j8", "--name", "y", "--", "z"]


def test_two_dashes_before_a_command() -> None:
    assert read("-q", "--", "-odd", "-q", verb=COMMAND).operands == ["-odd", "-q"]


@given(st.lists(st.text(min_size=1, max_size=5), max_size=6))
def test_a_command_comes_through_as_it_is(words: list[str]) -> None:
    assert read("--", *words, verb=COMMAND).operands == words


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--nope"], "no option '--nope'"),
        (["--nam", "x"], "no option '--nam', did you mean --name?"),
        (["-z"], "no option '-z'"),
        (["-az"], "no option '-z'"),
        (["--name"], "--name needs a value: --name NAME"),
        (["-an"], "-n needs a value"),
        (["--all=yes"], "--all takes no value"),
        (["--timeout", "soon"], "--timeout: 'soon' is not a duration"),
        (["--max=lots"], "--max: 'lots' is not a size"),
        (["-c", "-1"], "-c: '-1' is not a number"),
        (["--jobs", "kill"], "--jobs is one of keep, cancel, not 'kill'"),
        (["--color", "sometimes"], "--color is one of auto, always, never"),
    ],
)
def test_complaints(words: list[str], complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*words)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("usage", "needs", "words", "complaint"),
    [
        ("JOB", 1, [], "say what: jobctl v JOB"),
        ("JOB", 1, ["a", "b"], "'b' is one word too many"),
        ("", 0, ["a"], "'a' is one word too many"),
        ("JOB SIGNAL", 2, ["a"], "say what"),
        ("JOB...", 1, [], "say what"),
    ],
)
def test_operands_are_counted(usage: str, needs: int, words: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        read(*words, verb=Verb("v", nothing, "", usage, needs=needs))


def test_who_asks_for_help_needs_no_operands() -> None:
    assert read("--help", verb=Verb("v", nothing, "", "JOB", needs=1)).has("help")


@pytest.mark.parametrize("name", FILES)
def test_every_verb_explains_itself(name: str) -> None:
    verb = load(name)
    text = help_text(verb)
    assert verb.name == name
    assert verb.summary in text.splitlines()[0]
    assert f"usage: jobctl {name}" in text
    assert max(map(len, text.splitlines())) <= 100
    for option in verb.options:
        assert ", ".join(option.flags) in text
    names = [flag for option in verb.options for flag in option.flags]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", FILES)
def test_the_examples_in_the_help_are_right(name: str) -> None:
    for example in load(name).examples.splitlines():
        called = example.replace("jobctl --instance codex ", "jobctl ")
        words = called.split("jobctl " + name, 1)[1].split("|")[0].split("&&")[0].split("#")[0].replace("'", "").split()
        parse(load(name), [word.rstrip(")") for word in words], Given())
