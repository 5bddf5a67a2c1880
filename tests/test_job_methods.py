"""`job/start` over the wire, on a real broker with real children: everything that can be said about a job."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import Home, Message, Wire


def b64(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


def raw(wire: Wire, job: Message) -> bytes:
    """All a job wrote, whatever it is."""
    piece = wire.call("job/output", id=job["id"])
    data: str = piece["data"]
    return base64.b64decode(data) if piece["encoding"] == "base64" else data.encode()


def test_a_command_runs_and_its_end_is_told(client: Wire) -> None:
    job = client.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (job["status"], job["reason"], job["exitCode"]) == ("failed", "exit", 3)
    assert job["stdout"] == {"size": 4, "dropped": 0, "closed": True}
    assert job["stderr"] == {"size": 4, "dropped": 0, "closed": True}
    assert client.output(job["id"], stream="stderr") == "err\n"


def test_start_answers_while_the_job_runs(client: Wire) -> None:
    answer = client.call("job/start", argv=["sleep", "60"], name="runner")
    job = answer["job"]
    assert answer["created"] is True
    assert (job["status"], job["reason"], job["exitCode"]) == ("running", None, None)
    assert job["pid"] == job["pgid"] > 0
    assert os.getsid(job["pid"]) == job["pid"]
    assert job["startedAt"].endswith("Z")
    assert job["completedAt"] is None
    assert client.call("job/cancel", id="runner", graceMs=0)["job"]["status"] == "cancelled"


@pytest.mark.parametrize(
    ("params", "exit_code", "reason"),
    [
        ({"argv": ["/no/such/program"]}, "ENOENT", "spawn"),
        ({"argv": ["/etc/passwd"]}, "EACCES", "spawn"),
        ({"argv": ["true"], "cwd": "/no/such/directory"}, "cwd: ENOENT", "spawn"),
        ({"argv": ["true", "x" * 200_000]}, "E2BIG", "spawn"),
    ],
)
def test_what_cannot_be_started_is_a_failed_job_that_says_why(
    client: Wire, params: dict[str, Any], exit_code: str, reason: str
) -> None:
    job = client.call("job/start", **params)["job"]
    assert (job["status"], job["reason"], job["exitCode"], job["pid"]) == ("failed", reason, None, None)
    assert exit_code in job["error"]
    assert job["completedAt"]


def test_a_script_without_a_first_line_is_no_program(client: Wire, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo hello\n")
    script.chmod(0o755)
    job = client.start(str(script))
    assert (job["status"], job["reason"]) == ("failed", "spawn")
    assert "ENOEXEC" in job["error"]


def test_environment_as_an_object_is_all_there_is(client: Wire) -> None:
    job = client.run("env", env={"A": "1", "B": "ü", "C": b64(b"\xff")})
    lines = raw(client, job).splitlines()
    assert sorted(lines) == sorted([b"A=1", "B=ü".encode(), b"C=\xff", *told(client, job)])


def told(client: Wire, job: Message) -> list[bytes]:
    """What every job finds in its environment."""
    socket = client.call("broker/status")["paths"]["socket"]
    return [f"JOBBROKER_JOB_ID={job['id']}".encode(), f"JOBBROKER_SOCKET={socket}".encode()]


@pytest.mark.parametrize("as_list", [False, True])
def test_a_job_that_is_started_by_a_job_has_an_id_of_its_own(client: Wire, as_list: bool) -> None:
    before = {"JOBBROKER_JOB_ID": "zzzzzz", "JOBBROKER_SOCKET": "/elsewhere", "A": "1"}
    job = client.run("env", env=[f"{name}={value}" for name, value in before.items()] if as_list else before)
    assert sorted(raw(client, job).splitlines()) == sorted([b"A=1", *told(client, job)])


def test_s23_a_job_finds_its_broker(client: Wire) -> None:
    script = "import os, socket; s = socket.socket(1); s.connect(os.environ['JOBBROKER_SOCKET']); print('found')"
    assert client.output(client.run(sys.executable, "-c", script)["id"]) == "found\n"


def test_environment_as_a_list_may_hold_anything(client: Wire) -> None:
    job = client.run("env", env=["A=1", "B=x=y", b64(b"\xfe=\xff")])
    assert {b"A=1", b"B=x=y", b"\xfe=\xff"} <= set(raw(client, job).splitlines())
    told = client.call("job/get", id=job["id"], env=True)["job"]["env"]
    assert told[:3] == ["A=1", "B=x=y", b64(b"\xfe=\xff")]
    assert "env" not in client.get(job["id"])


def test_environment_is_the_brokers_without_what_the_service_manager_said(client: Wire) -> None:
    told = client.output(client.run("env")["id"])
    assert "JOBBROKER_STATE_DIR=" in told
    assert "NOTIFY_SOCKET" not in told


def test_arguments_may_be_any_bytes(client: Wire) -> None:
    job = client.run("printf", "%s", b64(b"\xff\xfe"))  # type: ignore[arg-type]
    assert raw(client, job) == b"\xff\xfe"
    assert job["argv"][2] == b64(b"\xff\xfe")


def test_directory_mask_and_limits(client: Wire, tmp_path: Path) -> None:
    strange = os.fsencode(tmp_path) + b"/d\xff"
    os.mkdir(strange)
    assert raw(client, client.run("pwd", cwd=b64(strange))) == strange + b"\n"
    job = client.run("sh", "-c", "umask; ulimit -n; ulimit -c", umask=0o27, rlimits={"NOFILE": 77, "CORE": 0})
    assert client.output(job["id"]).split() == ["0027", "77", "0"]


def test_without_a_directory_it_is_home(client: Wire, shared: Home) -> None:
    assert client.output(client.run("pwd")["id"]) == f"{shared.root}\n"


def test_stdin_is_empty_and_no_descriptor_leaks(client: Wire) -> None:
    script = "cat; readlink /proc/$$/fd/0; for n in 3 4 5 6 7 8 9; do test -e /proc/$$/fd/$n && echo leak; done"
    assert client.output(client.run("sh", "-c", script)["id"]) == "/dev/null\n"


def test_merged_output_keeps_its_order(client: Wire) -> None:
    job = client.run("sh", "-c", "for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; done", merged=True)
    assert client.output(job["id"]).split() == [f"{letter}{n}" for n in range(1, 6) for letter in "oe"]
    assert job["merged"] is True
    assert job["stderr"]["size"] == 0


def test_output_over_the_limit_is_dropped_and_counted(client: Wire) -> None:
    job = client.run("sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x", maxOutput=10_000)
    assert job["status"] == "completed"
    assert job["stdout"]["size"] == 300_000
    assert 285_000 <= job["stdout"]["dropped"] <= 292_000


def test_limits_end_a_job(client: Wire) -> None:
    late = client.start("sleep", "60", timeoutMs=50)
    silent = client.start("sh", "-c", "echo once; sleep 60", idleTimeoutMs=100)
    stubborn = client.shell("trap '' TERM; sleep 60 & wait; sleep 60", timeoutMs=50, graceMs=50)
    ends = [client.ended(job["id"]) for job in (late, silent, stubborn)]
    assert [(job["status"], job["reason"]) for job in ends] == [
        ("timed_out", "deadline"), ("timed_out", "idle"), ("timed_out", "deadline"),
    ]  # fmt: skip
    assert [job["signal"] for job in ends] == ["SIGTERM", "SIGTERM", "SIGKILL"]
    assert all(job["error"] for job in ends)


def test_a_job_tied_to_its_connection_ends_with_it(client: Wire, shared: Home) -> None:
    with Wire(str(shared.socket)) as other:
        tied = other.start("sleep", "60", onDisconnect="cancel")
        free = other.start("sleep", "60")
    assert [client.ended(tied["id"])[key] for key in ("status", "reason")] == ["cancelled", "disconnect"]
    assert client.get(free["id"])["status"] == "running"
    client.call("job/cancel", id=free["id"], graceMs=0)


def test_a_job_tied_to_a_connection_that_left_before_the_answer(client: Wire, shared: Home) -> None:
    for _ in range(10):
        with Wire(str(shared.socket)) as other:
            other.send("job/start", argv=["sleep", "60"], onDisconnect="cancel", labels={"kind": "hasty"})
    jobs = client.call("job/list", label={"kind": "hasty"})["jobs"]
    while len(jobs) < 10:
        jobs = client.call("job/list", label={"kind": "hasty"})["jobs"]
    ended = client.call("job/wait", ids=[job["id"] for job in jobs], timeoutMs=10_000)
    assert [job["reason"] for job in ended["jobs"]] == ["disconnect"] * 10


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "member"),
    [
        ({}, "argv"),
        ({"argv": []}, "argv"),
        ({"argv": "true"}, "argv"),
        ({"argv": [1]}, "argv"),
        ({"argv": ["a\0b"]}, "argv"),
        ({"argv": [{"base64": "?"}]}, "argv"),
        ({"argv": ["true"], "cwd": "relative"}, "cwd"),
        ({"argv": ["true"], "cwd": "/a\0b"}, "cwd"),
        ({"argv": ["true"], "env": ["novalue"]}, "env"),
        ({"argv": ["true"], "env": {"A=B": "c"}}, "env"),
        ({"argv": ["true"], "env": {"A": "\0"}}, "env"),
        ({"argv": ["true"], "umask": 0o1000}, "umask"),
        ({"argv": ["true"], "timeoutMs": -1}, "timeoutMs"),
        ({"argv": ["true"], "timeoutMs": "1s"}, "timeoutMs"),
        ({"argv": ["true"], "rlimits": {"FISH": 1}}, "rlimits"),
        ({"argv": ["true"], "rlimits": {"NOFILE": -2}}, "rlimits"),
        ({"argv": ["true"], "name": ""}, "name"),
        ({"argv": ["true"], "name": "%12"}, "name"),
        ({"argv": ["true"], "name": "bcdfgh"}, "name"),
        ({"argv": ["true"], "labels": {"": "x"}}, "labels"),
        ({"argv": ["true"], "labels": {"a": 1}}, "labels"),
        ({"argv": ["true"], "onDisconnect": "explode"}, "onDisconnect"),
        ({"argv": ["true"], "idempotencyKey": ""}, "idempotencyKey"),
        ({"argv": ["true"], "kind": "agent"}, "kind"),
        ({"argv": ["true"], "surprise": 1}, "surprise"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(client: Wire, params: dict[str, object], member: str) -> None:
    failed = client.refused("job/start", **params)
    assert failed.code == -32602
    assert member in str(failed)


def test_a_member_that_is_null_is_absent_and_a_float_may_be_a_number(client: Wire) -> None:
    job = client.run("true", name=None, env=None, timeoutMs=5000.0, labels=None)
    assert (job["status"], job["timeoutMs"], job["name"]) == ("completed", 5000, None)


# --- idempotency ----------------------------------------------------------------------------------------------------


def test_the_same_key_is_the_same_job(client: Wire) -> None:
    first = client.call("job/start", argv=["true"], idempotencyKey="k1")
    again = client.call("job/start", argv=["true"], idempotencyKey="k1")
    assert (first["created"], again["created"]) == (True, False)
    assert again["job"]["id"] == first["job"]["id"]
    assert client.refused("job/start", argv=["false"], idempotencyKey="k1").code == -32602
    client.ended(first["job"]["id"])
    client.call("job/remove", id=first["job"]["id"])
    assert client.call("job/start", argv=["true"], idempotencyKey="k1")["created"] is True


def test_the_same_key_at_the_same_time(client: Wire, shared: Home, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    wires = [Wire(str(shared.socket)) for _ in range(8)]
    argv = ["sh", "-c", f"echo ran >> {proof}"]
    for wire in wires:
        wire.send("job/start", argv=argv, idempotencyKey="k2")
        wire.send("job/start", argv=argv, idempotencyKey="k2")
    answers = [wire.answer(identity) for wire in wires for identity in (1, 2)]
    assert len({answer["job"]["id"] for answer in answers}) == 1
    assert sum(answer["created"] for answer in answers) == 1
    client.ended(answers[0]["job"]["id"])
    assert proof.read_text() == "ran\n"
    for wire in wires:
        wire.close()


def test_a_key_survives_the_broker(home: Home) -> None:
    job = home.connect().start("true", idempotencyKey="k")
    home.restart()
    again = home.connect().call("job/start", argv=["true"], idempotencyKey="k")
    assert (again["created"], again["job"]["id"]) == (False, job["id"])


def test_numbers_and_ids_are_never_used_twice(client: Wire) -> None:
    client.write([{"id": n, "method": "job/start", "params": {"argv": ["true"]}} for n in range(50)])
    jobs = [answer["result"]["job"] for answer in client.read()]
    numbers = [job["number"] for job in jobs]
    assert numbers == list(range(numbers[0], numbers[0] + 50))
    assert len({job["id"] for job in jobs}) == 50
    client.call("job/wait", ids=[job["id"] for job in jobs])
    assert client.call("job/remove", id=f"%{numbers[-1]}")["removed"] == [jobs[-1]["id"]]
    assert client.start("true")["number"] == numbers[-1] + 1
