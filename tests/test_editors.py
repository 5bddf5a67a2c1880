"""Clients of every kind that editors have, against a real broker: each alone, and all of them at once.

How they frame, number and spell what they say was measured on the real ones; docs/editors.md has the table.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from harness import PATIENCE, Failed, Home, Message, Wire, eventually, lines


class Kind(NamedTuple):
    """A client's ways.

    Attributes:
        head: what it writes before the length, None for lines.
        ids: makes an id of a number.
        nothing: what it sends for no parameters; "absent" leaves them out.
        version: whether it says `jsonrpc`.
        hello: whether it sends `initialize`.
    """

    name: str
    head: bytes | None
    ids: Callable[[int], object]
    nothing: object
    version: bool
    hello: bool


def _from_one(number: int) -> object:
    return number


def _from_zero(number: int) -> object:
    return number - 1


def _text(number: int) -> object:
    return f"1c9f-{number}-\u00fc"


VIM = b"Content-Type: application/vim-jsonrpc; charset=utf-8\r\n"
PYLSP = b"Content-Type: application/vscode-jsonrpc; charset=utf8\r\n"
KINDS = [
    Kind("vscode", b"", _from_zero, "absent", version=True, hello=True),
    Kind("nvim", b"", _from_one, [], version=True, hello=True),
    Kind("vim 9.0", VIM, _from_one, {}, version=True, hello=True),
    Kind("emacs", b"", _from_one, None, version=True, hello=False),
    Kind("pylsp", PYLSP, _text, "absent", version=True, hello=True),
    Kind("nc", None, _from_one, "absent", version=False, hello=False),
    Kind("lines", None, _text, {}, version=True, hello=True),
]
VSCODE, NVIM = KINDS[0], KINDS[1]


class Speaker:
    """One client; what it writes goes out in pieces of so many bytes."""

    def __init__(self, home: Home, kind: Kind, piece: int) -> None:
        self.kind = kind
        self.piece = piece
        self.count = 0
        self.notes: list[Message] = []
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(home.socket))
        self.stream = self.sock.makefile("rb")

    def close(self) -> None:
        self.stream.close()
        self.sock.close()

    def say(self, message: object) -> None:
        text = json.dumps(message, ensure_ascii=False).encode()
        head = self.kind.head
        said = text + b"\n" if head is None else head + b"Content-Length: %d\r\n\r\n" % len(text) + text
        for at in range(0, len(said), self.piece):
            self.sock.sendall(said[at : at + self.piece])

    def hear(self) -> Any:
        """The next message, None at the end; framed as it must be."""
        line = self.stream.readline()
        if not line or self.kind.head is None:
            return json.loads(line) if line else None
        assert line.startswith(b"Content-Length: "), line
        assert self.stream.readline() == b"\r\n"
        assert len(line) + 2 <= 100, "Emacs looks no further"
        return json.loads(self.stream.read(int(line[16:])))

    def ask(self, method: str, params: object = None) -> Any:
        self.count += 1
        identity = self.kind.ids(self.count)
        message: Message = {"jsonrpc": "2.0"} if self.kind.version else {}
        message |= {"id": identity, "method": method}
        params = self.kind.nothing if params is None else params
        self.say(message if params == "absent" else {**message, "params": params})
        while "method" in (answer := self.hear()):
            self.notes.append(answer)
        assert answer["jsonrpc"] == "2.0"
        assert (answer["id"], type(answer["id"])) == (identity, type(identity))
        assert ("result" in answer) != ("error" in answer)
        return answer["result"] if "result" in answer else answer["error"]

    def until(self, wanted: Callable[[Message], bool]) -> Message:
        """The first notification like that."""
        while True:
            note = self.notes.pop(0) if self.notes else self.hear()
            if wanted(note):
                found: Message = note
                return found


@contextmanager
def speaking(home: Home, kind: Kind, piece: int = 65536) -> Generator[Speaker]:
    speaker = Speaker(home, kind, piece)
    try:
        yield speaker
    finally:
        speaker.close()


def work(speaker: Speaker) -> str:
    """What every plugin does; the id of the job that still runs."""
    if speaker.kind.hello:
        hello = {
            "clientInfo": {"name": speaker.kind.name},
            "capabilities": {"window": {"x": [1] * 900}},
            "trace": "off",
        }
        answer = speaker.ask("initialize", hello)
        assert answer["capabilities"] == {}
        speaker.say({"jsonrpc": "2.0", "method": "initialized", "params": {}})
    speaker.say({"method": "$/setTrace", "params": {"value": "verbose"}})
    assert speaker.ask("events/subscribe", {"output": True})["cursor"]
    job = speaker.ask("job/start", {"argv": ["sh", "-c", "echo tschüß; exit 3"], "name": None})["job"]
    said = speaker.until(lambda note: note["params"].get("id") == job["id"])
    assert said["params"]["data"] == "tschüß\n"
    ended = speaker.until(lambda note: note["params"].get("job", {}).get("exitCode") == 3)
    assert ended["params"]["job"]["id"] == job["id"]
    assert job["id"] in [each["id"] for each in speaker.ask("job/list")["jobs"]]
    assert speaker.ask("job/output", {"id": job["id"]})["data"] == "tschüß\n"
    assert speaker.ask("job/none")["code"] == -32601
    waited = speaker.ask("job/wait", {"ids": [job["id"]], "timeoutMs": 1e4})
    assert [each["id"] for each in waited["jobs"]] == [job["id"]]
    sleeper = speaker.ask("job/start", {"argv": ["sleep", "600"]})["job"]["id"]
    assert speaker.ask("job/cancel", [sleeper])["job"]["status"] == "cancelled"
    return str(speaker.ask("job/start", {"argv": ["sleep", "600"]})["job"]["id"])


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
@pytest.mark.parametrize("piece", [3, 65536])
def test_one_alone(shared: Home, kind: Kind, piece: int) -> None:
    with speaking(shared, kind, piece) as speaker:
        speaker.ask("job/cancel", {"id": work(speaker)})


def test_s19_all_at_once_in_fragments_until_the_broker_says_goodbye(home: Home) -> None:
    jobs: dict[int, str] = {}
    goodbyes: dict[int, Message] = {}
    faults: list[Exception] = []
    everybody = threading.Barrier(3 * len(KINDS) + 1, timeout=PATIENCE)

    def live(number: int) -> None:
        try:
            with speaking(home, KINDS[number % len(KINDS)], (3, 7, 65536)[number % 3]) as speaker:
                jobs[number] = work(speaker)
                everybody.wait()
                goodbyes[number] = speaker.until(lambda note: "shuttingDown" in note["method"])["params"]
                assert speaker.hear() is None, "and then the end"
        except Exception as exc:  # noqa: BLE001  # told to the test's own thread
            faults.append(exc)
            everybody.abort()

    threads = [threading.Thread(target=live, args=(number,)) for number in range(3 * len(KINDS))]
    for thread in threads:
        thread.start()
    try:
        everybody.wait()
        assert home.process is not None
        home.process.send_signal(signal.SIGTERM)
    except threading.BrokenBarrierError:
        pass
    for thread in threads:
        thread.join(PATIENCE)
    assert faults == []
    assert home.wait() == 0
    assert len(set(jobs.values())) == len(jobs) == len(goodbyes) == len(threads), "no id was given twice"
    assert {each["reason"] for each in goodbyes.values()} == {"SIGTERM"}
    home.start()
    with home.connect() as wire:
        assert {wire.get(job)["status"] for job in jobs.values()} == {"running"}


# --- one rule each --------------------------------------------------------------------------------------------------


def test_s04_what_is_sent_is_one_compact_line_whatever_is_in_it(client: Wire) -> None:
    strange = '\n\r\t\x07\x1b[31m\x7f\u2028\U0001f600\\"/'
    client.write(
        {"id": strange, "method": "job/start", "params": {"argv": ["printf", strange], "labels": {strange: "x"}}}
    )
    line = client.lines.readline()
    assert line.endswith(b"}\n")
    assert not any(byte < 0x20 for byte in line[:-1])
    assert b'": ' not in line
    answer = json.loads(line)
    assert (answer["id"], answer["result"]["job"]["labels"]) == (strange, {strange: "x"})


def test_s12_no_string_holds_a_nul_and_what_is_no_text_is_base64(client: Wire) -> None:
    job = client.run("sh", "-c", r"printf 'a\000b'; printf '\377' >&2")["id"]
    client.write({"id": "out", "method": "job/output", "params": {"id": job, "stream": "stdout"}})
    client.write({"id": "err", "method": "job/output", "params": {"id": job, "stream": "stderr"}})
    out, err = client.lines.readline(), client.lines.readline()
    assert rb"\u0000" not in out + err
    assert json.loads(out)["result"]["encoding"] == json.loads(err)["result"]["encoding"] == "base64"


@pytest.mark.parametrize("kind", [VSCODE, KINDS[5]], ids=["headers", "lines"])
def test_s13_what_nobody_asked_for_is_ignored_and_a_bad_method_answered_at_once(shared: Home, kind: Kind) -> None:
    with speaking(shared, kind) as speaker:
        ignored = [
            {"method": "initialized"}, {"method": "$/progress", "params": 7}, {"method": "textDocument/didOpen"},
            {"jsonrpc": "2.0", "id": 1, "result": None}, {"jsonrpc": "2.0", "id": "x", "error": {"code": 1}},
        ]  # fmt: skip
        for message in ignored:
            speaker.say(message)
        strange: list[object] = [None, 7, [], {"a": 1}]
        for method in strange:
            speaker.say({"id": "mine", "method": method})
            answer = speaker.hear()
            assert (answer["id"], answer["error"]["code"]) == ("mine", -32600)
        assert speaker.ask("$/unknown")["code"] == -32601


def test_s14_an_id_beside_the_method_is_understood_and_not_answered(shared: Home, client: Wire) -> None:
    """As the manual of Vim has it: a second answer under that id would be taken for the first."""
    job = client.start("sleep", "600")["id"]
    with speaking(shared, KINDS[2]) as vim:
        vim.say({"jsonrpc": "2.0", "id": 1, "method": "job/wait", "params": {"ids": [job]}})
        vim.say({"method": "$/cancelRequest", "id": 1})
        answer = vim.hear()
        assert (answer["id"], answer["error"]["code"]) == (1, -32800)
        vim.count = 1
        assert vim.ask("job/get", {"id": job})["job"]["status"] == "running"
        assert vim.ask("job/cancel", {"id": job})["changed"]


def test_s15_the_broker_asks_nothing(shared: Home) -> None:
    with speaking(shared, NVIM) as speaker:
        assert speaker.ask("events/subscribe", {"output": True})
        for _ in range(20):
            speaker.ask("job/start", {"argv": ["echo", "x"]})
        job = speaker.ask("job/start", {"argv": ["sleep", "0.2"]})["job"]["id"]
        speaker.ask("job/wait", {"ids": [job]})
        assert len(speaker.notes) > 20
        assert not [note for note in speaker.notes if "id" in note]


def test_s17_s18_the_life_cycle_of_a_language_client(shared: Home, client: Wire) -> None:
    with speaking(shared, NVIM) as speaker:
        params = {"processId": 1, "rootUri": None, "capabilities": {"textDocument": {"x": "y" * 3600}}, "trace": "off"}
        first = speaker.ask("initialize", params)
        assert first == speaker.ask("initialize", params)
        assert (first["capabilities"], first["serverInfo"]["name"]) == ({}, "jobbroker")
        assert {"job/start", "broker/trace"} <= set(first["methods"])
        assert speaker.ask("shutdown") is None
        speaker.say({"jsonrpc": "2.0", "method": "exit"})
        assert speaker.hear() is None
    assert client.call("broker/ping"), "the daemon is not ended by an editor"


def test_s05_a_message_is_never_interrupted_by_another(shared: Home) -> None:
    """Two floods of output and the answers to a hundred requests, on one connection: every message is whole."""
    with speaking(shared, VSCODE) as speaker:
        speaker.ask("events/subscribe", {"output": True})
        script = "head -c 3000000 /dev/zero | tr '\\0' x"
        jobs = [speaker.ask("job/start", {"argv": ["sh", "-c", script]})["job"]["id"] for _ in range(2)]
        for _ in range(100):
            speaker.ask("job/list", {"limit": 50})
        over: set[str] = set()
        while over != set(jobs):
            note = speaker.until(lambda _: True)
            if note["method"] == "notifications/job/output":
                assert len(note["params"]["data"]) <= 64 * 1024
            elif note["params"].get("job", {}).get("completedAt"):
                over.add(note["params"]["job"]["id"])


def test_s06_an_array_is_sent_for_an_array_alone(shared: Home) -> None:
    with speaking(shared, VSCODE) as speaker:
        speaker.say([{"id": 0, "method": "broker/ping"}, 7, {"method": "initialized"}, {"id": "x", "method": "nope"}])
        answer = speaker.hear()
        assert [each["id"] for each in answer] == [0, None, "x"]
        speaker.say([{"method": "initialized"}])
        speaker.say([])
        assert speaker.hear()["error"]["code"] == -32600


# --- scripts --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("nc") is None, reason="no nc here")
def test_s20_a_shell_and_nc(shared: Home, client: Wire) -> None:
    job = client.start("sleep", "600")["id"]
    asked = {"id": 1, "method": "job/wait", "params": {"ids": [job]}}
    nc = ["nc", "-N", "-U", str(shared.socket)]
    with subprocess.Popen(nc, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdin is not None
        waiting.stdin.write('{"id":0,"method":"broker/ping"}\n' + json.dumps(asked))
        waiting.stdin.close()
        assert waiting.stdout is not None
        assert json.loads(waiting.stdout.readline())["id"] == 0
        client.call("job/cancel", id=job)
        assert json.loads(waiting.stdout.readline())["result"]["jobs"][0]["id"] == job
        assert waiting.wait(PATIENCE) == 0


def test_s20_who_connects_and_says_nothing_or_only_leaves(shared: Home, client: Wire) -> None:
    for _ in range(50):
        with Wire(str(shared.socket)):
            pass
    with Wire(str(shared.socket)) as silent:
        silent.sock.shutdown(socket.SHUT_WR)
        assert list(lines(silent)) == []
    eventually(lambda: client.call("broker/status")["connections"] == 1, "they have gone")
    assert "Traceback" not in shared.log_text()


def test_s21_s22_news_of_states_reach_who_reads_late_and_those_only_who_asked(shared: Home, client: Wire) -> None:
    with speaking(shared, VSCODE) as late, speaking(shared, KINDS[5]) as elsewhere:
        late.ask("events/subscribe", {"output": True})
        elsewhere.ask("events/subscribe", {"jobs": {"cwd": "/nowhere"}})
        flood = client.start("sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x")["id"]
        begun = time.monotonic()
        assert client.ended(flood)["status"] == "completed"
        assert time.monotonic() - begun < PATIENCE, "nobody waits for who does not read"
        got = missed = 0
        while True:
            note = late.until(lambda _: True)
            if note["method"] == "notifications/job/output" and note["params"]["id"] == flood:
                got += len(note["params"]["data"])
                missed += note["params"]["dropped"]
            elif note["params"].get("job", {}).get("id") == flood and note["params"]["job"]["completedAt"]:
                break
        assert missed > 0
        assert got + missed == 20_000_000, "what is missing is said, to the byte"
        elsewhere.ask("broker/ping")
        assert elsewhere.notes == []


def test_a_wrong_speaker_is_told_what_it_did(client: Wire) -> None:
    with pytest.raises(Failed) as refused:
        client.call("job/get", id=7)
    assert refused.value.code == -32602
    client.sock.sendall(b'[1,{"method":"broker/ping","params":{}}]\n')
    assert [each["error"]["code"] for each in client.read() if "error" in each] == [-32600]
