"""What can go wrong, named once: one exception class per error of the protocol, and the way to and from the wire.

Standard library only. Their roots are in `failure`, and everything there is here too.
"""

from __future__ import annotations

from jobclient.protocol.failure import (
    BrokerUnavailable as BrokerUnavailable,
    ConnectionLost as ConnectionLost,
    JobBrokerError as JobBrokerError,
    RemoteError as RemoteError,
)

TYPE_CHECKING = False  # what type checkers look for, without the price of importing typing
if TYPE_CHECKING:
    from jobclient.protocol.jsonrpc import Json


class ParseError(RemoteError):
    """The bytes were not JSON."""

    code, kind = -32700, "parse"


class InvalidRequest(RemoteError):
    """JSON, but not a JSON-RPC 2.0 request."""

    code, kind = -32600, "invalid_request"


class MethodNotFound(RemoteError):
    """No such method."""

    code, kind = -32601, "method_not_found"


class InvalidParams(RemoteError):
    """The parameters do not fit the method; the message names the member."""

    code, kind = -32602, "invalid_params"


class InternalError(RemoteError):
    """A fault of the broker's own; its log has the traceback."""

    code, kind = -32603, "internal"


class RequestCancelled(RemoteError):
    """The client took the request back with `$/cancelRequest`; the job it spoke of is not touched."""

    code, kind = -32800, "request_cancelled"


class Busy(RemoteError):
    """An exclusive resource is in use."""

    code, kind = -31001, "busy"


class JobNotFound(RemoteError):
    """No job answers to that reference."""

    code, kind = -31002, "job_not_found"


class ResultUnavailable(RemoteError):
    """The job has not completed, so there is no result; `data` has its status and exit code."""

    code, kind = -31003, "result_unavailable"


class AmbiguousReference(RemoteError):
    """Several jobs answer to that reference; `data.candidates` lists them."""

    code, kind = -31004, "ambiguous_reference"


class InvalidState(RemoteError):
    """The job is in a state in which this cannot be done; `data.status` says which."""

    code, kind = -31005, "invalid_state"


class NotDelivered(RemoteError):
    """A signal or a cancellation could not be delivered or confirmed."""

    code, kind = -31006, "not_delivered"


class ShuttingDown(RemoteError):
    """The broker is on its way out; the next one will take the request."""

    code, kind = -31007, "shutting_down"


class BackendGone(RemoteError):
    """The instance's backend ended or never came up."""

    code, kind = -31008, "backend_gone"


class VersionMismatch(RemoteError):
    """Client and broker speak different versions of the protocol."""

    code, kind = -31009, "version_mismatch"


class JobsActive(RemoteError):
    """Shutdown was refused because jobs are live; `data.live` counts them."""

    code, kind = -31010, "jobs_active"


class TimedOut(RemoteError):
    """A deadline of the request passed."""

    code, kind = -31011, "timeout"


class Denied(RemoteError):
    """The broker will not do this for this client."""

    code, kind = -31012, "denied"


class TooLarge(RemoteError):
    """A message or a value is over its limit; the message names the limit."""

    code, kind = -31013, "too_large"


class StoreUnavailable(RemoteError):
    """The broker cannot write down what it would have to promise; nothing was started."""

    code, kind = -31014, "store_unavailable"


BY_CODE: dict[int, type[RemoteError]] = {
    cls.code: cls
    for cls in (
        ParseError, InvalidRequest, MethodNotFound, InvalidParams, InternalError, RequestCancelled, Busy, JobNotFound,
        ResultUnavailable, AmbiguousReference, InvalidState, NotDelivered, ShuttingDown, BackendGone,
        VersionMismatch, JobsActive, TimedOut, Denied, TooLarge, StoreUnavailable,
    )
}  # fmt: skip


def to_wire(error: RemoteError) -> dict[str, object]:
    """The `error` member of a response: code, message and data, whose `kind` is the stable name."""
    return {"code": error.code, "message": error.message, "data": {**error.data, "kind": error.kind}}


def from_wire(error: dict[str, Json]) -> RemoteError:
    """The exception for a response's `error` member; an unknown code becomes a plain `RemoteError`."""
    code = error.get("code")
    data = error.get("data")
    details: dict[str, object] = {}
    if isinstance(data, dict):
        details.update(data)
    kind = details.pop("kind", None)
    found = BY_CODE.get(code) if isinstance(code, int) else None
    made = (found or RemoteError)(str(error.get("message") or "the broker gave no message"), details)
    if found is None:
        made.code = code if isinstance(code, int) else RemoteError.code
        made.kind = str(kind or RemoteError.kind)
    return made
