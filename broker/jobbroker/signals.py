"""The functions of `signal`, without the enum it wraps them in: 0.3 MB and half a millisecond less in every shim.

`_signal` is private and may go; then the public module serves. Standard library only: the shim loads this.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import pidfd_send_signal, set_wakeup_fd, signal, valid_signals
else:
    try:
        from _signal import pidfd_send_signal, set_wakeup_fd, signal, valid_signals
    except ImportError:
        from signal import pidfd_send_signal, set_wakeup_fd, signal, valid_signals

__all__ = [
    "SIGCHLD", "SIGCONT", "SIGKILL", "SIGSTOP", "SIGTERM",
    "pidfd_send_signal", "set_wakeup_fd", "signal", "valid_signals",
]  # fmt: skip

SIGKILL, SIGTERM, SIGCHLD, SIGCONT, SIGSTOP = 9, 15, 17, 18, 19  # Linux, but for alpha, mips, parisc and sparc
