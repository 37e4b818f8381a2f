"""What typer says of a wrong command line, in our words: what was typed, what is wrong with it, what to type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from laurel_cli.errors import UsageError
from laurel_cli.text import shortened

# Typer's words, of older versions and of newer: "is not a valid integer", "should be a valid number, unable to ...".
_NO_NUMBER = re.compile(r"Invalid value for '(?P<option>--[\w-]+)'.* valid (?P<kind>integer|float|number)")
_OUTSIDE = re.compile(
    r"Invalid value for '(?P<option>--[\w-]+)'.* (?P<kind>greater|less) than or equal to (?P<bound>[\w.+-]*\w)"
)
_RANGE = re.compile(
    r"Invalid value for '(?P<option>--[\w-]+)': (?P<value>\S+) is not in the range "
    r"((?P<low>[\d.]+)<=)?x(>=(?P<least>[\d.]+\d|\d))?(<=(?P<most>[\d.]+\d|\d))?"
)


def complaint_of(error: Any, argv: Sequence[str]) -> UsageError:
    """Typer's complaint (an unknown option, a missing argument, a value that does not fit) as one of ours."""
    said = " ".join(error.format_message().split())
    if found := _NO_NUMBER.match(said):
        whole = found["kind"] == "integer"
        what = f"{found['option']} {_typed(found['option'], argv)!r} is not a {'whole number' if whole else 'number'}."
        return UsageError(what, hint=f"Write a number, such as {found['option']} {'8' if whole else '0.5'}.")
    if found := _OUTSIDE.match(said):
        option, bound = found["option"], found["bound"]
        words = f"below {bound}, the least" if found["kind"] == "greater" else f"above {bound}, the largest"
        return UsageError(f"{option} {_typed(option, argv)} is {words}.", hint=f"Write {option} {bound}.")
    if "unexpected extra argument" in said:
        return UsageError(
            said if said.endswith(".") else said + ".", hint="Join the items of a list: --arms rw,lr,rw+lr."
        )
    if found := _RANGE.match(said):  # as older versions say it
        option, least, most = found["option"], found["low"] or found["least"], found["most"]
        below = least is not None and float(found["value"]) < float(least)
        words = f"below {least}, the least" if below else f"above {most}, the largest"
        return UsageError(
            f"{option} {_typed(option, argv)} is {words}.", hint=f"Write {option} {least if below else most}."
        )
    possible = getattr(error, "possibilities", None) or ()
    what, _, hint = (str(getattr(error, "message", "")) if possible else said).partition(" Did you mean ")
    if possible or hint:
        hint = f"Did you mean {' or '.join(possible) or hint.rstrip('?')}?"
    else:
        context = getattr(error, "ctx", None)
        hint = f"`{context.command_path if context else 'laurel'} --help` shows what there is."
    return UsageError(what if what.endswith((".", "?")) else what + ".", hint=hint)


def _typed(option: str, argv: Sequence[str]) -> str:
    """What was typed after an option, the last time."""
    typed = ""
    for word, after in zip(argv, [*argv[1:], ""], strict=True):
        if word == option:
            typed = after
        elif word.startswith(option + "="):
            typed = word.partition("=")[2]
    return shortened(typed)
