"""Shapes of well-known language models, shipped as data: a configuration class with its arguments, no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from laurel_cli.models.reference import Request

if TYPE_CHECKING:
    from laurel_cli.models.loaded import LoadedModel


def names() -> list[str]:
    """The shapes' names, sorted."""
    return sorted(shapes())


@cache
def shapes() -> Mapping[str, Mapping[str, Any]]:
    """Every shape: `family` (a transformers model type, or "laurel" for our own decoder), `args` and `note`."""
    text = resources.files("laurel_cli.models").joinpath("shapes.json").read_text(encoding="utf-8")
    families = json.loads(text)["families"]
    return {
        name: {"family": family["model_type"], "args": family["args"] | args, "note": family["note"]}
        for family in families
        for name, args in family["shapes"].items()
    }


def load_shape(request: Request) -> LoadedModel:
    """Build a shipped shape.

    Raises:
        UsageError: an option that does not apply.
        ModelError: it cannot be built.
    """
    shape = shapes()[request.reference.target]
    if shape["family"] == "laurel":
        from laurel_cli.models.decoder import load_decoder

        return load_decoder(request, {**shape["args"], **request.model_args})
    from laurel_cli.models.hf import config_of_type, load_config

    return load_config(config_of_type(shape["family"], shape["args"], request.model_args), request, "shipped shape")
