"""What a job finds when it begins, and what is said when it cannot: asked of real processes, through real shims."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import driving
from driver import eventually

if TYPE_CHECKING:
    from driver import Driver, Link

STATUS = ["cat", "/proc/self/status"]
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


@pytest.fixture
def shim(driver: Driver) -> Link:
    return driver.shim()


def told(driver: Driver, name: str) -> str:
    assert driver.status(name) == 0, driver.output(name)
    return driver.output(name).decode()


def fields(driver: Driver, name: str) -> dict[str, str]:
    """The lines of /proc/self/status by their names."""
    return {key: value.strip() for key, _, value in (row.partition(":") for row in told(driver, name).splitlines())}


def script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


# --- what cannot be started -------------------------------------------------------------------------------------------


def failure(shim: Link, argv: list[str], **more: object) -> tuple[str, int]:
    """Stage and errno, and the proof that the shim takes the next job as if nothing had been."""
    name = shim.run(argv, **more)
    assert shim.driver.letters(name) == "AF"
    assert shim.driver.verdict(name) == "unspawned"
    assert sorted(os.listdir(shim.driver.path(name, "."))) == ["record"]
    assert shim.driver.status(shim.run(["true"])) == 0
    assert not shim.driver.faults()
    line = shim.driver.line(name, "F")
    return line.text(0), line.number(1)


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("/no/such/program", errno.ENOENT),
        ("no-such-program-anywhere", errno.ENOENT),
        ("", errno.ENOENT),
        ("/etc/passwd", errno.EACCES),
        ("/etc/passwd/x", errno.ENOTDIR),
        ("/tmp", errno.EACCES),
        ("/" + "x" * 5000, errno.ENAMETOOLONG),
    ],
)
def test_a_command_that_cannot_be_executed(shim: Link, command: str, number: int) -> None:
    assert failure(shim, [command, "x"]) == ("exec", number)


def test_an_argv_that_is_too_long(shim: Link) -> None:
    assert failure(shim, ["true", "x" * 200_000]) == ("exec", errno.E2BIG)
    assert failure(shim, ["true", *["y" * 100_000] * 40]) == ("exec", errno.E2BIG)


def test_an_empty_argv_is_no_command(shim: Link) -> None:
    assert failure(shim, []) == ("exec", errno.ENOENT)


def test_a_text_without_an_interpreter(shim: Link, tmp_path: Path) -> None:
    assert failure(shim, [script(tmp_path / "text", "echo hello\n")]) == ("exec", errno.ENOEXEC)
    assert failure(shim, [script(tmp_path / "lost", "#!/no/such/interpreter\n")]) == ("exec", errno.ENOENT)


@pytest.mark.parametrize(
    ("cwd", "number"),
    [("/no/such/place", errno.ENOENT), ("/etc/passwd", errno.ENOTDIR), ("", errno.ENOENT)],
)
def test_a_directory_that_cannot_be_entered(shim: Link, cwd: str, number: int) -> None:
    assert failure(shim, ["true"], cwd=cwd) == ("cwd", number)


def test_a_directory_that_may_not_be_entered(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0)
        prefix: list[str] = []
    else:  # root enters everywhere, unless its capability to do so is dropped
        closed = tmp_path / "closed"
        closed.mkdir(mode=0)
        os.chown(closed, 65534, 65534)
        prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    with driving(tmp_path, prefix) as driver:
        assert failure(driver.shim(), ["true"], cwd=str(closed)) == ("cwd", errno.EACCES)


# --- PATH -------------------------------------------------------------------------------------------------------------


def test_the_jobs_own_path_is_searched_from_its_own_directory(shim: Link, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "tool").mkdir()  # a directory is no program
    script(tmp_path / "sub" / "tool", "#!/bin/sh\necho sub $0\n")
    script(tmp_path / "tool", "#!/bin/sh\necho here $0\n")
    for path, answer in [
        ("shadow:sub", "sub sub/tool"),
        (f"{tmp_path}/sub", f"sub {tmp_path}/sub/tool"),
        (":sub", "here ./tool"),
        ("", "here ./tool"),
        (".:sub", "here ./tool"),
    ]:
        name = shim.run(["tool"], cwd=str(tmp_path), env={"PATH": path})
        assert told(shim.driver, name).split("\n")[0] == answer


def test_without_a_path_the_systems_is_searched(shim: Link) -> None:
    assert told(shim.driver, shim.run(["echo", "found"], env={})) == "found\n"


def test_of_several_failures_the_most_telling_is_told(shim: Link, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    script(tmp_path / "first" / "tool", "#!/bin/sh\necho first\n", mode=0o644)
    where = {"PATH": f"{tmp_path}/first:{tmp_path}/second:/nowhere"}
    assert failure(shim, ["tool"], env=where) == ("exec", errno.EACCES)
    script(tmp_path / "second" / "tool", "#!/bin/sh\necho second\n")
    assert told(shim.driver, shim.run(["tool"], env=where)) == "second\n"


# --- what the job finds -----------------------------------------------------------------------------------------------


def test_bytes_that_are_no_text_arrive_as_they_are(shim: Link) -> None:
    odd = os.fsdecode(b"\xff\xfe\n x=\x80")
    name = shim.run(["cat", "/proc/self/environ", "/proc/self/cmdline", odd], env={"A": odd, "B": "", "C.d-e": "="})
    environ = b"A=\xff\xfe\n x=\x80\0B=\0C.d-e==\0"
    cmdline = b"cat\0/proc/self/environ\0/proc/self/cmdline\0\xff\xfe\n x=\x80\0"
    assert shim.driver.output(name).startswith(environ + cmdline)


def test_the_descriptors_are_three_and_no_more(shim: Link) -> None:
    name = shim.run(["sh", "-c", "ls /proc/$$/fd; readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2"], merged=1)
    *numbers, stdin, stdout, stderr = told(shim.driver, name).split()
    assert numbers == ["0", "1", "2"]
    assert stdin == "/dev/null"
    assert stdout == stderr == f"pipe:[{shim.driver.line(name, 'A').text(3)}]"
    name = shim.run(["readlink", "/proc/self/fd/1", "/proc/self/fd/2"], merged=0)
    inodes = shim.driver.line(name, "A").text(3).split(",")
    assert told(shim.driver, name).split() == [f"pipe:[{inode}]" for inode in inodes]
    assert len(set(inodes)) == 2


def test_no_signal_is_ignored_blocked_or_pending(shim: Link) -> None:
    status = fields(shim.driver, shim.run(STATUS))
    assert {int(status[key], 16) for key in ("SigPnd", "ShdPnd", "SigBlk", "SigCgt")} == {0}
    # posix_spawn of glibc leaves the two signals it keeps for itself ignored; its programs set them when they need
    # them, and nobody else may use them.
    assert int(status["SigIgn"], 16) & ~0x1_8000_0000 == 0


def test_a_session_and_a_group_of_its_own(shim: Link) -> None:
    name = shim.run(["cat", "/proc/self/stat"])
    stat = told(shim.driver, name).split()
    pid = shim.driver.line(name, "S").text(0)
    assert [stat[0], stat[4], stat[5], stat[6]] == [pid, pid, pid, "0"]  # pid, group, session, no terminal
    assert int(stat[3]) == shim.pid


def test_the_start_time_is_the_kernels(shim: Link) -> None:
    name = shim.run(["cat", "/proc/self/stat"])
    assert told(shim.driver, name).rpartition(")")[2].split()[19] == shim.driver.line(name, "S").text(1)


def test_its_directory(shim: Link, tmp_path: Path) -> None:
    assert told(shim.driver, shim.run(["readlink", "/proc/self/cwd"], cwd=str(tmp_path))) == f"{tmp_path}\n"


@pytest.mark.parametrize("umask", [0, 0o22, 0o77, 0o777])
def test_its_umask(shim: Link, umask: int) -> None:
    assert int(fields(shim.driver, shim.run(STATUS, umask=umask))["Umask"], 8) == umask
    assert shim.driver.path("j1", "output").stat().st_mode & 0o777 == 0o600


LIMITS = {
    "CORE": ("Max core file size", 0),
    "STACK": ("Max stack size", 4 << 20),
    "NOFILE": ("Max open files", 64),
    "CPU": ("Max cpu time", 1),
    "FSIZE": ("Max file size", 1 << 20),
    "AS": ("Max address space", 1 << 30),
    "NPROC": ("Max processes", 20_000),
}


def soft_limits(text: str) -> dict[str, str]:
    """Soft values by the names of /proc/PID/limits."""
    return {row[:26].strip(): row[26:].split()[0] for row in text.splitlines()[1:]}


def test_its_soft_limits_and_those_of_the_next_job(shim: Link) -> None:
    ours = soft_limits(Path("/proc/self/limits").read_text())
    more = {f"rlimit.{name}": value for name, (_, value) in LIMITS.items()}
    limited = soft_limits(told(shim.driver, shim.run(["cat", "/proc/self/limits"], **more)))
    assert limited == ours | {title: str(value) for title, value in LIMITS.values()}
    assert soft_limits(Path(f"/proc/{shim.pid}/limits").read_text()) == ours
    assert soft_limits(told(shim.driver, shim.run(["cat", "/proc/self/limits"]))) == ours


def test_a_soft_limit_is_cut_to_our_hard_one(shim: Link) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        pytest.skip("no hard limit here to be cut to")
    for wanted in (-1, hard + 1):
        name = shim.run(["cat", "/proc/self/limits"], **{"rlimit.NOFILE": wanted})
        assert soft_limits(told(shim.driver, name))["Max open files"] == str(hard)


def test_few_open_files_are_enough_to_be_started(shim: Link) -> None:
    name = shim.run(["cat", "/proc/self/limits"], merged=0, **{"rlimit.NOFILE": 13})
    assert soft_limits(told(shim.driver, name))["Max open files"] == "13"


def test_no_core_limit_of_the_job_holds_for_the_next(shim: Link) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    name = shim.run(["sh", "-c", "ulimit -c"], **{"rlimit.CORE": -1})
    assert told(shim.driver, name).strip() == ("unlimited" if hard == resource.RLIM_INFINITY else str(hard // 512))


@pytest.mark.slow
def test_a_cpu_limit_below_what_the_shim_has_used_does_not_kill_the_shim(shim: Link) -> None:
    flood = ["sh", "-c", "i=0; while [ $i -lt 40 ]; do head -c 50000000 /dev/zero; i=$((i+1)); done"]
    while cpu_seconds(shim.pid) < 1.2:
        shim.run(flood, maxOutput=1 << 20)
    name = shim.run(["sh", "-c", "ulimit -t"], **{"rlimit.CPU": 1})
    assert told(shim.driver, name) == "1\n"
    name = shim.run(["sh", "-c", "while :; do :; done"], **{"rlimit.CPU": 1})
    assert shim.driver.status(name) & 0x7F == 24  # SIGXCPU, its own


def cpu_seconds(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def test_nothing_of_one_job_reaches_the_next(shim: Link, tmp_path: Path) -> None:
    what = "grep -E '^(Umask|Sig[PBIC]|ShdPnd)' /proc/self/status; pwd; env; cat /proc/self/limits; ls /proc/$$/fd"
    probe = ["sh", "-c", what]
    plain = {"PATH": SYSTEM_PATH}
    first = told(shim.driver, shim.run(probe, env=plain))
    for argv in (["true"], ["/no/such"]):
        shim.run(
            argv, env={"X": "1"}, cwd=str(tmp_path), umask=0o777, merged=0, maxOutput=1,
            **{"rlimit.NOFILE": 10, "rlimit.CORE": 0},
        )  # fmt: skip
    shim.run(["true"], env={"X": "1"}, cwd="/nowhere", umask=0o777, **{"rlimit.NOFILE": 10})
    assert told(shim.driver, shim.run(probe, env=plain)) == first
    eventually(lambda: len(os.listdir(f"/proc/{shim.pid}/fd")) == 3 + 4)  # channel, /dev/null, the wake-up pipe's ends


WRONG: list[dict[str, object]] = [
    {"umask": "abc"},
    {"rlimit.NOSUCH": 1},
    {"rlimit.NOFILE": "x"},
    {"graceMs": "abc"},
    {"merged": "?"},
    {"maxOutput": ""},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_spec_we_do_not_understand_is_a_fault_of_ours_and_never_runs(
    driver: Driver, tmp_path: Path, wrong: dict[str, object]
) -> None:
    shim = driver.shim()
    proof = tmp_path / "proof"
    name = shim.run(["touch", str(proof)], **wrong)
    assert driver.line(name, "F").text(0) == "internal"
    assert not proof.exists()
    assert "Traceback" in driver.faults()
    assert shim.receive() == "retiring"
    assert driver.status(driver.shim().run(["true"])) == 0
