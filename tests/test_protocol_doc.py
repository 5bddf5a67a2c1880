"""docs/protocol.md tells the whole truth: every method, member and error is in it, and nothing else."""

from __future__ import annotations

import re
import typing

import msgspec
import pytest
from msgspec import Struct

from jobbroker import commandline, connection, pattern, requests
from jobbroker.core import blocks, entry, schedule
from jobbroker.methods import METHODS, output, pages, timed
from jobclient.protocol import framing, jsonrpc, wire
from jobclient.protocol.errors import BY_CODE, from_wire, to_wire
from jobclient.protocol.jsonrpc import Json
from protocol_doc import DOCUMENT, Table, examples, members, sections, tables

# What each method answers with; its parameters are the broker's own table.
RESULTS: dict[str, type[Struct] | None] = {
    "broker/ping": wire.Ping,
    "broker/status": wire.BrokerStatus,
    "broker/shutdown": wire.Done,
    "broker/trace": wire.Tracing,
    "job/start": wire.Started,
    "job/get": wire.OneJob,
    "job/list": wire.JobList,
    "job/wait": wire.Waited,
    "job/output": wire.Output,
    "job/result": wire.ResultResult,
    "job/cancel": wire.Cancelled,
    "job/pause": wire.OneJob,
    "job/resume": wire.OneJob,
    "job/lastStopped": wire.OneJob,
    "job/processes": wire.Processes,
    "job/signal": wire.OneJob,
    "job/input": wire.Done,
    "job/remove": wire.Removed,
    "job/cleanup": wire.Removed,
    "timed/add": wire.OneSchedule,
    "timed/list": wire.Schedules,
    "timed/show": wire.OneSchedule,
    "timed/remove": wire.TimedRemoved,
    "timed/tick": wire.Tick,
    "timed/pause": wire.Paused,
    "timed/resume": wire.Paused,
    "timed/log": wire.LogEntries,
    "timed/stage": wire.Done,
    "events/subscribe": wire.Subscribed,
    "events/unsubscribe": wire.Done,
    "backend/status": wire.BackendStatus,
    "backend/request": wire.BackendResult,
    "backend/interrupt": wire.OneJob,
    "backend/profiles": wire.BackendProfiles,
    "initialize": wire.Initialized,
    "shutdown": None,
}
NOTIFICATIONS: dict[str, type[Struct] | None] = {
    "notifications/job/updated": wire.JobUpdated,
    "notifications/job/removed": wire.JobRemoved,
    "notifications/job/output": wire.JobOutput,
    "notifications/timed/tick": wire.Tick,
    "notifications/broker/shuttingDown": wire.BrokerShuttingDown,
    "notifications/broker/trace": wire.Traced,
    "initialized": None,
    "exit": None,
    "$/cancelRequest": wire.CancelRequestParams,
}
TYPES: dict[str, type[Struct]] = {
    "text": wire.Base64,
    "job": wire.Job,
    "stream": wire.Stream,
    "mark": wire.Mark,
    "origin": wire.Origin,
    "filter": wire.Filter,
    "stdinSource": wire.StdinSource,
    "untilOutput": wire.UntilOutput,
    "outputMatch": wire.OutputMatch,
    "parentTick": wire.ParentTick,
    "schedule": wire.Schedule,
    "tick": wire.Tick,
    "runner": wire.Runner,
    "process": wire.Process,
    "jobResult": wire.JobResult,
    "backend": wire.Backend,
    "backendExit": wire.BackendExit,
    "backendProfile": wire.BackendProfile,
    "limits": wire.Limits,
    "places": wire.Places,
    "clientInfo": wire.ClientInfo,
    "connection": wire.Connection,
}
VALUES = {"status": wire.Status, "reason": wire.Reason, "decision": wire.Decision}
LIMITS = [
    framing.MAX_MESSAGE,
    jsonrpc.MAX_BATCH,
    connection.MAX_UNFINISHED,
    pages.MAX_PAGE,
    output.MAX_PIECE,
    output.RESULT,
    commandline.MAX_PROMPT,
    requests.MAX_NAME,
    requests.MAX_LABELS,
    pattern.MAX_PATTERN,
    blocks.MAX_LINE,
    schedule.MAX_RUNNERS,
    timed.MAX_LINES,
    entry.MAX_DETAILS,
]
SECTIONS = dict(sections(DOCUMENT))


