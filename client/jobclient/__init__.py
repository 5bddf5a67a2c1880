"""The thin client: `Client` is typed and blocking, `AsyncClient` is for Trio and asyncio.

`raw` and `cli` are what starts fast. Names load when first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.aio import AsyncClient
    from jobclient.calls import JobFailed
    from jobclient.client import Client, Reset
    from jobclient.protocol.errors import (
        AmbiguousReference,
        BackendGone,
        BrokerUnavailable,
        Busy,
        ConnectionLost,
        Denied,
        InternalError,
        InvalidParams,
        InvalidState,
        JobBrokerError,
        JobNotFound,
        JobsActive,
        NotDelivered,
        RemoteError,
        ResultUnavailable,
        ShuttingDown,
        StoreUnavailable,
        TimedOut,
        TooLarge,
        VersionMismatch,
    )
    from jobclient.protocol.wire import (
        BrokerShuttingDown,
        BrokerStatus,
        Cancelled,
        Filter,
        Job,
        JobList,
        JobOutput,
        JobRemoved,
        JobResult,
        JobUpdated,
        Output,
        Ping,
        Removed,
        ResultResult,
        Started,
        Waited,
    )
    from jobclient.version import __version__

_HOMES = ("version", "protocol.errors", "protocol.wire", "calls", "client", "aio")
"""Where the names below are found, the cheapest to load first."""

__all__ = [
    "AmbiguousReference", "AsyncClient", "BackendGone", "BrokerShuttingDown", "BrokerStatus", "BrokerUnavailable",
    "Busy", "Cancelled", "Client", "ConnectionLost", "Denied", "Filter", "InternalError", "InvalidParams",
    "InvalidState", "Job", "JobBrokerError", "JobFailed", "JobList", "JobNotFound", "JobOutput", "JobRemoved",
    "JobResult", "JobUpdated", "JobsActive", "NotDelivered", "Output", "Ping", "RemoteError", "Removed", "Reset",
    "ResultResult", "ResultUnavailable", "ShuttingDown", "Started", "StoreUnavailable", "TimedOut", "TooLarge",
    "VersionMismatch", "Waited", "__version__",
]  # fmt: skip

if not TYPE_CHECKING:  # type checkers see the imports above, and nothing that is not there

    def __getattr__(name: str) -> object:
        if name in __all__:
            for home in _HOMES:
                module = __import__(f"jobclient.{home}", fromlist=(name,))
                if hasattr(module, name):
                    value = globals()[name] = getattr(module, name)
                    return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
