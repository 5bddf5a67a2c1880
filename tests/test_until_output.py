"""`job/wait` for a line of output: what is there, what comes, what never comes; and patterns that would hang others."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Failed, Home, Message, Wire, eventually
from jobbroker.pattern import BadPattern, Pattern

MIB = 1024 * 1024


def until(wire: Wire, job: str, pattern: str, *, timeout: int | None = None, **more: object) -> Message:
    params: Message = {} if timeout is None else {"timeoutMs": timeout}
    return wire.call("job/wait", ids=[job], untilOutput={"pattern": pattern, **more}, **params)


# --- patterns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("up", b"it is up"), ("^two", b"two\r"), ("one$", b"one"), (r"(?i)TWO", b"two\r"), ("^$", b""),
        (r"t.*p", b"it is up"), ("é", "é".encode()), (r"\d+", b"port 80"), ("(a)(b)?$", b"a"),
    ],
)  # fmt: skip
def test_a_pattern_matches_within_a_line(pattern: str, line: bytes) -> None:
    block = "one\ntwo\r\n\nit is up\né\nport 80\na\n".encode()
    found = Pattern(pattern).line_of(block)
    assert found is not None
    assert block[slice(*found)] == line


def test_a_pattern_is_taken_whole() -> None:
    """What is put around it must not get into it, and the first of two ways must not have the flags for itself."""
    assert Pattern(r"\Qa.b").line_of(b"axb\na.b\n") == (4, 7)
    assert Pattern("^x|^b$").line_of(b"a\nb\nc\n") == (2, 3)


@pytest.mark.parametrize("pattern", [r"one\s+two", "one\ntwo", "[^x]two", "(?s)one.two", "z"])
def test_no_pattern_reaches_over_a_line(pattern: str) -> None:
    assert Pattern(pattern).line_of(b"one\ntwo\n") is None


def test_behind_the_last_line_there_is_none() -> None:
    assert Pattern("^$").line_of(b"one\n") is None
    assert Pattern("e$").line_of(b"one") == (0, 3)


@pytest.mark.parametrize("pattern", ["(", "a)(b", r"(?=a)", r"(a)\1", "((a{100}){100}){100}", "x" * 1001, "[", "*"])
def test_what_is_no_pattern_says_why(pattern: str) -> None:
    with pytest.raises(BadPattern) as bad:
        Pattern(pattern)
    assert str(bad.value)


# --- waiting --------------------------------------------------------------------------------------------------------


def test_a_line_that_is_there_already(client: Wire) -> None:
    job = client.run("printf", "one\\ntwo port 80\\nthree")["id"]
    answer = until(client, job, r"port \d+")
    assert answer["match"] == {
        "stream": "stdout", "line": "two port 80", "encoding": "utf-8", "start": "4", "next": "16",
    }  # fmt: skip
    assert ([ended["id"] for ended in answer["jobs"]], answer["timedOut"]) == ([job], False)
    assert client.output(job, **{"from": answer["match"]["next"]}) == "three"
    assert client.call("job/wait", ids=[job], untilOutput={"pattern": "one", "from": "4"})["match"] is None
    assert until(client, job, "^three$")["match"]["start"] == "16", "a last line without its end counts at the end"


def test_a_line_that_comes(client: Wire, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = client.shell(f"echo starting; read x < {gate}; printf 'rea'; sleep 0.2; echo 'dy now'; sleep 60")["id"]
    client.until_output(job, "starting")
    waiting = client.send("job/wait", ids=[job], untilOutput={"pattern": "^ready"})
    assert until(client, job, "ready", timeout=50)["timedOut"] is True
    gate.write_text("go\n")
    answer = client.answer(waiting)
    assert (answer["match"]["line"], answer["jobs"], answer["timedOut"]) == ("ready now", [], False)
    assert until(client, job, "starting", timeout=0)["match"]["line"] == "starting", "what is there needs no time"
    client.call("job/cancel", id=job, graceMs=0)


def test_a_job_that_ends_without(client: Wire) -> None:
    job = client.shell("echo something else; sleep 0.1; exit 3")["id"]
    answer = until(client, job, "ready")
    assert (answer["match"], answer["jobs"][0]["exitCode"], answer["timedOut"]) == (None, 3, False)


def test_the_last_words_of_a_job(client: Wire) -> None:
    job = client.shell("sleep 0.1; printf 'bye without an end'")["id"]
    assert until(client, job, "bye")["match"]["line"] == "bye without an end"


def test_streams_have_lines_of_their_own(client: Wire) -> None:
    script = "printf 'on'; printf 'TW' >&2; sleep 0.1; echo e; echo O >&2; sleep 0.1; echo done; echo done >&2"
    job = client.run("sh", "-c", script)["id"]
    for stream in ("all", "stdout"):
        assert until(client, job, "^one$", stream=stream)["match"]["start"] == "0"
    assert until(client, job, "^TWO$")["match"] == {
        "stream": "stderr", "line": "TWO", "encoding": "utf-8", "start": "2", "next": "8",
    }  # fmt: skip
    assert until(client, job, "^one", stream="stderr")["match"] is None
    assert until(client, job, "done", stream="stderr")["match"]["stream"] == "stderr"
    assert until(client, job, "done")["match"]["start"] == "8", "of both streams the first that matches"


def test_a_line_in_many_megabytes(client: Wire) -> None:
    job = client.shell("yes 'nothing to see here' | head -n 1000000; echo needle; sleep 60")["id"]
    match = until(client, job, "^needle$")["match"]
    assert (match["line"], match["start"]) == ("needle", str(1_000_000 * len("nothing to see here\n")))
    client.call("job/cancel", id=job, graceMs=0)


def test_a_line_without_end_is_examined_in_part(client: Wire) -> None:
    job = client.shell(f"echo; head -c {MIB} /dev/zero | tr '\\0' x; echo needle; echo after")["id"]
    assert until(client, job, "needle")["match"] is None
    match = until(client, job, "^x+$")["match"]
    assert (len(match["line"]), match["start"]) == (65536, "1")
    assert until(client, job, "after")["match"]["start"] == str(1 + MIB + 7)


def test_bytes_that_are_no_text(client: Wire) -> None:
    job = client.run("printf", r"\377found\n")["id"]
    match = until(client, job, "found")["match"]
    assert (match["encoding"], match["line"]) == ("base64", "/2ZvdW5k")


def test_a_stopped_job_writes_nothing(client: Wire) -> None:
    job = client.shell("echo early; sleep 60")
    client.until_output(job["id"], "early")
    waiting = client.send("job/wait", ids=[job["id"]], untilOutput={"pattern": "late"})
    client.call("broker/ping")
    os.kill(job["pid"], signal.SIGSTOP)
    with pytest.raises(Failed) as refused:
        client.answer(waiting)
    assert refused.value.code == -31005
    assert until(client, job["id"], "early")["match"]["line"] == "early", "but what is there can be found"
    client.call("job/cancel", id=job["id"], graceMs=0)


def test_what_makes_no_sense_is_refused(client: Wire) -> None:
    job = client.run("echo", "x")["id"]
    for wanted, why in (({"pattern": "("}, "missing )"), ({"pattern": "x", "from": "9"}, "beyond"), ({}, "pattern")):
        refused = client.refused("job/wait", ids=[job], untilOutput=wanted)
        assert refused.code == -32602
        assert why in str(refused)
    assert client.refused("job/wait", all=True, untilOutput={"pattern": "x"}).code == -32602
    assert client.refused("job/wait", ids=[job, "%1"], untilOutput={"pattern": "x"}).code in (-32602, -31002)


def test_the_worst_pattern_is_in_nobodys_way(home: Home) -> None:
    """A second of work a line, for many lines: everybody else is served meanwhile, and it can be taken back."""
    wire, other = home.connect(), home.connect()
    line = "head -c 65000 /dev/zero | tr '\\0' a; echo"
    job = wire.run("sh", "-c", f"for n in $(seq 30); do {line}; done")["id"]
    worst = "(?:[a-q][^u-z]{13}x){8}Q|(?:a?){0,900}a{900}Q"
    waiting = wire.send("job/wait", ids=[job], untilOutput={"pattern": worst})
    wire.call("broker/ping")
    for _ in range(50):
        assert other.run("true")["status"] == "completed"
    wire.write({"method": "$/cancelRequest", "params": {"id": waiting}})
    with pytest.raises(Failed) as cancelled:
        wire.answer(waiting)
    assert cancelled.value.code == -32800


def test_files_that_are_none_of_ours_are_not_searched(home: Home) -> None:
    wire = home.connect()
    first, second = (wire.run("echo", "ready")["id"] for _ in range(2))
    jobs = home.state / "jobs"
    (jobs / first / "output").unlink()
    (jobs / first / "output").symlink_to("record")
    (jobs / second).rename(home.root / "elsewhere")
    (jobs / second).symlink_to(home.root / "elsewhere")
    for job, kind in (first, "invalid_state"), (second, "job_not_found"):
        with pytest.raises(Failed) as refused:
            until(wire, job, "ready")
        assert (refused.value.kind, "replaced" in str(refused.value)) == (kind, True)


def test_in_output_that_was_given_up_there_is_no_line(new_home: Callable[..., Home]) -> None:
    """A cursor from before is as good as it was, though the files are gone."""
    home = new_home()
    (home.root / "config.toml").write_text("[limits]\nmaxTotalOutput = 1\n")
    home.start()
    wire = home.connect()
    job = wire.run("echo", "ready")["id"]
    eventually(lambda: wire.get(job)["stdout"]["dropped"] == 6, "given up")
    within: Message = {"from": "3"}
    assert until(wire, job, "ready", **within)["match"] is None
    beyond: Message = {"from": "7"}
    with pytest.raises(Failed) as refused:
        until(wire, job, "ready", **beyond)
    assert "6 bytes" in str(refused.value)


def test_output_in_memory_is_searched_too(client: Wire) -> None:
    job = client.shell("echo up; sleep 60", persist=False)["id"]
    assert until(client, job, "up")["match"]["line"] == "up"
    client.call("job/cancel", id=job, graceMs=0)
