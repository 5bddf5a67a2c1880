"""Brokers with a backend: homes whose settings name the fake one, and what tests say to it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import PATIENCE, Home, Message, Wire

FAKE = str(Path(__file__).with_name("fake_backend.py"))


def with_backend(home: Home, profile: str, *flags: str, more: str = "") -> Home:
    """Give a home the fake backend, by its settings."""
    command = ", ".join(f'"{word}"' for word in (sys.executable, FAKE, *flags))
    text = f'[instances.{home.instance}.backend]\nprofile = "{profile}"\ncommand = [{command}]\n{more}'
    (home.root / "config.toml").write_text(text)
    return home


def generic(new_home: Callable[..., Home], *flags: str, more: str = "", **environ: str) -> Home:
    """A running broker whose backend is a plain JSON-RPC process."""
    home = with_backend(new_home(**environ), "generic", *flags, more=more)
    home.start()
    return home


def codex(new_home: Callable[..., Home], **environ: str) -> Home:
    """A running broker whose backend behaves as codex app-server does."""
    home = with_backend(new_home(**environ), "codex", "--handshake", "--plain")
    home.start()
    return home


def heard(wire: Wire) -> Message:
    """What the backend was told so far, and who it is."""
    return wire.call("heard")


def turn(wire: Wire, *script: Any, thread: str = "T", **limits: Any) -> Message:
    """A turn of the fake, as its script says."""
    params = {"threadId": thread, "script": list(script)}
    job: Message = wire.call("job/start", method="turn/start", params=params, **limits)["job"]
    return job


def completed(status: str = "completed", thread: str = "T", error: object = None) -> Message:
    """The message that ends a turn."""
    end = {"id": "$turn", "status": status, "error": error}
    return {"method": "turn/completed", "params": {"threadId": thread, "turn": end}}


def says(text: str, thread: str = "T") -> Message:
    """The message that carries a turn's text."""
    item = {"type": "agentMessage", "text": text}
    return {"method": "item/completed", "params": {"threadId": thread, "turnId": "$turn", "item": item}}


def farewell(wire: Wire) -> Message:
    """The notice that the broker ends, and nothing after it."""
    notice = wire.note("notifications/broker/shuttingDown")
    wire.sock.settimeout(PATIENCE)
    assert wire.lines.readline() == b""
    return notice
