"""From a frame to its source: the function that ran, and the syntax tree of its definition."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from functools import cache
from types import CellType, CodeType, FunctionType
from typing import Any


class CannotRewriteError(Exception):
    """An addition that stays as it is, and why."""


@cache
def _file(filename: str) -> ast.Module:
    source = "".join(linecache.getlines(filename))
    if not source:
        raise CannotRewriteError(f"its source ({filename.rpartition('/')[2]}) cannot be read")
    return ast.parse(source, filename)


def definition_of(function: FunctionType) -> ast.FunctionDef:
    """The `def` of `function` in its file, with the file's own line numbers.

    Raises:
        CannotRewriteError: no source, or no plain `def`.
    """
    code = function.__code__
    for node in ast.walk(_file(code.co_filename)):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == code.co_firstlineno:
                return node
    raise CannotRewriteError("its source holds no plain function definition")


def holds(outer: CodeType, inner: CodeType) -> bool:
    """Whether `inner` is `outer` or defined within it."""
    return outer is inner or any(holds(const, inner) for const in outer.co_consts if isinstance(const, CodeType))


def layers_of(wrapped: Any) -> Iterator[FunctionType]:
    """`wrapped` and every function that it wraps, by `__wrapped__` or by closure, outermost first."""
    seen: set[int] = set()
    waiting = [wrapped]
    while waiting:
        candidate = waiting.pop(0)
        candidate = getattr(candidate, "__func__", candidate)
        if not isinstance(candidate, FunctionType) or id(candidate) in seen:
            continue
        seen.add(id(candidate))
        yield candidate
        if "__wrapped__" in candidate.__dict__:
            waiting.append(candidate.__dict__["__wrapped__"])
        waiting.extend(contents(cell) for cell in candidate.__closure__ or ())


def find_function(wrapped: Any, code: CodeType) -> FunctionType | None:
    """The function within `wrapped` whose code is, or holds, `code`."""
    return next((function for function in layers_of(wrapped) if holds(function.__code__, code)), None)


def rewrap(wrapped: Any, old: FunctionType, new: FunctionType) -> Any:
    """`wrapped` with `old` replaced by `new`, however deep in its decorators it lies.

    Raises:
        CannotRewriteError: a decorator holds `old` where it cannot be reached.
    """
    if wrapped is not old and not isinstance(wrapped, FunctionType):
        raise CannotRewriteError("its method is wrapped by an object, not by a function")
    done = {old: new}
    result = _rewrapped(wrapped, old, done)
    if not any(layer is new for layer in layers_of(result)):
        raise CannotRewriteError("a decorator of its method hides it")
    return result


def _rewrapped(wrapped: FunctionType, old: FunctionType, done: dict[FunctionType, FunctionType]) -> FunctionType:
    if wrapped in done:  # a wrapper may hold itself
        return done[wrapped]
    leading = [_leads_to(contents(cell), old) for cell in wrapped.__closure__ or ()]
    cells = [CellType() if leads else cell for cell, leads in zip(wrapped.__closure__ or (), leading, strict=True)]
    outer = FunctionType(
        wrapped.__code__, wrapped.__globals__, wrapped.__name__, wrapped.__defaults__, closure=tuple(cells)
    )
    like(outer, wrapped)
    done[wrapped] = outer
    for cell, before, leads in zip(cells, wrapped.__closure__ or (), leading, strict=True):
        if leads:
            cell.cell_contents = _rewrapped(before.cell_contents, old, done)
    inner = outer.__dict__.get("__wrapped__")
    if isinstance(inner, FunctionType) and _leads_to(inner, old):
        outer.__dict__["__wrapped__"] = _rewrapped(inner, old, done)
    return outer


def _leads_to(content: Any, old: FunctionType) -> bool:
    return isinstance(content, FunctionType) and any(layer is old for layer in layers_of(content))


def like(new: FunctionType, old: FunctionType) -> None:
    """Give `new` the names, defaults and attributes of `old`."""
    new.__kwdefaults__ = dict(old.__kwdefaults__) if old.__kwdefaults__ else None
    new.__module__, new.__qualname__, new.__doc__ = old.__module__, old.__qualname__, old.__doc__
    new.__annotations__ = dict(old.__annotations__)
    new.__dict__.update(old.__dict__)


def contents(cell: CellType) -> Any:
    """What a closure's cell holds; None for an empty one."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
