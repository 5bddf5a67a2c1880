"""The service under a real user manager: what ends it, what starts it again, and that no job's status is ever wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from backends import FAKE
from harness import PATIENCE, Message, eventually
from usermanager import BIN, UserManager

pytestmark = pytest.mark.slow
NO_BROKER = 5


@pytest.fixture
def manager(tmp_path: Path, no_process_survives: None) -> Generator[UserManager]:
    """A user manager with nothing installed. What it takes is installed by .ci/run, so its lack is a failure."""
    assert os.geteuid() == 0, "a user manager in namespaces of its own needs root: sudo make test-slow"
    with UserManager(tmp_path / "home") as made:
        yield made


@pytest.fixture
def service(manager: UserManager) -> UserManager:
    """The same with the broker as a service, by `jobctl broker install`."""
    manager.jobctl("broker", "install")
    return manager


class Jobs:
    """Jobs of every fate: some have ended, some end when they are let go, one runs on."""

    def __init__(self, manager: UserManager) -> None:
        self.manager = manager
        self.gate = manager.home / "gate"
        self.gate.unlink(missing_ok=True)
        wait = f"until [ -e {self.gate} ]; do sleep 0.02; done;"
        with manager.connect() as wire:
            self.fates = {
                wire.shell("exit 3")["id"]: ("failed", 3, None),
                wire.shell(f"{wait} echo let go; exit 7")["id"]: ("failed", 7, None),
                wire.shell(f"{wait} echo let go; kill -SEGV $$")["id"]: ("failed", None, "SIGSEGV"),
                wire.shell(f"{wait} echo let go")["id"]: ("completed", 0, None),
                wire.shell("sleep 600", timeoutMs=600_000)["id"]: ("running", None, None),
            }
            self.pids = {name: wire.get(name)["pid"] for name in self.fates}

    def let_go(self) -> None:
        """Those that wait end now."""
        self.gate.touch()

    def until_gone(self) -> None:
        """Those that were let go are dead, whoever has noticed."""
        ending = [str(self.pids[name]) for name, fate in self.fates.items() if fate[0] != "running"]
        eventually(lambda: self.manager.run("ps", "-p", ",".join(ending), "-o", "pid=").returncode, "they are gone")

    def check(self) -> None:
        """Every status is true, and so is all output."""
        self.let_go()
        with self.manager.connect() as wire:
            for name, (status, code, signal_name) in self.fates.items():
                job = wire.get(name) if status == "running" else wire.ended(name)
                assert (job["status"], job["exitCode"], job["signal"]) == (status, code, signal_name), job
                assert job["pid"] == self.pids[name]
                if status != "running" and code != 3:
                    assert wire.output(name) == "let go\n"
            listed = {job["id"]: job["status"] for job in wire.call("job/list")["jobs"]}
            assert listed == {name: fate[0] for name, fate in self.fates.items()}
            assert self.manager.run("ps", "-p", str(self.pids[next(reversed(self.fates))])).returncode == 0


def replaced(manager: UserManager, old: int, unit: str = "jobbroker.service") -> int:
    """The service's next process, once it is ready."""

    def another() -> bool:
        return manager.main_pid(unit) not in (0, old) and manager.shown(unit, "ActiveState") == "active"

    eventually(another, "systemd has started another broker")
    return manager.main_pid(unit)


def only(manager: UserManager, pid: int) -> None:
    """That one is the only broker, and all clients reach it."""
    eventually(lambda: manager.brokers() == [pid], f"{pid} is alone, of {manager.brokers()}")
    assert manager.broker() == pid


def drop_in(manager: UserManager, text: str, unit: str = "jobbroker.service") -> None:
    folder = Path(manager.home / f".config/systemd/user/{unit}.d")
    folder.mkdir(parents=True)
    (folder / "test.conf").write_text(text)
    manager.systemctl("daemon-reload")


# --- how it begins --------------------------------------------------------------------------------------------------


def test_started_by_the_first_connection(service: UserManager) -> None:
    service.systemctl("stop", "jobbroker.service")
    assert service.shown("jobbroker.socket", "ActiveState") == "active"
    assert service.brokers() == []
    assert service.jobctl("run", "--", "echo", "hello") == "hello"
    only(service, service.main_pid())


def test_installed_twice_and_taken_out_twice(service: UserManager) -> None:
    pid = service.main_pid()
    again = service.run("jobctl", "broker", "install")
    assert "were there already" in again.stderr
    assert "loginctl enable-linger" in again.stderr
    assert (again.returncode, service.main_pid()) == (0, pid)
    assert "jobbroker.socket is enabled and active" in service.jobctl("broker", "status")
    jobs = Jobs(service)
    assert service.run("jobctl", "broker", "uninstall").returncode == 0
    assert service.brokers() == []
    assert not list(service.home.glob(".config/systemd/user/*.s*"))
    assert service.run("jobctl", "broker", "status").returncode == NO_BROKER
    assert "are not installed" in service.run("jobctl", "broker", "uninstall").stderr
    service.jobctl("list")
    only(service, service.broker())
    assert service.shown("jobbroker.service", "LoadState") == "not-found"
    jobs.check()


