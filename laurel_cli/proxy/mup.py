"""muP: what Adam's learning rate and the start of every parameter are at one width, so that a narrower one's serve it.

Source: Yang et al., "Tensor Programs V", arXiv 2203.03466, tables 3 and 8. With m the ratio of the widths:

    parameter                                   rate times    standard deviation times
    embedding, norm, bias, r -> D                1             1
    hidden matrix, D -> D                        1/m           m^(-1/2)
    readout, D -> classes or D -> r              1/m           1/m
    no dimension of it grows                     1             as drawn

An embedding that gives the logits too stays an embedding, and the logits are divided by m. Nobody names these roles:
the arm is built at both widths, the dimensions that differ grow, and the trace of a forward pass says what a parameter
is multiplied with, and whether the result still grows. Weight decay is kept as it is for each step, not for each unit
of the rate. Scores of attention stay as they are, so heads must be as wide at both widths.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from laurel_cli.errors import ModelError
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.run import fake_or_real
from laurel_cli.residual.operators import CONVOLUTIONS, PRODUCTS, SCALINGS, VIEWS, is_attention
from laurel_cli.residual.trace import trace

EVEN = 1.25  # by which a dimension may grow more or less than the width: feed-forward widths are rounded
HINT = "Let every size search its own rate: `ladder_lr='search'`."


@dataclass(frozen=True)
class Factors:
    """What a parameter's learning rate and the standard deviation of its start are multiplied with."""

    rate: float = 1.0
    deviation: float = 1.0


@dataclass(frozen=True)
class Carried:
    """The rules of one model.

    Attributes:
        rules: by the name of every parameter with a dimension that grows.
        logits: what they are multiplied with.
    """

    rules: Mapping[str, Factors]
    logits: float = 1.0

    @property
    def rates(self) -> dict[str, float]:
        """Factors on the learning rate, by name, where they are not 1."""
        return {name: rule.rate for name, rule in self.rules.items() if rule.rate != 1}


def carried(model: nn.Module, base: nn.Module, inputs: Inputs, ratio: float, *, same_heads: bool = True) -> Carried:
    """The rules by which `model` is trained at the learning rate of `base`.

    Args:
        model: the arm; `base` the same arm, narrower, of one architecture and so of the same parameter names.
        inputs: that both take.
        ratio: of their widths, m.
        same_heads: whether attention heads must be as wide in both; not in a wider arm, which has as many heads as the
            baseline of its size.

    Raises:
        ModelError: muP has no rule for what the model does, or this module does not know it.
    """
    wide, narrow = _seen(model, inputs), _seen(base, inputs)
    if same_heads and wide.heads != narrow.heads:
        raise _refused("its attention heads are wider at the larger width, and their scores are not scaled for that")
    if wide.numbers != narrow.numbers or _scalars(model) != _scalars(base):
        raise _refused("it multiplies by a number that depends on the width")
    before = {name: tuple(parameter.shape) for name, parameter in base.named_parameters()}
    rules: dict[str, Factors] = {}
    logits = 1.0
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        growth = _growth(name, shape, before.get(name, ()), ratio)
        if not growth:
            continue
        uses = list(zip(wide.uses[name], narrow.uses[name], strict=False))
        readouts = [now for now, then in uses if now.sums and now.shape == then.shape]
        m = math.prod(growth) ** (1 / len(growth))  # its own, since some widths are rounded
        if len(growth) == 1 and len(readouts) == len(uses) > 0:
            rules[name] = Factors(1 / m, 1 / m)
        elif len(growth) == 1 and not readouts:
            rules[name] = Factors()
        elif len(growth) == 1 and all(one.is_answer for one in readouts):
            rules[name], logits = Factors(), 1 / m
        elif len(growth) == 2 and not readouts and uses and all(now.is_product for now, _ in uses):
            rules[name] = Factors(1 / m, m**-0.5)
        else:
            raise _refused(f"what becomes of parameter {name} is neither a map's work nor an embedding's")
    return Carried(rules, logits)


