"""Real backends behind the broker, two clients each: a tool server and a language server, installed for the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import Home, Message, Wire

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs, in a scratch folder of their own."""
    place = tmp_path_factory.mktemp("tools")
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    install = [str(place / "bin" / "pip"), "install", "--quiet", "python-lsp-server", "mcp-server-time"]
    if subprocess.run(install, check=False).returncode:
        pytest.skip("the servers cannot be installed here")
    return place / "bin"


def fronting(new_home: Callable[..., Home], profile: str, program: Path, *words: str) -> Home:
    home = new_home()
    command = json.dumps([str(program), *words])
    (home.root / "config.toml").write_text(f'[instances.default.backend]\nprofile = "{profile}"\ncommand = {command}\n')
    home.start()
    return home


# --- a tool server --------------------------------------------------------------------------------------------------


def call_tool(wire: Wire, zone: str) -> int:
    return wire.send("tools/call", name="get_current_time", arguments={"timezone": zone})


def test_a_tool_server(new_home: Callable[..., Home], tools: Path) -> None:
    home = fronting(new_home, "mcp", tools / "mcp-server-time", "--local-timezone", "UTC")
    one, other = home.connect(), home.connect()
    client = {"name": "one", "version": "1"}
    hello: Message = {"protocolVersion": "2025-06-18", "clientInfo": client, "capabilities": {}}
    first, second = one.call("initialize", **hello), other.call("initialize", **hello)
    assert first == second
    assert "time" in first["serverInfo"]["name"]
    one.write({"jsonrpc": "2.0", "method": "notifications/initialized"})
    names = {tool["name"] for tool in other.call("tools/list")["tools"]}
    assert "get_current_time" in names
    asked = [(wire, zone, call_tool(wire, zone)) for zone in ("UTC", "Asia/Tokyo") for wire in (one, other)]
    for wire, zone, identity in asked:
        assert zone in wire.answer(identity)["content"][0]["text"]
    tool = {"name": "get_current_time", "arguments": {"timezone": "UTC"}}
    done = one.ended(one.call("job/start", method="tools/call", params=tool)["job"]["id"])
    assert done["status"] == "completed"
    assert "UTC" in one.output(done["id"], stream="stdout")
    wrong = {"name": "get_current_time", "arguments": {"timezone": "Nowhere/At all"}}
    failed = one.ended(one.call("job/start", method="tools/call", params=wrong)["job"]["id"])
    assert failed["status"] == "failed"
    kill(home, one, other)


# --- a language server ----------------------------------------------------------------------------------------------


class Editor:
    """A client of a language server, which knows of no broker: headers, and answers to what it is asked."""

    def __init__(self, home: Home) -> None:
        self.wire = home.connect()
        self.count = 0
        self.notes: list[Message] = []

    def send(self, message: Message) -> None:
        text = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.wire.sock.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))

    def read(self) -> Any:
        length = 0
        while (line := self.wire.lines.readline()) != b"\r\n":
            assert line, "the broker closed the connection"
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return json.loads(self.wire.lines.read(length))

    def call(self, method: str, params: object) -> Any:
        self.count += 1
        self.send({"id": self.count, "method": method, "params": params})
        while True:
            message = self.read()
            if "method" in message and "id" in message:
                self.send({"id": message["id"], "result": None})
            elif "method" in message:
                self.notes.append(message)
            else:
                assert message["id"] == self.count
                return message.get("result")

    def until(self, method: str, uri: str) -> Message:
        while True:
            for note in self.notes:
                if note["method"] == method and note["params"].get("uri") == uri:
                    return note
            self.notes.append(self.read())


def test_a_language_server(new_home: Callable[..., Home], tools: Path) -> None:
    home = fronting(new_home, "lsp", tools / "pylsp")
    one, other = Editor(home), Editor(home)
    hello: Message = {"processId": os.getpid(), "rootUri": None, "capabilities": {}}
    assert one.call("initialize", hello) == other.call("initialize", hello)
    for number, editor in enumerate((one, other)):
        editor.send({"method": "initialized", "params": {}})
        uri = f"file:///{number}.py"
        document = {"uri": uri, "languageId": "python", "version": 1, "text": f"import os{number}\nx = len([])\n"}
        editor.send({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        place = {"textDocument": {"uri": uri}, "position": {"line": 1, "character": 5}}
        assert "len" in json.dumps(editor.call("textDocument/hover", place))
    for number, editor in enumerate((one, other)):
        editor.until("textDocument/publishDiagnostics", f"file:///{number}.py")
        others = [note for note in editor.notes if note["params"].get("uri") == f"file:///{1 - number}.py"]
        assert others == [], "each hears of its own documents"
    assert one.call("shutdown", None) is None
    one.send({"method": "exit"})
    assert one.wire.lines.readline() == b""
    place = {"textDocument": {"uri": "file:///1.py"}, "position": {"line": 1, "character": 5}}
    assert "len" in json.dumps(other.call("textDocument/hover", place)), "one's exit is not the other's"
    plain = home.connect()
    kill(home, plain)


# --- its death ------------------------------------------------------------------------------------------------------


def kill(home: Home, *wires: Wire) -> None:
    """SIGKILL the real backend: all hear of it, and the next call starts everything again."""
    pid = wires[0].call("backend/status")["backend"]["pid"]
    os.kill(pid, signal.SIGKILL)
    for wire in wires:
        assert wire.note("notifications/broker/shuttingDown")["signal"] == "SIGKILL"
    assert home.wait() == 1
    home.start()
    wire = home.connect()
    wire.refused("a-method-it-does-not-know")
    assert wire.call("backend/status")["backend"]["state"] == "up"
