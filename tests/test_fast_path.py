"""What `jobctl` loads on its way to a running broker: every module here is time that every call pays for."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from scripted import JOB, Answer, Scripted

MOST = 6
FORBIDDEN = {
    "trio", "asyncio", "msgspec", "psutil", "typing", "dataclasses", "pathlib", "subprocess", "argparse", "re", "json",
    "socket", "signal", "enum", "importlib.metadata", "platformdirs", "contextlib", "collections", "functools", "fcntl",
    "threading", "logging", "datetime", "shlex", "jobbroker",
}  # fmt: skip
PROBE = """
import sys
before = set(sys.modules)
from jobclient.cli.main import main
code = main({argv!r})
print((code, sorted(set(sys.modules) - before)), file=sys.stderr)
"""


@pytest.fixture
def environ(tmp_path: Path) -> Generator[dict[str, str]]:
    answers: dict[str, Answer] = {
        "job_list": lambda _: {"jobs": [JOB, {**JOB, "status": "running", "completedAt": None}], "next": None},
        "job_get": lambda _: {"job": JOB},
        "job_start": lambda _: {"job": JOB, "created": True},
        "job_cancel": lambda _: {"job": JOB, "changed": True, "survivors": []},
        "job_wait": lambda _: {"jobs": [JOB], "stopped": [], "timedOut": False},
        "job_output": lambda _: {
            "data": "x",
            "encoding": "utf-8",
            "start": "0",
            "next": "1",
            "dropped": 0,
            "eof": True,
        },
    }
    with Scripted(str(tmp_path / "run" / "default.sock"), **answers):
        yield {
            "JOBBROKER_RUNTIME_DIR": str(tmp_path / "run"), "JOBBROKER_STATE_DIR": str(tmp_path / "state"),
            "HOME": str(tmp_path), "PATH": os.environ["PATH"], "JOBBROKER_AUTOSPAWN": "0",
        }  # fmt: skip


@pytest.mark.parametrize(
    "argv",
    [
        ["list"], ["list", "-a", "--json"], ["--color", "always", "list"], ["status", "tests"], ["cancel", "tests"],
        ["start", "-n", "x", "--", "true"], ["start", "-q", "true"], ["wait", "tests"], ["output", "tests"],
        ["run", "true"], ["version"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_next_to_nothing_is_loaded(environ: dict[str, str], argv: list[str]) -> None:
    probe = [sys.executable, "-c", PROBE.format(argv=argv)]
    done = subprocess.run(probe, env=environ, capture_output=True, text=True, check=True)
    code, loaded = ast.literal_eval(done.stderr.splitlines()[-1])
    assert code == 0, done
    foreign = {name for name in loaded if not name.startswith("jobclient")}
    assert not foreign & FORBIDDEN
    assert len(foreign) <= MOST, sorted(foreign)
