"""`jobctl config`: the settings, where each comes from, what is wrong with them; without a broker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Home
from jobctl import Cli


@pytest.fixture
def alone(new_home: Callable[..., Home], tmp_path: Path) -> Cli:
    """`jobctl` where no broker runs, and none is started."""
    return Cli(new_home(JOBBROKER_AUTOSPAWN="0"), tmp_path)


def write(cli: Cli, text: str) -> str:
    path = cli.home.environ["JOBBROKER_CONFIG"]
    Path(path).write_text(text)
    return path


def rows(shown: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split(None, 2)[1:] for line in shown.splitlines() if line and line[0].islower()}


def test_without_a_file_all_is_default(alone: Cli) -> None:
    shown = rows(alone.ok("config", "show"))
    assert shown["grace"] == ["5s", "default"]
    assert shown["timeout"] == ["none", "default"]
    assert shown["maxOutput"] == ["100M", "default"]
    assert "agent codex: codex exec --yolo '{prompt}'" in alone.ok("config", "show")
    assert "which is fine" in alone.ok("config", "check")
    assert alone.ok("config", "path").strip() == alone.home.environ["JOBBROKER_CONFIG"]


def test_each_value_says_where_it_comes_from(alone: Cli) -> None:
    path = write(
        alone, "[limits]\ngrace = 3\nkeepJobs = 7\n[instances.ci.limits]\ngrace = 4\n[agents.mine]\nargv = ['my']\n"
    )
    shown = alone("config", "show", JOBBROKER_KEEP_JOBS="9").stdout
    assert rows(shown)["grace"] == ["3s", f"{path}: limits.grace"]
    assert rows(shown)["keepJobs"] == ["9", "JOBBROKER_KEEP_JOBS"]
    assert "agent mine: my\n" in shown
    assert rows(alone.ok("--instance", "ci", "config", "show"))["grace"] == ["4s", f"{path}: instances.ci.limits.grace"]
    assert "nothing is wrong" in alone.ok("config", "check")
    found = json.loads(alone.ok("config", "show", "--json"))
    assert {"key": "grace", "value": 3000, "unit": "ms", "origin": f"{path}: limits.grace"} in found["limits"]


def test_mistakes_are_told_and_cost_nothing_but_themselves(alone: Cli) -> None:
    path = write(alone, "[limits]\ngrase = 3\nkeepJobs = 'many'\n")
    done = alone("config", "check")
    assert done.returncode == 1
    assert f"{path}: 'limits.grase' is unknown and ignored, did you mean limits.grace?" in done.stderr
    assert "limits.keepJobs = 'many' is ignored" in done.stderr
    assert rows(alone.ok("config", "show"))["keepJobs"] == ["10000", "default"]


def test_a_file_that_is_no_toml(alone: Cli) -> None:
    path = write(alone, "[limits\n")
    for verb in ("check", "show"):
        done = alone("config", verb)
        assert (done.returncode, path in done.stderr, "line 1" in done.stderr) == (1, True, True)
    assert json.loads(alone.ok("config", "show", "--json"))["error"].startswith(path)


def test_an_instance_that_cannot_be(alone: Cli) -> None:
    assert alone("--instance", "No!", "config", "show").returncode == 2
