"""Golden JSON of what the broker sends: names and shapes are promises to clients of other languages."""

from __future__ import annotations

import msgspec
import pytest

from jobclient.protocol import wire
from jobclient.protocol.jsonrpc import encode
from jobclient.protocol.wire import Job, Origin, Result, Stream

QUEUED = (
    '{"id":"k3x9qz","number":12,"kind":"command","status":"queued","argv":["make","-j8"],"cwd":"/src",'
    '"createdAt":"2030-01-02T03:04:05.678Z","name":null,"labels":{},"agent":null,"prompt":null,'
    '"method":null,"params":null,"origin":null,"reason":null,"exitCode":null,'
    '"signal":null,"error":null,"pid":null,"pgid":null,"startedAt":null,"stoppedAt":null,"completedAt":null,'
    '"durationMs":null,"timeoutMs":0,"idleTimeoutMs":0,"graceMs":0,"cancelRequested":false,"merged":false,'
    '"stdin":"null","stdinFile":null,"persist":true,'
    '"stdout":{"size":0,"dropped":0,"closed":false},"stderr":{"size":0,"dropped":0,"closed":false},"tick":null,"rev":0}'
)
ENDED = (
    '{"id":"k3x9qz","number":12,"kind":"command","status":"failed","argv":["cc",{"base64":"/w=="}],'
    '"cwd":{"base64":"L/8="},"createdAt":"2030-01-02T03:04:05.678Z","name":"build","labels":{"by":"me"},'
    '"agent":"codex","prompt":"fix it","method":"m","params":{"a":[1]},"origin":{"pid":7,"client":"jobctl"},'
    '"reason":"signal","exitCode":null,"signal":"SIGKILL",'
    '"error":"killed by SIGKILL","pid":100,"pgid":100,"startedAt":"2030-01-02T03:04:06.000Z","stoppedAt":null,'
    '"completedAt":"2030-01-02T03:04:07.000Z","durationMs":1000,"timeoutMs":5,"idleTimeoutMs":6,"graceMs":7,'
    '"cancelRequested":true,"merged":true,"stdin":"file","stdinFile":"/in","persist":true,"stdout":{"size":3,"dropped":1,"closed":true},'
    '"stderr":{"size":0,"dropped":0,"closed":true},'
    '"tick":{"schedule":"nightly","runner":"build","batchId":"timed-jobs-1-2","trigger":"manual"},"rev":41,"env":["A=b",{"base64":"Qf8="}]}'
)


def queued() -> Job:
    return Job(
        id="k3x9qz",
        number=12,
        kind="command",
        status="queued",
        argv=["make", "-j8"],
        cwd="/src",
        created_at="2030-01-02T03:04:05.678Z",
    )


def ended() -> Job:
    return msgspec.structs.replace(
        queued(),
        status="failed",
        argv=["cc", wire.Base64("/w==")],
        cwd=wire.Base64("L/8="),
        name="build",
        labels={"by": "me"},
        agent="codex",
        prompt="fix it",
        method="m",
        params={"a": [1]},
        stdin="file",
        stdin_file="/in",
        origin=Origin(7, "jobctl"),
        reason="signal",
        signal="SIGKILL",
        error="killed by SIGKILL",
        pid=100,
        pgid=100,
        started_at="2030-01-02T03:04:06.000Z",
        completed_at="2030-01-02T03:04:07.000Z",
        duration_ms=1000,
        timeout_ms=5,
        idle_timeout_ms=6,
        grace_ms=7,
        cancel_requested=True,
        merged=True,
        stdout=Stream(3, 1, closed=True),
        stderr=Stream(closed=True),
        tick=wire.ParentTick("nightly", "build", "timed-jobs-1-2", "manual"),
        rev=41,
        env=["A=b", wire.Base64("Qf8=")],
    )


@pytest.mark.parametrize(("job", "text"), [(queued(), QUEUED), (ended(), ENDED)], ids=["queued", "ended"])
def test_a_job(job: Job, text: str) -> None:
    assert encode(job).decode() == text
    assert msgspec.json.decode(text, type=Job) == job, "clients read what the broker writes"


