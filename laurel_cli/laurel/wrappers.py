"""Functions within what holds them: decorators, properties, bound methods, partials, closures."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from types import CellType, FunctionType, MethodType
from typing import Any

Functions = Mapping[FunctionType, FunctionType]


def functions_in(value: Any) -> Iterator[FunctionType]:
    """Every function that `value` holds, outermost first: as `__wrapped__`, in a closure, in a partial."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        held = waiting.pop(0)
        if id(held) in seen:
            continue
        seen.add(id(held))
        if isinstance(held, FunctionType):
            yield held
            waiting += [held.__dict__.get("__wrapped__"), *(contents(cell) for cell in held.__closure__ or ())]
        elif isinstance(held, MethodType | classmethod | staticmethod):
            waiting.append(held.__func__)
        elif isinstance(held, property):
            waiting.append(held.fget)
        elif isinstance(held, functools.partial | functools.cached_property | functools.partialmethod):
            waiting += [held.func, *getattr(held, "args", ())]


def with_functions(value: Any, new: Functions, done: dict[int, Any] | None = None) -> Any:
    """`value` with functions replaced by `new` ones, however deep in wrappers they lie; itself where it holds none.

    A method bound to a module whose class knows better (`laurel_functions`) gets that class's function.
    """
    done = {} if done is None else done
    if id(value) in done:  # a wrapper may hold itself
        return done[id(value)]
    if isinstance(value, FunctionType):
        return new[value] if value in new else _rewrapped(value, new, done)
    if isinstance(value, MethodType):
        own = getattr(type(value.__self__), "laurel_functions", None)
        function = with_functions(value.__func__, new if own is None else own, done)
        return value if function is value.__func__ else MethodType(function, value.__self__)
    if isinstance(value, classmethod | staticmethod):
        function = with_functions(value.__func__, new, done)
        return value if function is value.__func__ else type(value)(function)
    if isinstance(value, property) and value.fget is not None:
        getter = with_functions(value.fget, new, done)
        return value if getter is value.fget else value.getter(getter)
    if isinstance(value, functools.cached_property):
        function = with_functions(value.func, new, done)
        if function is value.func:
            return value
        copied = type(value)(function)
        copied.attrname = value.attrname
        return copied
    if isinstance(value, functools.partial | functools.partialmethod):
        function = with_functions(value.func, new, done)
        arguments = [with_functions(argument, new, done) for argument in value.args]
        if function is value.func and all(a is b for a, b in zip(arguments, value.args, strict=True)):
            return value
        return type(value)(function, *arguments, **value.keywords)
    return value


def _rewrapped(wrapper: FunctionType, new: Functions, done: dict[int, Any]) -> FunctionType:
    """`wrapper`, or a copy of it that holds other functions."""
    held = [contents(cell) for cell in wrapper.__closure__ or ()]
    wrapped = wrapper.__dict__.get("__wrapped__")

    def changes(value: Any) -> bool:
        return with_functions(value, new, done | {id(wrapper): wrapper}) is not value

    if not any(changes(value) for value in (*held, wrapped)):
        return wrapper
    cells = [
        CellType() if changes(value) else cell for cell, value in zip(wrapper.__closure__ or (), held, strict=True)
    ]
    outer = FunctionType(wrapper.__code__, wrapper.__globals__, wrapper.__name__, wrapper.__defaults__, tuple(cells))
    like(outer, wrapper)
    done[id(wrapper)] = outer
    for cell, old, value in zip(cells, wrapper.__closure__ or (), held, strict=True):
        if cell is not old:
            cell.cell_contents = with_functions(value, new, done)
    if wrapped is not None:
        outer.__dict__["__wrapped__"] = with_functions(wrapped, new, done)
    return outer


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
