"""Whether a value is what its type says: the same types as the JSON Schemas, read by a small and fast checker.

Two ways to look: `WHOLE` as the JSON Schema does, `READING` as whoever reads a record must (`marks.py`): fewer keys are
asked for, 3.0 is no whole number, and numbers are such that what is computed from them stays a number. Further keys are
let be by both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from math import inf, isfinite, nextafter
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from laurel_cli.schemas.marks import Above, AtLeast, Below, Matches, fields, is_mapping, is_object, parts

WHOLE, READING = "whole", "reading"
LARGEST = 1e60  # fourth powers of it are numbers; float32 ends at 3e38
_SAID = {str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}
_SHOWN = 40

Fault = tuple[str, tuple[Any, str] | None]
"""Where, and what is there with what belongs there, as words only where somebody asks; None where nothing is there."""
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
    where, why = found
    what = "is missing" if why is None else f"is {_shown(why[0])}, where {why[1]} belongs"
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
        return _mapping(checker(args[1], how), _quick(args[1], how))
    if origin is Literal:
        return _literal(hint)
    if origin is list:
        return _list(checker(args[0], how), _quick(args[0], how))
    if origin is tuple:
        return _tuple([checker(arg, how) for arg in args])
    if origin in (Union, UnionType):
        return _union(hint, args, how)
    raise TypeError(f"nothing is said of {hint!r} in a check")


def _wrong(value: Any, wanted: str) -> Fault:
    return "", (value, wanted)


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, default=repr)
    except RecursionError:
        return "deeply nested"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


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
    texts = frozenset(one for one in allowed if type(one) is str)

    def check(value: Any) -> Fault | None:
        if type(value) is str:
            return None if value in texts else _wrong(value, wanted)
        # Of their own type: 1 and true are equal.
        return None if any(type(value) is type(one) and value == one for one in allowed) else _wrong(value, wanted)

    return check


@dataclass(frozen=True)
class _Quick:
    """Values that are surely right, told without a call: of these types, or numbers from `low` to below `high`."""

    types: frozenset[type] = frozenset()
    numbers: frozenset[type] = frozenset()
    low: float = -inf
    high: float = inf

    def all(self) -> Callable[[Collection[Any]], bool]:
        """A function that says whether all of some values are such."""
        types, numbers, low, high = self.types, self.numbers, self.low, self.high

        def check(values: Collection[Any]) -> bool:
            kinds = set(map(type, values))
            # The sum is no number where one of them is none: a comparison would not say so.
            return kinds <= types or (
                kinds <= numbers and low <= min(values) and max(values) < high and isfinite(sum(values))
            )

        return check


def _quick(hint: Any, how: str) -> _Quick:
    bare, said = parts(hint)
    args = get_args(bare) if get_origin(bare) in (Union, UnionType) else (bare,)
    if any(isinstance(one, Matches) for one in said):
        return _Quick()
    simple = [arg for arg in args if arg in (str, bool, NoneType)]
    inner = [(arg, said) if arg is bare else parts(arg) for arg in args]
    numbers = [(arg, bounds) for arg, bounds in inner if arg in (int, float)]
    if not numbers:
        return _Quick(frozenset(simple))
    (of, bounds), *others = numbers
    if others:
        return _Quick(frozenset(simple))
    low, high = (-LARGEST, LARGEST) if how == READING else (-inf, inf)
    lows = [nextafter(low, inf), *(one.low for one in bounds if isinstance(one, AtLeast))]
    lows += [nextafter(one.low, inf) for one in bounds if isinstance(one, Above)]
    highs = [high, *(one.high for one in bounds if isinstance(one, Below))]
    kinds = frozenset((int, float) if of is float else (int,))
    return _Quick(frozenset(simple), kinds, max(lows), min(highs))


def _list(item: Check, quick: _Quick) -> Check:
    are_right = quick.all()

    def check(value: Any) -> Fault | None:
        if type(value) is not list:
            return _wrong(value, "a list")
        if are_right(value):
            return None
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


def _mapping(item: Check, quick: _Quick) -> Check:
    are_right = quick.all()

    def check(value: Any) -> Fault | None:
        if type(value) is not dict:
            return _wrong(value, "an object")
        if are_right(value.values()):
            return None
        for key, one in value.items():
            found = item(one)
            if found is not None:
                return f".{json.dumps(key)}{found[0]}", found[1]
        return None

    return check


def _object(of: Any, how: str) -> Check:
    wanted = []
    for field in fields(of):
        if how == WHOLE or field.read:
            quick = _quick(field.hint, how)
            required = field.required if how == WHOLE else field.needed
            bounds = (quick.types, quick.numbers, quick.low, quick.high)
            wanted.append((field.name, required, *bounds, checker(field.hint, how)))
    missing = object()

    def check(value: Any) -> Fault | None:
        if type(value) is not dict:
            return _wrong(value, "an object")
        get = value.get
        for name, required, types, numbers, low, high, item in wanted:
            one = get(name, missing)
            kind = type(one)
            if kind in types or (kind in numbers and low <= one < high):
                continue
            if one is missing:
                if required:
                    return f".{name}", None
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
        if type(value) is not dict or not objects:
            return None if any(other(value) is None for other in others) else _wrong(value, wanted)
        faults: list[tuple[int, Fault]] = []
        for constants, one in objects:
            found = one(value)
            if found is None:
                return None
            faults.append((sum(value.get(key) != constant for key, constant in constants), found))
        if any(other(value) is None for other in others):
            return None
        return min(faults, key=lambda item: item[0])[1]

    return check


def _constants(of: Any) -> list[tuple[str, Any]]:
    hints = [(field.name, parts(field.hint)[0]) for field in fields(of)]
    single = [(name, get_args(hint)) for name, hint in hints if get_origin(hint) is Literal]
    return [(name, args[0]) for name, args in single if len(args) == 1]
