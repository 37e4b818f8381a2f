"""Every classification model of torchvision, with its default configuration at a small image size."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torchvision
from torch import nn

from laurel_cli.models.inputs import Inputs
from tests.zoo.case import Candidate, Case, image

SIZES = (64, 96, 128, 224, 299)
ARGUMENTS: dict[str, dict[str, Any]] = {
    # Their heads for training alone take no image that is small.
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}


def cases() -> list[Case]:
    """One case for each name in torchvision's list."""
    names = torchvision.models.list_models(torchvision.models)
    return [Case(f"torchvision:{name}", partial(_candidates, name)) for name in names]


def _candidates(name: str) -> Iterator[Candidate]:
    for size in SIZES:
        arguments = dict(ARGUMENTS.get(name, {}))
        if name.startswith("vit_"):  # a patch of 14, 16 or 32 pixels: 4 tokens, or 16
            size = {"14": 28, "16": 64, "32": 64}[name.rpartition("_")[2]]
            arguments["image_size"] = size
        yield Candidate(partial(_build, name, arguments), partial(_inputs, size))


def _build(name: str, arguments: dict[str, Any]) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, **arguments)


def _inputs(size: int, model: nn.Module) -> Inputs:
    return Inputs((image(size),))
