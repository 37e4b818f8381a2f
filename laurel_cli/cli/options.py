"""Options that commands share, and how their text is read."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from laurel_cli.errors import UsageError
from laurel_cli.render import FORMATS

OUTPUT = "Output"
FOLDER = Path("reports/records")

Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="NAME",
        help=f"{', '.join([*FORMATS][:-1])} or {[*FORMATS][-1]}. JSON is exactly one document, on failure too.",
        autocompletion=lambda: list(FORMATS),
        rich_help_panel=OUTPUT,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", metavar="FILE", help="Write the answer to a file, whole or not at all.", rich_help_panel=OUTPUT
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace --output's file if it exists.", rich_help_panel=OUTPUT)]
Records = Annotated[Path, typer.Option("--records", metavar="DIR", help="Where records go.", rich_help_panel=OUTPUT)]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show tracebacks, timings and library warnings.", rich_help_panel=OUTPUT)
]


def one_of(option: str, value: str, known: Iterable[str]) -> str:
    """`value` in the spelling of `known`.

    Raises:
        UsageError: it is none of them; the hint has the nearest.
    """
    names = list(known)
    for name in names:
        if value.strip().lower() == name:
            return name
    close = difflib.get_close_matches(value.lower(), names, n=1)
    hint = f"Did you mean {close[0]}?" if close else f"Try {option} {names[0]}."
    raise UsageError(f"{option} {value!r} is unknown.", f"It is one of {', '.join(names)}.", hint)


def split(values: Sequence[str] | None) -> list[str]:
    """The items of an option that may be repeated or hold a list: `--rank 8 --rank 16,32`."""
    return [item.strip() for value in values or () for item in value.split(",") if item.strip()]


def whole(option: str, text: str, example: int) -> int:
    """A whole number.

    Raises:
        UsageError: it is none.
    """
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a whole number.", hint=f"Try {option} {example}.") from None


def dimensions(option: str, text: str) -> tuple[int, ...]:
    """A shape: `1x3x224x224` or `1,3,224,224`.

    Raises:
        UsageError: an item is no positive whole number.
    """
    items = text.lower().replace(",", "x").split("x")
    if not all(item.strip().isdecimal() and int(item) > 0 for item in items):
        raise UsageError(f"{option} {text!r} is not a shape.", hint=f"Try {option} 1x3x224x224.")
    return tuple(int(item) for item in items)


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
        found[key.strip()] = _literal(text)
    return found


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
