"""docs/protocol.schema.json: the protocol for machines, made from the types of the wire.

Run as a program it brings the file up to date: `python tests/protocol_schema.py`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec
from msgspec import UNSET, Struct

from jobbroker.methods import METHODS
from jobclient.protocol import PROTOCOL_VERSION, wire
from jobclient.protocol.errors import BY_CODE
from source import ROOT
from test_protocol_doc import NOTIFICATIONS, RESULTS

PATH = ROOT / "docs/protocol.schema.json"
Schema = dict[str, Any]

ABOUT = (
    "What clients say to the broker, and what it says to them; docs/protocol.md has the meanings. `methods` has the"
    " parameters and the result of each method, `notifications` the parameters of what wants no answer, `errors` the"
    " codes. As a schema, this one takes every message a client should send and every one the broker sends; what"
    " a result holds depends on the request, so look it up in `methods`. The broker takes more than it says here:"
    " `3.0` for 3, [] for no parameters."
)
ID: Schema = {"type": ["string", "number"]}
IDENTITY: Schema = {"type": ["string", "number", "null"]}
VERSION: Schema = {"const": "2.0"}
CLIENT_SAYS = ("initialized", "exit", "$/cancelRequest")


def types() -> tuple[dict[type[Struct], Schema], Schema]:
    """A reference to each type that a method or notification names, and the definitions of all."""
    params: list[type[Struct]] = [method.params.type for method in METHODS.values()]
    named = [*params, *filter(None, RESULTS.values()), *filter(None, NOTIFICATIONS.values())]
    raw = wire.CancelRequestParams  # its id is raw to us, and comes back byte for byte
    wanted = [struct for struct in dict.fromkeys(named) if struct is not raw]
    components = msgspec.json.schema_components(wanted, schema_hook=_anything, ref_template="#/$defs/{name}")
    references, definitions = components
    made = dict(zip(wanted, references, strict=True))
    answers = [made[struct] for struct in wanted if issubclass(struct, wire.Result)]
    asked = [made[struct] for struct in wanted if not issubclass(struct, wire.Result)]
    for definition in definitions.values():
        definition["description"] = inspect.cleandoc(definition.get("description", ""))
    for name in reached(answers, definitions) - reached(asked, definitions):
        _is_complete(definitions[name], getattr(wire, name))
    definitions[raw.__name__] = {"title": raw.__name__, "type": "object", "properties": {"id": ID}, "required": ["id"]}
    return {**made, raw: {"$ref": f"#/$defs/{raw.__name__}"}}, definitions


def reached(schema: object, definitions: Schema) -> set[str]:
    """The definitions that a schema refers to, directly or not."""
    if isinstance(schema, str):
        name = schema.removeprefix("#/$defs/")
        return {name} | reached(definitions[name], definitions) if name in definitions and name != schema else set()
    inner: list[object] = []
    if isinstance(schema, dict):
        inner = list(cast("Schema", schema).values())
    elif isinstance(schema, list):
        inner = cast("list[object]", schema)
    return set[str]().union(*(reached(each, definitions) for each in inner))


def _is_complete(definition: Schema, struct: type[Struct]) -> None:
    """The broker leaves nothing out but what is documented as absent: a default is for readers of older brokers."""
    fields = msgspec.structs.fields(struct)
    definition["required"] = [field.encode_name for field in fields if field.default is not UNSET]
    for each in definition["properties"].values():
        each.pop("default", None)


def _anything(_: type) -> Schema:
    return {"description": "anything"}


def parameters(references: Mapping[type[Struct], Schema], struct: type[Struct] | None) -> Schema:
    """What stands for the parameters of a method or notification; of one that has none, an empty object at most."""
    return {"type": "object"} if struct is None else references[struct]


def _also_positional(named: Schema, positional: tuple[str, ...]) -> Schema:
    """An array may stand for the one or two obvious members."""
    if not positional:
        return named
    items = [{"$ref": f"{named['$ref']}/properties/{member}"} for member in positional]
    return {"anyOf": [named, {"type": "array", "prefixItems": items, "minItems": 1, "maxItems": len(items)}]}


def schema() -> Schema:
    """The whole file."""
    references, definitions = types()
    methods = {
        name: {
            "params": _also_positional(parameters(references, method.params.type), method.positional),
            "result": {"type": "null"} if RESULTS[name] is None else parameters(references, RESULTS[name]),
        }
        for name, method in sorted(METHODS.items())
    }
    notifications = {
        name: {"from": "client" if name in CLIENT_SAYS else "broker", "params": parameters(references, struct)}
        for name, struct in sorted(NOTIFICATIONS.items())
    }
    errors = [{"code": code, "kind": cls.kind} for code, cls in BY_CODE.items()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"The protocol of jobbroker, version {PROTOCOL_VERSION}",
        "description": ABOUT,
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in ("Request", "Notification", "Answer", "Refusal", "Batch")],
        "protocol": PROTOCOL_VERSION,
        "methods": methods,
        "notifications": notifications,
        "errors": errors,
        "$defs": {**envelopes(methods, notifications, errors), **definitions},
    }


def envelopes(methods: Schema, notifications: Schema, errors: list[Schema]) -> Schema:
    """The messages themselves."""
    singles = [{"$ref": f"#/$defs/{name}"} for name in ("Request", "Notification", "Answer", "Refusal")]
    return {
        "Request": {
            **_message({"id": ID, "method": {"enum": list(methods)}, "params": {}}, ["id", "method"]),
            "allOf": list(_by_method("methods", methods)),
        },
        "Notification": {
            **_message({"method": {"enum": list(notifications)}, "params": {}}, ["method"]),
            "allOf": list(_by_method("notifications", notifications)),
        },
        "Answer": _message({"id": ID, "result": {"type": ["object", "null"]}}, ["jsonrpc", "id", "result"]),
        "Refusal": _message({"id": IDENTITY, "error": {"$ref": "#/$defs/Error"}}, ["jsonrpc", "id", "error"]),
        "Batch": {"type": "array", "items": {"anyOf": singles}, "minItems": 1},
        "Error": {
            "type": "object",
            "properties": {
                "code": {"enum": [each["code"] for each in errors]},
                "message": {"type": "string"},
                "data": {
                    "type": "object",
                    "properties": {"kind": {"enum": [each["kind"] for each in errors]}},
                    "required": ["kind"],
                },
            },
            "required": ["code", "message", "data"],
            "additionalProperties": False,
        },
    }


def _message(properties: Schema, required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": {"jsonrpc": VERSION, **properties},
        "required": required,
        "additionalProperties": False,
    }


def _by_method(group: str, methods: Iterable[str]) -> Iterable[Schema]:
    """The parameters each method has, which need not be there where none of their members need."""
    for name in methods:
        pointer = name.replace("~", "~0").replace("/", "~1")
        fitting = {"properties": {"params": {"$ref": f"#/{group}/{pointer}/params"}}}
        yield {"if": {"properties": {"method": {"const": name}}, "required": ["method"]}, "then": fitting}


def text() -> str:
    """The file."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text())
