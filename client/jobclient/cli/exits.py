"""Exit codes, one table for all verbs; `jobctl help exit-codes` prints it."""

from __future__ import annotations

from jobclient.protocol.failure import BrokerUnavailable, ConnectionLost, JobBrokerError, RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.shapes import Job

OK, FAILED, USAGE, NO_JOB, WRONG_STATE, NO_BROKER = 0, 1, 2, 3, 4, 5
TIMED_OUT, OURS, NOT_EXECUTABLE, NOT_FOUND = 124, 125, 126, 127
BY_SIGNAL = 128
HUNG_UP, INTERRUPTED, BROKEN_PIPE = BY_SIGNAL + 1, BY_SIGNAL + 2, BY_SIGNAL + 13

TABLE = """\
all verbs
    0        done
    1        failed
    2        the command line makes no sense
    3        no such job, or several
    4        the job is in the wrong state for this
    5        no broker can be reached, and none could be started
  130        you pressed Ctrl-C on a watcher; the job goes on
  141        nobody reads our output any more
run, wait, result --exit, output -f --exit: as the job
    0-123    the job's own exit code; of a turn 0, or 1 if it has failed
  124        the job hit its time limit, or wait ran out of time
  125        jobctl itself failed, bad options included; or the job is lost, or never ran
  126, 127   the command could not be executed, was not found
  128+n      signal n ended the job (143 after cancel, 137 if it took SIGKILL)
wait --until-output: not as the job
    0        a line matched
    4        the job ended, and none did
  124, 125   time is up; jobctl itself failed, or the job is stopped"""

_OF_TURN = {"completed": OK, "cancelled": BY_SIGNAL + 15}  # it has no process, and is told as one would be
_BY_KIND = {
    "job_not_found": NO_JOB,
    "ambiguous_reference": NO_JOB,
    "invalid_state": WRONG_STATE,
    "result_unavailable": WRONG_STATE,
    "jobs_active": WRONG_STATE,
    "version_mismatch": NO_BROKER,
}
_ADVICE = {
    "job_not_found": "jobctl list -a",
    "internal": "jobctl broker logs",
    "store_unavailable": "jobctl broker status",
    "jobs_active": "jobctl list",
}


def of_error(error: JobBrokerError) -> int:
    """The code an ordinary verb ends with after that error."""
    if isinstance(error, RemoteError):
        return _BY_KIND.get(error.kind, FAILED)
    return NO_BROKER if isinstance(error, BrokerUnavailable | ConnectionLost) else FAILED


def advice(error: JobBrokerError) -> str:
    """The error's text, with the next command to type where there is one and the text does not name it."""
    text = str(error)
    command = _ADVICE.get(error.kind) if isinstance(error, RemoteError) else None
    if isinstance(error, ConnectionLost):
        command = "jobctl broker logs"
    return f"{text}  -> {command}" if command and " -> " not in text else text


def of_job(job: Job) -> int:
    """The code a verb that passes a job's end through ends with, once the job has ended."""
    if job["status"] == "timed_out":
        return TIMED_OUT
    reason = job.get("reason")
    if reason == "spawn":
        return _of_spawn(job.get("error") or "")
    if reason in ("lost", "internal", "backend_exit"):
        return OURS
    if job.get("method") is not None and reason in ("exit", "user", "disconnect", "shutdown"):
        return _OF_TURN.get(job["status"], FAILED)
    code, signal = job.get("exitCode"), job.get("signal")
    if code is not None:
        return code & 0xFF
    return BY_SIGNAL + signal_number(signal) if signal else OURS


def _of_spawn(error: str) -> int:
    """From `exec: ENOENT: ...`: the codes of `env` and `timeout`. A bad directory is not the command's fault."""
    stage, _, rest = error.partition(": ")
    if stage != "exec":
        return OURS
    return NOT_FOUND if rest.partition(":")[0] == "ENOENT" else NOT_EXECUTABLE


def signal_number(name: str) -> int:
    """15 for `SIGTERM`, 36 for `SIGRTMIN+2`, 34 for `SIG34`; 0 for what this system does not know."""
    import signal

    base, _, offset = name.partition("+")
    known = signal.Signals.__members__.get(base)
    if known is not None:
        return known + (int(offset) if offset.isdigit() else 0)
    number = base.removeprefix("SIG")
    return int(number) if number.isdigit() else 0
