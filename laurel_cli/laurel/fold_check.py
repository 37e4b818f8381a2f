"""Two models held against each other: whether their outputs are equal to rounding, on given inputs and on others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from laurel_cli.models.inputs import Inputs
from laurel_cli.models.preserve import random_states
from laurel_cli.models.run import running
from laurel_cli.models.tensors import tensors_in

SEED = 0
LEAST = 64  # units of rounding that always pass
TIMES = 32  # as large as what one unit of rounding in every parameter changes


@dataclass(frozen=True)
class Agreement:
    """How far two models' outputs are apart.

    Attributes:
        dtype: of the floating-point parameters in which it was computed.
        error: largest difference over the largest value, of the output in which that is most.
        allowed: what rounding explains: the change when every parameter is changed by its last digit.
    """

    dtype: str
    error: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether rounding explains it."""
        return self.error <= self.allowed


def outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """What a model returns in eval mode, floating-point tensors alone; the same random numbers every time."""
    with random_states(), running(model, inputs, real=True) as given:
        torch.manual_seed(SEED)
        return [tensor.detach().clone() for tensor in tensors_in(given.call(model)) if tensor.is_floating_point()]


def distance(first: list[Tensor], second: list[Tensor]) -> float:
    """The largest relative difference of two lists of outputs; infinite where they are not alike."""
    if [tensor.shape for tensor in first] != [tensor.shape for tensor in second]:
        return float("inf")
    worst = 0.0
    for one, other in zip(first, second, strict=True):
        one, other = one.cpu().double(), other.cpu().double()
        finite = one.isfinite()
        if not torch.equal(finite, other.isfinite()) or not torch.equal(one[~finite], other[~finite].to(one)):
            nans = one.isnan() & other.isnan()
            if not torch.equal(finite | nans, other.isfinite() | nans):
                return float("inf")
        if bool(finite.any()):
            size = float(one[finite].abs().max())
            worst = max(worst, float((one - other)[finite].abs().max()) / (size or 1.0))
    return worst


def agreement(expected: list[Tensor], model: nn.Module, inputs: Inputs) -> Agreement:
    """How far `model` is from `expected`. Its parameters are changed by their last digit: it is of no more use."""
    found = outputs(model, inputs)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    error = distance(expected, found)
    generator = torch.Generator().manual_seed(SEED)
    unit = torch.finfo(dtype).eps
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                signs = torch.randint(2, parameter.shape, generator=generator).to(parameter.device) * 2 - 1
                parameter.mul_(1 + (torch.finfo(parameter.dtype).eps * signs).to(parameter.dtype))
    rounding = distance(found, outputs(model, inputs))
    return Agreement(str(dtype).removeprefix("torch."), error, max(LEAST * unit, TIMES * rounding))


def others(inputs: Inputs) -> Iterator[Inputs]:
    """The inputs, and inputs of the same form with other values: floats changed, whole numbers in another order."""
    yield inputs
    generator = torch.Generator().manual_seed(SEED)

    def change(tensor: Tensor) -> Tensor:
        flat = tensor.detach().cpu()
        if flat.is_floating_point():
            noise = torch.randn(flat.shape, generator=generator).to(flat.dtype)
            size = flat[flat.isfinite()].abs().mean() if bool(flat.isfinite().any()) else flat.new_zeros(())
            return torch.where(flat.isfinite() & (flat != 0), flat + 0.3 * size * noise, flat).to(tensor.device)
        if flat.dtype == torch.bool or flat.is_complex():
            return tensor
        order = torch.randperm(flat.numel(), generator=generator)
        return flat.flatten()[order].view(flat.shape).to(tensor.device)

    yield Inputs(*tree_map_only(Tensor, change, (inputs.args, inputs.kwargs)))


def in_dtype(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """Inputs whose floating-point tensors have `dtype`."""

    def change(value: Tensor) -> Any:
        return value.to(dtype) if value.is_floating_point() else value

    return Inputs(*tree_map_only(Tensor, change, (inputs.args, inputs.kwargs)))
