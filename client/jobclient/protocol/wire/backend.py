"""`backend/*`: the process an instance fronts, and what there is to choose from."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from jobclient.protocol.wire.job import Amount, JsonParams, Text
from jobclient.protocol.wire.message import Params, Result

BackendState = Literal["down", "starting", "up", "hung"]


class BackendExit(Struct, frozen=True, rename="camel"):
    """How a backend ended."""

    reason: str
    exit_code: int | None = None
    signal: str | None = None
    stderr_tail: str = ""


class Backend(Struct, kw_only=True, rename="camel"):
    """The backend of an instance as it is now."""

    profile: str
    command: list[Text]
    state: BackendState
    pid: int | None
    starts: int
    clients: int
    pending: int
    turns: int
    asking: int
    dropped: int
    silent_ms: int | None
    last_exit: BackendExit | None


class BackendStatus(Result):
    """`backend/status`: null where the instance fronts none."""

    backend: Backend | None


class BackendRequestParams(Params):
    """`backend/request`: a method of the backend's own, in the broker's words."""

    method: str
    params: JsonParams | None = None
    timeout_ms: Amount | None = None


class BackendResult(Result):
    """`backend/request`: what the backend answered; its errors come as they are."""

    result: object


class BackendProfilesParams(Params):
    """`backend/profiles`: all of them, or one with its text."""

    name: str | None = None


class BackendProfile(Struct, kw_only=True, rename="camel"):
    """A profile there is."""

    name: str
    path: str
    in_use: bool
    error: str | None = None
    text: str | UnsetType = UNSET


class BackendProfiles(Result):
    """`backend/profiles`."""

    profiles: list[BackendProfile]
