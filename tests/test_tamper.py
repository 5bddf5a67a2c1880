"""Somebody has been at the jobs' directories: links, pipes, directories in place of files. Nothing outside is touched,
nothing hangs, and every other job goes on."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import chdir
from pathlib import Path

import pytest

from harness import Home, Wire
from jobbroker.core.record import DamagedRecord, Head
from jobbroker.jobdir import MAX_RECORD, JobDirectories
from jobbroker.plainfile import NotPlain, allocated, open_plain


@pytest.fixture
def victim(tmp_path: Path) -> Generator[Path]:
    """A directory outside that looks like a job's. It must stay as it is."""
    place = tmp_path / "victim"
    (place / "deep").mkdir(parents=True)
    for name in ("record", "ask", "output", "index", "precious", "deep/precious"):
        (place / name).write_text("precious\n")
    yield place
    left = sorted(str(path.relative_to(place)) for path in place.rglob("*"))
    assert left == ["ask", "deep", "deep/precious", "index", "output", "precious", "record"]
    assert {path.read_text() for path in place.rglob("*") if path.is_file()} == {"precious\n"}


def a_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim / path.name)


def a_link_to_itself(path: Path, _: Path) -> None:
    path.symlink_to(path)


def a_directory(path: Path, _: Path) -> None:
    path.mkdir()
    (path / "more").mkdir()


def a_pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, chdir(path.parent):
        made.bind(path.name)


def a_hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim / path.name)


Attack = Callable[[Path, Path], None]
ATTACKS: list[Attack] = [a_link, a_link_to_itself, a_directory, a_pipe, a_socket, a_hard_link]
NO_FILES = [a_link, a_link_to_itself, a_directory, a_pipe, a_socket]


# --- a file, opened ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", NO_FILES)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path, victim: Path, attack: Attack, flags: int) -> None:
    attack(tmp_path / "output", victim)
    directory = os.open(tmp_path, os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NotPlain):
        open_plain("output", flags, directory)
    assert len(os.listdir("/proc/self/fd")) == before
    assert allocated("output", directory) == 0
    os.close(directory)


@pytest.fixture
def jobs(tmp_path: Path) -> Generator[JobDirectories]:
    jobs = JobDirectories(str(tmp_path / "jobs"))
    jobs.create(head(b"abc"))
    jobs.create(head(b"other"))
    yield jobs
    assert jobs.read("other").lines == []
    jobs.close()


def head(name: bytes) -> Head:
    return Head(name, 1, b"command", b"/", [b"true"], [], {})


def test_a_record_that_is_another_jobs_is_not_written(jobs: JobDirectories) -> None:
    record = Path(jobs.path, "abc", "record")
    record.unlink()
    record.hardlink_to(Path(jobs.path, "other", "record"))
    with pytest.raises(DamagedRecord):
        jobs.withdraw("abc", b"user", 1)


def test_a_record_of_a_terabyte_is_not_read(jobs: JobDirectories) -> None:
    with Path(jobs.path, "abc", "record").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(DamagedRecord, match="too large"):
        jobs.read("abc")
    assert MAX_RECORD < 1 << 30


def test_a_directory_of_a_stranger_keeps_the_job_whole(jobs: JobDirectories) -> None:
    place = Path(jobs.path, "abc")
    for name in ("output", "a", "z"):
        (place / name).write_text("x")
    (place / "sub").mkdir()
    with pytest.raises(OSError):
        jobs.remove("abc")
    assert sorted(os.listdir(place)) == ["a", "output", "record", "sub", "z"]
    (place / "sub").rmdir()
    assert jobs.remove("abc") > 0
    assert jobs.names() == ["other"]


