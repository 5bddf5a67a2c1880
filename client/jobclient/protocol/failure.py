"""The roots of all errors: what a client must tell apart before it has seen any.

Apart from `errors`, because the classes there, one for each error of the protocol, are of no use while all goes well,
and making them takes longer than a request.
"""

from __future__ import annotations


class JobBrokerError(Exception):
    """Base of every error this package raises on purpose."""


class BrokerUnavailable(JobBrokerError):
    """No broker answers and none could be started; the text says what was tried and what to do next."""


class ConnectionLost(JobBrokerError):
    """The connection broke before the answer came; whether the request was carried out is not known."""


class NotSent(ConnectionLost):
    """The connection had ended before the request was on its way, so that it was surely not carried out."""


class RemoteError(JobBrokerError):
    """An error a broker answered. Subclasses name the cases a caller may want to tell apart.

    Attributes:
        code: the JSON-RPC error code.
        kind: the stable name of the error, also on the wire as `data.kind`.
        message: one sentence for a person.
        data: the rest of the error's `data` object.
    """

    code = -32603
    kind = "internal"

    def __init__(self, message: str, data: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.data: dict[str, object] = data or {}
