"""A command's options from the fields of settings: what typer reads is made of what Python takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from laurel_cli.errors import UsageError
from laurel_cli.settings import files
from laurel_cli.settings.base import ARGUMENT, Option, Settings, flag, options, typed_as

CONFIG, CONTEXT = "config", "context"  # names of parameters


def from_fields(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer takes it: each parameter that is of a settings class becomes that class's options.

    Args:
        command: its parameters are settings, and options that the command line alone has. With `config` among them
            a file stands in for what is not typed.
    """
    hints = get_type_hints(command, include_extras=True)
    hints.pop("return", None)
    parameters: list[inspect.Parameter] = []
    for name, given in inspect.signature(command).parameters.items():
        own = given.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        parameters += _options(hints[name]) if _is_settings(hints[name]) else [own]

    if CONFIG in hints and CONTEXT not in hints:
        parameters.append(inspect.Parameter(CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))

    @wraps(command)
    def run(**typed: Any) -> None:
        if typed.get(CONFIG) is not None:
            typed |= _configured(typed[CONFIG], typed[CONTEXT], [hint for hint in hints.values() if _is_settings(hint)])
        command(**{name: _read(hint, typed) if _is_settings(hint) else typed[name] for name, hint in hints.items()})

    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _configured(path: Path, context: typer.Context, settings: list[type[Settings]]) -> dict[str, Any]:
    """What a file says of options that are not typed."""
    command = str(context.info_name)
    tables = files.read(path)
    if command not in tables:
        raise UsageError(f"{str(path)!r} has no table [{command}].", hint=f"Write [{command}] above its options.")
    found = files.typed(tables[command], settings, f"{path} {command}")
    return {name: value for name, value in found.items() if not _is_typed(context, name)}


def typed_options(context: typer.Context) -> dict[str, str]:
    """What is typed of a command: the names of its parameters, each with its option as it is written."""
    parameters = context.command.params
    return {str(one.name): one.opts[0] for one in parameters if _is_typed(context, str(one.name))}


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _is_settings(hint: Any) -> bool:
    return isinstance(hint, type) and is_dataclass(hint) and issubclass(hint, Settings)


def _options(settings: type[Settings]) -> list[inspect.Parameter]:
    """A parameter for each field that is an option."""
    known = options(settings)
    return [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(item, known[item.name]),
            annotation=Annotated[typed_as(settings, item.name, known[item.name]), _info(item.name, known[item.name])],
        )
        for item in fields(settings)
        if item.name in known
    ]


def _default(item: Field[Any], option: Option) -> Any:
    if item.default is MISSING:
        return inspect.Parameter.empty
    if option.read is not None:
        return option.typed
    return item.default


def _info(name: str, option: Option) -> Any:
    shared: dict[str, Any] = {
        "metavar": option.metavar,
        "help": option.help,
        "min": option.low,
        "max": option.high,
        "show_default": option.shown or True,
        "rich_help_panel": option.panel,
    }
    if callable(option.known):
        shared["autocompletion"] = option.known
    elif option.known:
        shared["autocompletion"] = lambda: list(option.known)
    if option.name == ARGUMENT:
        return typer.Argument(**shared)
    return typer.Option(option.name or flag(name, option), **shared)


def _read(settings: type[Settings], typed: dict[str, Any]) -> Settings:
    """The settings from what was typed.

    Raises:
        UsageError: a text that is no value of its kind.
    """
    values = {}
    for name, option in options(settings).items():
        value = typed[name]
        values[name] = value if option.read is None else option.read(flag(name, option), value)
    return settings(**values)
