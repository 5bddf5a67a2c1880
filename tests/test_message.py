"""The last message of an agent: found where the rule says, and never anywhere else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from jobbroker.core.message import check_rule, message
from jobclient.protocol.jsonrpc import Json

CODEX = (
    b'{"type":"thread.started","thread_id":"0"}\n'
    b'{"type":"item.completed","item":{"id":"1","type":"agent_message","text":"first"}}\n'
    b'{"type":"item.completed","item":{"id":"2","type":"agent_message","text":"last"}}\n'
    b'{"type":"turn.completed","usage":{"input_tokens":1}}\n'
)


def found(rule: str, stdout: bytes | str, *, cut: bool = False) -> str | None:
    return message(rule, stdout if isinstance(stdout, bytes) else stdout.encode(), cut=cut)


# --- stdout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stdout", "text"),
    [
        ("done\n", "done"),
        ("done", "done"),
        ("two\nlines\r\n\n", "two\nlines"),
        ("  kept \t\n", "  kept \t"),
        ("", None),
        ("\n\n", None),
        ("größe\n", "größe"),
        (b"caf\xe9 \0\n", "caf\ufffd \ufffd"),
    ],
)
def test_all_of_stdout(stdout: str | bytes, text: str | None) -> None:
    assert found("stdout", stdout) == text


# --- a line of JSON -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stdout", "line"),
    [
        ('{"a":1}\n', '{"a":1}'),
        ('{"a":1}\n{"b":2}\n', '{"b":2}'),
        ('{"a":1}\nbye\n', '{"a":1}'),
        ('noise\n  {"a":1}  \r\nnot json {\n{broken}\n', '{"a":1}'),
        ('{"a":1}', '{"a":1}'),
        ("[1]\n", "[1]"),
        ('{"a":1}\n"text"\n12\nnull\ntrue\n', '{"a":1}'),
        ("no json\n", None),
        ("", None),
        ("{}\n", "{}"),
    ],
)
def test_the_last_line_that_is_json(stdout: str, line: str | None) -> None:
    assert found("json", stdout) == line


# --- a field --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "stdout", "text"),
    [
        ("json:item.text", CODEX, "last"),
        ("json:usage.input_tokens", CODEX, "1"),
        ("json:usage", CODEX, '{"input_tokens":1}'),
        ("json:result", '{"type":"result","result":"all done\\n"}', "all done"),
        ("json:content.0.text", '{"content":[{"text":"hi"}]}', "hi"),
        ("json:content.1.text", '{"content":[{"text":"hi"}]}', None),
        ("json:0.text", '[{"text":"hi"}]', "hi"),
        ("json:a", '{"a":""}', ""),
        ("json:a", '{"a":null}\n', None),
        ("json:a", '{"a":"x"}\n{"a":null}\n{"b":"y"}\n', "x"),
        ("json:a.b", '{"a":"text"}', None),
        ("json:a.b", '{"a.b":"text"}', None),
        ("json:a", '{"a":false}', "false"),
        ("json:a", '{"\\u0061":"spelled"}', "spelled"),
        ("json:a", '{"a":"\\ud83d"}', "\ufffd"),
        ("json:a", '{"a":"\\u0000"}', "\ufffd"),
        ("json:a", '{"a":' + "1" * 40 + "}", "1" * 40),
        ("json:größe", '{"größe":"x"}', "x"),
        ("json:a", '"a"\na\n', None),
    ],
)
def test_a_field_of_the_last_line_that_has_it(rule: str, stdout: str | bytes, text: str | None) -> None:
    assert found(rule, stdout) == text


def test_half_a_line_is_no_line() -> None:
    assert found("json:a", '{"a":1}\n{"b":1}\n', cut=True) is None
    assert found("json", '{"a":1}', cut=True) is None
    assert found("json:a", 'lf a line"}\n{"a":"x"}\n', cut=True) == "x"


def test_what_is_nested_too_deeply_is_no_answer() -> None:
    assert found("json", "[" * 100_000 + "]" * 100_000) is None
    assert found("json:a", '{"a":"x"}\n' + '{"a":' * 50_000 + "1" + "}" * 50_000) == "x"


NAMES = st.sampled_from(["a", "b", "größe", "0"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=3), max_size=5), NAMES, NAMES)
def test_as_a_reader_of_json_would_find_it(lines: list[dict[str, Json]], first: str, second: str) -> None:
    expected = None
    for line in lines:
        inner = line.get(first)
        value: Json = inner.get(second) if isinstance(inner, dict) else None
        if isinstance(inner, list) and second == "0" and inner:
            value = inner[0]
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            expected = text.replace("\0", "\ufffd").rstrip("\r\n")
    stdout = "".join(json.dumps(line) + "\n" for line in lines)
    assert found(f"json:{first}.{second}", stdout) == expected


@given(st.binary(max_size=60), st.sampled_from(["stdout", "json", "json:a", "json:a.0"]), st.booleans())
def test_any_bytes(data: bytes, rule: str, cut: bool) -> None:
    said = message(rule, data, cut=cut)
    assert said is None or "\0" not in said


# --- rules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["stdout", "json", "json:a", "json:a.b.0", "json:a b"])
def test_rules(rule: str) -> None:
    check_rule(rule)


@pytest.mark.parametrize("rule", ["", "stderr", "stdout:a", "json:", "json:.", "json:a.", "json:a..b", "JSON", "jsona"])
def test_what_is_no_rule(rule: str) -> None:
    with pytest.raises(ValueError, match=r"json:name\.of\.field"):
        check_rule(rule)
