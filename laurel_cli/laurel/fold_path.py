"""Into which parameters a factor of a branch can go: those of the branch's last affine map, if the trace proves it.

The walk begins at an operand of the sum and goes back for as long as every operator is linear in what it goes back to,
up to a map whose weights, and bias, may be multiplied instead. What must hold on the way: each value is read by the
next operator alone, is not returned or kept, and no hook sees it; each parameter is read by that one operator alone,
as it is, and lies in no memory that another name has too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor, nn

from laurel_cli.laurel.fast import is_hooked
from laurel_cli.models.tensors import held
from laurel_cli.residual.graph import Node, Trace
from laurel_cli.residual.operators import CONVOLUTIONS, VIEWS

PLACES = {"cat", "stack", "masked_fill", "masked_fill_", "constant_pad_nd", "pad", "copy_", "index", "gather"}
LINEAR_VIEWS = VIEWS - PLACES  # the same numbers, or some of them, elsewhere; other numbers come to none
UNMOVED = {"clone", "contiguous", "detach", "alias", "_to_copy", "native_dropout", "lift_fresh"}
RESHAPES = {"view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze"}
HOMOGENEOUS = {"relu", "relu_", "leaky_relu", "leaky_relu_"}  # h(a x) = a h(x) for a > 0
BATCH_NORMS = {"native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"}
LAST_NORMS = {"native_layer_norm", "_fused_rms_norm", "rms_norm"}
MATRIX_PRODUCTS = {"addmm", "mm"}

SEVERAL = "what its branch's last map makes is read by something else too"
KEPT = "what its branch's last map makes is returned by the model, or kept by it"
SHARED = "{}, of its branch's last map, is read elsewhere too, or is one tensor with another parameter"
COMPUTED = "a weight of its branch's last map is no parameter itself: computed, quantised or a buffer"
BETWEEN = "{} stands between its branch's last affine map and the sum"
MOVED = "the channels of the sum are not, one by one, those of its branch's last map"
HOOKED = "{} has a hook, which sees what its branch's last map makes"
PLAIN_NORM = "its branch ends in a norm without weights"


class CannotFoldError(Exception):
    """A factor stays in the sum; the message is the reason."""


@dataclass(frozen=True)
class Target:
    """A parameter that is multiplied: its name, and the axis along which a vector of factors lies."""

    name: str
    axis: int | None


@dataclass(frozen=True)
class Way:
    """Where a factor goes.

    Attributes:
        targets: all parameters that it multiplies.
        bias: the one to which a vector can be added instead of to the sum; None where there is none.
        positive: whether the factor must be above zero: an activation that keeps positive factors is on the way.
    """

    targets: tuple[Target, ...]
    bias: Target | None = None
    positive: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters."""
        return tuple(target.name for target in self.targets)


