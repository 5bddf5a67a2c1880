"""Real tool servers and language servers behind the broker, two clients each, and their death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import PATIENCE, Home, Message, Wire, eventually
from real.editor import Editor
from real.servers import Servers, fronting

pytestmark = pytest.mark.slow
HELLO: Message = {
    "protocolVersion": "2025-06-18", "clientInfo": {"name": "one", "version": "1"}, "capabilities": {},
}  # fmt: skip
LONG = "trigger-long-running-operation"
SHARED = "A"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Servers:
    return Servers(tmp_path_factory.mktemp("servers"))


def kill(home: Home, *wires: Wire) -> list[str]:
    """SIGKILL the real backend: all hear of it, and the next call starts everything again; the turns that were lost."""
    lost: list[str] = []
    pid = wires[0].call("backend/status")["backend"]["pid"]
    os.kill(pid, signal.SIGKILL)
    for wire in wires:
        notice = wire.note("notifications/broker/shuttingDown")
        assert notice["signal"] == "SIGKILL"
        lost = notice["lostJobs"]
    assert home.wait() == 1
    home.start()
    wire = home.connect()
    wire.refused("a-method-it-does-not-know")
    assert wire.call("backend/status")["backend"]["state"] == "up"
    for job in lost:
        assert (wire.get(job)["status"], wire.get(job)["reason"]) == ("failed", "backend_exit")
    return lost


# --- tool servers ---------------------------------------------------------------------------------------------------


def call_tool(wire: Wire, name: str, token: object = None, **arguments: object) -> int:
    more = {} if token is None else {"_meta": {"progressToken": token}}
    return wire.send("tools/call", name=name, arguments=arguments, **more)


def start_tool(wire: Wire, name: str, **arguments: object) -> str:
    params = {"name": name, "arguments": arguments}
    identity: str = wire.call("job/start", method="tools/call", params=params)["job"]["id"]
    return identity


def text(answer: Message) -> str:
    found: str = answer["content"][0]["text"]
    return found


def test_a_tool_server(new_home: Callable[..., Home], servers: Servers) -> None:
    home = fronting(new_home, "mcp", *servers.tool_server)
    one, other = home.connect(), home.connect()
    first, second = one.call("initialize", **HELLO), other.call("initialize", **HELLO)
    assert first == second
    assert "time" in first["serverInfo"]["name"]
    one.write({"jsonrpc": "2.0", "method": "notifications/initialized"})
    names = {tool["name"] for tool in other.call("tools/list")["tools"]}
    assert "get_current_time" in names
    zones = [(wire, zone) for zone in ("UTC", "Asia/Tokyo") for wire in (one, other)]
    asked = [(wire, zone, call_tool(wire, "get_current_time", timezone=zone)) for wire, zone in zones]
    for wire, zone, identity in asked:
        assert zone in text(wire.answer(identity))
    done = one.ended(start_tool(one, "get_current_time", timezone="UTC"))
    assert done["status"] == "completed"
    assert "UTC" in one.output(done["id"], stream="stdout")
    assert one.ended(start_tool(one, "get_current_time", timezone="Nowhere/At all"))["status"] == "failed"
    kill(home, one, other)


def test_progress_goes_to_whoever_asked_though_both_use_one_token(
    new_home: Callable[..., Home], servers: Servers
) -> None:
    home = fronting(new_home, "mcp", *servers.everything)
    two = home.connect(), home.connect()
    for wire in two:
        wire.call("initialize", **HELLO)
    asked = [
        call_tool(wire, LONG, token=SHARED, duration=1, steps=steps) for wire, steps in zip(two, (2, 4), strict=True)
    ]
    for wire, identity, steps in zip(two, asked, (2, 4), strict=True):
        assert f"Steps: {steps}" in text(wire.answer(identity))
        told = [note["params"] for note in wire.notes if note["method"] == "notifications/progress"]
        assert [(note["progressToken"], note["total"]) for note in told[: steps - 1]] == [(SHARED, steps)] * (steps - 1)
        assert len(told) <= steps


def test_what_a_tool_asks_and_how_it_is_cancelled(new_home: Callable[..., Home], servers: Servers) -> None:
    home = fronting(new_home, "mcp", *servers.everything)
    one, other = home.connect(), home.connect()
    for wire in (one, other):
        wire.call("initialize", **HELLO)
    other.call("tools/list")
    asked = call_tool(one, "trigger-sampling-request", prompt="hi", maxTokens=10)
    while (question := one.read()).get("method") != "sampling/createMessage":
        assert "id" not in question, question
    content = {"type": "text", "text": "sampled!"}
    one.write({"id": question["id"], "result": {"role": "assistant", "model": "fake", "content": content}})
    assert "sampled!" in text(one.answer(asked))
    nobody = start_tool(other, "trigger-elicitation-request")
    assert "declined" in other.output(other.ended(nobody)["id"], stream="stdout")
    waits = call_tool(one, LONG, duration=1000, steps=1000)
    one.write({"method": "notifications/cancelled", "params": {"requestId": waits, "reason": "enough"}})
    eventually(lambda: other.call("backend/status")["backend"]["pending"] == 0, "it is taken back")
    job = start_tool(one, LONG, duration=1000, steps=10_000)
    assert "notifications/progress" in other.until_output(job, "progress")
    assert other.call("job/cancel", id=job)["job"]["status"] == "cancelled"
    assert "Steps: 1" in text(other.answer(call_tool(other, LONG, duration=0.1, steps=1)))
    lost = start_tool(one, LONG, duration=1000, steps=1000)
    assert kill(home, one, other) == [lost]


CLIENT = """
import asyncio, os, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

