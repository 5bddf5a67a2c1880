"""R142 to R145: the record of a job for whoever looks into it later, and what is left of jobs nobody remembers."""

from __future__ import annotations

import base64
import json
import os
import resource
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import PATIENCE, Home, eventually
from jobctl import JOBCTL, Cli


@pytest.fixture
def job(cli: Cli) -> str:
    """A job that has failed, with both streams, neither ending with a newline."""
    script = "printf 'all of\\nstdout'; printf 'all of stderr' >&2; exit 3"
    ended = cli.start("--split", "-n", "tests", "-l", "a=b", "--", "sh", "-c", script)
    cli("wait", ended)
    return ended


def sections(text: str) -> dict[str, str]:
    """The text under each title, by the title."""
    head, *rest = text.split("\n## ")
    return {"": head, **{title: body for title, _, body in (each.partition("\n") for each in rest)}}


# --- R142: the record -------------------------------------------------------------------------------------------------


def test_r142_header_state_and_sections_each_ended_by_a_newline(cli: Cli, job: str) -> None:
    text = cli.ok("export", "tests")
    found = sections(text)
    assert list(found) == ["", "STDOUT (13 bytes)", "STDERR (13 bytes)"]
    first, *facts = found[""].splitlines()
    assert first.startswith(f"{job}  sh -c ")
    known = dict(line.split(None, 1) for line in facts if line)
    assert (known["status"], known["error"], known["name"], known["labels"]) == (
        "failed 3", "exit status 3", "tests", "a=b",
    )  # fmt: skip
    assert {"created", "started", "ended", "ran", "directory", "limits", "number", "process"} <= set(known)
    assert found["STDOUT (13 bytes)"] == "all of\nstdout\n"
    assert found["STDERR (13 bytes)"] == "all of stderr\n"


def test_r142_binary_output_is_a_note_with_its_size(cli: Cli) -> None:
    ended = cli.start("--split", "--", "sh", "-c", "echo text; printf '\\377\\376x'; echo fine >&2")
    cli("wait", ended)
    found = sections(cli.ok("export", ended))
    assert "binary: 8 bytes" in found["STDOUT (8 bytes)"]
    assert "text" not in found["STDOUT (8 bytes)"]
    assert found["STDERR (5 bytes)"] == "fine\n"


def test_r142_one_stream_one_section_and_nothing_is_said_of_nothing(cli: Cli) -> None:
    merged, silent = cli.start("sh", "-c", "echo a; echo b >&2"), cli.start("--split", "--", "true")
    cli("wait", merged, silent)
    assert sections(cli.ok("export", merged))["OUTPUT (4 bytes)"] == "a\nb\n"
    assert list(sections(cli.ok("export", silent)).items())[1:] == [("STDOUT (0 bytes)", ""), ("STDERR (0 bytes)", "")]


def test_what_was_dropped_is_marked_where_it_was(cli: Cli) -> None:
    ended = cli.start("--max-output", "1000", "--", "sh", "-c", "yes 123456789 | head -c 5000")
    cli("wait", ended)
    body = sections(cli.ok("export", ended))["OUTPUT (5000 bytes)"]
    begin, mark, end = body.partition("[4")
    assert mark
    note, _, rest = end.partition("]\n")
    assert note.endswith("bytes were not kept here")
    assert len(begin.encode()) + len(rest) == 5000 - int("4" + note.split()[0])


def test_control_characters_of_a_command_do_not_reach_the_header(cli: Cli) -> None:
    ended = cli.start("-n", "a\x1b[2J", "--", "true", "\x1b]0;x\x07")
    cli("wait", ended)
    assert "\x1b" not in cli.ok("export", ended)


