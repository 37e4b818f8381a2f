"""Lazy modules: their parameters get their shapes from the first call."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from laurel_cli.models.copies import copied
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.preserve import random_states
from laurel_cli.models.tensors import held


def unshaped(model: nn.Module) -> bool:
    """Whether a parameter or buffer of `model` has no shape yet."""
    return any(is_lazy(tensor) for tensor in held(model))


def shape(model: nn.Module, inputs: Inputs) -> None:
    """Call `model` once, in place, in eval mode, if it has parameters without a shape; random states are left alone.

    Raises:
        Exception: whatever its forward raises on these inputs.
    """
    if not unshaped(model):
        return
    flags = [(module, module.training) for module in model.modules()]
    with torch.no_grad(), random_states():
        try:
            inputs.call(model.eval())
        finally:
            for module, training in flags:
                module.training = training


def shaped(model: nn.Module, inputs: Inputs) -> nn.Module:
    """`model` itself, or a copy that was called once if it has parameters without a shape."""
    if not unshaped(model):
        return model
    other = copied(model)
    shape(other, inputs)
    return other