@torch.no_grad()
def begin(model: nn.Module, base: nn.Module, found: Carried) -> None:
    """Bring the drawn parameters of `model`, in place, to the size that the rules give them beside those of `base`.

    The size is the root mean square, so that it does not matter how a model draws its weights; what starts at zero
    stays there. Both are drawn from one seed, and all arms of it share these sizes bit for bit.
    """
    before = dict(base.named_parameters())
    for name, parameter in model.named_parameters():
        if name in found.rules and (own := _size(parameter)) > 0:
            factor = _size(before[name]) * found.rules[name].deviation / own
            if factor != 1:
                parameter.mul_(factor)


@dataclass(frozen=True)
class _Use:
    """An operator that takes a parameter and what depends on the input.

    Attributes:
        shape: of the result; of products one by one that are summed at once, of the sum.
        is_product: whether it multiplies matrices, or convolves.
        sums: whether products with the parameter's entries are summed.
        is_answer: whether the result is the model's.
    """

    shape: tuple[int, ...]
    is_product: bool = False
    sums: bool = False
    is_answer: bool = False


@dataclass(frozen=True)
class _Seen:
    """One forward pass.

    Attributes:
        uses: what becomes of every parameter, by name.
        heads: how wide those of every attention are.
        numbers: that something is multiplied with, or divided by.
    """

    uses: Mapping[str, Sequence[_Use]]
    heads: tuple[int, ...]
    numbers: tuple[float, ...]


def _seen(model: nn.Module, inputs: Inputs) -> _Seen:
    found, _ = fake_or_real(model, lambda real: trace(model, inputs, real=real))
    nodes = found.nodes
    answers, waiting = set(found.kept), list(found.kept)
    while waiting:  # and what is the same but for its arrangement
        node = nodes[waiting.pop()]
        if node.op in VIEWS:
            waiting += node.inputs
            answers |= set(node.inputs)
    totals = {index: node.shape for node in nodes if node.op == "sum" for index in node.inputs}
    uses: dict[str, list[_Use]] = defaultdict(list)
    for node in nodes:
        taken = [nodes[i] for i in node.inputs if nodes[i].parameters]
        multiplies = node.op in PRODUCTS | CONVOLUTIONS
        if not node.active:
            if multiplies and len(taken) > 1:
                raise _refused(
                    f"parameter {taken[0].parameters[0]} is multiplied with another parameter before anything else"
                )
            continue
        if multiplies:
            use = _Use(node.shape, is_product=True, sums=True, is_answer=node.index in answers)
        else:
            summed = node.op in SCALINGS and node.index in totals
            use = _Use(totals[node.index] if summed else node.shape, sums=summed)
        for name in dict.fromkeys(name for one in taken for name in one.parameters):
            uses[name].append(use)
    heads = tuple(node.shape[-1] for node in nodes if is_attention(node) and len(node.shape) == 4)
    numbers = (number for node in nodes if node.op in SCALINGS for number in node.constants)
    return _Seen(uses, heads, tuple(number for number in numbers if isinstance(number, int | float)))


def _scalars(model: nn.Module) -> dict[str, float]:
    """Buffers of one number, as a scale may be kept; a counter is none."""
    single = {name: buffer for name, buffer in model.named_buffers() if buffer.numel() == 1}
    return {name: float(buffer) for name, buffer in single.items() if buffer.is_floating_point()}


def _growth(name: str, shape: tuple[int, ...], before: tuple[int, ...], ratio: float) -> list[float]:
    """Of the dimensions that are not the same.

    Raises:
        ModelError: one of them does not grow as the width does.
    """
    if len(shape) != len(before):
        raise _refused(f"parameter {name} has no counterpart at the smaller width")
    growth = [now / then for now, then in zip(shape, before, strict=True) if now != then]
    if any(not ratio / EVEN < factor < ratio * EVEN for factor in growth):
        raise _refused(f"parameter {name} is {_by(before)} at the smaller width and {_by(shape)} at the larger one")
    return growth


def _size(parameter: torch.Tensor) -> float:
    """The root mean square."""
    return float(torch.linalg.vector_norm(parameter.detach(), dtype=torch.float64)) / math.sqrt(parameter.numel())


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _refused(why: str) -> ModelError:
    return ModelError("muP cannot carry a learning rate to this model.", f"{why[0].upper()}{why[1:]}.", HINT)
