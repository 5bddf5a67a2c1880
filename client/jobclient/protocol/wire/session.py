"""What belongs to a connection: who the client is, and which of its requests it takes back."""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from jobclient.protocol import PROTOCOL_VERSION
from jobclient.protocol.wire.message import Result


class ClientInfo(Struct, frozen=True, rename="camel"):
    """Who a client says it is."""

    name: str = ""
    version: str = ""


class InitializeParams(Struct, rename="camel"):
    """`initialize`, optional; whatever capabilities an editor sends are accepted and ignored."""

    client_info: ClientInfo | None = None


class Initialized(Result):
    """`initialize`."""

    capabilities: dict[str, object] = field(default_factory=dict[str, object])
    server_info: ClientInfo = ClientInfo()
    protocol_version: int = PROTOCOL_VERSION
    methods: list[str] = field(default_factory=list[str])
    limits: dict[str, int] = field(default_factory=dict[str, int])


class CancelRequestParams(Struct):
    """`$/cancelRequest`; the id as it was sent."""

    id: msgspec.Raw = msgspec.Raw(b"null")
