"""Stand-ins for the agents that are built in, found on PATH as the real ones are, and homes of brokers that have them.

`codex` does what its prompt says, which is a script for sh; `claude` and `opencode` tell how they were called.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness import Home, Message, Wire

OBEDIENT = '#!/bin/sh\nfor prompt; do :; done\neval "$prompt"\n'
TELLING = (
    f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]))\n"
)
PROGRAMS = {"codex": OBEDIENT, "claude": TELLING, "opencode": TELLING}


def program(path: Path, text: str) -> str:
    """An executable file."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def home(root: Path, settings: str = "", **environ: str) -> Home:
    """A home whose broker, and so whose jobs, find the stand-ins."""
    programs = root / "programs"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        program(programs / name, text)
    (root / "config.toml").write_text(settings)
    return Home(root, PATH=f"{programs}:{os.environ['PATH']}", JOBBROKER_GRACE="2s", **environ)


def ask(wire: Wire, prompt: str, agent: str = "codex", **params: object) -> Message:
    """The job of an agent that was given a prompt."""
    job: Message = wire.call("job/start", agent=agent, prompt=prompt, **params)["job"]
    return job


def asked(wire: Wire, prompt: str, agent: str = "codex", **params: object) -> Message:
    """The same, once it has ended."""
    return wire.ended(ask(wire, prompt, agent, **params)["id"])
