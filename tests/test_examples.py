"""The examples do what they say, each in its own home, and are as short as they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import PATIENCE, Home
from jobctl import Cli
from source import ROOT

EXAMPLES = ROOT / "examples"
OUTPUT = '{"data":"hello\\n","encoding":"utf-8","start":"0","next":"6","dropped":0,"eof":true}'
SAID = {
    "run.py sh -c echo building; exit 3": (3, "building\n"),
    "server.py": (0, "Listening on 8080\ncompleted\ncancelled\n"),
    "changes.py": (0, "tests running None\ntests failed 2\n"),
    "many.py trio": (0, "1 [b'1']\n2 [b'1', b'2']\n3 [b'1', b'2', b'3']\n"),
    "many.py asyncio": (0, "1 [b'1']\n2 [b'1', b'2']\n3 [b'1', b'2', b'3']\n"),
    "plain.py": (0, "plain command\n"),
    "plain.sh": (0, f'{{"jsonrpc":"2.0","id":3,"result":{OUTPUT}}}\n'),
}


@pytest.mark.parametrize("words", SAID)
def test_it_does_what_it_says(new_home: Callable[..., Home], tmp_path: Path, words: str) -> None:
    home = new_home()
    environ = {**home.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    file, *rest = words.split(" ", 3)
    runner = ["sh"] if file.endswith(".sh") else [sys.executable]
    try:
        done = subprocess.run(
            [*runner, str(EXAMPLES / file), *rest],
            env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
    finally:
        Cli(home, tmp_path).ok("broker", "stop", "--jobs", "cancel")
    assert (done.returncode, done.stdout, done.stderr) == (*SAID[words], "")


def test_each_is_run() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {words.partition(" ")[0] for words in SAID}


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_ten_lines_are_enough(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith(('"""', "#"))]
    work = [line for line in lines if not line.lstrip().startswith(("import", "from", '"""'))]
    assert len(work) <= 10, "import lines aside"
