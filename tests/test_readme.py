"""Every transcript in the README runs, and says what the README says it does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobbroker.settings import parse

README = Path(__file__).parent.parent / "README.md"
SETTINGS = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
TRANSCRIPTS = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)

SCRIPT = re.compile(r"^\$ ", re.MULTILINE)
VARIES = [
    (re.compile(r"\b[bcdfghjkmnpqrstvwxyz][2-9bcdfghjkmnpqrstvwxyz]{5}\b"), "ID"),
    (re.compile(r"\b(\d+h\d\dm|(\d+m)?\d+(ms|s))\b"), "T"),
    (re.compile(r" +"), " "),
]


AGENT = """\
#!/bin/sh
echo 'The test slept where it should wait for the cache to be written; now it waits.'
"""
"""What `codex` is in the README: the real one costs money, and says something else each time."""


def normal(text: str) -> str:
    """Without what differs from run to run: ids, durations, the width of columns."""
    for pattern, plain in VARIES:
        text = pattern.sub(plain, text)
    return "\n".join(line.strip() for line in text.strip().splitlines())


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=range(1, len(TRANSCRIPTS) + 1))
def test_a_transcript_runs_as_printed(transcript: str, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "codex").write_text(AGENT)
    (programs / "codex").chmod(0o755)
    steps = [step.partition("\n") for step in SCRIPT.split(transcript)[1:]]
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{programs}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "JOBBROKER_RUNTIME_DIR": str(tmp_path / "run"),
        "JOBBROKER_STATE_DIR": str(tmp_path / "state"),
    }
    script = "\n".join(f"{command}\necho '<end>'" for command, _, _ in steps)
    try:
        done = subprocess.run(
            ["bash", "-c", script],
            env=environ,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        subprocess.run(["jobctl", "broker", "stop", "--jobs", "cancel"], env=environ, check=False, capture_output=True)
    said = done.stdout.split("<end>\n")
    for (command, _, expected), found in zip(steps, said, strict=False):
        assert normal(found) == normal(expected), f"$ {command}"


@pytest.mark.parametrize("text", SETTINGS, ids=range(1, len(SETTINGS) + 1))
def test_settings_are_understood(text: str) -> None:
    assert parse(text, "default", {}, 2).warnings == ()


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 3
    assert len(SETTINGS) >= 2