class Ways:
    """The ways of one recorded pass of a model without LAuReL."""

    def __init__(self, trace: Trace, model: nn.Module) -> None:
        """`trace` must have watched all modules that have hooks, `hooked(model)`."""
        self._nodes, self._trace = trace.nodes, trace
        self._readers: dict[int, set[int]] = defaultdict(set)
        self._made_of: dict[str, set[int]] = defaultdict(set)
        for node in trace.nodes:
            for i in node.inputs:
                self._readers[i].add(_group(node))
            for name in node.parameters:
                self._made_of[name].add(node.index)
        self._single = _alone(model)

    def of(self, operand: int, total: int, dim: int | None) -> Way:
        """Where a factor of `operand`, one of the terms of the sum `total`, can go.

        Args:
            dim: of the sum's channels, for one factor a channel; None for one number.

        Raises:
            CannotFoldError: nowhere, with the reason.
        """
        way, first = self._through(operand, total, dim)
        for name, spans in self._trace.spans.items():
            for begin, end in spans:
                if end > first and begin <= total and not (begin <= first and end > total):
                    raise CannotFoldError(HOOKED.format(name))
        return way

    def reads(self, name: str) -> bool:
        """Whether the pass reads a parameter."""
        return bool(self._made_of[name])

    def _through(self, index: int, child: int, dim: int | None) -> tuple[Way, int]:
        """The way from a value that `child` reads, and the first node on it."""
        node = self._nodes[index]
        if self._readers[index] != {_group(self._nodes[child])} or self._nodes[child].inputs.count(index) != 1:
            raise CannotFoldError(SEVERAL)
        if index in self._trace.kept:
            raise CannotFoldError(KEPT)
        if node.op in CONVOLUTIONS:
            return self._convolution(node, dim), index
        if node.op in MATRIX_PRODUCTS:
            return self._product(node, dim), index
        if node.op in BATCH_NORMS | LAST_NORMS | {"native_group_norm"}:
            return self._norm(node, dim), index
        active = [i for i in node.inputs if self._nodes[i].active]
        others = [i for i in node.inputs if not self._nodes[i].active]
        if node.op in ("mul", "mul_"):
            return self._elementwise(node, active, others, dim)
        if node.op in ("add", "add_", "sub", "sub_") and (len(active) == 1 or not others):
            return self._sum(node, active, others, dim)
        if len(active) != 1 or node.output:
            raise CannotFoldError(BETWEEN.format(node.op))
        source = active[0]
        if node.op in HOMOGENEOUS:
            way, first = self._through(source, index, dim)
            return replace(way, bias=None, positive=True), first
        if node.op == "neg" or (node.op in ("div", "div_") and node.inputs[0] == source):
            way, first = self._through(source, index, dim if self._nodes[source].shape == node.shape else None)
            return replace(way, bias=None), first
        if node.op in LINEAR_VIEWS:
            self._see_parts_alone(node)
            inner = None if dim is None else carried(node, dim, self._nodes[source].shape)
            way, first = self._through(source, index, inner)
            return (replace(way, bias=None) if node.op == "native_dropout" else way), first
        raise CannotFoldError(BETWEEN.format(node.op))

    def _see_parts_alone(self, node: Node) -> None:
        """See that nothing reads the other parts of a split: what makes this one makes them too."""
        begin = _group(node)
        others = [i for i in range(begin, begin + node.outputs) if i != node.index]
        if any(self._readers[i] for i in others):
            raise CannotFoldError(SEVERAL)
        if not self._trace.kept.isdisjoint(others):
            raise CannotFoldError(KEPT)

    def _convolution(self, node: Node, dim: int | None) -> Way:
        transposed = any(constant is True for constant in node.constants)
        groups = [constant for constant in node.constants if isinstance(constant, int)][-1:]
        if dim is not None and (dim != 1 or (transposed and groups != [1])):
            raise CannotFoldError(MOVED)
        weight = self._target(node.inputs[1], node, None if dim is None else int(transposed))
        bias = [self._target(i, node, None if dim is None else 0) for i in node.inputs[2:]]
        return Way((weight, *bias), next(iter(bias), None))

    def _product(self, node: Node, dim: int | None) -> Way:
        """x W + b, or W x where the weight stands first."""
        *bias, left, right = node.inputs
        second = self._nodes[left].active
        if self._nodes[left].active and self._nodes[right].active:
            raise CannotFoldError(BETWEEN.format(f"a product of two activations ({node.op})"))
        if dim is not None and dim != int(second):
            raise CannotFoldError(MOVED)
        weight = self._target(right if second else left, node, dim)
        biases = [self._target(i, node, self._axis(i, node, dim)) for i in bias]
        return Way((weight, *biases), next(iter(biases), None))

    def _norm(self, node: Node, dim: int | None) -> Way:
        _, *rest = node.inputs
        if node.op in BATCH_NORMS:
            rest = rest[:2] if len(node.inputs) == 5 else []
        if not rest or node.output:
            raise CannotFoldError(PLAIN_NORM)
        axis = None
        if dim is not None and node.op in LAST_NORMS:
            axis = dim - len(node.shape) + len(self._nodes[rest[0]].shape)
        elif dim is not None:
            axis = dim - 1
        if axis is not None and (axis < 0 or (axis and node.op not in LAST_NORMS)):
            raise CannotFoldError(MOVED)
        targets = [self._target(i, node, axis) for i in rest]
        return Way(tuple(targets), targets[1] if len(targets) > 1 else None)

    def _elementwise(
        self, node: Node, active: Sequence[int], others: Sequence[int], dim: int | None
    ) -> tuple[Way, int]:
        """A product: into a parameter that is one factor (LayerScale), else into what made another one."""
        reason = CannotFoldError(BETWEEN.format(node.op))
        for i in others:
            try:
                return Way((self._target(i, node, self._axis(i, node, dim)),)), node.index
            except CannotFoldError as error:
                reason = error
        for i in dict.fromkeys(active):
            try:
                inner = None if dim is None else self._axis(i, node, dim)
                way, first = self._through(i, node.index, inner)
                return replace(way, bias=None), first
            except CannotFoldError as error:
                reason = error
        raise reason

    def _sum(self, node: Node, active: Sequence[int], others: Sequence[int], dim: int | None) -> tuple[Way, int]:
        """A sum of what depends on the input, or of that and a parameter: every term is multiplied."""
        if len(node.inputs) == 1 and any(constant != 0 for constant in node.constants):
            raise CannotFoldError(BETWEEN.format("a number that is added"))
        biases = [self._target(i, node, self._axis(i, node, dim)) for i in others]
        targets, positive, first = list(biases), False, node.index
        for i in active:
            way, begin = self._through(i, node.index, None if dim is None else self._axis(i, node, dim))
            targets += way.targets
            positive, first = positive or way.positive, min(first, begin)
        if len(set(targets)) != len(targets):
            raise CannotFoldError(SEVERAL)
        plain = biases[0] if node.op.startswith("add") and len(biases) == 1 else None
        return Way(tuple(targets), plain, positive), first

    def _axis(self, operand: int, node: Node, dim: int | None) -> int | None:
        """The axis of an operand, broadcast to `node`, that is its axis `dim`."""
        if dim is None:
            return None
        shape = self._nodes[operand].shape
        axis = dim - len(node.shape) + len(shape)
        if axis < 0 or shape[axis] != node.shape[dim]:
            raise CannotFoldError(MOVED)
        return axis

    def _target(self, index: int, reader: Node, axis: int | None) -> Target:
        """The parameter that `reader` reads as `index`, maybe transposed."""
        chain = [index]
        node = self._nodes[index]
        while not node.is_leaf and not node.active and node.op in LINEAR_VIEWS and len(node.inputs) == 1:
            source = self._nodes[node.inputs[0]]
            axis = None if axis is None else carried(node, axis, source.shape)
            node = source
            chain.append(node.index)
        if node.op != "parameter" or not node.dtype.is_floating_point:
            raise CannotFoldError(COMPUTED)
        (name,) = node.parameters
        groups = {_group(self._nodes[i]) for i in chain} | {_group(reader)}
        alone = all(self._readers[i] <= groups for i in chain) and self._made_of[name] == set(chain)
        if not alone or name not in self._single or not self._trace.kept.isdisjoint(chain):
            raise CannotFoldError(SHARED.format(name))
        if reader.inputs.count(index) != 1:
            raise CannotFoldError(SHARED.format(name))
        return Target(name, axis)


