"""What a job takes over from its starter."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from jobclient import surroundings
from jobclient.protocol.errors import JobBrokerError

TABLE = """\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max core file size        0                    unlimited            bytes     
Max open files            1024                 524288               files     
Max file locks            unlimited            unlimited            locks     
Max nice priority         0                    0                    
Max new thing             5                    5                    things    
"""  # noqa: W291


def test_a_table_of_limits() -> None:
    assert surroundings.parse_limits(TABLE) == {"CPU": -1, "CORE": 0, "NOFILE": 1024, "NICE": 0}
    assert surroundings.parse_limits("") == {}


def test_our_limits_are_those_resource_tells() -> None:
    limits = surroundings.soft_limits()
    assert limits == {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in limits}
    assert {"NOFILE", "CPU", "STACK", "AS"} <= limits.keys()


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000, 0o777])
def test_the_umask(mask: int) -> None:
    before = os.umask(mask)
    try:
        assert surroundings.umask() == mask
    finally:
        os.umask(before)


def test_an_environment_travels_as_an_object() -> None:
    assert surroundings.environment({"A": "1", "B": "caf\udce9"}) == {"A": "1", "B": {"base64": "Y2Fm6Q=="}}


def test_names_that_are_not_text_make_it_a_list() -> None:
    assert surroundings.environment({"A": "1=2", "\udcff": "x"}) == ["A=1=2", {"base64": "/z14"}]


def test_a_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(JobBrokerError, match="say where with -C"):
        surroundings.directory()


@pytest.mark.parametrize(("value", "expected"), [("", None), (" ", None), ("0", 0), ("1500", 1500), (" 7 ", 7)])
def test_the_time_limit_of_the_environment(monkeypatch: pytest.MonkeyPatch, value: str, expected: int | None) -> None:
    monkeypatch.setenv(surroundings.TIMEOUT_VARIABLE, value)
    assert surroundings.timeout_ms() == expected


@pytest.mark.parametrize("value", ["-1", "1.5", "5m", "ten", "٣"])
def test_a_time_limit_that_is_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(surroundings.TIMEOUT_VARIABLE, value)
    with pytest.raises(ValueError, match="not a number of milliseconds; the default stays"):
        surroundings.timeout_ms()


def test_no_two_keys_are_equal() -> None:
    assert len({surroundings.idempotency_key() for _ in range(100)}) == 100