def test_json_leaves_nothing_out(cli: Cli) -> None:
    ended = cli.start("--split", "--", "sh", "-c", "head -c 300000 /dev/urandom | tee written; echo x >&2")
    cli("wait", ended)
    found = cli.json("export", "--format", "json", ended)
    assert found["job"] == cli.json("status", "--json", ended)["job"]
    assert found["soFar"] is False
    whole = b"".join(base64.b64decode(piece["data"]) for piece in found["output"]["stdout"]["pieces"])
    assert whole == (cli.cwd / "written").read_bytes()
    assert len(whole) == 300_000
    assert [piece["data"] for piece in found["output"]["stderr"]["pieces"]] == ["x\n"]
    assert "env" not in found["job"]
    assert any(entry.startswith("HOME=") for entry in cli.json("export", "--format=json", "--env", ended)["job"]["env"])


def test_a_live_job_is_written_down_so_far_and_that_is_said(cli: Cli) -> None:
    live = cli.start("sh", "-c", "echo begun; sleep 60")
    eventually(lambda: "begun" in cli.ok("output", live), "it writes")
    done = cli("export", live)
    assert (done.returncode, "so far" in done.stderr) == (0, True)
    assert "running, so far" in done.stdout
    assert sections(done.stdout)["OUTPUT (6 bytes, so far)"] == "begun\n"
    assert json.loads(cli("export", "--format", "json", live).stdout)["soFar"] is True


def test_jobs_that_do_not_exist_do_not_keep_others_from_being_written(cli: Cli, job: str) -> None:
    done = cli("export", "nobody", job, "nobody-else")
    assert done.returncode == 1
    assert done.stdout.startswith(f"{job}  sh -c")
    assert cli("export", "nobody").returncode == 3


# --- R142: the file ---------------------------------------------------------------------------------------------------


def test_a_file_is_private_whole_and_not_replaced_unasked(cli: Cli, job: str) -> None:
    path = cli.cwd / "record.txt"
    assert cli.ok("export", "-o", "record.txt", job) == "record.txt\n"
    text = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("precious")
    done = cli("export", "-o", "record.txt", job)
    assert (done.returncode, "--force" in done.stderr, path.read_text()) == (1, True, "precious")
    cli.ok("export", "-o", "record.txt", "--force", job)
    assert path.read_text() == text
    assert os.listdir(cli.cwd) == ["record.txt"]


def test_a_link_is_replaced_and_not_followed_and_a_device_is_neither(cli: Cli, job: str) -> None:
    (cli.cwd / "precious").write_text("precious")
    (cli.cwd / "link").symlink_to("precious")
    assert cli("export", "-o", "link", job).returncode == 1
    cli.ok("export", "-o", "link", "--force", job)
    assert (cli.cwd / "precious").read_text() == "precious"
    assert (cli.cwd / "link").read_text().startswith(job)
    os.mkfifo(cli.cwd / "pipe")
    assert "no plain file" in cli("export", "-o", "pipe", "--force", job).stderr
    assert (cli.cwd / "pipe").is_fifo()


def test_a_directory_gets_a_file_for_each(cli: Cli, job: str) -> None:
    other = cli.start("true")
    cli("wait", other)
    (cli.cwd / "reports").mkdir()
    assert cli.ok("export", "-o", "reports", job, other).split() == [f"reports/{job}.txt", f"reports/{other}.txt"]
    cli.ok("export", "-o", "reports/", "--format", "json", job)
    assert json.loads((cli.cwd / "reports" / f"{job}.json").read_text())["job"]["id"] == job
    assert cli("export", "-o", "one.txt", job, other).returncode == 2
    assert cli.ok("export", "-o", "missing/at/all/", job) == f"missing/at/all/{job}.txt\n", (
        "a directory that is named is made"
    )
    assert "cannot be made: not a directory" in cli("export", "-o", f"reports/{job}.json/below/", job).stderr


