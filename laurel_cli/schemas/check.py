"""Whether a value is what its type says: the same types as the JSON Schemas, read by a small and fast checker.

Two ways to look: `WHOLE` as the JSON Schema does, `READING` as whoever reads a record must (`marks.py`): fewer keys are
asked for, 3.0 is no whole number, and numbers are such that what is computed from them stays a number. Further keys are
let be by both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from math import inf, isfinite
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from laurel_cli.schemas.marks import Above, AtLeast, Below, Matches, fields, is_mapping, is_object, parts

WHOLE, READING = "whole", "reading"
LARGEST = 1e60  # fourth powers of it are numbers; float32 ends at 3e38
_SAID = {str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}
_SHOWN = 40

Fault = tuple[str, str]
"""(where, what is wrong there): ("arms[2].name", "is missing")."""
Check = Callable[[Any], Fault | None]


@cache
def checker(of: Any, how: str = READING) -> Check:
    """A function that says what is wrong with a value of type `of`, None where nothing is.

    Raises:
        TypeError: a type of which nothing is said here.
    """
    bare, said = parts(of)
    found = _bare(bare, how)
    bounds = [bound for bound in said if isinstance(bound, AtLeast | Above | Below | Matches)]
    return _bounded(found, bounds, described(of)) if bounds else found


def fault(value: Any, of: Any, how: str = READING) -> str:
    """What is wrong with a value of type `of`, in words that follow on "it": `its arms[2].name is missing`; else ""."""
    found = checker(of, how)(value)
    if found is None:
        return ""
    where, what = found
    return f"its {where.lstrip('.')} {what}" if where else f"it {what}"


def described(hint: Any) -> str:
    """A type in words: `a number or null`."""
    bare, said = parts(hint)
    bounds = [words for one in said if (words := _bound(one))]
    if bounds:
        return f"{_SAID[bare]} {' and '.join(bounds)}"
    if bare in _SAID:
        return _SAID[bare]
    if get_origin(bare) is Literal:
        return " or ".join(json.dumps(value) for value in get_args(bare))
    if get_origin(bare) in (Union, UnionType):
        return " or ".join(dict.fromkeys(described(arg) for arg in get_args(bare)))
    return "a list" if get_origin(bare) in (list, tuple) else "an object"


def _bound(said: Any) -> str:
    match said:
        case AtLeast(low):
            return f"of at least {low:g}"
        case Above(low):
            return f"above {low:g}"
        case Below(high):
            return f"below {high:g}"
        case Matches(pattern):
            return f"of the form {pattern}" if pattern != r"[\s\S]+" else "that is not empty"
    return ""


def _bare(hint: Any, how: str) -> Check:
    if hint is Any:
        return lambda value: None
    if hint in _SAID:
        return _simple(hint, how)
    if is_object(hint):
        return _object(hint, how)
    origin, args = get_origin(hint), get_args(hint)
    if is_mapping(hint):
        return _mapping(checker(args[1], how))
    if origin is Literal:
        return _literal(hint)
    if origin is list:
        return _list(checker(args[0], how))
    if origin is tuple:
        return _tuple([checker(arg, how) for arg in args])
    if origin in (Union, UnionType):
        return _union(hint, args, how)
    raise TypeError(f"nothing is said of {hint!r} in a check")


def _wrong(value: Any, wanted: str) -> Fault:
    shown = json.dumps(value, default=repr)
    return "", f"is {shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + '...'}, where {wanted} belongs"


def _simple(of: type, how: str) -> Check:
    wanted = _SAID[of]
    if of not in (int, float):
        return lambda value: None if type(value) is of else _wrong(value, wanted)
    kinds = (int, float) if of is float else (int,)

    def reading(value: Any) -> Fault | None:
        if type(value) not in kinds:
            return _wrong(value, wanted)
        return None if -LARGEST < value < LARGEST else _wrong(value, f"{wanted} below {LARGEST:g}")

    def whole(value: Any) -> Fault | None:
        if type(value) is float:
            return None if isfinite(value) and (of is float or value.is_integer()) else _wrong(value, wanted)
        return None if type(value) is int else _wrong(value, wanted)

    return whole if how == WHOLE else reading


def _bounded(inner: Check, bounds: list[Any], wanted: str) -> Check:
    low = max((bound.low for bound in bounds if isinstance(bound, AtLeast)), default=-inf)
    above = max((bound.low for bound in bounds if isinstance(bound, Above)), default=-inf)
    below = min((bound.high for bound in bounds if isinstance(bound, Below)), default=inf)
    patterns = [re.compile(bound.pattern) for bound in bounds if isinstance(bound, Matches)]
    is_text = bool(patterns)

    def check(value: Any) -> Fault | None:
        found = inner(value)
        if found is not None:
            return found
        right = all(p.fullmatch(value) for p in patterns) if is_text else low <= value < below and value > above
        return None if right else _wrong(value, wanted)

    return check


def _literal(hint: Any) -> Check:
    allowed, wanted = get_args(hint), described(hint)

    def check(value: Any) -> Fault | None:
        # Of their own type: 1 and true are equal.
        return None if any(type(value) is type(one) and value == one for one in allowed) else _wrong(value, wanted)

    return check


def _list(item: Check) -> Check:
    def check(value: Any) -> Fault | None:
        if type(value) is not list:
            return _wrong(value, "a list")
        for number, one in enumerate(value):
            found = item(one)
            if found is not None:
                return f"[{number}]{found[0]}", found[1]
        return None

    return check


def _tuple(items: list[Check]) -> Check:
    def check(value: Any) -> Fault | None:
        if type(value) is not list or len(value) != len(items):
            return _wrong(value, f"a list of {len(items)}")
        for number, (item, one) in enumerate(zip(items, value, strict=True)):
            found = item(one)
            if found is not None:
                return f"[{number}]{found[0]}", found[1]
        return None

    return check


def _mapping(item: Check) -> Check:
    def check(value: Any) -> Fault | None:
        if type(value) is not dict:
            return _wrong(value, "an object")
        for key, one in value.items():
            found = item(one)
            if found is not None:
                return f".{json.dumps(key)}{found[0]}", found[1]
        return None

    return check


def _object(of: Any, how: str) -> Check:
    wanted = [
        (field.name, field.required if how == WHOLE else field.needed, checker(field.hint, how))
        for field in fields(of)
        if how == WHOLE or field.read
    ]
    missing = object()

    def check(value: Any) -> Fault | None:
        if type(value) is not dict:
            return _wrong(value, "an object")
        for name, must_be, item in wanted:
            one = value.get(name, missing)
            if one is missing:
                if must_be:
                    return f".{name}", "is missing"
                continue
            found = item(one)
            if found is not None:
                return f".{name}{found[0]}", found[1]
        return None

    return check


def _union(hint: Any, args: tuple[Any, ...], how: str) -> Check:
    """Objects are told apart by their constants, such as `status`: the words are those of the one that is meant."""
    objects = [(_constants(parts(arg)[0]), checker(arg, how)) for arg in args if is_object(parts(arg)[0])]
    others = [checker(arg, how) for arg in args if not is_object(parts(arg)[0])]
    wanted = described(hint)

    def check(value: Any) -> Fault | None:
        for other in others:
            if other(value) is None:
                return None
        if type(value) is not dict or not objects:
            return _wrong(value, wanted)
        faults = []
        for constants, one in objects:
            found = one(value)
            if found is None:
                return None
            faults.append((sum(value.get(key) != constant for key, constant in constants), found))
        return min(faults, key=lambda item: item[0])[1]

    return check


def _constants(of: Any) -> list[tuple[str, Any]]:
    hints = [(field.name, parts(field.hint)[0]) for field in fields(of)]
    single = [(name, get_args(hint)) for name, hint in hints if get_origin(hint) is Literal]
    return [(name, args[0]) for name, args in single if len(args) == 1]
