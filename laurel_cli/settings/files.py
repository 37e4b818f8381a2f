"""Settings in a file: TOML, a table for each command, whose keys are the command's options as they are typed.

    [train-proxy]
    model = "gpt2"
    layers = 4
    arms = ["rw", "rw+lr@4"]
    task = "text:books.txt"
    controls = false

What stands in a file is read as if it had been typed, by the same functions and with the same complaints.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from laurel_cli.errors import UsageError
from laurel_cli.records.files import read_whole
from laurel_cli.settings.base import ARGUMENT, Option, Settings, flag, options, typed_as
from laurel_cli.text import shortened


def read(path: Path) -> dict[str, Any]:
    """The tables of a file.

    Args:
        path: of a TOML file.

    Raises:
        UsageError: there is none, or it is no TOML.
    """
    try:
        return tomllib.loads(read_whole(path).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be read.", f"{error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        why = shortened(str(error), 200).rstrip(".")
        raise UsageError(f"{str(path)!r} is no TOML.", f"{why[:1].upper()}{why[1:]}.") from error


def typed(table: Any, settings: Sequence[type[Settings]], where: str) -> dict[str, Any]:
    """What a table says, by field, in the form in which a command line has it.

    Args:
        table: from a file: keys are options without their dashes ("seq-len"), or fields ("seq_len").
        settings: classes whose fields are options of the command.
        where: the table's name, for messages.

    Raises:
        UsageError: an option that there is not, or a value of another kind.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"{where} is no table.", hint=f"Write [{where.rpartition(' ')[2]}] above its options.")
    known = {name: (option, kinds) for one in settings for name, (option, kinds) in _kinds(one).items()}
    spelled = {_key(name, option): name for name, (option, _) in known.items()}
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = key if key in known else spelled.get(key.replace("_", "-"))
        if name is None:
            near = get_close_matches(key, spelled, n=1)
            raise UsageError(
                f"{where} has no option {shortened(key)!r}.", hint=f"Did you mean {near[0]}?" if near else ""
            )
        if name in found:
            raise UsageError(f"{where} has {shortened(key)!r} twice.", hint="Name every option once.")
        found[name] = _typed(key, value, known[name][1], where)
    return found


def words(found: Mapping[str, Any], settings: Sequence[type[Settings]]) -> list[str]:
    """The same as words of a command line, its argument first.

    Args:
        found: by field, as `typed` gives it.
        settings: the classes that it was read with.
    """
    said: list[str] = []
    for name, option in ((name, option) for one in settings for name, option in options(one).items()):
        value = found.get(name)
        if value is None:
            continue
        if option.name == ARGUMENT:
            said.insert(0, str(value))
        elif isinstance(value, bool):
            said += [flag(name, option)] if value else [no for no in [option.name.partition("/")[2]] if no]
        else:
            for item in value if isinstance(value, list) else [value]:
                text = str(item)
                said += [f"{flag(name, option)}={text}"] if text.startswith("-") else [flag(name, option), text]
    return said


def text(
    tables: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Sequence[type[Settings]]], head: str = ""
) -> str:
    """A file that says the same.

    Args:
        tables: values of settings by field, by command; what is None or empty is left out.
        settings: classes of settings, by command.
        head: a comment at its beginning, one line.

    Raises:
        UsageError: a value within a value that TOML has no word for, such as None.
    """
    lines = [f"# {head}"] if head else []
    for command, values in tables.items():
        lines += ["", f"[{command}]"]
        known = {name: option for one in settings[command] for name, option in options(one).items()}
        for name, option in sorted(known.items(), key=lambda item: item[1].name != ARGUMENT):
            value = values.get(name)
            if value is not None and value not in ((), [], ""):
                lines.append(f"{_key(name, option)} = {_toml(value, _key(name, option))}")
    return "\n".join(lines).lstrip("\n") + "\n"


def _key(name: str, option: Option) -> str:
    """As an option stands in a file: "seq-len"; the field's own name where it is an argument."""
    return name if option.name == ARGUMENT else flag(name, option).removeprefix("--")


def _kinds(settings: type[Settings]) -> dict[str, tuple[Option, tuple[Any, ...]]]:
    """Of every option the kinds of its typed value: (int, None) or (list[str], None)."""
    found = {}
    for name, option in options(settings).items():
        kind = typed_as(settings, name, option)
        found[name] = (option, get_args(kind) if not isinstance(kind, type) and get_args(kind) else (kind,))
    return found


def _typed(key: str, value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    """A value of a file in the form in which it is typed."""
    if list[str] in kinds:
        if isinstance(value, Mapping):
            return [f"{name}={inner!r}" for name, inner in value.items()]
        return [str(item) for item in (value if isinstance(value, list) else [value])]
    if bool in kinds or isinstance(value, bool):
        if bool in kinds and isinstance(value, bool):
            return value
    elif float in kinds and isinstance(value, int | float):
        return float(value)
    elif int in kinds and isinstance(value, int):
        return value
    elif Path in kinds and isinstance(value, str):
        return Path(value)
    elif str in kinds:
        if value in ("", []):  # passed on, it would be the default
            raise UsageError(f"{where}: {key} = {value!r} is empty.", hint="Leave it out for its default.")
        if isinstance(value, list):
            return ",".join(str(item) for item in value)
        if isinstance(value, str | int | float):
            return str(value)
    wanted = next(_NAMES[kind] for kind in kinds if kind in _NAMES)
    raise UsageError(f"{where}: {key} = {shortened(repr(value))} is not {wanted}.")


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}


def _toml(value: Any, key: str) -> str:
    """A value as TOML has it; `key` is the option's."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item, key) for item in value) + "]"
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return "{" + ", ".join(f"{_string(name)} = {_toml(inner, key)}" for name, inner in value.items()) + "}"
    if isinstance(value, str | Path):
        return _string(str(value))
    # As text it would be read back as something else.
    why = f"TOML has no word for {shortened(repr(value))}."
    raise UsageError(f"{key} cannot be written down.", why, f"Leave it out, and type it beside the file: --{key}.")


def _string(value: str) -> str:
    """A basic string: JSON's, but for the one control character that TOML forbids and JSON does not escape."""
    return re.sub("\x7f", r"\\u007f", json.dumps(value, ensure_ascii=False))
