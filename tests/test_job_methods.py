"""The methods of `job/*` over the wire, on a real broker with real children."""

from __future__ import annotations

from harness import Wire


def test_a_command_runs_and_its_end_is_told(wire: Wire) -> None:
    job = wire.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (job["status"], job["reason"], job["exitCode"]) == ("failed", "exit", 3)
    assert job["stdout"] == {"size": 4, "dropped": 0, "closed": True}
    assert job["stderr"] == {"size": 4, "dropped": 0, "closed": True}
    assert wire.output(job["id"], stream="stderr") == "err\n"