PING = '"pid":7,"version":"0.1.0","protocol":1,"instance":"default","startedAt":"2030-01-02T03:04:05.678Z","uptimeMs":9'
LIMITS = '{"maxRunning":4,"maxOutput":5,"maxTotalOutput":7,"maxMessage":6,"timeoutMs":0,"graceMs":8,"keepJobs":9}'
PLACES = '{"socket":"/s","state":"/t","log":"/l","settings":"/c"}'
STATUS = (
    f'{{{PING},"counts":{{"running":1}},"connections":2,"totalOutput":3,"backend":null,"degraded":["store"],"warnings":["w"],'
    f'"limits":{LIMITS},"paths":{PLACES}}}'
)
INITIALIZED = (
    '{"capabilities":{},"serverInfo":{"name":"jobbroker","version":"0.1.0"},"protocolVersion":1,'
    '"methods":["job/get"],"limits":{"maxMessage":1}}'
)
LEFT = (
    '{"stdout":"o","stderr":"e","exitCode":0,"durationMs":3,"truncated":false,"encoding":"utf-8",'
    '"agent":"codex","message":"o"}'
)
BACKEND = (
    '{"profile":"codex","command":["codex"],"state":"up","pid":7,"starts":1,"clients":2,"pending":3,"turns":4,"asking":5,'
    '"dropped":6,"silentMs":7,"lastExit":{"reason":"r","exitCode":1,"signal":null,"stderrTail":"e"}}'
)
MATCH = '{"stream":"stderr","line":"up","encoding":"utf-8","start":"3","next":"6"}'
TICK = (
    '{"schedule":"nightly","batchId":"timed-jobs-1-2","trigger":"interval","decision":"skipped_busy","runnerCount":2,'
    '"result":"skipped_busy","failedRunnerCount":1,"durationMs":5,"error":"e"}'
)
RUNNER = (
    '{"name":"build","kind":"command","argv":["make"],"agent":null,"prompt":null,"method":null,"params":null,"builtin":null,'
    '"cwd":"/src","timeoutMs":9}'
)
SCHEDULE = (
    '{"name":"nightly","createdAt":"2030-01-02T03:04:05.678Z","everyMs":10,"jitterMs":1,"catchUp":true,"paused":true,'
    f'"maxTasksPerTick":2,"maxMessagesPerTick":3,"settleDelayMs":4,"runners":[{RUNNER}],'
    '"nextAt":"2030-01-02T03:04:05.678Z","busy":true,"busyStreak":5,"missed":6,"jobs":["k3x9qz"],"leads":true,'
    f'"term":7,"leaderLock":"/l","last":{TICK}}}'
)
PROCESS = '{"pid":7,"ppid":6,"pgid":7,"command":"sh","state":"sleeping","cpu":0.5,"rss":4096}'
GOLDEN: list[tuple[type[Result], str]] = [
    (wire.Done, "{}"),
    (wire.Ping, f"{{{PING}}}"),
    (wire.BrokerStatus, STATUS),
    (
        wire.Tracing,
        '{"connections":[{"number":1,"pid":7,"client":"vim","framing":"headers"}]}',
    ),
    (
        wire.Traced,
        '{"connection":1,"time":"2030-01-02T03:04:05.678Z","direction":"in","text":"{}","size":2,"dropped":3}',
    ),
    (wire.Started, f'{{"job":{QUEUED},"created":true}}'),
    (wire.OneJob, f'{{"job":{ENDED}}}'),
    (wire.ResultResult, f'{{"job":{QUEUED},"result":{LEFT}}}'),
    (wire.JobList, '{"jobs":[],"next":null}'),
    (wire.JobList, f'{{"jobs":[{QUEUED},{ENDED}],"next":"12"}}'),
    (wire.BackendStatus, '{"backend":null}'),
    (wire.BackendStatus, f'{{"backend":{BACKEND}}}'),
    (wire.BackendResult, '{"result":[1]}'),
    (wire.BackendProfiles, '{"profiles":[{"name":"x","path":"/x","inUse":true,"error":null,"text":"t"}]}'),
    (wire.Waited, f'{{"jobs":[{ENDED}],"stopped":[],"timedOut":false,"match":null}}'),
    (wire.OutputMatch, MATCH),
    (wire.Output, '{"data":"aGk=","encoding":"base64","start":"0","next":"2","dropped":0,"eof":true}'),
    (wire.Cancelled, f'{{"job":{QUEUED},"changed":false,"survivors":[11],"killed":2}}'),
    (wire.Processes, f'{{"pgids":[7],"processes":[{PROCESS}]}}'),
    (wire.Removed, '{"removed":["k3x9qz"]}'),
    (wire.Subscribed, f'{{"cursor":"a.1","jobs":[{QUEUED}],"removed":["k3x9qz"],"reset":false,"next":"12"}}'),
    (wire.Tick, TICK),
    (wire.Schedule, SCHEDULE),
    (wire.OneSchedule, f'{{"schedule":{SCHEDULE}}}'),
    (wire.Schedules, f'{{"schedules":[{SCHEDULE}],"paused":true,"log":"/t","droppedLines":1,"next":"nightly"}}'),
    (wire.TimedRemoved, '{"jobs":["k3x9qz"]}'),
    (wire.Paused, '{"paused":true,"changed":false}'),
    (wire.LogEntries, '{"entries":[{"stage":"tick_started"}],"next":"2030-01-02:77"}'),
    (wire.JobUpdated, f'{{"job":{QUEUED},"cursor":"a.1"}}'),
    (
        wire.JobOutput,
        '{"id":"k3x9qz","stream":"stderr","start":"3","next":"5","data":"aGk=","encoding":"base64","dropped":7}',
    ),
    (wire.JobRemoved, '{"id":"k3x9qz","cursor":"a.2"}'),
    (
        wire.BrokerShuttingDown,
        '{"reason":"signal","graceMs":0,"exitCode":null,"signal":null,"stderrTail":"","lostJobs":["k3x9qz"]}',
    ),
    (wire.Initialized, INITIALIZED),
]


@pytest.mark.parametrize(("result", "text"), GOLDEN, ids=[result.__name__ for result, _ in GOLDEN])
def test_a_result(result: type[Result], text: str) -> None:
    """A member too few or too many, another name or another order, and it comes back another text."""
    assert encode(msgspec.json.decode(text, type=result)).decode() == text


def test_every_result_is_here() -> None:
    nested = {wire.Process, wire.Limits, wire.Places, wire.JobResult, wire.Runner}
    known = {value for value in vars(wire).values() if isinstance(value, type) and issubclass(value, Result)}
    assert known - nested - {Result} == {result for result, _ in GOLDEN}


def test_a_client_may_send_a_job_back_that_it_read_with_members_it_does_not_know() -> None:
    grown = QUEUED[:-1] + ',"priority":3}'
    assert msgspec.json.decode(grown, type=Job) == queued()
