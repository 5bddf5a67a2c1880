"""Profiles: found, read, and refused where they say what cannot be, with the line and what was meant."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from jobbroker import profile_files
from jobbroker.core.profile import Cancel, End, Profile
from jobbroker.profile_files import ProfileError, known, load
from jobbroker.profile_lines import Where

SHIPPED = ["codex", "generic", "lsp", "mcp"]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "profiles").mkdir()
    return tmp_path / "config.toml"


def write(settings: Path, text: str, name: str = "mine") -> Path:
    path = settings.parent / "profiles" / f"{name}.toml"
    path.write_text(text)
    return path


def refusal(settings: Path, text: str, changes: dict[str, object] | None = None) -> str:
    write(settings, text)
    with pytest.raises(ProfileError) as caught:
        load("mine", settings, changes)
    return str(caught.value)


def test_those_that_come_with_the_broker_can_be_read(settings: Path) -> None:
    assert [found.name for found in known(settings)] == SHIPPED
    for name in SHIPPED:
        assert load(name, settings, {"command": ["x"]}).name == name


def test_what_the_codex_profile_says(settings: Path) -> None:
    codex = load("codex", settings)
    assert codex.backend.command == ("codex", "app-server")
    rule = codex.rule("turn/start")
    assert isinstance(rule.end, End)
    assert isinstance(rule.cancel, Cancel)
    assert rule.end.match == {"threadId": "$thread", "turn.id": "$turn"}
    assert codex.rule("anything else").end == "response"


def test_null_is_written_as_a_text(settings: Path) -> None:
    lsp = load("lsp", settings, {"command": ["x"]})
    assert lsp.client_methods.local == {"shutdown": None}
    assert lsp.server_requests.answers["client/registerCapability"] is None
    assert lsp.handshake is not None
    assert isinstance(lsp.handshake.params, dict)
    assert lsp.handshake.params["rootUri"] is None


def test_ones_own_hides_one_that_is_shipped(settings: Path) -> None:
    path = write(settings, '[backend]\ncommand = ["mine"]\n', "codex")
    assert load("codex", settings).backend.command == ("mine",)
    assert [found.path for found in known(settings) if found.name == "codex"] == [path]


def test_the_settings_say_what_differs(settings: Path) -> None:
    changed = load("codex", settings, {
        "profile": "codex", "command": ["other"], "env": {"A": "b"},
        "probe": {"hung": "kill"}, "route": {"unclaimed": "drop"},
    })  # fmt: skip
    assert (changed.backend.command, changed.backend.env, changed.backend.jsonrpc) == (("other",), {"A": "b"}, False)
    assert (changed.probe.hung, changed.probe.while_busy) == ("kill", True)
    assert (changed.route.unclaimed, changed.route.broadcast[0]) == ("drop", "thread/started")


def test_one_without_a_command_says_where_to_put_it(settings: Path) -> None:
    with pytest.raises(ProfileError, match=r"generic.toml: the profile generic does not say which program to run"):
        load("generic", settings)


def test_one_that_does_not_exist(settings: Path) -> None:
    with pytest.raises(ProfileError, match=r"no profile 'codx'; did you mean codex\? your own go to .*/profiles"):
        load("codx", settings)
    with pytest.raises(ProfileError, match=r"no profile 'zzz'; there are codex, generic, lsp, mcp;"):
        load("zzz", settings)
    with pytest.raises(ProfileError, match="no profile"):
        load("../config", settings)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('[backend]\ncomand = ["x"]', 2, "'backend.comand' is unknown; did you mean command?"),
        ("# x\n[bakend]\n", 2, "'bakend' is unknown; did you mean backend?"),
        (
            '[backend]\ncommand = ["x"]\nframing = "line"',
            3,
            "backend.framing: invalid enum value 'line'; did you mean lines?",
        ),
        ('[route]\nunkeyed = "x"', 2, "route.unkeyed: invalid enum value 'x'; there are broadcast, drop"),
        ('[[job]]\nstart = "a"\n[[job]]\nstart = "b"\nvars = 3', 5, "job[1].vars: expected `object`"),
        ('[[job]]\nstart = "a"\n[[job]]\nstart = "b"\nvar = 3', 5, "'job.var' is unknown; did you mean vars?"),
        ('[backend]\ncommand = "x"', 2, "backend.command: expected `array`, got `str`"),
        (
            '[backend]\ncommand = ["x"]\n\n[[key]]\nname = "a"\nparms = "b"',
            6,
            "'key.parms' is unknown; did you mean param?",
        ),
        ('[[job]]\nstart = "a"\nend = { metod = "b" }', 3, "'job.end.metod' is unknown; did you mean method?"),
        ("[backend]\nconcurrency = -1", 2, "backend.concurrency: expected `int` >= 0"),
        ("[probe]\nidle = 0", 2, "probe.idle: expected `float` > 0"),
        ('[handshake]\nnotify = "x"', 1, "handshake: object missing required field `request`"),
    ],
)
def test_a_mistake_is_named_with_its_line(settings: Path, text: str, line: int, what: str) -> None:
    said = refusal(settings, text)
    assert said.startswith(f"{settings.parent}/profiles/mine.toml, line {line}: {what}"), said


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('command = ["a\\u0000b"]', 2, "a word of a command cannot hold a NUL"),
        ('env = { "A=B" = "c" }', 2, "'A=B' cannot be a variable"),
        ('cwd = "here"', 2, "'here' is no absolute path"),
        ('[handshake]\nrequest = ""', 3, "handshake.request: expected `str` of length >= 1"),
        ('[handshake]\nrequest = "i"\nparams = { a = nan }', 4, "nan is nothing that JSON has"),
        ("[handshake.params]\na = 2026-01-01", 3, "2026-01-01 is nothing that JSON has"),
        ('[[job]]\nstart = "a"\n[[job]]\nstart = "a"', 5, "there is another rule for a"),
        ('[[job]]\nstart = "a"\nvars = { t = "thread" }', 4, "'thread' must begin with `params.` or `result.`"),
        ('[[job]]\nstart = "a"\nexclusive = ["t"]', 4, "'t' is no var from `params`"),
        (
            '[[job]]\nstart = "a"\nvars = { t = "result.t" }\n[job.end]\nmethod = "m"\nmatch = { x = ["$u"] }',
            5,
            "$u is no var of this rule; there are t",
        ),
        ('[[job]]\nstart = "a"\ncancel = {}', 4, "say either `request` or `notify`"),
    ],
)
def test_what_does_not_fit_together_is_named_with_its_line(settings: Path, text: str, line: int, what: str) -> None:
    path = write(settings, f"[backend]\n{text}")
    with pytest.raises(ProfileError) as caught:
        profile_files.check_file(path)
    assert str(caught.value).startswith(f"{path}, line {line}: {what}"), caught.value
    if "command" not in text:
        path.write_text(f'[backend]\ncommand = ["x"]\n{text}')
        with pytest.raises(ProfileError, match=re.escape(f"line {line + 1}: {what}")):
            load("mine", settings)


def test_a_mistake_that_the_settings_make_is_theirs(settings: Path) -> None:
    where = Where(
        "config.toml", '[instances.x.backend]\nprofile = "codex"\ncwd = "here"\n', ("instances", "x", "backend")
    )
    with pytest.raises(ProfileError, match=r"^config.toml, line 3: 'here' is no absolute path"):
        load("codex", settings, {"profile": "codex", "cwd": "here"}, where)


def test_all_unknown_members_are_named_at_once(settings: Path) -> None:
    said = refusal(settings, "[backend]\nx = 1\ny = 2\n")
    assert [part.split(": ")[0][-6:] for part in said.splitlines()] == ["line 2", "line 3"]


@pytest.mark.parametrize("text", ["[backend", "\x00", "[backend]\n[backend]\n"])
def test_what_is_no_toml(settings: Path, text: str) -> None:
    assert "mine.toml: " in refusal(settings, text)


def test_what_is_no_text(settings: Path) -> None:
    (settings.parent / "profiles" / "mine.toml").write_bytes(b"# a\n\xff")
    with pytest.raises(ProfileError, match="line 2: not UTF-8"):
        load("mine", settings)


def test_what_is_no_file(settings: Path) -> None:
    path = settings.parent / "profiles" / "mine.toml"
    os.mkfifo(path)
    with pytest.raises(ProfileError, match="no plain file"):
        load("mine", settings)
    for target, said in (("/dev/zero", "no plain file"), ("/", "no plain file|directory"), ("/nonexistent", "no such")):
        path.unlink()
        path.symlink_to(target)
        with pytest.raises(ProfileError, match=said):
            load("mine", settings)
    path.unlink()
    path.write_text("#" * (profile_files.MAX_SIZE + 1))
    with pytest.raises(ProfileError, match="too long"):
        load("mine", settings)


def test_a_mistake_in_the_settings_is_named_with_its_line() -> None:
    text = '[limits]\ngrace = 1\n[instances.x.backend]\ncommand = ["x"]\ncomand = 1\n'
    text += "[instances.x.backend.probe]\nidel = 3\n"
    where = Where("config.toml", text, ("instances", "x", "backend"))
    found = profile_files.in_place({"command": ["x"], "comand": 1, "probe": {"idel": 3}})
    with pytest.raises(ProfileError) as caught:
        profile_files.check(found, where)
    first, second = str(caught.value).splitlines()
    assert first == "config.toml, line 7: 'probe.idel' is unknown; did you mean idle?"
    assert second == "config.toml, line 5: 'backend.comand' is unknown; did you mean command?"


def test_every_member_has_a_default_but_the_command() -> None:
    assert Profile(name="x").rule("m").cancel == "request_cancel"
