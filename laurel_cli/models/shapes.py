"""Shapes of well-known language models, shipped as data: a configuration class with its arguments, no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

OWN = ("laurel", "simplified")  # families whose code is here: decoder.py and simplified.py


def names() -> list[str]:
    """The shapes' names, sorted."""
    return sorted(shapes())


@cache
def shapes() -> Mapping[str, Mapping[str, Any]]:
    """Every shape: `family` (a transformers model type, or one of `OWN`), `args` and `note`."""
    text = resources.files("laurel_cli.models").joinpath("shapes.json").read_text(encoding="utf-8")
    families = json.loads(text)["families"]
    return {
        name: {"family": family["model_type"], "args": family["args"] | args, "note": family["note"]}
        for family in families
        for name, args in family["shapes"].items()
    }
