"""How a field of a settings class is an option too, and how a function takes the fields as its keywords."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from laurel_cli.errors import UsageError

KEY = "option"
P = ParamSpec("P")
MOST = 10**15  # more of anything overflows further on
S = TypeVar("S")
R = TypeVar("R")


@dataclass(frozen=True)
class Option:
    """What the command line makes of a field.

    Attributes:
        help: one sentence or two.
        panel: the group of options in which it stands.
        name: as it is typed, "--controls/--no-controls"; "" for the field's own name; ARGUMENT for no option.
        metavar: what stands for its value.
        shown: the default in words, where the field's own says nothing.
        low, high: least and largest value.
        known: values to complete, or a function that finds them.
        text: the type as which it is typed, where that is not the field's; `read` makes (option, text) a value, and
            `typed` is the default as text.
    """

    help: str
    panel: str | None = None
    name: str = ""
    metavar: str | None = None
    shown: str | None = None
    low: int | None = None
    high: int | None = None
    known: tuple[str, ...] | Callable[[str], Iterator[str]] = ()
    text: Any = None
    read: Callable[[str, Any], Any] | None = None
    typed: str | None = None


ARGUMENT = "argument"


def says(help: str, panel: str | None = None, **more: Any) -> Mapping[str, Any]:  # noqa: A002 - typer's name
    """The metadata of a field that is an option; `more` are fields of `Option`."""
    return {KEY: Option(help, panel, **more)}


def options(settings: type) -> dict[str, Option]:
    """The options of a settings class by field, in their order; fields of Python alone are not among them."""
    return {item.name: item.metadata[KEY] for item in fields(settings) if KEY in item.metadata}


def flag(name: str, option: Option) -> str:
    """What is typed: "--seq-len"; of a switch its positive form."""
    return option.name.partition("/")[0] or "--" + name.replace("_", "-")


def typed_as(settings: type, name: str, option: Option) -> Any:
    """The type of a field as it is typed: as its option says, else the field's own, which stands there as text."""
    if option.text is not None:
        return option.text
    home = next(one for one in settings.__mro__ if name in vars(one).get("__annotations__", {}))
    return eval(str(home.__annotations__[name]), dict(vars(sys.modules[home.__module__])))


@dataclass(frozen=True)
class Settings:
    """Base of all settings: no number lies outside of what its option says.

    Raises:
        UsageError: a number does.
    """

    def __post_init__(self) -> None:
        for name, option in options(type(self)).items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if isinstance(value, int) and abs(value) > MOST:
                raise UsageError(f"`{name}={value!r}` is out of range.", f"Nothing here is as large as {MOST:,}.")
            if (option.low is not None and not value >= option.low) or (
                option.high is not None and not value <= option.high
            ):
                least = f"at least {option.low}" if option.high is None else f"from {option.low} to {option.high}"
                raise UsageError(f"`{name}={value!r}` is out of range.", f"It is {least}.")


def joined(settings: Callable[..., S], *parts: Settings, **more: Any) -> S:
    """Settings of a class from those of its parts, and from further fields."""
    return settings(**{name: value for part in parts for name, value in vars(part).items()}, **more)


def taking(settings: Callable[P, S]) -> Callable[[Callable[[S], R]], Callable[P, R]]:
    """Let a function of settings take their fields as its arguments, with their types and defaults."""

    def decorate(function: Callable[[S], R]) -> Callable[P, R]:
        @wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(settings(*args, **kwargs))

        returned = inspect.signature(function).return_annotation
        wrapper.__signature__ = inspect.signature(settings).replace(return_annotation=returned)  # type: ignore[attr-defined]
        return wrapper

    return decorate


def called(function: str, asked: Settings) -> str:
    """The call in Python, for the record: what is not the default, `laurel.train('rw', seeds=3)`."""
    said = []
    for item in fields(asked):
        value = getattr(asked, item.name)
        if not item.init or callable(value) or (item.default == value and type(item.default) is type(value)):
            continue
        text = repr(value) if isinstance(value, str | int | float | bool | list | tuple | dict | None) else "..."
        said.append(f"{item.name}={text}")
    return f"laurel.{function}({', '.join(said)})"
