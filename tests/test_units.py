"""The unit files: what systemd itself says of them, and that those of the source are those that are installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from jobclient import units
from source import ROOT

DEFAULT, TEMPLATE = ("jobbroker.socket", "jobbroker.service"), ("jobbroker@.socket", "jobbroker@.service")


def verify(folder: Path, home: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "verify", "--user", *[str(folder / name) for name in names]],
        env={"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def written(folder: Path, texts: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


def program(place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("#!/bin/sh\n")
    place.chmod(0o755)
    return place


@pytest.mark.parametrize(("instance", "names"), [("default", DEFAULT), ("codex", TEMPLATE)])
def test_those_of_the_source_are_those_that_are_installed(instance: str, names: tuple[str, ...]) -> None:
    assert units.files(instance) == {name: (ROOT / "systemd" / name).read_text() for name in names}


def test_there_are_no_others() -> None:
    assert {path.name for path in (ROOT / "systemd").iterdir()} == {*DEFAULT, *TEMPLATE}


def test_systemd_has_nothing_to_say_against_them(tmp_path: Path) -> None:
    program(tmp_path / ".local/bin/jobbrokerd")
    done = verify(ROOT / "systemd", tmp_path, *DEFAULT, "jobbroker@codex.socket", "jobbroker@codex.service")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_would_say_it(tmp_path: Path) -> None:
    program(tmp_path / ".local/bin/jobbrokerd")
    texts = units.files("default")
    texts["jobbroker.service"] = texts["jobbroker.service"].replace("KillMode=", "KilMode=")
    assert "KilMode" in verify(written(tmp_path / "units", texts), tmp_path, *DEFAULT).stderr


@pytest.mark.parametrize("name", ["plain", "two words", "100%", "$HOME", "semi;colon"])
def test_a_program_with_an_odd_name(tmp_path: Path, name: str) -> None:
    place = program(tmp_path / name / "jobbrokerd")
    texts = units.files("codex", (units.literal(str(place)),))
    done = verify(written(tmp_path / "units", texts), tmp_path, "jobbroker@codex.service")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ['quo"te', "it's", "back\\slash", "two\nlines"])
def test_a_program_that_systemd_does_not_run(name: str) -> None:
    with pytest.raises(ValueError, match="no program whose path"):
        units.literal(f"/opt/{name}/jobbrokerd")


@pytest.mark.parametrize("value", ["two words", 'quo"te', "it's", "100%", "$HOME", "back\\slash", "semi;colon"])
def test_an_environment_with_odd_values(tmp_path: Path, value: str) -> None:
    place = program(tmp_path / "jobbrokerd")
    texts = units.files("codex", (str(place),), {"XDG_STATE_HOME": f"/tmp/{value}"})
    done = verify(written(tmp_path / "units", texts), tmp_path, "jobbroker@codex.service")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("instance", "name"), [("default", "jobbroker"), ("codex", "jobbroker@codex")])
def test_their_names(instance: str, name: str) -> None:
    assert units.unit(instance) == name
