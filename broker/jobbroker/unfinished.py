"""The requests of one client that are not answered yet: each can be taken back, all of them can be refused."""

from __future__ import annotations

import trio

from jobclient.protocol import errors


class Entry:
    """One unfinished request: its id as it was sent, and the scope in which its answer is waited for."""

    __slots__ = ("identity", "scope")

    def __init__(self, identity: bytes) -> None:
        self.identity = identity
        self.scope = trio.CancelScope()


class Unfinished:
    """Requests from the moment they are read until their answer is on its way."""

    def __init__(self) -> None:
        self._entries: dict[bytes, list[Entry]] = {}  # ids ought to be unique; whose are not gets all of them back
        self._count = 0
        self._refused = False
        self._none = trio.Event()

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def enter(self, identity: bytes) -> Entry:
        """A request was read. It can be taken back from now on, even by the next message."""
        entry = Entry(identity)
        if self._refused:
            entry.scope.cancel()
        self._entries.setdefault(identity, []).append(entry)
        self._count += 1
        return entry

    def leave(self, entry: Entry) -> None:
        """Its answer is on its way."""
        same = self._entries[entry.identity]
        same.remove(entry)
        if not same:
            del self._entries[entry.identity]
        self._count -= 1
        if not self._count:
            self._none.set()
            self._none = trio.Event()

    def cancel(self, identity: bytes) -> None:
        """The client takes a request back; one that is answered already is not known any more."""
        for entry in self._entries.get(identity, ()):
            entry.scope.cancel()

    def refuse(self) -> None:
        """The broker ends: what is unfinished, and whatever else may come, is answered with that."""
        self._refused = True
        for entries in self._entries.values():
            for entry in entries:
                entry.scope.cancel()

    def why_cancelled(self) -> errors.RemoteError:
        """The answer to a request that was cancelled."""
        if self._refused:
            return errors.ShuttingDown("the broker is shutting down; ask again, the next one will know")
        return errors.RequestCancelled("the request was cancelled; its job was not")

    async def none_left(self) -> None:
        """Wait until everything is answered."""
        while self._count:
            await self._none.wait()