def rows(title: str, struct: type[Struct] | None) -> list[Table]:
    """The table a document has for a type; none for a type without members."""
    made = members(struct) if struct is not None else []
    return [(title, made)] if made else []


def written(section: str) -> list[Table]:
    """The tables of a section, without the meanings, of which it is enough that there are some."""
    found = tables(SECTIONS[section])
    assert all(len(row) == 3 and row[-1] for _, table in found for row in table), section
    return [(title, [row[:-1] for row in table]) for title, table in found]


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_method(name: str) -> None:
    params: type[Struct] = METHODS[name].params.type
    assert written(name) == rows("parameter", params) + rows("result", RESULTS[name])


@pytest.mark.parametrize("name", NOTIFICATIONS)
def test_a_notification(name: str) -> None:
    assert written(name) == rows("parameter", NOTIFICATIONS[name])


@pytest.mark.parametrize("name", TYPES)
def test_a_type(name: str) -> None:
    assert written(name) == rows("member", TYPES[name])


@pytest.mark.parametrize("name", VALUES)
def test_a_set_of_values(name: str) -> None:
    ((title, table),) = tables(SECTIONS[name])
    assert (title, [row[0] for row in table]) == ("value", [f"`{value}`" for value in typing.get_args(VALUES[name])])
    assert all(meaning for _, meaning in table)


def test_the_errors() -> None:
    (table,) = [table for title, table in tables(DOCUMENT) if title == "code"]
    assert [row[:2] for row in table] == [[str(code), f"`{cls.kind}`"] for code, cls in BY_CODE.items()]
    assert all(meaning for *_, meaning in table)


def test_the_limits() -> None:
    (table,) = [table for title, table in tables(DOCUMENT) if title == "limit"]
    assert [value for _, value in table] == [str(limit) for limit in LIMITS]
    assert f"{wire.MAX_NUMBER} (1e14)" in DOCUMENT


def test_nothing_is_in_the_document_that_is_not_in_the_protocol() -> None:
    assert set(SECTIONS) == {*METHODS, *NOTIFICATIONS, *TYPES, *VALUES}
    assert set(RESULTS) == set(METHODS)


def test_no_table_is_outside_the_sections() -> None:
    inside = sum(len(tables(text)) for text in SECTIONS.values())
    assert len(tables(DOCUMENT)) == inside + 2, "but for those of the limits and the errors"


def test_every_link_leads_somewhere() -> None:
    headings = {line.lstrip("# ") for line in DOCUMENT.splitlines() if line.startswith("#")}
    anchors = {
        "".join(c for c in heading.lower() if c.isalnum() or c in " -").replace(" ", "-") for heading in headings
    }
    links = {part.partition(")")[0] for part in DOCUMENT.split("](#")[1:]}
    assert links - anchors == set()


# --- examples -------------------------------------------------------------------------------------------------------

EXAMPLES = [each for message in examples(DOCUMENT) for each in (message if isinstance(message, list) else [message])]


def test_the_examples_are_found() -> None:
    assert len(EXAMPLES) == len(re.findall(r'"id":\d', DOCUMENT)) >= 10


@pytest.mark.parametrize("example", [each for each in EXAMPLES if isinstance(each, dict) and "method" in each])
def test_a_request_fits_its_method(example: dict[str, Json]) -> None:
    method = METHODS[str(example["method"])]
    params = msgspec.json.encode(example.get("params"))
    assert isinstance(jsonrpc.decode_params(params, method.params, method.positional), method.params.type)


@pytest.mark.parametrize("example", [each for each in EXAMPLES if isinstance(each, dict) and "result" in each])
def test_a_result_is_complete(example: dict[str, Json]) -> None:
    known = [{name.strip("`") for name, _ in members(struct)} for struct in RESULTS.values() if struct is not None]
    assert isinstance(example["result"], dict)
    assert set(example["result"]) in known


@pytest.mark.parametrize("example", [each for each in EXAMPLES if isinstance(each, dict) and "error" in each])
def test_an_error_is_one_of_the_table(example: dict[str, Json]) -> None:
    assert isinstance(example["error"], dict)
    error = from_wire(example["error"])
    assert to_wire(error) == example["error"]
    assert type(error) in BY_CODE.values()
