"""Formulas by name and on disk: LAuReL's, and those of its rivals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from laurel_cli.laurel.formula import Formula
from laurel_cli.laurel.spec import Spec
from laurel_cli.rivals import RIVALS

KEY = "rival"  # names the class of a rival in its plain form; LAuReL's spec has none


def parse(text: str, **options: Any) -> Formula:
    """Read "rw+lr@16" or a rival's name, "rezero".

    Args:
        text: the name.
        options: further fields of LAuReL's `Spec`; of a rival those that it has, such as `per`.

    Raises:
        UsageError: there is no such formula.
    """
    name, _, setting = text.strip().lower().partition("@")
    if name not in RIVALS:
        return Spec.parse(text, **options)
    return RIVALS[name].parse(setting, **options)


def written(formula: Formula) -> dict[str, Any]:
    """The plain form of a formula, as JSON has it."""
    fields: dict[str, Any] = asdict(cast(Any, formula))
    return fields if isinstance(formula, Spec) else {KEY: formula.name.partition("@")[0], **fields}


def read(plain: Mapping[str, Any]) -> Formula:
    """The formula of a plain form.

    Raises:
        KeyError, TypeError, UsageError: it is of no formula that this version knows.
    """
    if KEY not in plain:
        return Spec(**plain)
    return RIVALS[plain[KEY]](**{key: value for key, value in plain.items() if key != KEY})
