"""What is shipped: the exact files, names and needs of sdist and wheel, and that the wheel works alone."""

from __future__ import annotations

import configparser
import email.message
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from jobclient.version import __version__
from source import ROOT

PACKAGES = {"jobbroker": ROOT / "broker/jobbroker", "jobclient": ROOT / "client/jobclient"}
NAME = f"jobbroker-{__version__}"
TOP_LEVEL = {
    "broker", "client", "docs", "examples", "systemd", "tests", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile",
    "PKG-INFO", "README.md", "pyproject.toml",
}  # fmt: skip
METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program to its end; what it says is shown if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sources() -> set[str]:
    """Every file of the packages, as a wheel names it."""
    return {
        f"{package}/{path.relative_to(folder)}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist, and the wheel made from it, without asking the network for anything."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert {path.name for path in folder.iterdir()} == {f"{NAME}.tar.gz", f"{NAME}-py3-none-any.whl"}
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return built / f"{NAME}-py3-none-any.whl"


@pytest.fixture(scope="module")
def sdist(built: Path) -> set[str]:
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        names = {member.name for member in archive if member.isfile()}
    assert all(name.startswith(f"{NAME}/") for name in names)
    return {name.removeprefix(f"{NAME}/") for name in names}


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))


# --- files ----------------------------------------------------------------------------------------------------------


def test_the_wheel_holds_both_packages_and_its_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) == sources() | {f"{NAME}.dist-info/{name}" for name in METADATA}


def test_both_packages_are_typed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert {"jobbroker/py.typed", "jobclient/py.typed"} <= set(archive.namelist())


def test_the_sdist_holds_what_it_takes_to_build_and_test(sdist: set[str]) -> None:
    there = {name for name in TOP_LEVEL if name == "PKG-INFO" or (ROOT / name).exists()}
    assert {name.partition("/")[0] for name in sdist} == there
    assert {f"{'broker' if name.startswith('jobbroker/') else 'client'}/{name}" for name in sources()} <= sdist
    assert {f"tests/{path.name}" for path in (ROOT / "tests").glob("*.py")} <= sdist


def test_the_sdist_holds_nothing_that_was_made(sdist: set[str]) -> None:
    made = {"__pycache__", ".venv", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "dist", "build"}
    assert not {name for name in sdist if made & set(name.split("/"))}


# --- metadata -------------------------------------------------------------------------------------------------------


def test_what_it_says_of_itself(metadata: email.message.Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("jobbroker", __version__)
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]


def test_what_it_needs(metadata: email.message.Message) -> None:
    needs = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert sorted(need.partition(">=")[0] for need in needs) == [
        "google-re2",
        "msgspec",
        "platformdirs",
        "psutil",
        "trio",
    ]
    assert all(">=" in need for need in needs), "a lower bound, and no upper one"


def test_its_two_programs(wheel: Path) -> None:
    scripts = configparser.ConfigParser()
    with zipfile.ZipFile(wheel) as archive:
        scripts.read_string(archive.read(f"{NAME}.dist-info/entry_points.txt").decode())
    assert {section: dict(scripts[section]) for section in scripts.sections()} == {
        "console_scripts": {"jobctl": "jobclient.cli.main:main", "jobbrokerd": "jobbroker.__main__:main"}
    }


# --- use ------------------------------------------------------------------------------------------------------------


def test_it_installs_and_loads_where_nothing_else_is(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=tmp_path)
    pip = (sys.executable, "-m", "pip", "--python", home / "bin/python")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    assert {"jobctl", "jobbrokerd"} <= {path.name for path in (home / "bin").iterdir()}
    look = "import jobbroker, jobclient.version as v; print(v.__version__, v.__file__)"
    version, place = run(home / "bin/python", "-I", "-c", look, cwd=tmp_path).split()
    assert version == __version__
    assert Path(place).is_relative_to(home)
