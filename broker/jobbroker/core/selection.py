"""Which ended jobs go, when they are shown oldest first: as many as may, as much as must. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Selection(Generic[T]):
    """A choice among jobs that come oldest first, a page at a time.

    Attributes:
        spare: how many may still go, so that the newest stay.
        excess: bytes that still must go; None where their number does not matter.
    """

    __slots__ = ("excess", "spare")

    def __init__(self, *, spare: int, excess: int | None = None) -> None:
        self.spare = spare
        self.excess = excess

    @property
    def over(self) -> bool:
        """Whether no more are to go."""
        return self.spare <= 0 or (self.excess is not None and self.excess <= 0)

    def choose(self, page: Iterable[tuple[T, int]]) -> list[T]:
        """Those that go, of a page of jobs and the bytes each of them frees."""
        chosen: list[T] = []
        for each, size in page:
            if self.over:
                break
            chosen.append(each)
            self.spare -= 1
            if self.excess is not None:
                self.excess -= size
        return chosen
