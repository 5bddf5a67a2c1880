"""`jobctl rpc`: stdin and stdout as a connection, byte for byte, whatever is done to either end."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any

import pytest

from harness import PATIENCE, Home, Wire, eventually
from jobctl import JOBCTL, Cli

PING = b'{"id":1,"method":"broker/ping"}'


class Bridged(subprocess.Popen[bytes]):
    """A bridge, with ends that are no text."""

    def __init__(self, home: Home, **environ: str) -> None:
        pipe = subprocess.PIPE
        environment = {**home.environ, **environ}
        super().__init__([*JOBCTL, "rpc"], env=environment, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)

    @property
    def up(self) -> IO[bytes]:
        assert self.stdin is not None
        return self.stdin

    @property
    def down(self) -> IO[bytes]:
        assert self.stdout is not None
        return self.stdout

    def read(self) -> Any:
        line = b""
        while not line.endswith(b"\n"):
            piece = self.down.read(1)
            assert piece, "the bridge has ended"
            line += piece
        return json.loads(line)

    def end(self, data: bytes = b"") -> tuple[int, bytes, bytes]:
        out, err = self.communicate(data, timeout=PATIENCE)
        return self.returncode, out, err


@pytest.fixture
def bridge(shared: Home) -> Generator[Bridged]:
    with Bridged(shared) as made:
        yield made
        made.kill()


def framed(text: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%s" % (len(text), text)


def lined(text: bytes) -> bytes:
    return text + b"\n"


def directly(home: Home, said: bytes) -> bytes:
    """What the socket itself answers to that."""
    with Wire(str(home.socket)) as wire:
        wire.sock.sendall(said)
        wire.sock.shutdown(1)
        return wire.lines.read()


def test_it_starts_a_broker_and_passes_on_what_that_says(cli: Cli) -> None:
    assert cli("broker", "status").returncode == 5
    with Bridged(cli.home) as bridge:
        code, out, err = bridge.end(PING)
    assert (code, json.loads(out)["result"]["pid"], err) == (0, cli.broker(), b"")


def test_without_a_broker_and_the_right_to_start_one(new_home: Callable[..., Home]) -> None:
    with Bridged(new_home(), JOBBROKER_AUTOSPAWN="0") as bridge:
        code, out, err = bridge.end(PING)
    assert (code, out) == (5, b"")
    assert b"jobctl broker start" in err


@pytest.mark.parametrize(
    "said",
    [
        b'{"id":"a","method":"nope"}\n[{"id":0.5,"method":"job/get","params":["zzzzzz"]}]\r\n\n{"id":-1}',
        framed(b'{"id":0,"method":"nope"}') + framed(b'{"id":"\xc3\xbc","method":"shutdown"}') + b"Content-: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"",
    ],
    ids=["lines", "headers", "another language", "nothing"],
)  # fmt: skip
def test_both_framings_pass_as_they_are(bridge: Bridged, shared: Home, said: bytes) -> None:
    assert bridge.end(said) == (0, directly(shared, said), b"")


@pytest.mark.parametrize("frame", [lined, framed], ids=["lines", "headers"])
def test_fragments_of_three_bytes(bridge: Bridged, shared: Home, frame: Callable[[bytes], bytes]) -> None:
    said = b"".join(frame(b'{"id":%d,"method":"nope"}' % number) for number in range(40))
    for at in range(0, len(said), 3):
        bridge.up.write(said[at : at + 3])
    assert bridge.end() == (0, directly(shared, said), b"")


def test_what_is_asked_before_stdin_ends_is_answered_after(bridge: Bridged, client: Wire) -> None:
    job = client.start("sleep", "60")["id"]
    asked = {"id": 1, "method": "job/wait", "params": {"ids": [job]}}
    bridge.up.write(json.dumps(asked).encode() + b"\n" + PING)
    bridge.up.close()
    assert "pid" in bridge.read()["result"], "the wait is asked for, and nothing more will be"
    client.call("job/cancel", id=job)
    assert bridge.read()["result"]["jobs"][0]["id"] == job
    assert (bridge.wait(PATIENCE), bridge.down.read()) == (0, b"")


def test_s20_a_client_that_leaves_takes_its_jobs_along_only_if_it_said_so(bridge: Bridged, client: Wire) -> None:
    for fate in ("detach", "cancel"):
        params = {"argv": ["sleep", "60"], "name": f"rpc-{fate}", "onDisconnect": fate}
        bridge.up.write(json.dumps({"id": fate, "method": "job/start", "params": params}).encode() + b"\n")
        assert bridge.read()["result"]["created"]
    bridge.kill()
    assert client.ended("rpc-cancel")["reason"] == "disconnect"
    assert client.get("rpc-detach")["status"] == "running"
    client.call("job/cancel", id="rpc-detach")


def test_many_megabytes_both_ways(bridge: Bridged) -> None:
    """Echoed as an error: each answer is as long as its question."""
    said = b"".join(b'{"id":%d,"method":"%s"}\n' % (number, b"x" * 100_000) for number in range(60))
    code, out, err = bridge.end(said)
    assert (code, err) == (0, b"")
    assert [json.loads(line)["id"] for line in out.splitlines()] == list(range(60))
    assert len(out) > 6_000_000


def test_who_does_not_read_is_still_listened_to(bridge: Bridged, client: Wire) -> None:
    """A client that writes before it reads would wait for ever on a bridge that waits for it."""
    job = client.run("sh", "-c", "head -c 400000 /dev/zero | tr '\\0' x")["id"]
    read = json.dumps({"id": 1, "method": "job/output", "params": {"id": job, "limit": 400_000}}).encode()
    bridge.up.write(read + b"\n")
    assert bridge.down.read(1) == b"{"
    assert bridge.down.read(8192), "so that there is room in the pipe, but not for all"
    bridge.up.write(b'{"id":2,"method":"job/start","params":{"argv":["true"],"name":"unread"}}\n')
    eventually(lambda: client.call("job/list", name="unread")["jobs"], "the job was started")
    code, out, _ = bridge.end()
    assert (code, out.count(b"\n"), out.count(b"xxx") > 1000) == (0, 2, True)


def test_exit_ends_it_and_nothing_else(bridge: Bridged, client: Wire) -> None:
    bridge.up.write(framed(b'{"id":1,"method":"shutdown"}') + framed(b'{"method":"exit"}'))
    assert bridge.down.read(4096) == framed(b'{"jsonrpc":"2.0","id":1,"result":null}')
    assert bridge.wait(PATIENCE) == 0
    assert client.call("broker/ping")


def test_nobody_reads_any_more(bridge: Bridged) -> None:
    bridge.up.write(PING + b"\n")
    bridge.read()
    bridge.down.close()
    assert bridge.wait(PATIENCE) == 141, "though nothing was to be written"


def test_s19_the_notice_of_a_shutdown_comes_through(home: Home) -> None:
    with Bridged(home) as bridge:
        bridge.up.write(framed(PING))
        bridge.down.read(1)
        assert home.process is not None
        home.process.send_signal(signal.SIGTERM)
        home.wait()
        code, out, err = bridge.wait(PATIENCE), bridge.down.read(), bridge.stderr.read() if bridge.stderr else b""
    assert (code, err) == (0, b"")
    assert json.loads(out.rpartition(b"\r\n\r\n")[2])["params"]["reason"] == "SIGTERM"


def test_a_broker_that_is_killed_is_not_called_an_end(home: Home) -> None:
    with Bridged(home) as bridge:
        bridge.up.write(PING + b"\n")
        bridge.read()
        home.kill()
        assert bridge.wait(PATIENCE) == 5
        assert b"without a word" in (bridge.stderr.read() if bridge.stderr else b"")
    with Bridged(home) as after:
        assert after.end(PING)[0] == 0, "the next one starts a broker"
    Cli(home, Path("/")).ok("broker", "stop")


def test_s23_a_socket_with_a_long_path(new_home: Callable[..., Home]) -> None:
    home = new_home("x" * 120)
    with Bridged(home) as bridge:
        assert bridge.end(PING)[0] == 0
    long = Cli(home, Path("/"))
    assert "too long for some programs" in long("socket-path").stderr
    long.ok("broker", "stop")


def test_s23_the_usual_path_is_short(shared: Home) -> None:
    usual = Cli(shared, Path("/"))("socket-path", "--no-start", "--instance", "x" * 32, JOBBROKER_RUNTIME_DIR="")
    assert (len(usual.stdout.strip()) <= 100, usual.stderr) == (True, "")
