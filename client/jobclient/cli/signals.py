"""Signals as things to look at, not as interruptions: noted by a handler, handled where nothing can be lost."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import FrameType, TracebackType
    from typing import Self
else:
    try:
        import _signal as signal  # the same without enum, which would cost 5 ms
    except ImportError:
        import signal


_NAMES: dict[int, str] = {signal.SIGINT: "INT", signal.SIGQUIT: "QUIT", signal.SIGHUP: "HUP"}


class Signals:
    """Within a `with` block SIGINT, SIGQUIT and SIGHUP are noted, not obeyed. What was ignored before stays ignored.

    Attributes:
        wake: becomes readable when a signal comes; poll it beside whatever else is waited for.
        hung_up: whether the terminal is gone.
    """

    __slots__ = ("_before", "_noted", "_wake_before", "_write", "hung_up", "wake")

    def __init__(self) -> None:
        self._noted: list[int] = []
        self._before: list[tuple[int, object]] = []
        self.hung_up = False

    def __enter__(self) -> Self:
        self.wake, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in _NAMES:
            before = signal.getsignal(number)
            if before != signal.SIG_IGN:  # as under nohup, or in the background of a shell without job control
                self._before.append((number, before))
                signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        for number, before in self._before:
            signal.signal(number, before)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wake_before)
        os.close(self.wake)
        os.close(self._write)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._noted.append(number)

    def taken(self) -> list[str]:
        """The names of the signals that came since last asked: INT, QUIT, HUP."""
        try:
            os.read(self.wake, 512)
        except BlockingIOError:
            pass
        noted, self._noted = self._noted, []
        self.hung_up = self.hung_up or signal.SIGHUP in noted
        return [_NAMES[number] for number in noted]
