"""What the library says speaks of Python's arguments; here they speak of what is typed: `seq_len=0` is --seq-len 0."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Mapping
from typing import Any

from laurel_cli.settings.base import ARGUMENT, Option, flag, options
from laurel_cli.settings.ladder import LadderSettings
from laurel_cli.settings.profile import ProfileSettings
from laurel_cli.settings.train import TrainSettings

_CODE = re.compile(r"`(?P<name>[a-z_]+)(?:=(?P<value>[^`]*))?`")
SETTINGS = (ProfileSettings, TrainSettings, LadderSettings)
OPTIONS = {name: option for settings in SETTINGS for name, option in options(settings).items()}
OPTIONS |= {
    name: Option("")
    for name in ("cost", "quality", "fail_if", "format", "output", "force", "into", "again", "scale", "detach")
}


def in_options(text: str) -> str:
    """A sentence with options in the place of arguments; other code in backticks stays."""
    return _CODE.sub(lambda found: _option(found["name"], found["value"]) or found[0], text)


def document_in_options(document: Any) -> Any:
    """A document all of whose sentences speak so too."""
    if isinstance(document, str):
        return in_options(document) if "`" in document else document
    if isinstance(document, Mapping):
        return {key: document_in_options(value) for key, value in document.items()}
    return list(map(document_in_options, document)) if isinstance(document, list | tuple) else document


def _option(name: str, value: str | None) -> str:
    option = OPTIONS.get(name)
    if option is None:
        return ""
    typed = "MODEL" if option.name == ARGUMENT else flag(name, option)
    if value is None:
        return typed
    if value == "False":
        return option.name.partition("/")[2] or f"no {typed}"
    if value == "True":
        return typed
    return f"{typed} {_value(value)}"


def _value(text: str) -> str:
    """A Python value as it is typed."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return shlex.quote(str(value))
