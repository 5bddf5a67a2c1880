"""From the outcome of a call to the bytes of its answer: what may go wrong on the way, and how large it may become."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Generator, Mapping
from contextlib import contextmanager

from jobbroker.descriptors import SHORTAGES
from jobbroker.unfinished import Unfinished
from jobclient.protocol import errors, jsonrpc
from jobclient.protocol.framing import MAX_MESSAGE

SMALL = 1024
"""An answer of this size is no reason to refuse it: the refusal would be as large."""

log = logging.getLogger("jobbroker.connection")


@contextmanager
def translated(where: str) -> Generator[None]:
    """Turn what may go wrong in carrying out a request into an error for the client."""
    try:
        yield
    except errors.RemoteError:
        raise
    except errors.JobBrokerError as exc:  # the store's
        raise errors.StoreUnavailable(str(exc)) from exc
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno in SHORTAGES:
            raise errors.Busy(f"the broker is short of means for this, ask again: {exc.strerror}") from exc
        log.exception("fault in %s", where)
        raise errors.InternalError(f"a fault of the broker's own in {where}; its log has the details") from exc


def encode_answer(identity: bytes, result: object) -> bytes:
    """A result as an answer, or an error if it is more than a message may hold."""
    answer = jsonrpc.encode_result(identity, result)
    if len(answer) <= MAX_MESSAGE:
        return answer
    error = errors.TooLarge(f"the answer has {len(answer)} bytes, a message at most {MAX_MESSAGE}; ask for less")
    return jsonrpc.encode_error(identity, error)


class Waiting:
    """A request whose answer is still to come; counted among the unfinished ones until its answer is on its way."""

    __slots__ = ("_outcome", "_so_far", "_unfinished", "entry")

    def __init__(
        self,
        unfinished: Unfinished,
        identity: bytes,
        outcome: Awaitable[object],
        so_far: Mapping[str, object] | None = None,
    ) -> None:
        self._unfinished = unfinished
        self._outcome = outcome
        self._so_far = so_far
        self.entry = unfinished.enter(identity)

    async def answer(self) -> bytes:
        """Wait for it, or for `$/cancelRequest`, or for the end of the broker."""
        identity = self.entry.identity
        try:
            with self.entry.scope, translated("a request"):
                return encode_answer(identity, await self._outcome)
            error = self._unfinished.why_cancelled()
            error.data.update(self._so_far or {})
            return jsonrpc.encode_error(identity, error)
        except errors.RemoteError as exc:
            return jsonrpc.encode_error(identity, exc)


class BatchAnswer:
    """The answers to a batch, in the order of its calls, which are one message and so together no larger than one.

    Attributes:
        waiting: the calls whose answers are still to come, with their places.
    """

    def __init__(self, count: int) -> None:
        self._answers: list[bytes] = [b""] * count
        self._room = MAX_MESSAGE
        self.waiting: list[tuple[int, jsonrpc.Call, Waiting]] = []

    def refuse(self, call: jsonrpc.Call) -> bytes:
        """The answer to a call that is not carried out since there is no room left for one; empty while there is."""
        if self._room > 0 or not isinstance(call, jsonrpc.Request):
            return b""
        return self._too_large(call, "not carried out")

    def put(self, place: int, call: jsonrpc.Call, answer: bytes) -> None:
        """Take in an answer, empty if the call wants none."""
        if len(answer) > max(self._room, SMALL) and isinstance(call, jsonrpc.Request):
            answer = self._too_large(call, "carried out, but its answer is too large")
            self._room = 0  # what is large enough to be refused is refused from now on without being carried out
        self._room -= len(answer)
        self._answers[place] = answer

    def encode(self) -> bytes:
        """All of it as one message, empty if no call wanted an answer."""
        return jsonrpc.encode_batch([answer for answer in self._answers if answer])

    @staticmethod
    def _too_large(call: jsonrpc.Request, what: str) -> bytes:
        error = errors.TooLarge(f"{what}: the answers to a batch may have {MAX_MESSAGE} bytes together; split it")
        return jsonrpc.encode_error(call.id, error)
