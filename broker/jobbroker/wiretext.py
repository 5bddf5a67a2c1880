"""Bytes of the system as they travel, and back: text where they are text, base64 where not."""

from __future__ import annotations

import base64
import binascii

from jobclient.protocol.errors import InvalidParams
from jobclient.protocol.wire import Base64, Text


def as_wire(data: bytes) -> Text:
    """Bytes of the system as they travel."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Base64(base64.b64encode(data).decode())


def as_bytes(text: Text, member: str) -> bytes:
    """Bytes for the system, from what travelled as that member.

    Raises:
        InvalidParams: no bytes can be meant, or a NUL is among them.
    """
    data = text_bytes(text, member) if isinstance(text, str) else decoded(text.base64, member)
    if b"\0" in data:
        raise InvalidParams(f"`{member}` holds a NUL, which no system call takes")
    return data


def text_bytes(text: str, member: str) -> bytes:
    """The bytes of a text.

    Raises:
        InvalidParams: it holds half a character.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidParams(f'`{member}` holds a lone surrogate; send bytes as {{"base64": ...}}') from None


def decoded(text: str, member: str) -> bytes:
    """The bytes behind base64.

    Raises:
        InvalidParams: it is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidParams(f"`{member}` holds an element that is not base64") from None
