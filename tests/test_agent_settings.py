"""Agents in the settings: what is said changes, what is not stays, and no mistake costs more than a warning."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from jobbroker.core.agent import BUILT_IN, TEN_MINUTES, Template
from jobbroker.settings import SettingsError, parse


def agents(text: str, instance: str = "default") -> Mapping[str, Template]:
    """Agents by settings that must make no warning."""
    found = parse(text, instance, {}, 2)
    assert found.warnings == ()
    return found.agents


def warning(text: str, instance: str = "default") -> str:
    """The one warning some settings make; all agents must be as they are built in."""
    found = parse(text, instance, {}, 2)
    (said,) = found.warnings
    assert found.agents == BUILT_IN
    return said.removeprefix("config.toml: ")


def test_without_settings_there_are_those_built_in() -> None:
    assert agents("") == parse(None, "default", {}, 2).agents == BUILT_IN


def test_an_agent_of_ones_own() -> None:
    text = """
    [agents.mine]
    argv = ["my-agent", "--prompt", "{prompt}", "-q"]
    timeout = "1h"
    result = "json:a.b"
    install = "ask Ann"
    doubleDash = true
    """
    own = Template(
        argv=("my-agent", "--prompt", "{prompt}", "-q"), timeout_ms=3_600_000, result="json:a.b", install="ask Ann",
        double_dash=True,
    )  # fmt: skip
    assert agents(text) == {**BUILT_IN, "mine": own}
    assert agents('[agents.least]\nargv = ["x"]')["least"] == Template(argv=("x",), timeout_ms=TEN_MINUTES)


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ('argv = ["codex", "exec"]', {"argv": ("codex", "exec")}),
        ("timeout = 0", {"timeout_ms": 0}),
        ('timeout = "90m"', {"timeout_ms": 5_400_000}),
        ('result = "json"', {"result": "json"}),
        ('install = ""', {"install": ""}),
        ("doubleDash = false", {"double_dash": False}),
    ],
)
def test_what_is_not_said_stays_as_it_is_built_in(line: str, changed: dict[str, object]) -> None:
    assert agents(f"[agents.codex]\n{line}") == {**BUILT_IN, "codex": replace(BUILT_IN["codex"], **changed)}


def test_an_instance_over_all_over_built_in() -> None:
    text = """
    [agents.codex]
    timeout = 1
    result = "json"
    [instances.work.agents.codex]
    timeout = 2
    [instances.work.agents.mine]
    argv = ["mine"]
    [instances.other.agents.codex]
    timeout = "mistake"
    """
    work = agents(text, "work")
    assert (work["codex"].timeout_ms, work["codex"].result, work["codex"].argv) == (
        2000,
        "json",
        BUILT_IN["codex"].argv,
    )
    assert work["mine"].argv == ("mine",)
    assert (agents(text)["codex"].timeout_ms, "mine" in agents(text)) == (1000, False)


def test_what_all_instances_say_may_be_completed_by_one() -> None:
    text = '[agents.mine]\ntimeout = 1\n[instances.work.agents.mine]\nargv = ["mine"]'
    assert agents(text, "work")["mine"] == Template(argv=("mine",), timeout_ms=1000)


DURATION = "a duration is a number of seconds, or a text such as 30m, 1h30m or 500ms"
COMMAND = 'a command is a list of words, such as ["codex", "exec", "{prompt}"]'
MISTAKES = {
    "agents = 3": "agents is not a section: write [agents]",
    "[agents]\ncodex = 3": "agents.codex is not a section: write [agents.codex]",
    "[instances.work]\nagents = 3": "instances.work.agents is not a section: write [instances.work.agents]",
    "[agents.codex]\ntimeuot = 3": "'agents.codex.timeuot' is unknown and ignored, did you mean agents.codex.timeout?",
    "[instances.work.agents.codex]\ndouble_dash = true": "'instances.work.agents.codex.double_dash' is unknown and "
    "ignored, did you mean instances.work.agents.codex.doubleDash?",
    "[agents.codex]\ntimeout = 'soon'": f"agents.codex.timeout = 'soon' is ignored: {DURATION}",
    "[agents.codex]\nargv = 'codex'": f"agents.codex.argv = 'codex' is ignored: {COMMAND}",
    "[agents.codex]\nargv = ['codex', 3]": f"agents.codex.argv = ['codex', 3] is ignored: {COMMAND}",
    "[agents.codex]\nargv = []": "agents.codex.argv = [] is ignored: it begins with the program to run",
    "[agents.codex]\nargv = ['a', '-p={prompt}']": "agents.codex.argv = ['a', '-p={prompt}'] is ignored: {prompt} is a "
    "word of its own, not part of one",
    "[agents.codex]\nresult = 'stderr'": "agents.codex.result = 'stderr' is ignored: this is stdout, json or "
    "json:name.of.field",
    "[agents.codex]\nresult = 3": "agents.codex.result = 3 is ignored: this is a text",
    "[agents.codex]\ninstall = ['x']": "agents.codex.install = ['x'] is ignored: this is a text",
    "[agents.codex]\ndoubleDash = 'yes'": "agents.codex.doubleDash = 'yes' is ignored: this is true or false",
    "[agents.mine]\ntimeout = 3": 'agents.mine has no argv and is ignored: write argv = ["mine", "{prompt}"]',
    "[agents.codx]\ntimeout = 3": "agents.codx has no argv and is ignored, did you mean agents.codex?",
    "[agents.mine]\nargv = 3": f"agents.mine.argv = 3 is ignored: {COMMAND}",
    "[agents.'my own']\nargv = ['x']": "'agents.my own' is ignored: the name of an agent has no spaces",
    "[agents.'']\nargv = ['x']": "'agents.' is ignored: the name of an agent has no spaces",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_named_and_explained(text: str) -> None:
    assert warning(text, "work") == MISTAKES[text]


@given(st.text(max_size=60))
def test_any_text_is_agents_or_an_error(text: str) -> None:
    try:
        found = parse("[agents.mine]\n" + text, "default", {}, 2)
    except SettingsError:
        return
    assert set(found.agents) >= set(BUILT_IN)
    assert "mine" not in found.agents or found.agents["mine"].argv
