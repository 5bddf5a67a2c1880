"""The house rules about code, each a function from a module to the lines that break it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from source import Module

MODULE_LINES = 400
FUNCTION_LINES = 60

Finding = tuple[int, str]
"""A line, and the function it is in or what is wrong with it."""
Rule = Callable[[Module], Iterator[Finding]]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(module: Module) -> Iterator[Function]:
    """All functions and methods, nested ones too."""
    return (node for node in ast.walk(module.tree) if isinstance(node, Function))


def calls(module: Module, *names: str) -> Iterator[ast.Call]:
    """All calls of functions with such a name, whatever they are taken from."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and last_name(node.func) in names:
            yield node


def uses(module: Module, names: list[str]) -> Iterator[Finding]:
    """All mentions of such names, and imports that take them out of their modules."""
    for node in ast.walk(module.tree):
        match node:
            case ast.Attribute() if dotted(node) in names:
                yield node.lineno, where(module, node)
            case ast.ImportFrom(module=source, names=taken):
                if any(f"{source}.{alias.name}" in names for alias in taken):
                    yield node.lineno, where(module, node)
            case _:
                pass


def last_name(node: ast.expr | None) -> str:
    """`c` for `a.b.c`, for `c` and for `c[int]`."""
    match node:
        case ast.Subscript(value=value):
            return last_name(value)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case _:
            return ""


def dotted(node: ast.expr) -> str:
    """`a.b.c` for just that, nothing for what is no plain path of names."""
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def is_endless(node: ast.expr) -> bool:
    """Whether it is infinity, spelled `math.inf` or `float("inf")`."""
    match node:
        case ast.Call(func=ast.Name("float"), args=[ast.Constant(value=str(text))]):
            return "inf" in text.lower()
        case _:
            return last_name(node) == "inf"


def where(module: Module, node: ast.AST) -> str:
    """The innermost function a node is in."""
    line: int = getattr(node, "lineno", 0)
    around = [each for each in functions(module) if each.lineno <= line <= (each.end_lineno or 0)]
    return max(around, key=lambda each: each.lineno).name if around else "<module>"


# --- shape ----------------------------------------------------------------------------------------------------------


def begins_with_docstring(module: Module) -> Iterator[Finding]:
    """A reader learns from the first line what lives here."""
    if not ast.get_docstring(module.tree):
        yield 1, "no docstring"


def fits_in_a_sitting(module: Module) -> Iterator[Finding]:
    """A module is split before it gets long."""
    if (lines := module.text.count("\n")) > MODULE_LINES:
        yield 1, f"{lines} lines"


def functions_fit_on_a_screen(module: Module) -> Iterator[Finding]:
    """So is a function."""
    for node in functions(module):
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES:
            yield node.lineno, f"{node.name}: {lines} lines"


# --- Trio -----------------------------------------------------------------------------------------------------------


def cancellation_passes(module: Module) -> Iterator[Finding]:
    """Who catches everything, or a cancellation, raises it again as the last thing it does."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and _catches_all(node.type):
            if not isinstance(node.body[-1], ast.Raise) or node.body[-1].exc is not None:
                yield node.lineno, where(module, node)
        elif isinstance(node, ast.Call) and last_name(node.func) == "suppress" and any(map(_catches_all, node.args)):
            yield node.lineno, where(module, node)


def _catches_all(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(_catches_all(each) for each in caught.elts)
    return caught is None or last_name(caught) == "BaseException" or dotted(caught) in ("trio.Cancelled", "Cancelled")


def shields_have_deadlines(module: Module) -> Iterator[Finding]:
    """A shield without a deadline is a program that cannot be ended."""
    for node in calls(module, "CancelScope", "move_on_after", "move_on_at", "fail_after", "fail_at"):
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        shield = given.pop("shield", None)
        if shield is None or (isinstance(shield, ast.Constant) and shield.value is False):
            continue
        ends = [*node.args, *(given[name] for name in ("deadline", "relative_deadline", "seconds") if name in given)]
        if not ends or any(map(is_endless, ends)):
            yield node.lineno, where(module, node)
    for assignment in ast.walk(module.tree):
        targets = assignment.targets if isinstance(assignment, ast.Assign) else []
        if any(isinstance(target, ast.Attribute) and target.attr == "shield" for target in targets):
            yield getattr(assignment, "lineno", 0), where(module, assignment)


def channels_are_bounded(module: Module) -> Iterator[Finding]:
    """A buffer without a bound is somebody else's memory."""
    for node in calls(module, "open_memory_channel"):
        if any(map(is_endless, [*node.args, *(keyword.value for keyword in node.keywords)])):
            yield node.lineno, where(module, node)


def starts_trio(module: Module) -> Iterator[Finding]:
    """The one place where the loop begins is easy to find if nobody else has one."""
    yield from uses(module, ["trio.run", "trio.lowlevel.start_guest_run"])


# --- tests ----------------------------------------------------------------------------------------------------------


def sleeps(module: Module) -> Iterator[Finding]:
    """A test waits for what it waits for; a sleep is either too short or too long."""
    yield from uses(module, ["time.sleep", "trio.sleep", "asyncio.sleep", "anyio.sleep"])
