"""`jobctl` as tests call it: as its own process, in a home of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness import PATIENCE, Home

JOBCTL = [sys.executable, "-P", "-c", "import sys; from jobclient.cli.main import main; sys.exit(main())"]
Done = subprocess.CompletedProcess[str]


class Cli:
    """`jobctl` in a home of its own; a broker it starts is stopped with the test."""

    def __init__(self, home: Home, cwd: Path) -> None:
        self.home = home
        self.cwd = cwd
        self.umask = 0o022

    def __call__(self, *words: str, **environ: str) -> Done:
        return self.popen(words, environ)(None)

    def popen(self, words: Sequence[str | bytes], environ: dict[str, str]) -> Callable[[str | None], Done]:
        process = self.begin(*words, **environ)

        def finish(stdin: str | None) -> Done:
            out, err = process.communicate(stdin, timeout=PATIENCE)
            return subprocess.CompletedProcess(words, process.returncode, out, err)

        return finish

    def begin(self, *words: str | bytes, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*JOBCTL, *words],
            env={**self.home.environ, **environ},
            cwd=self.cwd,
            umask=self.umask,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def ok(self, *words: str, **environ: str) -> str:
        done = self(*words, **environ)
        assert done.returncode == 0, done
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.ok(*words))

    def start(self, *words: str) -> str:
        return self.ok("start", "-q", *words).strip()

    def broker(self) -> int:
        return int(self.ok("broker", "status", "-q"))
