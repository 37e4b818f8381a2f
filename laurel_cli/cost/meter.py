"""A dispatch mode that sums what every operator of a forward pass does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from laurel_cli.cost.formulas import first_tensor
from laurel_cli.cost.rules import Kind, Rule, rule_for
from laurel_cli.cost.scope import Scope

_FREE = (Kind.IGNORED, Kind.VIEW, Kind.ALLOCATION)


class Meter(TorchDispatchMode):
    """Sums FLOPs, bytes and kernels of the operators run within it, each times the multiplicity of its module.

    FLOPs are those of `torch.utils.flop_counter.FlopCounterMode`: the same formulas on the same operators, composite
    ones taken apart in the same way. That class attributes them to module names of its own making and cannot weigh
    them, hence this one.

    Attributes:
        flops: FLOPs of matrix products, convolutions and attention, by operator name.
        elementwise, reductions: FLOPs of elementwise work; of normalisations, softmax, reductions and pooling.
        bytes_moved: bytes read and written by operators that are no views.
        kernels: calls of operators that launch one.
        unknown: calls of operators that no rule knows, by name.
        by_module: (FLOPs, elementwise FLOPs) within each watched module, without any multiplicity.
    """

    supports_higher_order_operators = True

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope
        self.flops: Counter[str] = Counter()
        self.elementwise = self.reductions = self.bytes_moved = self.kernels = 0
        self.unknown: Counter[str] = Counter()
        self.by_module: dict[str, tuple[int, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = rule_for(func)
        kwargs = kwargs or {}
        if rule.decomposes:
            with self:
                return func.decompose(*args, **kwargs)
        # The figures of in-place operators need their arguments as they were; shapes and dtypes do not change.
        out = func(*args, **kwargs)
        if rule.kind not in _FREE:
            self._record(rule, args, kwargs, out)
        return out

    def _record(self, rule: Rule, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        weight = self.scope.weight
        figure = 0 if rule.figure is None else rule.figure(args, kwargs, out)
        if rule.kind is Kind.MATMUL:
            self.flops[rule.name] += weight * figure
        elif rule.kind is Kind.ELEMENTWISE:
            self.elementwise += weight * figure
        elif rule.kind is Kind.REDUCTION:
            self.reductions += weight * figure
        elif rule.kind is Kind.UNKNOWN:
            self.unknown[rule.name] += weight
        self.kernels += weight
        self.bytes_moved += weight * traffic(rule, args, kwargs, out)
        for path in self.scope.watched:
            flops, elementwise = self.by_module.get(path, (0, 0))
            if rule.kind is Kind.MATMUL:
                flops += figure
            elif rule.kind is Kind.ELEMENTWISE:
                elementwise += figure
            self.by_module[path] = (flops, elementwise)


def traffic(rule: Rule, args: Any, kwargs: dict[str, Any], out: Any) -> int:
    """Bytes that one call moves: every tensor argument read once, every tensor of the result written once.

    A tensor that stands twice among the arguments is read once, a broadcast one (stride 0) as far as it is memory.
    Look-ups read of their first tensor as much as they write.
    """
    written = sum(_bytes(tensor) for tensor in {id(t): t for t in _tensors(out)}.values())
    inputs = {id(tensor): tensor for value in (*args, *kwargs.values()) for tensor in _tensors(value)}
    if (rule.gathers or rule.write_only) and (first := first_tensor(args)) is not None:
        inputs.pop(id(first), None)
    read = sum(_bytes(tensor) for tensor in inputs.values())
    return read + written * (2 if rule.gathers else 1)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def _bytes(tensor: torch.Tensor) -> int:
    if tensor.layout is not torch.strided:
        return 0
    elements = tensor.numel()
    strides = tensor.stride()
    if elements and 0 in strides:
        for size, stride in zip(tensor.shape, strides, strict=True):
            if stride == 0:
                elements //= size
    return elements * tensor.element_size()