BRIDGE = '''
import os, socket, sys, threading
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
def up():
    while piece := os.read(0, 65536):
        sock.sendall(piece)
    sock.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while piece := sock.recv(65536):
    os.write(1, piece)
'''

async def main():
    bridge = StdioServerParameters(command=sys.executable, args=["-c", BRIDGE, sys.argv[1]])
    async with stdio_client(bridge) as streams, ClientSession(*streams) as session:
        greeting = await session.initialize()
        tools = await session.list_tools()
        answer = await session.call_tool("get_current_time", {"timezone": sys.argv[2]})
        print(len(tools.tools) > 0, answer.content[0].text)

asyncio.run(main())
"""


def test_a_client_library_that_knows_of_no_broker(new_home: Callable[..., Home], servers: Servers) -> None:
    home = fronting(new_home, "mcp", *servers.tool_server)
    zones = ("Europe/Rome", "Asia/Tokyo", "UTC")
    clients = [
        subprocess.Popen([servers.python, "-c", CLIENT, str(home.socket), zone], stdout=subprocess.PIPE, text=True)
        for zone in zones
    ]
    for client, zone in zip(clients, zones, strict=True):
        said, _ = client.communicate(timeout=2 * PATIENCE)
        assert client.returncode == 0
        assert said.startswith("True")
        assert zone in said
    assert home.connect().call("backend/status")["backend"]["starts"] == 1


# --- language servers -----------------------------------------------------------------------------------------------


def pyright(_: Servers) -> tuple[str, ...]:
    """The one that comes with the tools this is developed with."""
    return str(Path(sys.executable).with_name("pyright-langserver")), "--stdio"


def pylsp(servers: Servers) -> tuple[str, ...]:
    return servers.language_server


@pytest.mark.parametrize("program", [pylsp, pyright])
def test_a_language_server(
    new_home: Callable[..., Home], servers: Servers, program: Callable[[Servers], tuple[str, ...]]
) -> None:
    home = fronting(new_home, "lsp", *program(servers))
    one, other = Editor(home), Editor(home)
    assert one.greet() == other.greet()
    for number, editor in enumerate((one, other)):
        uri = f"file:///{number}.py"
        editor.open(uri, f"import os{number}\nx = len([])\n")
        assert "len" in editor.hover(uri, 1, 5), "also where it asks for its configuration first"
    for number, editor in enumerate((one, other)):
        editor.until("textDocument/publishDiagnostics", f"file:///{number}.py")
        others = [note for note in editor.notes if note["params"].get("uri") == f"file:///{1 - number}.py"]
        assert others == [], "each hears of its own documents"
    assert one.call("shutdown", None) is None
    one.send({"method": "exit"})
    assert one.wire.lines.read() == b""
    assert "len" in other.hover("file:///1.py", 1, 5), "one's exit is not the other's"
    kill(home, home.connect())
