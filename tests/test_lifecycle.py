"""How a broker begins and ends: its lock, its places, its exit status, what it says to whom, what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import PATIENCE, Home, Wire, eventually, lines

USAGE, HELD, CONFIGURATION = 2, 75, 78


def run(home: Home, *flags: str, **environ: str | None) -> subprocess.CompletedProcess[str]:
    """A broker that is expected not to come up."""
    changed = {**home.environ, **environ}
    return subprocess.run(
        [sys.executable, "-P", "-m", "jobbroker", *flags],
        env={name: value for name, value in changed.items() if value is not None},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


# --- what keeps it from coming up -----------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [["--fish"], ["--instance", "UPPER"], ["--instance="], ["--instance"], ["extra"]])
def test_usage(new_home: Callable[..., Home], flags: list[str]) -> None:
    ended = run(new_home(), *flags)
    assert (ended.returncode, ended.stdout) == (USAGE, "")
    assert len(ended.stderr.splitlines()) == 1


def test_help_and_version(new_home: Callable[..., Home]) -> None:
    home = new_home()
    assert run(home, "--help").stdout.startswith("usage: jobbrokerd")
    assert run(home, "--version").stdout.startswith("jobbrokerd ")
    assert not (home.root / "state").exists()


def test_a_second_broker_ends_at_once_and_loads_nothing_heavy(home: Home) -> None:
    ended = run(home)
    assert ended.returncode == HELD
    assert f"with pid {home.process.pid if home.process else 0}  ->" in ended.stderr
    code = (
        "import sys; from jobbroker.__main__ import main; status = main([]);"
        "heavy = {'trio', 'msgspec', 'sqlite3', 'asyncio', 'logging', 'subprocess', 'typing', 'dataclasses'};"
        "print(status, sorted(heavy & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-P", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        env=home.environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == f"{HELD} []\n"


def test_the_lock_says_where_its_holder_is(home: Home) -> None:
    assert home.process is not None
    told = json.loads((home.state / "lock").read_text())
    assert (told["pid"], told["socket"]) == (home.process.pid, str(home.socket))
    assert told["version"]
    assert (home.root / "run" / "default.pid").read_text() == f"{home.process.pid}\n"


@pytest.mark.parametrize(
    ("text", "said"), [("[limits\n", "line 1"), ("a = 1\n\nb = \n", "line 3"), (b"\n\xff\n", "line 2")]
)
def test_broken_settings(new_home: Callable[..., Home], text: str | bytes, said: str) -> None:
    home = new_home()
    (home.root / "config.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = run(home)
    assert ended.returncode == CONFIGURATION
    assert str(home.root / "config.toml") in ended.stderr
    assert said in ended.stderr


def test_settings_with_a_mistake_are_warned_of(new_home: Callable[..., Home]) -> None:
    home = new_home()
    (home.root / "config.toml").write_text("[limits]\nmaxRuning = 3\ngrace = 'long'\n")
    home.start()
    warnings = home.connect().call("broker/status")["warnings"]
    assert any("maxRunning" in warning for warning in warnings)
    assert any("grace" in warning for warning in warnings)


def test_a_store_of_a_newer_version_is_not_touched(new_home: Callable[..., Home]) -> None:
    home = new_home()
    home.start()
    home.close()
    with sqlite3.connect(home.state / "store.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = (home.state / "store.db").read_bytes()
    ended = run(home, "--stderr")
    assert ended.returncode == CONFIGURATION
    assert "newer" in ended.stderr
    assert (home.state / "store.db").read_bytes() == before


@pytest.mark.parametrize("place", ["state/default/lock", "state/default/notify", "run/default.sock", "run/default.pid"])
@pytest.mark.parametrize("kind", ["file", "dangling link", "link", "directory"])
def test_r068_what_stands_in_the_way(new_home: Callable[..., Home], place: str, kind: str) -> None:
    """What an earlier broker may have left is replaced; a directory is nobody's leftover, nor is a link to a lock."""
    home = new_home()
    for name in ("run", "state", "state/default"):
        (home.root / name).mkdir(mode=0o700)
    path, elsewhere = home.root / place, home.root / "elsewhere"
    if kind == "file":
        path.write_text("99999\n")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(elsewhere)
        if kind == "link":
            elsewhere.write_text("mine")
    if kind == "directory" or (place.endswith("lock") and kind != "file"):
        ended = run(home, "--stderr")
        assert ended.returncode == CONFIGURATION
        assert str(path) in ended.stderr
        assert "Traceback" not in ended.stderr
    else:
        home.start()
        assert home.connect().run("true")["status"] == "completed"
    assert elsewhere.exists() == (kind == "link")
    assert kind != "link" or elsewhere.read_text() == "mine"


