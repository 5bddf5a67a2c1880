"""The sections `[agents.NAME]` of the settings: agents of one's own, and other ways to run those that are built in.

What a section does not say stays as it is: in `[instances.X.agents.NAME]` as for all instances, in `[agents.NAME]` as
built in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from jobbroker.core.agent import BUILT_IN, PROMPT, Template, check_argv
from jobbroker.core.message import check_rule
from jobbroker.values import Toml, duration, perhaps, section, take, unknown


def read(layers: Iterable[tuple[str, Toml]], source: str, warnings: list[str]) -> Mapping[str, Template]:
    """The agents there are, by name, in order.

    Args:
        layers: the tables that may have a section `agents`, each with the beginning of its full name; later ones win.
        source: the file, for warnings.
        warnings: takes a sentence for each mistake.
    """
    found: dict[str, dict[str, object]] = {
        name: msgspec.structs.asdict(template) for name, template in BUILT_IN.items()
    }
    for above, layer in layers:
        prefix = f"{above}agents."
        for name in (sections := section(layer, "agents", source, warnings, above)):
            if not _is_name(name):
                warnings.append(f"{source}: {prefix + name!r} is ignored: the name of an agent has no spaces")
                continue
            keys = section(sections, name, source, warnings, prefix)
            _take_keys(found.setdefault(name, {}), keys, f"{prefix}{name}.", source, warnings)
    usable = {name: fields for name, fields in found.items() if fields.get("argv")}
    warnings += [
        f"{source}: agents.{name} has no argv and is ignored"
        + (perhaps("agents.", name, usable) or f': write argv = ["{name}", "{PROMPT}"]')
        for name, fields in found.items()
        if "argv" not in fields
    ]
    return {name: msgspec.convert(usable[name], Template) for name in sorted(usable)}


def _is_name(name: str) -> bool:
    return bool(name) and name.isprintable() and " " not in name


def _take_keys(found: dict[str, object], keys: Toml, prefix: str, source: str, warnings: list[str]) -> None:
    for key, value in keys.items():
        if key in _KEYS:
            field, reader = _KEYS[key]
            taken = take(reader, value, f"{source}: {prefix}{key}", warnings)
            if taken is not None:
                found[field] = taken
            elif key == "argv":
                found.setdefault(field, ())  # of which there was a warning: one is enough
        else:
            warnings.append(unknown(source, prefix, key, _KEYS))


def _argv(value: object) -> tuple[str, ...]:
    try:
        words = msgspec.convert(value, tuple[str, ...], strict=True)
    except msgspec.ValidationError:
        raise ValueError(f'a command is a list of words, such as ["codex", "exec", "{PROMPT}"]') from None
    check_argv(words)
    return words


def _rule(value: object) -> str:
    rule = _text(value)
    check_rule(rule)
    return rule


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("this is a text")  # noqa: TRY004  # one kind of mistake
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("this is true or false")  # noqa: TRY004  # one kind of mistake
    return value


# key: field of Template, how a value is read
_KEYS: dict[str, tuple[str, Callable[[object], object]]] = {
    "argv": ("argv", _argv),
    "timeout": ("timeout_ms", duration),
    "result": ("result", _rule),
    "install": ("install", _text),
    "doubleDash": ("double_dash", _flag),
}
