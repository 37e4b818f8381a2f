"""One model of every timm module, the smallest by parameters, as `choose_timm.py` found it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import timm
from torch import nn

from laurel_cli.models.inputs import Inputs
from tests.zoo.case import Candidate, Case, image
from tests.zoo.choose_timm import CHOICE

SIZES = (64, 96, 128, 160, 192, 224, 240, 256, 299, 331, 384, 448, 512, 1024)

# The smallest of their module, and yet too large for float64 within the sweep's limits: fewer layers of the same kind.
REDUCED: dict[str, dict[str, Any]] = {"deepseek_vit_412m": {"depth": 4}, "gemma4_vit_167m": {"depth": 4}}


def cases() -> list[Case]:
    """One case for each module; a module that is newer than the choice fails, so that none is left out in silence."""
    chosen = json.loads(CHOICE.read_text())["modules"]
    entries = {module: chosen.get(module, {}).get("name") for module in timm.list_modules()}
    return [
        Case(f"timm:{name or module}", partial(_candidates, name or module), _note(name))
        for module, name in entries.items()
    ]


def _note(name: str | None) -> str:
    return f"reduced to {REDUCED[name]}, too large otherwise" if name in REDUCED else ""


def _candidates(name: str) -> Iterator[Candidate]:
    config = timm.get_pretrained_cfg(name)
    native = config.input_size[-1] if config is not None else 224
    reduced = REDUCED.get(name, {})
    for size in (*(size for size in SIZES if size < native), native):
        if size < native and config is not None and config.fixed_input_size:
            yield Candidate(partial(_build, name, {"img_size": size, **reduced}), partial(_inputs, size))
        else:
            yield Candidate(partial(_build, name, reduced), partial(_inputs, size))


def _build(name: str, arguments: dict[str, Any]) -> nn.Module:
    return timm.create_model(name, pretrained=False, **arguments)


def _inputs(size: int, model: nn.Module) -> Inputs:
    return Inputs((image(size),))