@pytest.mark.parametrize("name", ["store.db", "broker.log", "jobs"])
def test_a_directory_or_a_file_where_the_other_belongs(new_home: Callable[..., Home], name: str) -> None:
    home = new_home()
    (home.root / "state" / "default").mkdir(parents=True, mode=0o700)
    (home.root / "state").chmod(0o700)
    path = home.state / name
    if name == "jobs":
        path.write_text("")
    else:
        path.mkdir()
    ended = run(home)
    log = home.state / "broker.log"
    said = ended.stderr + (log.read_text() if log.is_file() else "")
    assert ended.returncode == CONFIGURATION, said
    assert str(path) in said
    assert "Traceback" not in said


def test_directories_must_be_ours_alone(new_home: Callable[..., Home]) -> None:
    home = new_home()
    (home.root / "run").mkdir(mode=0o700)
    (home.root / "run").chmod(0o755)
    ended = run(home)
    assert ended.returncode == CONFIGURATION
    assert "chmod 700" in ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="a read-only mount needs root")
def test_a_read_only_state_directory(new_home: Callable[..., Home]) -> None:
    home = new_home()
    (home.root / "state").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,mode=700", "none", str(home.root / "state")], check=True)
    try:
        ended = run(home)
    finally:
        subprocess.run(["umount", str(home.root / "state")], check=True)
    assert ended.returncode == CONFIGURATION
    assert "read-only file system" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_no_home(new_home: Callable[..., Home]) -> None:
    home = new_home()
    ended = run(home, HOME=None, JOBBROKER_STATE_DIR="", JOBBROKER_CONFIG="relative")
    assert ended.returncode in (0, CONFIGURATION)
    assert ended.returncode == CONFIGURATION
    assert "absolute" in ended.stderr
    del home.environ["HOME"]
    home.start()
    assert home.connect().run("true")["status"] == "completed"


def test_standard_streams_may_be_closed(new_home: Callable[..., Home]) -> None:
    home = new_home()
    command = f"{sys.executable} -P -m jobbroker <&- >&- 2>&- & echo started"
    subprocess.run(["sh", "-c", command], env=home.environ, check=True, capture_output=True)
    log = home.state / "broker.log"
    eventually(lambda: log.exists() and "listening" in log.read_text(), "it listens")
    with Wire(str(home.socket)) as wire:
        assert wire.output(wire.run("echo", "hello")["id"]) == "hello\n"
        wire.call("broker/shutdown")


# --- while it runs --------------------------------------------------------------------------------------------------


def test_a_long_runtime_path_works(new_home: Callable[..., Home]) -> None:
    home = new_home("h" * 90)
    assert len(str(home.socket)) > 107
    home.start()
    directory = os.open(home.socket.parent, os.O_PATH)
    with Wire(f"/proc/self/fd/{directory}/{home.socket.name}") as wire:
        assert wire.call("broker/status")["paths"]["socket"] == str(home.socket)
        job = wire.start("sleep", "0.3")["id"]
        home.restart()
    with Wire(f"/proc/self/fd/{directory}/{home.socket.name}") as wire:
        assert wire.ended(job)["status"] == "completed"
        wire.call("broker/shutdown")
    os.close(directory)
    assert home.wait() == 0


def test_everything_is_private(home: Home) -> None:
    wire = home.connect()
    wire.run("echo", "hello")
    job = wire.shell("trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done")["id"]
    wire.until_output(job, "up")
    wire.call("job/cancel", id=job)
    wire.call("broker/ping")
    for top in (home.root / "run", home.root / "state"):
        for path in [top, *top.rglob("*")]:
            mode = path.lstat().st_mode & 0o777
            if not path.is_symlink():
                assert mode == (0o700 if path.is_dir() else 0o600), f"{path} {mode:o}"


def test_r073_the_log_has_one_line_an_event(home: Home) -> None:
    wire = home.connect()
    job = wire.run("sh", "-c", "exit 3", name="two\nlines")["id"]
    log = home.log_text().splitlines()
    assert all(line[:4].isdigit() and "Z " in line[:26] for line in log)
    assert [line.split(" jobbroker.jobs ")[1].split(":")[0] for line in log if job in line] == [
        "queued", "running", "failed",
    ]  # fmt: skip