def test_an_instance_of_its_own(service: UserManager) -> None:
    service.jobctl("--instance", "ci", "broker", "install")
    assert service.main_pid("jobbroker@ci.service") != service.main_pid()
    assert service.jobctl("--instance", "ci", "run", "--", "echo", "hello") == "hello"
    service.jobctl("--instance", "two", "broker", "install")
    service.jobctl("--instance", "ci", "broker", "uninstall")
    assert (service.home / ".config/systemd/user/jobbroker@.service").exists()
    assert int(service.jobctl("--instance", "two", "broker", "status", "-q")) == service.main_pid(
        "jobbroker@two.service"
    )
    service.jobctl("--instance", "two", "broker", "uninstall")
    assert not (service.home / ".config/systemd/user/jobbroker@.service").exists()
    assert service.broker() == service.main_pid()


def test_a_jobs_environment_has_nothing_of_the_services(service: UserManager) -> None:
    with service.connect() as wire:
        seen = wire.output(wire.run("env")["id"])
    assert not [line for line in seen.splitlines() if line.startswith(("LISTEN_", "NOTIFY_", "WATCHDOG_"))]


# --- what ends it, and what then ------------------------------------------------------------------------------------


def test_killed_it_comes_back_and_every_status_is_true(service: UserManager) -> None:
    jobs, pid = Jobs(service), service.main_pid()
    jobs.let_go()
    service.kill(pid)
    only(service, replaced(service, pid))
    jobs.check()


def test_a_client_right_after_the_kill_is_not_refused(service: UserManager) -> None:
    jobs = Jobs(service)
    for _ in range(4):
        service.kill(service.main_pid())
        with service.connect() as wire:
            assert wire.call("job/list", limit=1)["jobs"]
    jobs.check()


def test_blocked_it_is_ended_by_the_watchdog_and_comes_back(service: UserManager) -> None:
    drop_in(service, "[Service]\nWatchdogSec=1\n")
    service.systemctl("restart", "jobbroker.service")
    jobs, pid = Jobs(service), service.main_pid()
    with service.connect() as before:
        before.call("broker/ping")
        service.kill(pid, "STOP")
        jobs.let_go()
        with service.connect() as meanwhile:
            asked = meanwhile.send("broker/ping")
            only(service, replaced(service, pid))
            assert meanwhile.answer(asked)["pid"] == service.main_pid()
        with pytest.raises((EOFError, ConnectionResetError)):
            before.read()
    jobs.check()
    assert service.shown("jobbroker.service", "NRestarts") == "1"


def test_while_it_is_well_the_watchdog_leaves_it_alone(service: UserManager) -> None:
    drop_in(service, "[Service]\nWatchdogSec=500ms\n")
    service.systemctl("restart", "jobbroker.service")
    pid = service.main_pid()
    assert service.jobctl("run", "--", "sleep", "3") == ""
    assert (service.main_pid(), service.shown("jobbroker.service", "NRestarts")) == (pid, "0")


@pytest.mark.parametrize("way", ["systemctl", "jobctl"])
def test_restarted(service: UserManager, way: str) -> None:
    jobs, pid = Jobs(service), service.main_pid()
    jobs.let_go()
    if way == "systemctl":
        service.systemctl("restart", "jobbroker.service")
    else:
        service.jobctl("broker", "restart")
    only(service, replaced(service, pid))
    jobs.check()


@pytest.mark.parametrize("way", ["systemctl", "jobctl"])
def test_stopped_and_started_by_a_connection_after_jobs_have_ended(service: UserManager, way: str) -> None:
    jobs = Jobs(service)
    if way == "systemctl":
        service.systemctl("stop", "jobbroker.service")
    else:
        assert "systemd starts it again" in service.run("jobctl", "broker", "stop").stderr
    eventually(lambda: service.brokers() == [], "it is gone")
    said = service.run("jobctl", "broker", "status")
    assert (said.returncode, "systemd starts one with the next call" in said.stderr) == (NO_BROKER, True)
    assert service.brokers() == [], "to ask starts none"
    jobs.let_go()
    jobs.until_gone()
    jobs.check()
    only(service, service.main_pid())


def test_its_backend_dies_and_systemd_starts_another(service: UserManager) -> None:
    config = service.home / ".config/jobbroker/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[instances.ci.backend]\nprofile = "generic"\ncommand = ["{BIN}/python", "{FAKE}"]\n')
    service.jobctl("--instance", "ci", "broker", "install")
    pid = service.main_pid("jobbroker@ci.service")
    with service.connect("ci") as wire:
        wire.call("echo")
        job = wire.start("sleep", "600")
        backend = wire.call("backend/status")["backend"]["pid"]
        service.kill(backend)
        assert wire.note("notifications/broker/shuttingDown")["reason"] == "backend_exit"
    assert replaced(service, pid, "jobbroker@ci.service")
    with service.connect("ci") as wire:
        assert wire.get(job["id"])["pid"] == job["pid"]
        wire.call("echo")


