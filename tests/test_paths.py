"""Where everything is, in every combination of environment, and directories that somebody else got hold of first."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from jobclient import paths

VARIABLES = (
    "JOBBROKER_RUNTIME_DIR", "JOBBROKER_STATE_DIR", "JOBBROKER_CONFIG",
    "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME",
)  # fmt: skip


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No variable set, and system directories that are ours to arrange."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(paths, "_RUN_USER", str(tmp_path / "run-user"))
    monkeypatch.setattr(paths, "_SHARED", str(tmp_path / "shared"))
    return tmp_path


def run_user(root: Path, mode: int = 0o700) -> Path:
    made = root / "run-user" / str(os.getuid())
    made.mkdir(parents=True)
    made.chmod(mode)
    return made


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["default", "a", "0", "-", "my-broker-2", "x" * 32])
def test_an_instance_may_be_called(name: str) -> None:
    assert paths.check_instance(name) == name


@pytest.mark.parametrize("name", ["", "x" * 33, "A", "a_b", "a.b", "a/b", "..", "ä", "a\n", "a b", "\0"])
def test_an_instance_may_not_be_called(name: str) -> None:
    with pytest.raises(paths.BadInstanceName, match="a-z, 0-9 and -"):
        paths.check_instance(name)


@pytest.mark.parametrize("place", [paths.socket_path, paths.pid_path, paths.instance_dir, paths.lock_path])
def test_no_place_for_a_bad_name(place: object) -> None:
    assert callable(place)
    with pytest.raises(paths.BadInstanceName):
        place("../x")


# --- runtime --------------------------------------------------------------------------------------------------------


def test_r070_our_variable_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBBROKER_RUNTIME_DIR", "/a/b/")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/x")
    assert paths.socket_path("default") == "/a/b/default.sock"
    assert paths.pid_path("ci") == "/a/b/ci.pid"


def test_then_xdg(monkeypatch: pytest.MonkeyPatch, bare: Path) -> None:
    run_user(bare)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/x")
    assert paths.runtime_dir() == "/run/x/jobbroker"


def test_then_the_directory_of_the_system(bare: Path) -> None:
    made = run_user(bare)
    assert paths.runtime_dir() == f"{made}/jobbroker"


@pytest.mark.parametrize("relative", ["", "run", "./run", "~/run"])
def test_a_relative_xdg_directory_is_ignored(monkeypatch: pytest.MonkeyPatch, bare: Path, relative: str) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", relative)
    made = run_user(bare)
    assert paths.runtime_dir() == f"{made}/jobbroker"


def test_the_shared_directory_last(bare: Path) -> None:
    assert paths.runtime_dir() == f"{bare}/shared/jobbroker-{os.getuid()}"


def test_a_system_directory_open_to_others_is_not_ours(bare: Path) -> None:
    run_user(bare, 0o755)
    assert paths.runtime_dir() == f"{bare}/shared/jobbroker-{os.getuid()}"


@pytest.mark.parametrize("name", ["JOBBROKER_RUNTIME_DIR", "JOBBROKER_STATE_DIR", "JOBBROKER_CONFIG"])
def test_our_own_variables_are_absolute(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "somewhere")
    place = {"RUNTIME": paths.runtime_dir, "STATE": paths.state_dir}.get(name.split("_")[1], paths.config_path)
    with pytest.raises(paths.PathError, match=f"{name} must be an absolute path"):
        place()


# --- state and settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"JOBBROKER_STATE_DIR": "/s", "XDG_STATE_HOME": "/x"}, "/s"),
        ({"XDG_STATE_HOME": "/x"}, "/x/jobbroker"),
        ({"XDG_STATE_HOME": "x"}, "HOME/.local/state/jobbroker"),
        ({"XDG_STATE_HOME": ""}, "HOME/.local/state/jobbroker"),
        ({}, "HOME/.local/state/jobbroker"),
    ],
)
def test_state(monkeypatch: pytest.MonkeyPatch, bare: Path, variables: dict[str, str], expected: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert paths.state_dir() == expected.replace("HOME", f"{bare}/home")
    assert paths.lock_path("ci") == paths.state_dir() + "/ci/lock"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"JOBBROKER_CONFIG": "/c/mine.toml", "XDG_CONFIG_HOME": "/x"}, "/c/mine.toml"),
        ({"XDG_CONFIG_HOME": "/x"}, "/x/jobbroker/config.toml"),
        ({}, "HOME/.config/jobbroker/config.toml"),
    ],
)
def test_settings(monkeypatch: pytest.MonkeyPatch, bare: Path, variables: dict[str, str], expected: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert paths.config_path() == expected.replace("HOME", f"{bare}/home")


def test_without_a_home_the_user_database_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    assert os.path.isabs(paths.state_dir())


# --- private directories --------------------------------------------------------------------------------------------


def test_a_private_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    made = tmp_path / "a" / "b"
    before = os.umask(0)
    try:
        paths.make_private_dir(str(made))
    finally:
        os.umask(before)
    assert made.stat().st_mode & 0o777 == 0o700
    paths.make_private_dir(str(made))


def test_r070_a_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(paths.PathError, match=f"chmod 700 {tmp_path}"):
        paths.check_private_dir(str(tmp_path))


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(paths.PathError, match="is a symbolic link"):
        paths.make_private_dir(str(tmp_path / "link"))


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(paths.PathError, match="is a symbolic link"):
        paths.make_private_dir(str(tmp_path / "link"))


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(paths.PathError, match="not a directory"):
        paths.make_private_dir(str(tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_squatted_directory_is_refused(tmp_path: Path) -> None:
    squatted = tmp_path / "jobbroker"
    squatted.mkdir(0o700)
    os.chown(squatted, 12345, 12345)
    with pytest.raises(paths.PathError, match="belongs to user 12345"):
        paths.make_private_dir(str(squatted))


def test_what_is_not_there_is_said_to_be_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        paths.check_private_dir(str(tmp_path / "nothing"))


def test_what_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(paths.PathError, match="not a directory"):
        paths.make_private_dir(str(tmp_path / "file" / "below"))


# --- addresses ------------------------------------------------------------------------------------------------------


def test_a_short_path_is_its_own_address() -> None:
    with paths.short_address("/run/x.sock") as address:
        assert address == "/run/x.sock"


@pytest.mark.parametrize("length", [107, 108, 231, 3000])
def test_r070_a_path_of_any_length_can_be_bound_and_connected(tmp_path: Path, length: int) -> None:
    directory = str(tmp_path)
    name = "default.sock"
    while len(directory) + 1 + len(name) < length:
        directory += "/" + "d" * min(200, max(1, length - len(directory) - len(name) - 2))
    os.makedirs(directory)
    path = f"{directory}/{name}"
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        with paths.short_address(path) as address:
            listener.bind(address)
        listener.listen()
        with paths.short_address(path) as address:
            client.connect(address)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_impossible_name_is_an_error_and_leaves_nothing_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(paths.PathError, match="too long for the name of a socket"):
        paths.short_address(str(tmp_path / ("x" * 120))).__enter__()
    assert len(os.listdir("/proc/self/fd")) == before
