"""Output that is kept in memory only: there as long as somebody has it, on no disk ever, and never nothing instead."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from driver import Driver, Link
from harness import Home, Message, Wire, alive, eventually
from jobbroker.capture import in_memory
from jobbroker.core import record
from jobbroker.core.index import STDERR, STDOUT, encode
from jobbroker.identity import start_time
from jobbroker.volatile import IN_MEMORY, MAX_IN_MEMORY, VolatileOutputs
from jobclient.protocol.errors import ResultUnavailable
from jobctl import Cli
from samples import snapshot

SECRET = b"a word of two halves"
SAYS_IT = ["printf", "%s%s", "a word of ", "two halves"]
"""So that the command line, which is kept, does not hold what it writes."""


def files_with(word: bytes, *places: Path) -> list[Path]:
    """All files below some places that hold a word."""
    return [path for place in places for path in place.rglob("*") if path.is_file() and word in path.read_bytes()]


def waits_at(fifo: Path, before: str, after: str) -> list[str]:
    """A shell that writes something, waits to be let go, and writes something else."""
    os.mkfifo(fifo)
    return ["sh", "-c", 'printf "%s$1" "$2"; read line < "$3"; printf "%s$1" "$4"', "sh", "", before, str(fifo), after]


def files_in_memory(pid: int) -> list[os.stat_result]:
    """Those files a process has open that are output or index."""
    found: list[os.stat_result] = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if "jobbroker-" in os.readlink(path):
                found.append(path.stat())
    return found


def let_go(fifo: Path) -> None:
    fifo.write_text("go\n")


def shim_of(home: Home, job: Message) -> int:
    _, lines = record.decode(home.record(job["id"]))
    claim = record.last(lines, b"A")
    assert claim is not None
    return claim.number(0)


# --- through a broker -------------------------------------------------------------------------------------------------


def test_r018_a_job_of_a_millisecond_loses_nothing_and_leaves_nothing_on_disk(home: Home, wire: Wire) -> None:
    for _ in range(20):
        job = wire.run(*SAYS_IT, persist=False)
        assert (job["persist"], job["status"], job["stdout"]["size"]) == (False, "completed", len(SECRET))
        piece = wire.call("job/output", id=job["id"])
        assert (piece["data"].encode(), piece["eof"], piece["dropped"]) == (SECRET, True, 0)
        assert wire.call("job/result", id=job["id"])["result"]["stdout"].encode() == SECRET
        assert os.listdir(home.state / "jobs" / job["id"]) == ["record"]
    assert files_with(SECRET, home.root) == []
    assert wire.run(*SAYS_IT)["persist"] is True
    assert files_with(SECRET, home.root) != [], "the search would find it"


def test_streams_tails_and_waits_are_as_on_disk(wire: Wire, tmp_path: Path) -> None:
    job = wire.start(*waits_at(tmp_path / "gate", "one\ntwo\n", "three\n"), persist=False)
    assert wire.until_output(job["id"], "two\n") == "one\ntwo\n"
    assert wire.get(job["id"])["stdout"] == {"size": 8, "dropped": 0, "closed": False}
    waiting = wire.send("job/output", id=job["id"], waitMs=30_000, **{"from": "8"})
    let_go(tmp_path / "gate")
    assert wire.answer(waiting)["data"] == "three\n"
    wire.ended(job["id"])
    assert wire.output(job["id"], tail=2) == "two\nthree\n"
    split = wire.run("sh", "-c", "echo out; echo err >&2", persist=False)["id"]
    assert (wire.output(split, stream="stdout"), wire.output(split, stream="stderr")) == ("out\n", "err\n")


def test_the_limit_holds_in_memory(home: Home, wire: Wire) -> None:
    job = wire.run("sh", "-c", "yes 0123456789 | head -c 20000000", persist=False, maxOutput=1_000_000)
    assert job["stdout"]["size"] == 20_000_000
    first = wire.call("job/output", id=job["id"], limit=1 << 20)
    assert len(first["data"]) == 100_000
    rest = wire.call("job/output", id=job["id"], limit=1 << 20, **{"from": first["next"]})
    assert len(first["data"]) + rest["dropped"] + len(rest["data"]) == 20_000_000
    assert job["stdout"]["dropped"] == rest["dropped"]
    assert home.process is not None
    held = files_in_memory(home.process.pid)
    assert len(held) == 2
    assert sum(status.st_blocks for status in held) * 512 <= 1_000_000 + 65536


def test_limits_of_what_may_be_asked_for(wire: Wire) -> None:
    for wrong in (0, MAX_IN_MEMORY + 1):
        assert wire.refused("job/start", argv=["true"], persist=False, maxOutput=wrong).code == -32602
    job = wire.run("sh", "-c", f"head -c {IN_MEMORY + 5_000_000} /dev/zero", persist=False)
    assert IN_MEMORY * 0.9 < job["stdout"]["size"] - job["stdout"]["dropped"] <= IN_MEMORY
    job = wire.run("sh", "-c", "head -c 5000000 /dev/zero", persist=False, maxOutput=4_000_000)
    assert 3_600_000 < job["stdout"]["size"] - job["stdout"]["dropped"] <= 4_000_000


def test_the_next_broker_takes_it_from_the_shim(home: Home, tmp_path: Path) -> None:
    wire = home.connect()
    job = wire.start(*waits_at(tmp_path / "gate", "before", "after"), persist=False)
    wire.until_output(job["id"], "before")
    home.restart()
    wire = home.connect()
    assert wire.output(job["id"]) == "before"
    let_go(tmp_path / "gate")
    wire.ended(job["id"])
    eventually(lambda: not alive(shim_of(home, job)), "the adopted shim goes with its job")
    assert wire.output(job["id"]) == "beforeafter"
    assert wire.call("job/result", id=job["id"])["result"]["stdout"] == "beforeafter"


def test_what_is_gone_is_said_to_be_gone(home: Home, tmp_path: Path) -> None:
    wire = home.connect()
    early = wire.run(*SAYS_IT, persist=False)
    silent = wire.run("true", persist=False)
    job = wire.start(*waits_at(tmp_path / "gate", "before", "after"), persist=False)
    wire.until_output(job["id"], "before")
    home.kill()
    let_go(tmp_path / "gate")
    eventually(lambda: b"\nX" in home.record(job["id"]).rpartition(b"\0")[2], "it ends while there is no broker")
    home.start()
    wire = home.connect()
    for gone in (early, job):
        assert wire.get(gone["id"])["status"] == "completed"
        for method in ("job/output", "job/result"):
            failed = wire.refused(method, id=gone["id"])
            assert (failed.code, failed.kind) == (-31003, "result_unavailable")
            assert "in memory only" in str(failed)
            assert failed.data == {
                "id": gone["id"],
                "status": "completed",
                "reason": "exit",
                "exitCode": 0,
                "kind": "result_unavailable",
            }
    assert wire.get(job["id"])["stdout"] == {"size": 11, "dropped": 0, "closed": True}
    assert wire.call("job/output", id=silent["id"])["eof"] is True, "of a job that wrote nothing that is all there is"


def test_a_job_whose_shim_was_killed_still_has_what_it_wrote(home: Home, wire: Wire, tmp_path: Path) -> None:
    job = wire.start(*waits_at(tmp_path / "gate", "before", "after"), persist=False)
    wire.until_output(job["id"], "before")
    shim = shim_of(home, job)
    os.kill(shim, signal.SIGKILL)
    eventually(lambda: not alive(shim), "the shim is dead")
    os.kill(job["pid"], signal.SIGKILL)
    ended = wire.ended(job["id"])
    assert (ended["reason"], ended["stdout"]["size"]) == ("lost", 6)
    assert wire.output(job["id"]) == "before"


def descriptors(home: Home) -> int:
    assert home.process is not None
    return len(os.listdir(f"/proc/{home.process.pid}/fd"))


def test_removed_with_its_job_and_nothing_leaks(home: Home, wire: Wire) -> None:
    wire.call("job/remove", id=wire.run(*SAYS_IT, persist=False)["id"])
    before = descriptors(home)
    jobs = [wire.run(*SAYS_IT, persist=False)["id"] for _ in range(20)]
    assert wire.run("no-such-program", persist=False)["reason"] == "spawn"
    assert descriptors(home) == before + 2 * len(jobs) + 2
    assert len(wire.call("job/cleanup", maxAgeMs=0)["removed"]) == len(jobs) + 1
    assert descriptors(home) == before


def is_refused(wire: Wire, reference: str) -> bool:
    wire.write({"id": reference, "method": "job/output", "params": {"id": reference}})
    return "error" in wire.read()


def test_the_oldest_make_room(new_home: Callable[..., Home]) -> None:
    home = new_home()
    home.start()
    wire = home.connect()
    calls = [
        {"id": -n, "method": "job/start", "params": {"argv": SAYS_IT, "persist": False, "name": f"n{n}"}}
        for n in range(1, 301)
    ]
    wire.write(calls)
    assert len(wire.read()) == 300
    wire.call("job/wait", all=True)
    refused = [n for n in range(1, 301) if is_refused(wire, f"n{n}")]
    assert len(refused) == 300 - 256
    assert "make room" in str(wire.refused("job/output", id=f"n{refused[0]}"))
    assert wire.output("n300").encode() == SECRET


def test_the_command_line(cli: Cli) -> None:
    done = cli("run", "--no-persist", "-n", "quiet", "--", *SAYS_IT)
    assert (done.returncode, done.stdout.encode()) == (0, SECRET)
    assert "in memory only" in cli.ok("status", "quiet")
    assert cli.json("status", "--json", "quiet")["job"]["persist"] is False
    os.kill(cli.broker(), signal.SIGKILL)
    done = cli("output", "quiet")
    assert done.returncode == 4
    assert "in memory only" in done.stderr


def test_run_ends_with_the_jobs_code_though_its_output_is_gone(cli: Cli, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    running = cli.begin("run", "--no-persist", "--", "sh", "-c", f"echo begun; read x < {gate}; exit 7")
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"
    job = cli.json("list", "--json")["jobs"][0]["id"]
    broker = cli.broker()
    os.kill(broker, signal.SIGSTOP)
    let_go(gate)
    path = cli.home.state / "jobs" / job / "record"
    eventually(lambda: b"\nX" in path.read_bytes().rpartition(b"\0")[2], "it ends unseen")
    os.kill(broker, signal.SIGKILL)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 7
    assert "in memory only" in err


# --- the shim ---------------------------------------------------------------------------------------------------------


def test_the_shim_holds_nothing_afterwards(driver: Driver, shim: Link) -> None:
    shim.run(["true"])
    for argv in (SAYS_IT, ["no-such-program"]):
        shim.run(argv, persist=0)
        assert files_in_memory(shim.pid) == []
    assert driver.faults() == ""


# --- what is held -----------------------------------------------------------------------------------------------------


def made(data: bytes = b"x") -> list[int]:
    """The files of a job, as they come from a shim."""
    output, index = in_memory("output"), in_memory("index")
    os.write(output, data)
    os.write(index, encode(0, 1, STDOUT))
    return [output, index]


def is_held(outputs: VolatileOutputs, name: str) -> bool:
    return outputs.size(name) is not None


def test_the_oldest_end_goes_first_by_count_and_by_bytes() -> None:
    outputs = VolatileOutputs(most_jobs=3, most_bytes=100_000)
    for name in "abcde":
        outputs.take(name, made())
    assert all(is_held(outputs, name) for name in "abcde"), "live ones do not count"
    for name in "cabd":
        outputs.end(name)
    assert [name for name in "abcde" if is_held(outputs, name)] == ["a", "b", "d", "e"]
    outputs.take("large", made(bytes(90_000)))
    outputs.end("large")
    assert [name for name in ("a", "b", "d", "e", "large") if is_held(outputs, name)] == ["e", "large"]
    outputs.take("huge", made(bytes(200_000)))
    outputs.end("huge")
    assert [name for name in ("e", "large", "huge") if is_held(outputs, name)] == ["e"]
    outputs.drop("e")


def test_what_came_twice_or_by_halves_is_closed() -> None:
    outputs = VolatileOutputs()
    first, second, half = made(b"first"), made(b"second"), made()
    os.close(half.pop())
    for descriptors in (first, second, half):
        outputs.take("a", descriptors)
    outputs.take("b", [])
    assert outputs.size("a") == 5
    assert not is_held(outputs, "b")
    for descriptor in (*second, *half):
        with pytest.raises(OSError):
            os.fstat(descriptor)
    outputs.drop("a")
    outputs.drop("a")


def claim_of(files: list[int], started: int | None = None) -> record.Line:
    """What this process would say, if it were the shim that has them."""
    words = ",".join(f"m{number}.{os.fstat(number).st_ino}" for number in files)
    own = start_time(os.getpid()) if started is None else started
    line = record.encode_line(b"A", os.getpid(), own or 0, b"boot", f"123,i77,{words}".encode())
    return record.decode_lines(line)[0]


def test_taken_through_proc_if_it_is_what_it_was() -> None:
    files = made(b"hello")
    claim = claim_of(files)
    outputs = VolatileOutputs()
    outputs.adopt("a", claim_of(files, started=1))
    assert not is_held(outputs, "a"), "that pid is another process now"
    reader, writer = os.pipe()
    for other in (os.open("/proc/self/stat", os.O_RDONLY), reader, in_memory("another")):
        os.dup2(other, files[1])
        outputs.adopt("a", claim)
        assert not is_held(outputs, "a"), "the shim went on to another job"
        os.close(other)
    os.close(writer)
    for descriptor in files:
        os.close(descriptor)
    outputs.adopt("a", claim)
    assert not is_held(outputs, "a")
    files = made(b"hello")
    outputs.adopt("a", claim_of(files))
    for descriptor in files:
        os.close(descriptor)
    assert outputs.reader(snapshot(named="a").job, None).read("all", 0, 10).data == b"hello"
    outputs.drop("a")


@pytest.mark.parametrize(
    "words", [b"12", b"12,i5", b"12,m5", b"12,m5.6", b"12,m5.6,m7", b"12,mx.1,my.2", b"12,m1.2.3,m4.5"]
)
def test_an_old_or_forged_claim_names_no_files(words: bytes) -> None:
    line = record.decode_lines(record.encode_line(b"A", 1, 2, b"boot", words))[0]
    outputs = VolatileOutputs()
    outputs.adopt("a", line)
    assert not is_held(outputs, "a")


@pytest.mark.parametrize(
    ("status", "reason", "size", "known"),
    [
        ("queued", None, 0, True), ("cancelled", "user", 0, True), ("completed", "exit", 0, True),
        ("completed", "exit", 1, False), ("failed", "lost", 0, False), ("failed", "internal", 0, False),
        ("timed_out", "deadline", 3, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [STDOUT, STDERR])
def test_nothing_instead_of_what_is_gone_is_never_told(
    status: str, reason: str | None, size: int, known: bool, stream: int
) -> None:
    from jobclient.protocol.wire import Stream

    job = snapshot().job
    job.status, job.reason = status, reason  # type: ignore[assignment]
    job.stdout, job.stderr = (Stream(size), Stream()) if stream == STDOUT else (Stream(), Stream(size))
    outputs = VolatileOutputs()
    if known:
        assert outputs.reader(job, None).size == 0
    else:
        with pytest.raises(ResultUnavailable):
            outputs.reader(job, None)
