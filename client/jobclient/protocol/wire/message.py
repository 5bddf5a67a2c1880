"""What all parameters and all results have in common."""

from __future__ import annotations

from msgspec import Struct


class Params(Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of all parameters."""


class Result(Struct, kw_only=True, rename="camel"):
    """Base of all results."""


class Nothing(Params):
    """No parameters."""


class Done(Result):
    """No result but that it is done."""
