"""Versions that differ: which is newer, and what a client says that meets a broker of another one."""

from __future__ import annotations

from itertools import takewhile

from jobclient.protocol import PROTOCOL_VERSION
from jobclient.version import __version__


def is_newer(version: str, than: str = __version__) -> bool:
    """Whether a version comes after another; by default, after ours. What is no version comes before all."""
    return _numbers(version) > _numbers(than)


def _numbers(version: str) -> list[int]:
    parts = ("".join(takewhile("0123456789".__contains__, part)) for part in version.split("."))
    return [int(part) for part in takewhile(bool, parts)]


def mismatch(protocol: object, version: object) -> str:
    """What to say of a broker that speaks another version of the protocol, or none we know."""
    if not isinstance(protocol, int):
        return (
            f"the broker speaks another protocol, this client needs protocol {PROTOCOL_VERSION}"
            "  -> jobctl broker restart (running jobs keep running)"
        )
    who = f"the broker, version {version}, speaks protocol {protocol}"
    if protocol < PROTOCOL_VERSION:
        return (
            f"{who}, this client, version {__version__}, is newer and needs protocol {PROTOCOL_VERSION}"
            "  -> jobctl broker restart (running jobs keep running)"
        )
    return (
        f"{who}, this client, version {__version__}, is older and knows protocol {PROTOCOL_VERSION} only"
        "  -> update this client, and restart what uses it (the broker and its jobs go on)"
    )


def difference(version: str) -> str:
    """What to say of a broker that understands us, and is of another version; nothing of one of ours."""
    if version == __version__:
        return ""
    if is_newer(version):
        return f"the broker is version {version}, this jobctl is {__version__}, which is older  -> update it"
    return (
        f"the broker is version {version}, this jobctl is {__version__}  -> jobctl broker restart (jobs keep running)"
    )