@pytest.mark.parametrize("entry", ["output", "index"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_output_is_removed_and_not_what_it_leads_to(
    jobs: JobDirectories, victim: Path, entry: str, attack: Attack
) -> None:
    attack(Path(jobs.path, "abc", entry), victim)
    if attack is a_directory:
        with pytest.raises(OSError):
            jobs.remove_output("abc")
    else:
        jobs.remove_output("abc")
        assert os.listdir(Path(jobs.path, "abc")) == ["record"]


def test_a_swap_during_the_removal_leads_nowhere(jobs: JobDirectories, victim: Path) -> None:
    """A directory that is a job's one moment and a link the next, as fast as it goes."""
    place, aside, link = (Path(jobs.path, name) for name in ("abc", "aside", "link"))
    link.symlink_to(victim)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for one, other in ((place, aside), (link, place), (place, link), (aside, place)):
                try:
                    one.rename(other)
                except OSError:
                    continue

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(3000):
            for attempt in (jobs.remove, jobs.remove_output, jobs.read, jobs.output_room):
                try:
                    attempt("abc")
                except (OSError, DamagedRecord):
                    continue
    finally:
        over.set()
        thread.join()


# --- a broker ---------------------------------------------------------------------------------------------------------


def ended(wire: Wire) -> str:
    identity: str = wire.run("sh", "-c", "echo hello; echo oops >&2")["id"]
    return identity


def replace(path: Path, attack: Attack, victim: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    attack(path, victim)


@pytest.mark.parametrize("attack", NO_FILES)
def test_a_job_whose_output_is_something_else(home: Home, victim: Path, attack: Attack) -> None:
    wire = home.connect()
    jobs = [ended(wire) for _ in range(2)]
    for job, entry in zip(jobs, ("output", "index"), strict=True):
        replace(home.state / "jobs" / job / entry, attack, victim)
        for method in ("job/output", "job/result"):
            failed = wire.refused(method, id=job)
            assert (failed.code, "replaced" in str(failed)) == (-31005, True)
        assert wire.get(job)["status"] == "completed"
    assert wire.call("broker/status")["degraded"] == []
    gone = [] if attack is a_directory else jobs
    assert wire.call("job/cleanup", maxAgeMs=0)["removed"] == gone
    assert wire.run("true")["status"] == "completed"


def test_a_hard_link_is_removed_and_not_what_it_shares(home: Home, victim: Path) -> None:
    wire = home.connect()
    job = ended(wire)
    for entry in ("output", "index", "record"):
        replace(home.state / "jobs" / job / entry, a_hard_link, victim)
    assert wire.call("job/remove", id=job) == {"removed": [job]}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_record_that_is_something_else_is_known_at_the_start(home: Home, victim: Path, attack: Attack) -> None:
    """One of a job that runs, one of a job without a row, one of a job that has ended."""
    wire = home.connect()
    job, old = wire.start("sleep", "60"), ended(wire)
    wire.call("job/cleanup", dryRun=True)  # writes everything
    home.kill()
    jobs = home.state / "jobs"
    (jobs / "bbbbbb").mkdir()
    (jobs / "bbbbbb" / "record").touch()
    for name in (job["id"], old, "bbbbbb"):
        replace(jobs / name / "record", attack, victim)
    home.start()
    wire = home.connect()
    assert wire.get(old)["status"] == "completed"
    assert wire.refused("job/get", id=old, env=True).kind == "job_not_found"
    assert wire.get(job["id"])["status"] == "running"
    wire.call("job/cancel", id=job["id"], graceMs=0)
    over = wire.get(job["id"])
    assert (over["status"], over["reason"]) == ("failed", "lost")
    assert "record" in over["error"]
    assert wire.run("true")["status"] == "completed"


@pytest.mark.parametrize("attack", [a_link, a_link_to_itself, a_pipe, a_socket])
def test_a_directory_that_is_something_else(home: Home, victim: Path, attack: Attack) -> None:
    wire = home.connect()
    job = ended(wire)
    place = home.state / "jobs" / job
    shutil.rmtree(place)
    if attack is a_link:
        place.symlink_to(victim)
    else:
        attack(place, victim)
    assert wire.refused("job/output", id=job).kind == "job_not_found"
    assert wire.refused("job/result", id=job).kind == "job_not_found"
    assert wire.call("job/remove", id=job) == {"removed": []}
    assert wire.call("job/cleanup", maxAgeMs=0) == {"removed": []}
    home.restart()
    wire = home.connect()
    assert wire.get(job)["status"] == "completed"
    assert place.is_symlink() or place.exists()


@pytest.mark.parametrize("where", ["../victim", "/etc", ".", "..", "a/b", "b\0c", "", "%1/..", "bbbbbb/../.."])
def test_no_reference_is_a_path(home: Home, victim: Path, where: str) -> None:
    (home.state / "victim").symlink_to(victim)
    wire = home.connect()
    for method in ("job/get", "job/output", "job/result", "job/remove", "job/cancel"):
        assert wire.refused(method, id=where).code in (-31002, -32602)


def test_foreign_files_go_with_the_job_they_are_with(home: Home) -> None:
    wire = home.connect()
    job = ended(wire)
    place = home.state / "jobs" / job
    (place / ".swp").write_text("x")
    (place / "link").symlink_to("/etc/passwd")
    assert wire.call("job/remove", id=job) == {"removed": [job]}
    assert not place.exists()
