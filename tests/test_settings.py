"""Settings: who wins, what is understood, and that no mistake costs more than a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from jobbroker.settings import LIMITS, Settings, SettingsError, load, parse

MIB = 1024 * 1024
MINUTE = 60_000


def limits(text: str, instance: str = "default", **environ: str) -> Settings:
    """Settings that must make no warning."""
    found = parse(text, instance, environ, 2)
    assert found.warnings == ()
    return found


def warning(text: str, instance: str = "default", **environ: str) -> str:
    """The one warning some settings make; everything in them must have kept its default."""
    found = parse(text, instance, environ, 2)
    (said,) = found.warnings
    assert found == Settings(max_running=32, warnings=(said,))
    return said


def test_defaults() -> None:
    assert parse(None, "default", {}, 2) == Settings(
        max_running=32,
        max_output=100 * MIB,
        max_total_output=2048 * MIB,
        timeout_ms=0,
        grace_ms=5_000,
        keep_jobs=10_000,
        keep_for_ms=0,
        idle_exit_ms=30 * MINUTE,
        max_connections=1024,
        keep_timed_log_ms=30 * 24 * 60 * MINUTE,
        max_log_size=10 * MIB,
        warnings=(),
    )
    assert parse("", "default", {}, 2) == parse(None, "default", {}, 2)


@pytest.mark.parametrize(("cores", "slots"), [(1, 32), (8, 32), (9, 36), (64, 256)])
def test_slots_follow_the_cores(cores: int, slots: int) -> None:
    assert parse(None, "default", {}, cores).max_running == slots


EVERY_KEY = """
[limits]
maxRunning = 3
maxOutput = "2G"
maxTotalOutput = "1.5G"
timeout = "1h30m"
turnTimeout = "45m"
grace = 0.5
keepJobs = 0
keepFor = "7d"
idleExit = 0
maxConnections = 5
keepTimedLog = 0
maxLogSize = 1000
"""


def test_every_key() -> None:
    assert limits(EVERY_KEY) == Settings(
        max_running=3,
        max_output=2048 * MIB,
        max_total_output=1536 * MIB,
        timeout_ms=90 * MINUTE,
        turn_timeout_ms=45 * MINUTE,
        grace_ms=500,
        keep_jobs=0,
        keep_for_ms=7 * 24 * 60 * MINUTE,
        idle_exit_ms=0,
        max_connections=5,
        keep_timed_log_ms=0,
        max_log_size=1000,
        origins={key: f"config.toml: limits.{key}" for key in LIMITS},
    )


def test_every_field_has_a_key_and_every_key_a_variable() -> None:
    fields = {limit.field for limit in LIMITS.values()}
    assert fields | {"agents", "backend", "origins", "warnings"} == set(Settings.__struct_fields__)
    for key, (_, variable, _) in LIMITS.items():
        assert key in EVERY_KEY
        words = variable.removeprefix("JOBBROKER_").split("_")
        assert key == words[0].lower() + "".join(word.capitalize() for word in words[1:])


# --- who wins -------------------------------------------------------------------------------------------------------

LAYERS = """
[limits]
grace = 1
keepJobs = 1
maxRunning = 1
[instances.work.limits]
grace = 2
keepJobs = 2
[instances.other.limits]
grace = 9
mistake = 1
"""


def test_environment_over_instance_over_file_over_default() -> None:
    found = limits(LAYERS, "work", JOBBROKER_GRACE="3")
    assert (found.grace_ms, found.keep_jobs, found.max_running, found.max_connections) == (3_000, 2, 1, 1024)
    assert limits(LAYERS, "default").grace_ms == 1_000


@pytest.mark.parametrize("key", LIMITS)
def test_every_variable(key: str) -> None:
    field, variable, _ = LIMITS[key]
    found = limits(f"[limits]\n{key} = 2", **{variable: "7"})
    assert getattr(found, field) in (7, 7_000)


def test_an_empty_variable_is_none() -> None:
    assert limits("", JOBBROKER_GRACE="").grace_ms == 5_000


def test_a_bad_variable_leaves_what_the_file_says() -> None:
    found = parse("[limits]\ngrace = 1", "default", {"JOBBROKER_GRACE": "soon"}, 2)
    assert found.grace_ms == 1_000
    assert "JOBBROKER_GRACE = 'soon' is ignored" in found.warnings[0]


def test_a_bad_value_of_an_instance_leaves_what_all_have() -> None:
    found = parse("[limits]\ngrace = 1\n[instances.work.limits]\ngrace = -1", "work", {}, 2)
    assert found.grace_ms == 1_000
    assert "instances.work.limits.grace" in found.warnings[0]


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [("90", 90_000), ("0", 0), ("0.25", 250), ("1e3", 1_000_000), ('"90"', 90_000), ('"0"', 0), ('"500ms"', 500),
     ('"1.5s"', 1_500), ('"5m"', 5 * MINUTE), ('"1h30m"', 90 * MINUTE), ('"1h 30m"', 90 * MINUTE),
     ('"2d"', 2880 * MINUTE), ('"0s"', 0), ('"0.0004s"', 0)],
)  # fmt: skip
def test_durations(value: str, milliseconds: int) -> None:
    assert limits(f"[limits]\ngrace = {value}").grace_ms == milliseconds


@pytest.mark.parametrize(
    "value",
    ["-1", "true", "nan", "inf", "-inf", "[]", "{}", '""', '"soon"', '"-5s"', '"5x"', '"5 minutes"', '"m5"', '"1h5"',
     "2020-01-01", '"1e3"', "1e300", "99999999999999999", '"99999999999999999999999d"', '"\u0665m"'],
)  # fmt: skip
def test_what_is_no_duration(value: str) -> None:
    assert "limits.grace" in warning(f"[limits]\ngrace = {value}")


@pytest.mark.parametrize(
    ("value", "size"),
    [("0", 0), ("1000", 1000), ('"1000"', 1000), ('"1k"', 1024), ('"100M"', 100 * MIB), ('"100MiB"', 100 * MIB),
     ('"100mb"', 100 * MIB), ('"1.5K"', 1536), ('"2 G"', 2048 * MIB), ('"5B"', 5)],
)  # fmt: skip
def test_sizes(value: str, size: int) -> None:
    assert limits(f"[limits]\nmaxOutput = {value}").max_output == size


@pytest.mark.parametrize(
    "value", ["-1", "1.5", "true", '""', '"many"', '"-1M"', '"1T"', '"M"', "[]", '"9999999999999G"']
)
def test_what_is_no_size(value: str) -> None:
    assert "limits.maxOutput" in warning(f"[limits]\nmaxOutput = {value}")


@pytest.mark.parametrize("value", ["0", "-1", "1.0", "true", '"few"', "99999999999999999999"])
def test_what_is_no_number_of_slots(value: str) -> None:
    assert "limits.maxRunning" in warning(f"[limits]\nmaxRunning = {value}")


def test_long_values_are_cut_short() -> None:
    assert len(warning(f'[limits]\ngrace = "{"x" * 10_000}"')) < 250


@given(st.text(max_size=20))
def test_no_text_is_more_than_a_warning(text: str) -> None:
    environ = {variable: text.replace("\0", "") for _, variable, _ in LIMITS.values()}
    found = parse(None, "default", environ, 2)
    assert all(said.isprintable() for said in found.warnings)


# --- mistakes -------------------------------------------------------------------------------------------------------


UNKNOWN = "is unknown and ignored"
MISTAKES = {
    "[limits]\nmaxRuning = 3": f"'limits.maxRuning' {UNKNOWN}, did you mean limits.maxRunning?",
    "[limits]\nmax_running = 3": f"'limits.max_running' {UNKNOWN}, did you mean limits.maxRunning?",
    "[limits]\ncolour = 3": f"'limits.colour' {UNKNOWN}",
    "[limit]\ngrace = 3": f"'limit' {UNKNOWN}, did you mean limits?",
    "grace = 3": f"'grace' {UNKNOWN}",
    "limits = 3": "limits is not a section: write [limits]",
    "instances = 3": "instances is not a section: write [instances]",
    "[instances]\nwork = 3": "instances.work is not a section: write [instances.work]",
    "[instances.work]\nlimits = []": "instances.work.limits is not a section: write [instances.work.limits]",
    "[instances.work.limits]\ngrce = 3": f"'instances.work.limits.grce' {UNKNOWN}, "
    "did you mean instances.work.limits.grace?",
    "[limits]\ngrace = 'x'": "limits.grace = 'x' is ignored: "
    "a duration is a number of seconds, or a text such as 30m, 1h30m or 500ms",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_named_and_explained(text: str) -> None:
    assert warning(text, "work") == f"config.toml: {MISTAKES[text]}"


def test_sections_of_others_are_left_alone() -> None:
    limits('[instances.work.backend]\nprofile = "codex"\nwhen = 2020-01-01', "work")


@pytest.mark.parametrize(
    ("text", "line"), [("a = \n", 1), ("\n\n[limits\n", 3), ("[limits]\ngrace = 1\ngrace = 2\n", 3), ('x = "\n', 1)]
)
def test_a_text_that_is_not_toml_is_an_error_with_its_line(text: str, line: int) -> None:
    with pytest.raises(SettingsError, match=rf"^here\.toml: .*line {line}"):
        parse(text, "default", {}, 2, source="here.toml")


def test_a_text_nested_too_deeply() -> None:
    with pytest.raises(SettingsError, match="nested"):
        parse("a = " + "[" * 100_000, "default", {}, 2)


@given(st.text(max_size=60))
def test_any_text_is_settings_or_an_error(text: str) -> None:
    try:
        found = parse("[limits]\n" + text, "default", {}, 2)
    except SettingsError:
        return
    assert found.max_running >= 1


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert load(path, "default", {}, 2) == parse(None, "default", {}, 2)
    assert load(path / "below", "default", {}, 2).warnings == ()
    path.write_text("[limits]\ngrace = 1\nx = 1")
    found = load(path, "default", {"JOBBROKER_KEEP_JOBS": "4"}, 2)
    assert (found.grace_ms, found.keep_jobs) == (1_000, 4)
    assert str(path) in found.warnings[0]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"[limits]\n# \xff\n")
    with pytest.raises(SettingsError, match=r"config\.toml: not UTF-8 \(at line 2\)"):
        load(path, "default", {}, 2)
    path.write_text("[limits]\n!")
    with pytest.raises(SettingsError, match=r"config\.toml: .*line 2"):
        load(path, "default", {}, 2)
    with pytest.raises(SettingsError, match="directory"):
        load(tmp_path, "default", {}, 2)


def test_without_a_file_nobody_pays_for_reading_one(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from jobbroker.settings import load\n"
        "load(Path(sys.argv[1]), 'default', {}, 2); print('tomllib' in sys.modules)"
    )
    path = tmp_path / "config.toml"
    for expected in ("False\n", "True\n"):
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
        assert done.stdout == expected
        path.write_text("")


def test_where_each_value_comes_from() -> None:
    text = "[limits]\ngrace = 3\ntimeout = 4\nkeepJobs = -1\n[instances.ci.limits]\ntimeout = 5\n"
    settings = parse(text, "ci", {"JOBBROKER_MAX_RUNNING": "7"}, 2)
    assert (settings.grace_ms, settings.timeout_ms, settings.max_running) == (3000, 5000, 7)
    assert settings.origins == {
        "grace": "config.toml: limits.grace",
        "timeout": "config.toml: instances.ci.limits.timeout",
        "maxRunning": "JOBBROKER_MAX_RUNNING",
    }
    assert len(settings.warnings) == 1, "what is ignored is no origin"


def test_units() -> None:
    assert {key: limit.unit for key, limit in LIMITS.items() if limit.unit} == {
        "maxOutput": "bytes", "maxTotalOutput": "bytes", "maxLogSize": "bytes",
        "timeout": "ms", "turnTimeout": "ms", "grace": "ms", "keepFor": "ms", "keepTimedLog": "ms", "idleExit": "ms",
    }  # fmt: skip
