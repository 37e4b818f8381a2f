"""Two models held against each other: whether their outputs are equal to rounding, on given inputs and on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from laurel_cli.models.copies import copied
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.preserve import random_states
from laurel_cli.models.run import running
from laurel_cli.models.tensors import tensors_in

T = TypeVar("T")

SEED = 0
LEAST = 64  # units of rounding that always pass
TIMES = 32  # as large as what one unit of rounding in every parameter changes
TURNED = 0.01  # of a mask's or an index's elements
MOST = 0.1  # of the largest value: no difference beyond it is put down to rounding
LARGEST = 1 << 30  # parameters that a copy in float64 may have, 8 GiB


@dataclass(frozen=True)
class Agreement:
    """How far two models' outputs are apart.

    Attributes:
        dtype: of the floating-point parameters in which it was computed.
        error: largest difference over the largest value, of the output in which that is most.
        allowed: what rounding explains: the change when every parameter is changed by its last digit; a tenth at most.
    """

    dtype: str
    error: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether rounding explains it."""
        return self.error <= self.allowed


def outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """What a model returns in eval mode, floating-point tensors alone; the same random numbers every time.

    It is given a copy of the inputs, since it may write into them.
    """
    return [tensor for tensor in _returned(model, inputs) if tensor.is_floating_point()]


