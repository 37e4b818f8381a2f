"""What is typed becomes values: lists, numbers, shapes, percentages, KEY=VALUE. Each takes the option's name first."""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from laurel_cli.errors import UsageError
from laurel_cli.text import signed_number, whole_number


def items(option: str, values: str | Sequence[str] | None) -> list[str]:
    """The items of an option that may be repeated or hold a list: `--rank 8 --rank 16,32`."""
    texts = [values] if isinstance(values, str) else values or ()
    return [item.strip() for value in texts for item in value.split(",") if item.strip()]


def one_of(name: str, value: str, known: Iterable[str]) -> str:
    """`value` in the spelling of `known`; `name` is that of the argument in Python.

    Raises:
        UsageError: it is none of them; the hint has the nearest.
    """
    names = list(known)
    if value in names:
        return value
    if value.strip().lower() in names:
        return value.strip().lower()
    close = difflib.get_close_matches(value.lower(), names, n=1)
    hint = f"Did you mean {close[0]}?" if close else f"Try `{name}={names[0]!r}`."
    raise UsageError(f"`{name}={value!r}` is unknown.", f"It is one of {', '.join(names)}.", hint)


def whole(option: str, text: str, example: int) -> int:
    """A whole number.

    Raises:
        UsageError: it is none.
    """
    number = signed_number(text)
    if number is None:
        raise UsageError(f"{option} {text!r} is not a whole number.", hint=f"Try {option} {example}.")
    return number


def ranks(option: str, values: Sequence[str] | None) -> list[int]:
    """Whole numbers, listed or repeated."""
    return [whole(option, item, 16) for item in items(option, values)]


def depths(option: str, text: str | None) -> tuple[int, ...]:
    """Whole numbers in one list."""
    return tuple(whole(option, item, 4) for item in items(option, text))


def lags(option: str, text: str) -> int | None:
    """A whole number, None for "all"."""
    return None if text.strip().lower() == "all" else whole(option, text, 3)


def once(option: str, values: Sequence[str] | None) -> tuple[str, ...]:
    """Each value once."""
    return tuple(dict.fromkeys(values or ()))


def several(option: str, values: Sequence[str] | None) -> tuple[str, ...]:
    """All values."""
    return tuple(values or ())


def dimensions(option: str, text: str | None) -> tuple[int, ...] | None:
    """A shape: `1x3x224x224` or `1,3,224,224`; None where there is none.

    Raises:
        UsageError: an item is no positive whole number.
    """
    if text is None:
        return None
    sizes = text.lower().replace(",", "x").split("x")
    found = tuple(size for item in sizes if (size := whole_number(item)))
    if len(found) != len(sizes):
        raise UsageError(f"{option} {text!r} is not a shape.", hint=f"Try {option} 1x3x224x224.")
    return found


def keywords(option: str, values: Sequence[str] | None) -> dict[str, Any]:
    """`key=value` items; a value is a Python literal where it reads as one, else text.

    Raises:
        UsageError: an item without a key, or a key given twice.
    """
    found: dict[str, Any] = {}
    for value in values or ():
        key, equals, text = value.partition("=")
        if not equals or not key.strip().isidentifier():
            raise UsageError(f"{option} {value!r} is not KEY=VALUE.", hint=f"Try {option} num_classes=10.")
        if key.strip() in found:
            raise UsageError(f"{option} {key.strip()} is given twice.", hint="Name every key once.")
        found[key.strip()] = literal(text)
    return found


def percentage(option: str, text: str) -> float:
    """`1%`, `0.5 %` or `1` as a number of percent.

    Raises:
        UsageError: it is no positive number.
    """
    match = re.fullmatch(r"(\d+(\.\d*)?|\.\d+)\s*%?", text.strip())
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"{option} {text!r} is no percentage.", hint=f"Try {option} 1%.")
    return float(match[1])


def literal(text: str) -> Any:
    """A Python literal, else the text as it is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what only looks like a number: it is text then
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
