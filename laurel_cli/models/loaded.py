"""The result of looking up a model reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laurel_cli.models.inputs import Inputs

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LoadedModel:
    """A built model in eval mode, with what is needed to call it.

    Attributes:
        reference: what the user typed.
        source: where it was found, with the version: "torchvision 0.29.2", "file model.py".
        module: the model, on the meta device where `on_meta`, else for real on the CPU.
        inputs: example inputs, real CPU tensors (batch first).
        input_description: the inputs in words, e.g. "x: float32 [1, 3, 224, 224]".
        build: builds the model again, for real, on the CPU (for what cannot run without data).
        notes: what the user should know about how it was built; `until_weights` those that loaded weights make void.
    """

    reference: str
    source: str
    module: nn.Module
    inputs: Inputs
    input_description: str
    build: Callable[[], nn.Module]
    on_meta: bool
    notes: tuple[str, ...] = ()
    until_weights: tuple[str, ...] = ()
