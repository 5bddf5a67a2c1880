"""The editors' plugins in the real editors, headless, against a real broker that goes and comes back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import PATIENCE, Home, eventually
from source import ROOT

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent / "editors"
PLUGINS = ROOT / "client/editors"
JOBCTL = Path(sys.executable).parent / "jobctl"


def program(name: str) -> str:
    """Where an editor is; what is missing fails, .ci/run installs it."""
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed; .ci/run has what these tests need"
    return found


def neovim(which: str) -> list[str]:
    plugin = PLUGINS / "nvim"
    return [
        *[which, "--headless", "-u", "NONE", "-i", "NONE", "-n", "--cmd", f"set rtp^={plugin}"],
        *["-c", "runtime plugin/jobbroker.lua", "-c", f"luafile {HERE / 'drive.lua'}"],
    ]


def neovim_new() -> list[str]:
    """The one of the development environment, which connects by itself."""
    return neovim(str(Path(sys.executable).parent / "nvim"))


def neovim_old() -> list[str]:
    """The system's, which may be so old that it needs `jobctl rpc`."""
    return neovim("/usr/bin/nvim" if Path("/usr/bin/nvim").exists() else program("nvim"))


def vim() -> list[str]:
    return [
        *[program("vim"), "-Nu", "NONE", "-i", "NONE", "-n", "--not-a-term", "-es"],
        *["-c", f"set rtp^={PLUGINS / 'vim'}", "-c", "runtime plugin/jobbroker.vim", "-S", str(HERE / "drive.vim")],
    ]


EDITORS = {"neovim": neovim_new, "neovim-system": neovim_old, "vim": vim}


@pytest.mark.parametrize("editor", EDITORS)
def test_a_plugin_does_its_work_and_comes_back_after_a_shutdown(editor: str, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    marks, work = tmp_path / "marks", tmp_path / "work"
    for each in (home.root, marks, work):
        each.mkdir()
    home.start()
    environ = {**home.environ, "MARKS": str(marks), "JOBCTL": str(JOBCTL), "TERM": "xterm", "LANG": "C.UTF-8"}
    result = marks / "result"
    try:
        with (tmp_path / "screen").open("wb") as screen:
            process = subprocess.Popen(
                EDITORS[editor](),
                cwd=work,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
            )

        def reached(mark: str) -> None:
            eventually(lambda: (marks / mark).exists() or result.exists() or process.poll() is not None, mark)
            said = result.read_text() if result.exists() else ""
            assert (marks / mark).exists(), f"{editor}: {said}\n{(tmp_path / 'screen').read_text(errors='replace')}"

        try:
            reached("ready")
            assert home.process is not None
            os.kill(home.process.pid, signal.SIGTERM)
            assert home.wait() == 0
            reached("down")
            home.start()
            reached("other")
            with home.connect() as wire:
                other = wire.run("true", name="other", cwd=str(work))
                assert other["status"] == "completed"
                reached("result")
                jobs = wire.call("job/list", limit=100)["jobs"]
            assert result.read_text().strip() == "passed"
            assert {job["origin"]["client"] for job in jobs if job["name"] != "other"} == {editor.partition("-")[0]}
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait(PATIENCE)
    finally:
        home.close()
