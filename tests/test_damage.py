"""Files that are damaged, missing, or cannot be written: nothing is invented, nothing is lost that could be kept."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import pytest

from harness import Home, Message, Wire, alive, eventually
from jobbroker.identity import read_stat

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


def ends(job: Message) -> tuple[object, ...]:
    return job["status"], job["reason"], job["exitCode"]


def live_and_ended(wire: Wire, gate: Path) -> tuple[str, str, str]:
    """A job that ended well, one that failed, and one that ends with 4 when a line is written to the gate."""
    os.mkfifo(gate)
    live = wire.start("sh", "-c", f"echo up; read line < {gate}; exit 4")["id"]
    wire.until_output(live, "up")
    return (
        wire.run("echo", "hello", name="good", labels={"a": "b"}, idempotencyKey="key")["id"],
        wire.run("sh", "-c", "exit 3")["id"],
        live,
    )


# --- the store ------------------------------------------------------------------------------------------------------


def garbage(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def a_row_of_nonsense(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE job SET snapshot = '{\"job\": 1}'")
        db.commit()


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [garbage, cut_short, empty, a_row_of_nonsense, gone])
def test_a_lost_store_is_rebuilt_with_jobs_running(home: Home, damage: Callable[[Path], None]) -> None:
    wire = home.connect()
    good, bad, live = live_and_ended(wire, home.root / "gate")
    before = [wire.get(job) for job in (good, bad, live)]
    store = home.state / "store.db"
    wire.call("broker/shutdown", mode="keepJobs")
    home.wait()
    for name in ("store.db-wal", "store.db-shm"):
        (home.state / name).unlink(missing_ok=True)
    damage(store)
    home.start()
    wire = home.connect()
    degraded = wire.call("broker/status")["degraded"]
    assert len(degraded) == 1
    assert "rebuilt" in degraded[0]
    assert bool(list(home.state.glob("store.db.damaged-*"))) == (damage not in (gone, empty))
    for old in before:
        new = wire.get(old["id"])
        assert {**new, "rev": 0} == {**old, "rev": 0}
    assert wire.output(good) == "hello\n"
    assert wire.call("job/start", argv=["echo", "hello"], name="good", labels={"a": "b"}, idempotencyKey="key") == {
        "job": wire.get(good), "created": False,
    }  # fmt: skip
    assert wire.start("true")["number"] == 4
    (home.root / "gate").write_text("go\n")
    assert ends(wire.ended(live)) == ("failed", "exit", 4)


def test_nothing_is_pruned_or_swept_after_a_loss(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_KEEP_JOBS="2")
    home.start()
    wire = home.connect()
    jobs = [wire.run("true")["id"] for _ in range(3)]
    record = home.state / "jobs" / jobs[0] / "record"
    record.write_bytes(b"damaged")
    home.kill()
    for path in home.state.glob("store.db*"):
        path.unlink()
    home.start()
    wire = home.connect()
    for _ in range(3):
        wire.run("true")
    assert record.read_bytes() == b"damaged"
    assert jobs[0] in home.log_text()
    assert len(wire.call("job/list")["jobs"]) == 5


# --- records --------------------------------------------------------------------------------------------------------


def noise(path: Path) -> None:
    path.write_bytes(os.urandom(2000))


def cut_in_the_head(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def contradiction(path: Path) -> None:
    head = path.read_bytes().rpartition(b"\0")[0]
    path.write_bytes(head + b"\0X nonsense\nA 1 2 x y\nN user 1\n")


@pytest.mark.parametrize("damage", [gone, empty, noise, cut_in_the_head, a_link, a_directory, contradiction])
def test_a_damaged_record_is_a_lost_job_and_no_more(home: Home, damage: Callable[[Path], None]) -> None:
    wire = home.connect()
    os.mkfifo(home.root / "gate")
    other = wire.shell(f"read line < {home.root}/gate; exit 4")["id"]
    job = wire.start("sleep", "60")
    wire.call("job/cleanup", dryRun=True)  # writes everything: the row says that it runs
    home.kill()
    stat = read_stat(job["pid"])
    assert stat is not None
    for pid in (int(stat[1]), job["pid"]):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(job["pid"]), "it is gone")
    damage(home.state / "jobs" / job["id"] / "record")
    home.start()
    wire = home.connect()
    assert ends(wire.get(job["id"])) == ("failed", "lost", None)
    assert wire.get(other)["status"] == "running"
    (home.root / "gate").write_text("go\n")
    assert ends(wire.ended(other)) == ("failed", "exit", 4)
    assert wire.run("true")["status"] == "completed"


FORGED = [b"S 99999999999 x y z 1\n", b"L nonsense 1 2\n", b"T x y\n", b"\xff\xfe\n", b"X 0 1\n"]


@pytest.mark.parametrize("line", FORGED)
def test_forged_lines_do_not_stop_a_daemon_from_starting(home: Home, line: bytes) -> None:
    wire = home.connect()
    os.mkfifo(home.root / "gate")
    job = wire.shell(f"read line < {home.root}/gate; exit 4")["id"]
    home.kill()
    path = home.state / "jobs" / job / "record"
    with path.open("ab") as file:
        file.write(line)
    home.start()
    home.restart()
    wire = home.connect()
    assert wire.get(job)["status"] == "running"
    wire.call("job/cancel", id=job, graceMs=0)
    assert wire.run("true")["status"] == "completed"


def test_what_was_never_promised_is_swept_and_strangers_stay(home: Home) -> None:
    wire = home.connect()
    kept = wire.run("true")["id"]
    jobs = home.state / "jobs"
    record = (jobs / kept / "record").read_bytes()
    home.kill()
    head = record.rpartition(b"\0")[0] + b"\0"
    for name, data in {"bbbbbb": head, "cccccc": head[:30], "dddddd": b"", "ffffff": record}.items():
        (jobs / name).mkdir()
        (jobs / name / "record").write_bytes(data)
    (jobs / "gggggg").mkdir()
    (jobs / "hhhhhh").symlink_to(home.root)
    (jobs / "jjjjjj").write_text("a file")
    (jobs / "not-an-id").mkdir()
    (jobs / "kkkkkk").mkdir()
    (jobs / "kkkkkk" / "output").write_text("mine")
    home.start()
    wire = home.connect()
    eventually(lambda: not (jobs / "gggggg").exists(), "the sweep is through")
    assert set(os.listdir(jobs)) == {kept, "ffffff", "hhhhhh", "jjjjjj", "not-an-id", "kkkkkk"}
    assert [job["id"] for job in wire.call("job/list")["jobs"]] == [kept]


def test_a_directory_that_became_a_link_is_not_followed(home: Home) -> None:
    wire = home.connect()
    job = wire.run("echo", "hello")["id"]
    directory, elsewhere = home.state / "jobs" / job, home.root / "elsewhere"
    directory.rename(elsewhere)
    directory.symlink_to(elsewhere)
    assert wire.refused("job/output", id=job).code == -31002
    assert wire.call("job/remove", id=job) == {"removed": []}
    assert (elsewhere / "output").read_text() == "hello\n"
    assert wire.run("true")["status"] == "completed"


# --- a full disk ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small(new_home: Callable[..., Home]) -> Generator[Home]:
    """A broker whose state is on a disk of three megabytes."""
    home = new_home()
    state = home.root / "state"
    state.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "none", str(state)], check=True)
    try:
        home.start()
        yield home
        home.close()
    finally:
        subprocess.run(["umount", "--lazy", str(state)], check=True)


def fill(home: Home) -> Path:
    """Leave not a block."""
    ballast = home.root / "state" / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    return ballast


@as_root
def test_a_full_disk(small: Home) -> None:
    wire = small.connect()
    os.mkfifo(small.root / "gate")
    ending = wire.shell(f"read line < {small.root}/gate; echo more; exit 4")["id"]
    endless = wire.start("sleep", "60")["id"]
    done = wire.run("true")["id"]
    ballast = fill(small)
    failed = wire.refused("job/start", argv=["true"])
    assert (failed.code, failed.kind) == (-31014, "store_unavailable")
    assert "make room" in str(failed) or "cannot be written" in str(failed)
    (small.root / "gate").write_text("go\n")
    assert ends(wire.ended(ending)) == ("failed", "exit", 4)
    assert wire.get(ending)["stdout"]["size"] == 5
    assert ends(wire.call("job/cancel", id=endless)["job"])[:2] == ("cancelled", "user")
    assert wire.get(done)["status"] == "completed"
    eventually(lambda: wire.call("broker/status")["degraded"], "it says so")
    assert wire.refused("job/start", argv=["true"]).code == -31014
    ballast.unlink()
    eventually(lambda: not wire.call("broker/status")["degraded"], "it recovers")
    assert wire.run("true")["status"] == "completed"
    small.restart()
    wire = small.connect()
    assert ends(wire.get(ending)) == ("failed", "exit", 4)
    assert ends(wire.get(endless))[:2] == ("cancelled", "user")


@as_root
@pytest.mark.parametrize("wanted", [{}, {"keep": 0, "status": "failed"}, {"maxBytes": 0}, {"name": "late"}])
def test_on_a_full_disk_jobs_can_be_cleaned_whose_ends_could_not_be_written(small: Home, wanted: Message) -> None:
    wire = small.connect()
    os.mkfifo(small.root / "gate")
    job = wire.shell(f"echo some output; read line < {small.root}/gate; exit 4", name="late")["id"]
    wire.until_output(job, "some output")
    ballast = fill(small)
    (small.root / "gate").write_text("go\n")
    wire.ended(job)
    assert wire.call("job/cleanup", maxAgeMs=0, dryRun=True, **wanted)["removed"] == [job]
    with ballast.open("rb+") as file:
        file.truncate(ballast.stat().st_size - 65536)  # what a job wrote is worth less than a page of the store
    assert wire.call("job/cleanup", maxAgeMs=0, **wanted)["removed"] == [job]
    assert wire.refused("job/get", id=job).kind == "job_not_found"


@as_root
def test_killed_on_a_full_disk(small: Home) -> None:
    wire = small.connect()
    os.mkfifo(small.root / "gate")
    ending = wire.shell(f"read line < {small.root}/gate; exit 4")["id"]
    ballast = fill(small)
    small.kill()
    (small.root / "gate").write_text("go\n")
    process = small.spawn()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        with small.connect() as wire:
            assert ends(wire.ended(ending)) == ("failed", "exit", 4)
        process.kill()
        process.wait()
    else:
        assert process.returncode == 78
    assert "Traceback" not in small.log_text()
    ballast.unlink()
    small.start()
    assert ends(small.connect().ended(ending)) == ("failed", "exit", 4)


@as_root
def test_a_job_that_fills_the_disk_can_be_cancelled(small: Home) -> None:
    wire = small.connect()
    job = wire.start("sh", "-c", "while :; do head -c 100000 /dev/urandom; done")["id"]
    eventually(lambda: wire.get(job)["stdout"]["dropped"] > 0, "the disk is full")
    assert wire.refused("job/start", argv=["true"]).code == -31014
    assert ends(wire.call("job/cancel", id=job)["job"])[:2] == ("cancelled", "user")
    assert wire.call("broker/ping")
