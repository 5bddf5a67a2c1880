"""From a template and a prompt to the words of a command: the prompt is one word of it, whatever is in it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, strategies as st

from jobbroker.core.agent import BUILT_IN, PROMPT, PromptRefused, Template, check_argv, command

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("codex", ["codex", "exec", "--yolo", "fix it"]),
        ("claude", ["claude", "-p", "fix it"]),
        ("opencode", ["opencode", "run", "fix it"]),
    ],
)
def test_what_is_built_in(name: str, argv: list[str]) -> None:
    assert command(BUILT_IN[name], "fix it") == argv
    assert command(BUILT_IN[name], "-fix it") == [*argv[:-1], "--", "-fix it"]
    check_argv(BUILT_IN[name].argv)
    assert BUILT_IN[name].install


def test_nothing_else_is_built_in() -> None:
    assert set(BUILT_IN) == {"claude", "codex", "opencode"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("a",), ["a", "P"]),
        (("a", "-x"), ["a", "-x", "P"]),
        (("a", "{prompt}", "-x"), ["a", "P", "-x"]),
        (("a", "--", "{prompt}"), ["a", "--", "P"]),
        (("a", "prompt", "{}"), ["a", "prompt", "{}", "P"]),
    ],
)
def test_where_the_prompt_goes(argv: tuple[str, ...], words: list[str]) -> None:
    assert command(Template(argv=argv), "P") == words


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("a", "{prompt}"), ["a", "--", "-p"]),
        (("a",), ["a", "--", "-p"]),
        (("a", "{prompt}", "-x"), ["a", "-x", "--", "-p"]),
        (("a", "--", "{prompt}"), ["a", "--", "-p"]),
        (("a", "--", "b", "{prompt}"), ["a", "--", "b", "--", "-p"]),
    ],
)
def test_a_prompt_like_an_option_goes_behind_two_dashes(argv: tuple[str, ...], words: list[str]) -> None:
    assert command(Template(argv=argv, double_dash=True), "-p") == words


@pytest.mark.parametrize("argv", [("a",), ("a", "{prompt}"), ("a", "--", "b", "{prompt}"), ("a", "{prompt}", "--")])
def test_or_is_refused(argv: tuple[str, ...]) -> None:
    with pytest.raises(PromptRefused, match="doubleDash = true"):
        command(Template(argv=argv), "-p")


def test_a_template_may_have_the_dashes_itself() -> None:
    assert command(Template(argv=("a", "--", PROMPT)), "-p") == ["a", "--", "-p"]


@given(st.lists(WORDS, min_size=1, max_size=5), st.integers(0, 5), WORDS, st.booleans())
def test_the_prompt_is_one_word_and_the_others_stay(words: list[str], at: int, prompt: str, double_dash: bool) -> None:
    argv = [*words[: at + 1], PROMPT, *words[at + 1 :]]
    try:
        made = command(Template(argv=tuple(argv), double_dash=double_dash), prompt)
    except PromptRefused:
        assert prompt.startswith("-")
        assert not double_dash
        return
    assert made.count(prompt) == words.count(prompt) + 1
    made.remove(prompt)
    if prompt.startswith("-") and words[: at + 1][-1] != "--":
        made.remove("--")
    assert sorted(made) == sorted(words)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ((), "the program to run"),
        (("",), "the program to run"),
        ((PROMPT,), "the program to run"),
        (("a", PROMPT, PROMPT), "in one place"),
        (("a", f"--prompt={PROMPT}"), "a word of its own"),
        (("a", "b\0"), "no NUL"),
    ],
)
def test_templates_that_cannot_be_filled_in(argv: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_argv(argv)


@given(st.lists(WORDS.filter(lambda word: PROMPT not in word), min_size=1, max_size=5), st.integers(1, 5))
def test_all_others_can(words: list[str], at: int) -> None:
    check_argv(tuple(words))
    check_argv((*words[:at], PROMPT, *words[at:]))


def test_a_template_travels() -> None:
    template = Template(argv=("a", PROMPT), timeout_ms=5, result="json:a", install="b", double_dash=True)
    assert msgspec.json.decode(msgspec.json.encode(template), type=Template) == template