def _discrete(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """What else it returns: masks, indices."""
    return [tensor for tensor in _returned(model, inputs) if not tensor.is_floating_point()]


def _returned(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    with random_states(), running(model, fresh(inputs), real=True) as given:
        torch.manual_seed(SEED)
        return [tensor.detach().clone() for tensor in tensors_in(given.call(model))]


def _mostly_equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Whether no more of each tensor differs than rounding explains, which turns a mask where a number is near zero."""
    if [tensor.shape for tensor in first] != [tensor.shape for tensor in second]:
        return False
    pairs = zip(first, second, strict=True)
    return all(int((one != other).sum()) <= TURNED * one.numel() for one, other in pairs)


def distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """The largest difference of two lists of outputs, relative to each one's largest value; infinite if unlike."""
    if [tensor.shape for tensor in first] != [tensor.shape for tensor in second]:
        return float("inf")
    worst = 0.0
    for one, other in ((one.cpu().double(), other.cpu().double()) for one, other in zip(first, second, strict=True)):
        finite = one.isfinite()
        same = torch.equal(one[~finite].nan_to_num(), other[~finite].nan_to_num())
        if not torch.equal(finite, other.isfinite()) or not same:
            return float("inf")
        if bool(finite.any()):
            size = float(one[finite].abs().max())
            worst = max(worst, float((one - other)[finite].abs().max()) / (size or 1.0))
    return worst


def comparable(tensors: Sequence[Tensor]) -> bool:
    """Whether outputs hold a finite number: of nothing but NaN no other model would be told apart."""
    return any(bool(tensor.isfinite().any()) for tensor in tensors)


def expectations(model: nn.Module, given: Sequence[Inputs]) -> list[tuple[Inputs, list[Tensor]]]:
    """What a model returns for each of these inputs, and for changed ones where it runs on them.

    Its code may ask for an order, say, that changed inputs have not.
    """
    found = [(inputs, outputs(model, inputs)) for inputs in given]
    for inputs in map(changed, given):
        with suppress(Exception):
            found.append((inputs, outputs(model, inputs)))
    return found


def agreements(expected: Sequence[tuple[Inputs, list[Tensor]]], model: nn.Module) -> tuple[Agreement, ...]:
    """How far `model` is from what it should return for each of the inputs.

    Its parameters are changed by their last digit at the end: it is of no more use.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    found = [outputs(model, inputs) for inputs, _ in expected]
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                signs = torch.randint(2, parameter.shape, generator=generator).to(parameter) * 2 - 1
                parameter.mul_(1 + torch.finfo(parameter.dtype).eps * signs)
    told = []
    for (inputs, wanted), got in zip(expected, found, strict=True):
        rounding = distance(got, outputs(model, inputs))
        allowed = min(max(LEAST * torch.finfo(dtype).eps, TIMES * rounding), MOST)
        told.append(Agreement(str(dtype).removeprefix("torch."), distance(wanted, got), allowed))
    return tuple(told)


@dataclass(frozen=True)
class ModuleCall:
    """A call of a module in a pass: its path, what it was given, what it returned: held, so that each is one object."""

    name: str
    args: tuple[Any, ...]
    output: Any


def calls_of(modules: Mapping[str, nn.Module], model: nn.Module, inputs: Inputs) -> list[ModuleCall]:
    """Every call of these modules, by their paths, in one pass of the model, in the order in which they ended."""
    found: list[ModuleCall] = []

    def hook(name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        found.append(ModuleCall(name, args, output))

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.callback(module.register_forward_hook(partial(hook, name)).remove)
        outputs(model, inputs)
    return found


def merged_agrees(
    model: nn.Module, inputs: Inputs, unsettle: Callable[[nn.Module], None], merge: Callable[[nn.Module], None]
) -> bool:
    """Whether a copy with other numbers, in float64 where it can, computes the same merged.

    Args:
        model: left as it is; `inputs` what it is called with, once as they are and once changed.
        unsettle: gives a copy, in place, numbers with which a wrong merge is seen.
        merge: what is tried, in place. Where the model's code does not survive it, it is no merge.
    """
    for trial in trials(model):
        scratch = trial.begun(model)
        unsettle(scratch)
        given = in_dtype(inputs, trial.dtype)
        try:
            expected = expectations(scratch.to(dtype=trial.dtype), [given])
            others = [(one, _discrete(scratch, one)) for one, _ in expected]
        except Exception:
            if trial.is_last:
                raise
            continue
        try:
            merge(scratch)
            if not all(_mostly_equal(wanted, _discrete(scratch, one)) for one, wanted in others if wanted):
                return False
            return all(one.holds for one in agreements(expected, scratch))
        except Exception:  # noqa: BLE001 - its code looks into what is merged, in whatever way
            return False
    return False


@dataclass(frozen=True)
class Trial:
    """How two copies of a model are held against each other.

    Attributes:
        dtype: in which; None as the model is.
        moved: whether weights that are zero, as a branch's last ones are at their start, get other values: nothing of
            what goes wrong behind them would be seen.
    """

    dtype: torch.dtype | None
    moved: bool

    @property
    def is_last(self) -> bool:
        """Whether the model's code takes no other."""
        return self.dtype is None and not self.moved

    def begun(self, model: nn.Module) -> nn.Module:
        """A copy of the model, still in its own dtype."""
        scratch = copied(model)
        if self.moved:
            _move_zeros(scratch)
        return scratch


def trials(model: nn.Module) -> list[Trial]:
    """In the order in which they are tried: the first that the model's code takes counts."""
    return [Trial(dtype, moved) for moved in (True, False) for dtype in _dtypes(model)]


@torch.no_grad()
def _move_zeros(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(SEED)
    for parameter in model.parameters():
        if type(parameter) is not nn.Parameter or not parameter.is_floating_point() or parameter.is_sparse:
            continue
        zero = parameter == 0
        if bool(zero.any()):
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            noise = noise / parameter[0].numel() ** 0.5 if parameter.dim() > 1 else noise.abs()
            parameter.copy_(torch.where(zero, noise.to(parameter), parameter))


def _dtypes(model: nn.Module) -> list[torch.dtype | None]:
    """float64, where that leaves room; in place of 16 bits, in which rounding hides much, float32; None as it is."""
    floats = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    count = sum(parameter.numel() for parameter in floats)
    narrow = any(parameter.dtype.itemsize < 4 for parameter in floats)
    found = (torch.float64, count <= LARGEST), (torch.float32, narrow and count <= 2 * LARGEST)
    return [*(dtype for dtype, fits in found if fits), None]


def trusted(found: Sequence[T], agrees: Callable[[Sequence[T]], bool]) -> list[T]:
    """Of what can be merged, all if a copy with all of them `agrees`, else those that do alone, if they do together."""
    if not found or agrees(found):
        return list(found)
    alone = [one for one in found if agrees([one])]
    return alone if alone and agrees(alone) else []


def changed(inputs: Inputs) -> Inputs:
    """Inputs of the same form with other values: floats changed but for zeros, whole numbers in another order."""
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

    return Inputs(*tree_map_only(Tensor, change, (inputs.args, inputs.kwargs)))


def fresh(inputs: Inputs) -> Inputs:
    """The same inputs in tensors of their own."""
    return Inputs(*tree_map_only(Tensor, Tensor.clone, (inputs.args, inputs.kwargs)))


def in_dtype(inputs: Inputs, dtype: torch.dtype | None) -> Inputs:
    """Inputs whose floating-point tensors have `dtype`; None for their own."""
    if dtype is None:
        return inputs

    def change(value: Tensor) -> Any:
        return value.to(dtype) if value.is_floating_point() else value

    return Inputs(*tree_map_only(Tensor, change, (inputs.args, inputs.kwargs)))