def test_killed_too_often_it_is_given_up_and_the_next_call_mends_that(service: UserManager) -> None:
    jobs = Jobs(service)

    def given_up() -> bool:
        pid = service.main_pid()
        if pid:
            service.run("kill", "-KILL", str(pid))
        return service.shown("jobbroker.socket", "ActiveState") == "failed"

    eventually(given_up, "systemd has given up")
    assert service.shown("jobbroker.socket", "Result") == "service-start-limit-hit"
    jobs.let_go()
    jobs.until_gone()
    service.jobctl("list")
    only(service, service.main_pid())
    assert service.shown("jobbroker.socket", "ActiveState") == "active"
    jobs.check()


def test_settings_it_cannot_start_with_are_named_to_the_client(service: UserManager) -> None:
    service.systemctl("stop", "jobbroker.service")
    config = service.home / ".config/jobbroker/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[limits\n")
    done = service.run("jobctl", "list")
    assert done.returncode == NO_BROKER, done
    assert "config.toml" in done.stderr
    assert "line 1" in done.stderr
    config.unlink()
    service.jobctl("list")
    only(service, service.broker())


def test_all_its_processes_are_killed_and_nothing_is_made_up(service: UserManager) -> None:
    jobs = Jobs(service)
    with service.connect() as wire:
        ended = next(iter(jobs.fates))
        wire.ended(ended)
        service.systemctl("kill", "--kill-who=all", "--signal=KILL", "jobbroker.service")
    service.jobctl("list")
    with service.connect() as wire:
        assert wire.get(ended)["exitCode"] == 3
        for name in list(jobs.fates)[1:]:
            job = wire.ended(name)
            assert (job["status"], job["reason"], job["exitCode"], job["signal"]) == ("failed", "lost", None, None)


# --- races ----------------------------------------------------------------------------------------------------------


def crowd(manager: UserManager, size: int, between: Callable[[], object] = lambda: None) -> None:
    """That many clients at once, each of which starts a job and sees it end."""
    clients = [manager.begin("jobctl", "run", "--", "sh", "-c", f"exit {number}") for number in range(size)]
    between()
    ends = [(client.communicate(timeout=3 * PATIENCE)[1], client.returncode) for client in clients]
    assert [code for _, code in ends] == list(range(size)), ends


def test_many_clients_where_the_socket_unit_was_stopped(service: UserManager) -> None:
    service.systemctl("stop", "jobbroker.socket", "jobbroker.service")
    assert service.brokers() == []
    crowd(service, 20)
    only(service, service.main_pid())


def test_many_clients_while_the_socket_unit_comes_up(service: UserManager) -> None:
    for _ in range(3):
        service.systemctl("stop", "jobbroker.socket", "jobbroker.service")
        crowd(service, 10, lambda: service.systemctl("start", "jobbroker.socket"))
        only(service, service.main_pid())


def test_many_clients_while_it_is_installed_and_taken_out(manager: UserManager) -> None:
    crowd(manager, 10, lambda: manager.jobctl("broker", "install"))
    only(manager, manager.main_pid())
    crowd(manager, 10, lambda: manager.jobctl("broker", "uninstall"))
    manager.jobctl("list")
    only(manager, manager.broker())


# --- handing over ---------------------------------------------------------------------------------------------------


def test_one_on_demand_hands_over_when_the_socket_unit_is_started(service: UserManager) -> None:
    service.systemctl("stop", "jobbroker.socket", "jobbroker.service")
    on_demand = service.begin("jobbrokerd")
    eventually(lambda: service.brokers() and service.run("jobctl", "broker", "status").returncode == 0, "one is up")
    (old,) = service.brokers()
    assert service.main_pid() == 0
    jobs = Jobs(service)
    connected = service.connect()
    service.systemctl("start", "jobbroker.socket")
    jobs.let_go()
    crowd(service, 10)
    assert connected.note("notifications/broker/shuttingDown")["reason"] == signal.SIGTERM.name
    connected.close()
    assert on_demand.wait(PATIENCE) == 0
    on_demand.communicate()
    assert service.main_pid() != old
    only(service, service.main_pid())
    without_crowd(service, jobs)


def test_the_service_hands_over_when_it_is_stopped_for_good(service: UserManager) -> None:
    jobs = Jobs(service)
    service.systemctl("disable", "--now", "jobbroker.socket", "jobbroker.service")
    jobs.let_go()
    crowd(service, 10)
    assert service.main_pid() == 0
    only(service, service.broker())
    without_crowd(service, jobs)


def without_crowd(manager: UserManager, jobs: Jobs) -> None:
    """Forget the crowd's jobs, and look at the others."""
    with manager.connect() as wire:
        everything: list[Message] = wire.call("job/list")["jobs"]
        for job in everything:
            if job["id"] not in jobs.fates:
                wire.call("job/remove", id=job["id"])
    jobs.check()
