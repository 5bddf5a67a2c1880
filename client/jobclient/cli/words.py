"""A job in words: its state, its command, its age. Nothing is said that the broker did not say."""

from __future__ import annotations

import time

from jobclient.cli import quantities
from jobclient.cli.render import Cell, escape, quote
from jobclient.raw import untext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.shapes import Job

LIVE = ("queued", "running", "stopped")
_PROMPT = 200
"""Characters of a prompt that are shown where there are other jobs to be seen."""
TERMINAL = ("completed", "failed", "timed_out", "cancelled")

_LOOKS = {
    "queued": ("○", "o", "dim"),
    "running": ("●", "*", "cyan"),
    "stopped": ("◌", "=", "yellow"),
    "completed": ("✓", "+", "green"),
    "failed": ("✗", "x", "red"),
    "timed_out": ("✗", "x", "red"),
    "cancelled": ("⊘", "-", "yellow"),
    "lost": ("?", "?", "red"),
}


def is_live(job: Job) -> bool:
    """Whether it has not ended yet."""
    return job["status"] in LIVE


def title(job: Job) -> str:
    """`tests (k7f3qm)`, or the id alone."""
    name = job.get("name")
    return f"{escape(name)} ({job['id']})" if name else job["id"]


def state(job: Job) -> str:
    """`running`, `failed 2`, `failed SIGSEGV`, `timed out`, `lost`: the status, and how it came to it."""
    status, reason = job["status"], job.get("reason")
    if is_live(job):
        return "cancelling" if job.get("cancelRequested") else status
    if status == "failed":
        if reason == "lost":
            return "lost"
        if job.get("method") is not None and reason == "exit":
            return "failed"
        return f"failed {_how(job) or reason or ''}".rstrip()
    if status == "timed_out":
        return "timed out" if reason == "deadline" else f"timed out ({reason})"
    return status if reason in ("exit", "user") else f"{status} ({reason})"


def _how(job: Job) -> str:
    if job.get("reason") not in ("exit", "signal"):
        return ""
    code = job.get("exitCode")
    return str(code) if code is not None else job.get("signal") or ""


def state_cell(job: Job, *, glyphs: bool, unicode: bool) -> Cell:
    """The state with its glyph, if glyphs are wanted, and its colour; the word alone says it all."""
    modern, plain, colour = _LOOKS["lost" if job.get("reason") == "lost" else job["status"]]
    glyph = (modern if unicode else plain) + " " if glyphs else ""
    return Cell(glyph + state(job), colour)


def command(job: Job) -> str:
    """The command as one would type it; of an agent its name and the beginning of its prompt, on one line."""
    prompt, method = job.get("prompt"), job.get("method")
    if method is not None:
        return escape(method)
    if prompt is None:
        return " ".join(quote(untext(word)) for word in job["argv"])
    begun = " ".join(prompt[: 2 * _PROMPT].split())
    return f"{escape(job['agent'] or '')}: {escape(begun if len(begun) <= _PROMPT else begun[:_PROMPT] + '...')}"


def ran_ms(job: Job) -> int | None:
    """How long it ran, or has been running; for a queued job, how long it waits."""
    taken = job.get("durationMs")
    if taken is not None:
        return taken
    if not is_live(job):
        return None
    return since(job.get("startedAt") or job["createdAt"])


def age(job: Job) -> str:
    """The same in words."""
    taken = ran_ms(job)
    return "-" if taken is None else quantities.duration(taken)


def since(timestamp: str) -> int:
    """Milliseconds since a moment."""
    return max(0, int(time.time() * 1000) - quantities.epoch_ms(timestamp))


def ago(timestamp: str | None) -> str:
    """`12m ago`, coarser than a duration: it is read to tell today's from yesterday's."""
    if timestamp is None:
        return "-"
    seconds = since(timestamp) // 1000
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit} ago"
    return f"{seconds}s ago"


def end(job: Job) -> str:
    """How it stands, as a sentence about the job: `failed, exit status 2 after 1m40s`."""
    if is_live(job):
        return f"is {state(job)}"
    status = {"timed_out": "timed out"}.get(job["status"], job["status"])
    error = job.get("error")
    took = f" after {age(job)}" if ran_ms(job) is not None else ""
    return f"{status}{took}" + (f": {error}" if error else "")


def summary(live: list[Job]) -> str:
    """How many live jobs there are of each status: `2 running, 1 queued`."""
    counts = [(status, sum(job["status"] == status for job in live)) for status in ("running", "queued", "stopped")]
    return ", ".join(f"{count} {status}" for status, count in counts if count) or "nothing runs"