def test_an_idle_broker_does_not_wake_up(home: Home) -> None:
    assert home.process is not None
    wire = home.connect()
    wire.run("true")
    status = Path(f"/proc/{home.process.pid}/status")

    def switches() -> str:
        return status.read_text().partition("voluntary_ctxt_switches:")[2].split()[0]

    time.sleep(0.3)  # the store's last group
    before = switches()
    time.sleep(1)  # that nothing happens can only be seen by letting time pass
    assert switches() == before


def test_descriptors_do_not_leak(home: Home) -> None:
    assert home.process is not None
    descriptors = Path(f"/proc/{home.process.pid}/fd")

    def batch(argv: list[str]) -> None:
        with Wire(str(home.socket)) as wire:
            wire.write([{"id": n, "method": "job/start", "params": {"argv": argv}} for n in range(125)])
            ids = [answer["result"]["job"]["id"] for answer in wire.read()]
            wire.call("job/wait", ids=ids)
            wire.write([{"id": n, "method": "job/output", "params": {"id": job}} for n, job in enumerate(ids)])
            wire.read()

    batch(["true"])
    before = len(list(descriptors.iterdir()))
    for argv in (["true"], ["/nonexistent"], ["sh", "-c", "echo x"], ["true"]):
        batch(argv)
    assert len(list(descriptors.iterdir())) <= before + 8  # idle shims come and go


def test_few_descriptors_are_no_catastrophe(new_home: Callable[..., Home]) -> None:
    home = new_home()
    few = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))"
    program = ["-c", f"{few}; os.execv(sys.argv[1], sys.argv[1:])", sys.executable, "-P", "-m", "jobbroker", "--stderr"]
    with home.log.open("ab") as log:
        home.process = subprocess.Popen(
            [sys.executable, *program], env=home.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    eventually(home.socket.exists, "it listens")
    wire = home.connect()
    assert "40 files" in wire.call("broker/status")["warnings"][0]
    wires = [Wire(str(home.socket)) for _ in range(60)]
    jobs = [wire.send("job/start", argv=["sh", "-c", "sleep 0.2; echo done"], name=f"few-{n}") for n in range(40)]
    for asked in jobs:
        wire.answer(asked)
    for idle in wires:
        idle.close()
    ends = wire.call("job/wait", ids=[f"few-{n}" for n in range(40)])["jobs"]
    assert {job["status"] for job in ends} == {"completed"}
    assert {wire.output(job["id"]) for job in ends} == {"done\n"}


# --- how it ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_r072_r086_a_signal_ends_it_and_no_job(home: Home, number: signal.Signals) -> None:
    assert home.process is not None
    wire, silent = home.connect(), home.connect()
    job = wire.start("sleep", "60")
    home.process.send_signal(number)
    for connection in (wire, silent):
        said = list(lines(connection))
        assert [message["method"] for message in said] == ["notifications/broker/shuttingDown"]
        assert said[0]["params"]["reason"] == number.name
    assert home.wait() == 0
    assert not home.socket.exists()
    assert not (home.root / "run" / "default.pid").exists()
    home.start()
    assert home.connect().get(job["id"])["pid"] == job["pid"]


def test_r081_it_ends_though_a_client_does_not_read(home: Home) -> None:
    wire, deaf = home.connect(), home.connect()
    job = wire.run("sh", "-c", "head -c 1000000 /dev/zero")["id"]
    for _ in range(20):
        deaf.send("job/output", id=job, limit=1_000_000)
    wire.call("broker/shutdown")
    begun = time.monotonic()
    assert home.wait() == 0
    assert time.monotonic() - begun < 5


def test_r088_nobody_needs_it(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_IDLE_EXIT="300ms")
    home.start()
    wire = home.connect()
    job = wire.start("sleep", "0.5")["id"]
    wire.close()
    assert home.wait() == 0
    assert "reason=idle" in home.log_text()
    home.start()
    with Wire(str(home.socket)) as again:
        assert again.get(job)["status"] == "completed", "it was not idle while the job ran"
    assert home.wait() == 0


def test_the_next_one_finds_a_killed_ones_leftovers(home: Home) -> None:
    wire = home.connect()
    job = wire.run("echo", "hello")["id"]
    home.kill()
    assert home.socket.exists()
    home.start()
    wire = home.connect()
    assert wire.get(job)["status"] == "completed"
    assert wire.output(job) == "hello\n"
    assert wire.start("true")["number"] == 2


def test_a_signal_at_any_moment_of_the_start_is_heeded(new_home: Callable[..., Home]) -> None:
    home = new_home()
    home.start()
    home.close()
    for n in range(12):
        process = home.spawn()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.03 * n)
        process.terminate()
        assert process.wait(PATIENCE) in (0, -signal.SIGTERM)
    assert "Traceback" not in home.log_text()
