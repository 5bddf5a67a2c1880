"""The service under a real user manager: what ends it, what starts it again, and that no job's status is ever wrong."""

from __future__ import annotations

import pytest

from backends import FAKE
from fates import Jobs
from harness import eventually
from usermanager import BIN, UserManager

pytestmark = pytest.mark.slow
NO_BROKER = 5


# --- how it begins --------------------------------------------------------------------------------------------------


def test_started_by_the_first_connection(service: UserManager) -> None:
    service.systemctl("stop", "jobbroker.service")
    assert service.shown("jobbroker.socket", "ActiveState") == "active"
    assert service.brokers() == []
    assert service.jobctl("run", "--", "echo", "hello") == "hello"
    service.only(service.main_pid())


def test_installed_twice_and_taken_out_twice(service: UserManager) -> None:
    pid = service.main_pid()
    again = service.run("jobctl", "broker", "install")
    assert "were there already" in again.stderr
    assert "loginctl enable-linger" in again.stderr
    assert (again.returncode, service.main_pid()) == (0, pid)
    assert "jobbroker.socket is enabled and active" in service.jobctl("broker", "status")
    assert "journalctl --user -u jobbroker" in service.run("jobctl", "broker", "logs").stderr
    jobs = Jobs(service)
    assert service.run("jobctl", "broker", "uninstall").returncode == 0
    assert service.brokers() == []
    assert not list(service.home.glob(".config/systemd/user/*.s*"))
    assert service.run("jobctl", "broker", "status").returncode == NO_BROKER
    assert "are not installed" in service.run("jobctl", "broker", "uninstall").stderr
    service.jobctl("list")
    service.only(service.broker())
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
    service.only(service.replaced(pid))
    jobs.check()


def test_a_client_right_after_the_kill_is_not_refused(service: UserManager) -> None:
    jobs = Jobs(service)
    for _ in range(4):
        service.kill(service.main_pid())
        with service.connect() as wire:
            assert wire.call("job/list", limit=1)["jobs"]
    jobs.check()


def test_blocked_it_is_ended_by_the_watchdog_and_comes_back(service: UserManager) -> None:
    service.drop_in("[Service]\nWatchdogSec=1\n")
    service.systemctl("restart", "jobbroker.service")
    jobs, pid = Jobs(service), service.main_pid()
    with service.connect() as before:
        before.call("broker/ping")
        service.kill(pid, "STOP")
        jobs.let_go()
        with service.connect() as meanwhile:
            asked = meanwhile.send("broker/ping")
            service.only(service.replaced(pid))
            assert meanwhile.answer(asked)["pid"] == service.main_pid()
        with pytest.raises((EOFError, ConnectionResetError)):
            before.read()
    jobs.check()
    assert service.shown("jobbroker.service", "NRestarts") == "1"


def test_while_it_is_well_the_watchdog_leaves_it_alone(service: UserManager) -> None:
    service.drop_in("[Service]\nWatchdogSec=500ms\n")
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
    service.only(service.replaced(pid))
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
    service.only(service.main_pid())


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
    assert service.replaced(pid, "jobbroker@ci.service")
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
    service.only(service.main_pid())
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
    service.only(service.broker())


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