def hooked(model: nn.Module) -> list[str]:
    """Paths of the modules that somebody has put hooks on."""
    return [name for name, module in model.named_modules() if is_hooked(module)]


def carried(node: Node, dim: int, before: tuple[int, ...]) -> int:
    """The dimension of what a view shows, of shape `before`, that is dimension `dim` of the view, index by index.

    Raises:
        CannotFoldError: there is none.
    """
    after = node.shape
    if node.op in UNMOVED:
        return dim
    numbers = [constant for constant in node.constants if isinstance(constant, int)]
    if node.op == "permute":
        return numbers[dim] % len(before)
    if node.op in ("transpose", "t"):
        swap = [number % len(before) for number in numbers] or list(range(len(before)))[-2:]
        return swap[1 - swap.index(dim)] if dim in swap else dim
    if node.op in RESHAPES:
        for candidate in range(len(before)):
            if before[candidate] == after[dim] and prod(before[candidate + 1 :]) == prod(after[dim + 1 :]):
                return candidate
    rolled = [number % len(before) for number in numbers[len(numbers) // 2 :]]
    if node.op == "roll" and len(numbers) == 2 * len(rolled) > 0 and dim not in rolled:
        return dim
    if node.op in ("slice", "narrow", "split", "split_with_sizes", "expand"):
        behind = len(after) - dim
        if behind <= len(before) and before[len(before) - behind] == after[dim]:
            return len(before) - behind
    raise CannotFoldError(MOVED)


def _group(node: Node) -> int:
    """Equal for all results of one operator's call."""
    return node.index - node.output


def _alone(model: nn.Module) -> frozenset[str]:
    """Names of parameters whose memory no other name, module or attribute has."""
    owners: dict[int, set[int | str]] = defaultdict(set)
    names = list(model.named_parameters(remove_duplicate=False))
    for name, tensor in (*names, *model.named_buffers(remove_duplicate=False)):
        owners[_memory(tensor)].add(name)
    known = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    for tensor in held(model):
        if id(tensor) not in known:
            owners[_memory(tensor)].add(id(tensor))
    return frozenset(name for name, tensor in names if len(owners[_memory(tensor)]) == 1)


def _memory(tensor: Tensor) -> int:
    """Equal for tensors in one memory."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else id(tensor)
