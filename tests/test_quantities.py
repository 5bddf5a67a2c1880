"""Durations, sizes and times, in and out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from jobclient.cli import quantities


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0), ("90", 90_000), ("1.5", 1500), ("5m", 300_000), ("1h30m", 5_400_000), ("500ms", 500),
        ("2d", 172_800_000), ("1m500ms", 60_500), ("1.5h", 5_400_000), ("1h30", 3_630_000), ("0s", 0),
        ("30m1h", 5_400_000), (".5s", 500),
    ],
)  # fmt: skip
def test_durations(text: str, ms: int) -> None:
    assert quantities.parse_duration(text) == ms


@pytest.mark.parametrize(
    "text",
    ["", "m", "5x", "-5", "5 m", "1m1m", "1.2.3s", "5mm", "five", "1e3", "٣", "inf", "nan", "9" * 30, ".", "5m-"],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration, write 90"):
        quantities.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1K", 1024),
        ("100M", 100 << 20),
        ("100MiB", 100 << 20),
        ("2gb", 2 << 30),
        ("1.5k", 1536),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert quantities.parse_size(text) == count


@pytest.mark.parametrize("text", ["", "M", "1X", "-1", "1 M", "1MM", "i", "5i", "5ib", "9" * 30, "1.2.3", "bM"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        quantities.parse_size(text)


@pytest.mark.parametrize("text", ["", "-1", "1.0", "x", "٣", "9" * 30])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        quantities.parse_count(text)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-5, "0ms"), (0, "0ms"), (999, "999ms"), (1000, "1s"), (59_999, "59s"), (60_000, "1m00s"), (252_000, "4m12s"),
        (7_380_000, "2h03m"), (86_400_000, "1d00h"), (864_000_000, "10d"),
    ],
)  # fmt: skip
def test_durations_are_written(ms: int, text: str) -> None:
    assert quantities.duration(ms) == text


@given(st.integers(0, 10**12))
def test_an_interval_is_written_as_it_may_be_typed(ms: int) -> None:
    assert quantities.parse_duration(quantities.interval(ms)) == ms


@pytest.mark.parametrize(("ms", "text"), [(0, "0"), (3_600_000, "1h"), (90_500, "1m30s500ms"), (86_400_000, "1d")])
def test_an_interval_is_short(ms: int, text: str) -> None:
    assert quantities.interval(ms) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1.0K"), (1024, "1.0K"), (10_240, "10K"), (1 << 20, "1.0M"), (212 << 20, "212M")],
)
def test_sizes_are_written(count: int, text: str) -> None:
    assert quantities.size(count) == text


@given(st.integers(0, 90 << 40))
def test_a_written_size_is_short_and_near(count: int) -> None:
    text = quantities.size(count)
    assert len(text) <= 5
    assert abs(quantities.parse_size(text) - count) <= max(count * 0.06, 0)


@given(st.integers(0, 864_000_000 - 1))
def test_a_written_duration_reads_as_nearly_the_same(ms: int) -> None:
    text = quantities.duration(ms)
    assert (
        0
        <= ms - quantities.parse_duration(text)
        < max(1000, 60_000 if "h" in text else 0, 3_600_000 if "d" in text else 0)
    )


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)))  # noqa: DTZ001
def test_the_epoch_is_found_as_datetime_finds_it(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
    if moment.year < 1000:
        text = text.zfill(24)
    assert quantities.epoch_ms(text) == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
