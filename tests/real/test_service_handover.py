"""Who serves when the service and a broker on demand, many clients, or two versions meet; and what the doctor does."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from fates import Jobs
from harness import PATIENCE, Message, eventually
from jobclient.version import __version__
from later import LATER, newer
from usermanager import UserManager

pytestmark = pytest.mark.slow
NO_BROKER = 5


# --- races ----------------------------------------------------------------------------------------------------------


def test_many_clients_where_the_socket_unit_was_stopped(service: UserManager) -> None:
    service.systemctl("stop", "jobbroker.socket", "jobbroker.service")
    assert service.brokers() == []
    service.crowd(20)
    service.only(service.main_pid())


def test_many_clients_while_the_socket_unit_comes_up(service: UserManager) -> None:
    for _ in range(3):
        service.systemctl("stop", "jobbroker.socket", "jobbroker.service")
        service.crowd(10, lambda: service.systemctl("start", "jobbroker.socket"))
        service.only(service.main_pid())


def test_many_clients_while_it_is_installed_and_taken_out(manager: UserManager) -> None:
    manager.crowd(10, lambda: manager.jobctl("broker", "install"))
    manager.only(manager.main_pid())
    manager.crowd(10, lambda: manager.jobctl("broker", "uninstall"))
    manager.jobctl("list")
    manager.only(manager.broker())


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
    service.crowd(10)
    assert connected.note("notifications/broker/shuttingDown")["reason"] == signal.SIGTERM.name
    connected.close()
    assert on_demand.wait(PATIENCE) == 0
    on_demand.communicate()
    assert service.main_pid() != old
    service.only(service.main_pid())
    without_crowd(service, jobs)


def test_the_service_hands_over_when_it_is_stopped_for_good(service: UserManager) -> None:
    jobs = Jobs(service)
    service.systemctl("disable", "--now", "jobbroker.socket", "jobbroker.service")
    jobs.let_go()
    service.crowd(10)
    assert service.main_pid() == 0
    service.only(service.broker())
    without_crowd(service, jobs)


def without_crowd(manager: UserManager, jobs: Jobs) -> None:
    """Forget the crowd's jobs, and look at the others."""
    with manager.connect() as wire:
        everything: list[Message] = wire.call("job/list")["jobs"]
        for job in everything:
            if job["id"] not in jobs.fates:
                wire.call("job/remove", id=job["id"])
    jobs.check()


# --- the doctor -----------------------------------------------------------------------------------------------------


def levels(manager: UserManager, *flags: str) -> dict[str, str]:
    done = manager.run("jobctl", "doctor", "--json", *flags)
    return {check["name"]: check["level"] for check in json.loads(done.stdout)["checks"]}


def test_the_doctor_finds_a_service_well(service: UserManager) -> None:
    found = levels(service)
    assert {found[name] for name in ("lock", "socket", "version", "store", "systemd", "service", "cgroup")} == {"ok"}
    assert found["linger"] == "warn"
    service.systemctl("stop", "jobbroker.service")
    assert levels(service)["lock"] == "ok"
    assert service.brokers() == [], "to look starts none"


def test_the_doctor_brings_a_failed_socket_unit_back(service: UserManager) -> None:
    service.systemctl("stop", "jobbroker.socket", "jobbroker.service")
    assert levels(service)["systemd"] == "fail"
    assert levels(service, "--fix")["systemd"] == "ok"
    service.jobctl("list")
    service.only(service.main_pid())


def test_the_doctor_lets_one_on_demand_hand_over(service: UserManager) -> None:
    service.systemctl("stop", "jobbroker.socket", "jobbroker.service")
    on_demand = service.begin("jobbrokerd")
    eventually(lambda: service.run("jobctl", "broker", "status").returncode == 0, "one is up")
    jobs = Jobs(service)
    assert levels(service)["service"] == "warn"
    service.run("jobctl", "doctor", "--fix")
    on_demand.communicate(timeout=PATIENCE)
    service.only(service.main_pid())
    assert levels(service)["service"] == "ok"
    jobs.check()


def test_the_doctor_sees_unit_files_of_another_version(service: UserManager) -> None:
    place = service.home / ".config/systemd/user/jobbroker.service"
    place.write_text(place.read_text().replace("RestartSec=200ms", "RestartSec=1s"))
    assert levels(service)["systemd"] == "warn"
    jobs = Jobs(service)
    assert "are written" in service.run("jobctl", "broker", "install").stderr
    assert levels(service)["systemd"] == "ok"
    assert service.shown("jobbroker.service", "RestartUSec") == "200ms"
    jobs.check()


# --- another version ------------------------------------------------------------------------------------------------


def test_restarted_as_a_newer_version_under_jobs_that_run(service: UserManager, tmp_path: Path) -> None:
    jobs = Jobs(service)
    service.drop_in(f'[Service]\nEnvironment="PYTHONPATH={newer(tmp_path / "later", store=True)}"\n')
    assert f"broker {__version__}" in service.jobctl("broker", "status")
    jobs.let_go()
    service.jobctl("broker", "restart")
    assert f"broker {LATER}" in service.jobctl("broker", "status")
    service.only(service.main_pid())
    jobs.check()
    service.jobctl("broker", "restart")
    assert f"broker {LATER}" in service.jobctl("broker", "status"), "systemd starts its own, whoever asks"