def test_r142_a_failure_to_write_is_said_and_leaves_nothing(cli: Cli) -> None:
    ended = cli.start("sh", "-c", "yes | head -c 3000000")
    cli("wait", ended)
    done = subprocess.run(
        [*JOBCTL, "export", "-o", "record.txt", ended],
        env=cli.home.environ,
        cwd=cli.cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY)),
    )
    assert done.returncode == 1
    assert "record.txt cannot be written: file too large" in done.stderr
    assert os.listdir(cli.cwd) == []


def test_large_output_is_not_held_in_memory(cli: Cli) -> None:
    """A hundred and fifty million bytes pass through a process that may have forty million beyond what it loads."""
    ended = cli.start(
        "--max-output", "200M", "--", "sh", "-c", "yes 0123456789012345678901234567890 | head -c 150000000"
    )
    cli("wait", ended)
    subprocess.run(
        [*JOBCTL, "export", "-o", "large.txt", ended],
        env=cli.home.environ,
        cwd=cli.cwd,
        check=True,
        timeout=PATIENCE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (60_000_000, resource.RLIM_INFINITY)),
    )
    assert (cli.cwd / "large.txt").stat().st_size > 150_000_000


# --- R143, R144, R145 -------------------------------------------------------------------------------------------------


def test_r143_it_is_all_there_when_the_end_is_told_though_nobody_waited(home: Home) -> None:
    """Record, output and index are complete before the end is announced, not written by whoever happens to wait."""
    watcher, wire = home.connect(), home.connect()
    watcher.call("events/subscribe")
    started = wire.shell("echo out; echo err >&2; exit 4")["id"]
    told = watcher.note("notifications/job/updated")["job"]
    while told["id"] != started or told["status"] != "failed":
        told = watcher.note("notifications/job/updated")["job"]
    place = home.state / "jobs" / started
    assert b"\nX 1024 " in (place / "record").read_bytes()
    assert sorted((place / "output").read_bytes().split()) == [b"err", b"out"]
    assert (place / "index").stat().st_size >= 32


def test_r144_two_instances_never_share_a_place_and_no_id_comes_back(new_home: Callable[..., Home]) -> None:
    one, two = new_home("one"), new_home("one", instance="other")
    ids: list[str] = []
    for made in (one, two):
        made.start()
        ids += [made.connect().run("true")["id"] for _ in range(5)]
        made.restart()
        ids += [made.connect().run("true")["id"] for _ in range(5)]
    assert len(set(ids)) == 20
    places = [str(path.parent) for path in Path(one.root).rglob("record")]
    assert len(places) == len(set(places)) == 20


def test_r144_whether_output_is_kept_is_settled_at_the_start_of_each_job(home: Home) -> None:
    wire = home.connect()
    kept = wire.run("echo", "x")["id"]
    job: str = wire.start("echo", "x", persist=False)["id"]
    other = wire.run("echo", "x")["id"]
    wire.ended(job)
    places: list[Path] = [home.state / "jobs" / each for each in (kept, job, other)]
    assert [sorted(os.listdir(place)) for place in places] == [
        ["index", "output", "record"], ["record"], ["index", "output", "record"],
    ]  # fmt: skip


def test_r145_what_is_left_of_nobodys_jobs_goes_at_the_start_by_lock_and_verdict(home: Home) -> None:
    """Not by the pid in a name, which comes back: one that was never begun goes, one that is claimed stays."""
    wire = home.connect()
    model = home.record(wire.run("true")["id"])
    home.kill()
    head = model.rpartition(b"\0")[0] + b"\0"
    jobs = home.state / "jobs"
    for name in ("bbbbbb", "cccccc"):
        (jobs / name).mkdir()
        (jobs / name / "record").write_bytes(head)
    claim = (
        "import fcntl,sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, 2); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        ["python3", "-u", "-c", claim, str(jobs / "cccccc" / "record")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    home.start()
    eventually(lambda: not (jobs / "bbbbbb").exists(), "the one that nobody has goes")
    assert (jobs / "cccccc" / "record").read_bytes() == head
    holder.communicate()
