"""Lines with their times: the right ones, and not a byte of anything else changed."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, strategies as st

from jobclient.cli.stamps import FORMATS, Stamps, text

NOON = "2030-01-02T12:00:00.678Z"
PARTS = st.lists(
    st.lists(st.binary(min_size=1, max_size=20) | st.sampled_from([b"\n", b"a\nb"]), max_size=5), max_size=5
)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()


def test_a_time_as_people_want_it(elsewhere: None) -> None:
    assert [text(NOON, form) for form in FORMATS] == ["2030-01-02 17:30:00.678", NOON, "1893585600.678"]


@given(PARTS)
def test_nothing_but_lines_gets_a_time_and_nothing_else_changes(pieces: list[list[bytes]]) -> None:
    stamps = Stamps("iso")
    count, written = 0, b""
    for parts in pieces:
        data = b"".join(parts)
        marks: list[dict[str, object]] = []
        at = 0
        for part in parts:
            count += 1
            marks.append({"at": at, "time": f"2030-01-01T00:00:00.{count:03d}Z", "stream": "stdout"})
            at += len(part)
        written += stamps.put(data, {"marks": marks})
    whole = b"".join(b"".join(parts) for parts in pieces)
    starts = [part for parts in pieces for part in parts]
    times = re.findall(rb"^2030-01-01T00:00:00\.(\d{3})Z ", written, re.MULTILINE)
    lines = whole.split(b"\n")
    assert len(times) == len(lines) - (lines[-1] == b"")
    assert b"\n".join(re.sub(rb"^2030-01-01T00:00:00\.\d{3}Z ", b"", line) for line in written.split(b"\n")) == whole
    begin = 0
    for line, moment in zip(lines, times, strict=False):
        number = next(n for n in range(1, len(starts) + 1) if begin < sum(map(len, starts[:n])))
        assert number == int(moment), "the time of the part that holds its first byte"
        begin += len(line) + 1


def test_what_a_budget_cut_off_is_not_written() -> None:
    marks = [{"at": 0, "time": NOON, "stream": "stdout"}, {"at": 4, "time": NOON, "stream": "stderr"}]
    assert Stamps("iso").put(b"a\nb", {"marks": marks}) == f"{NOON} a\n{NOON} b".encode()
