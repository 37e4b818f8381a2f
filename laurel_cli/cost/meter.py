"""A dispatch mode that sums what every operator of a forward pass does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode

from laurel_cli.cost.products import attention
from laurel_cli.cost.rules import OperatorKind, Rule, rule_for
from laurel_cli.cost.scope import Scope
from laurel_cli.cost.tensors import first_tensor, size, tensors
from laurel_cli.models.higher import written_out

_FREE = (OperatorKind.IGNORED, OperatorKind.VIEW, OperatorKind.ALLOCATION)
_LOOKS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


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
        looks: calls of operators whose result, or its shape, Python learns from data, by name.
        by_module: (FLOPs, elementwise FLOPs) within each watched module, without any multiplicity.
    """

    supports_higher_order_operators = True

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope
        self.flops: Counter[str] = Counter()
        self.elementwise = self.reductions = self.bytes_moved = self.kernels = 0
        self.unknown: Counter[str] = Counter()
        self.looks: Counter[str] = Counter()
        self.by_module: dict[str, tuple[int, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            return self._higher(func, args, kwargs)
        rule = rule_for(func)
        if rule.decomposes:
            with self:
                return func.decompose(*args, **kwargs)
        # The figures of in-place operators need their arguments as they were; shapes and dtypes do not change.
        out = func(*args, **kwargs)
        if rule.kind not in _FREE:
            self._record(rule, args, kwargs, out)
        if _looks(func, args):
            self.looks[rule.name] += 1
        return out

    def _higher(self, func: HigherOrderOperator, args: Any, kwargs: Any) -> Any:
        form = written_out(func, args)
        if form is not None:
            with self:
                return form()
        out = func(*args, **kwargs)
        self._record(_HIGHER.get(func.name()) or Rule(func.name(), OperatorKind.UNKNOWN), args, kwargs, out)
        return out

    def _record(self, rule: Rule, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        weight = self.scope.weight
        figures = {kind: figure(args, kwargs, out) for kind, figure in rule.figures.items()}
        known = {kind: figure for kind, figure in figures.items() if figure is not None}
        flops, elementwise = known.get(OperatorKind.MATMUL, 0), known.get(OperatorKind.ELEMENTWISE, 0)
        if rule.kind is OperatorKind.MATMUL:
            self.flops[rule.name] += weight * flops
        self.elementwise += weight * elementwise
        self.reductions += weight * known.get(OperatorKind.REDUCTION, 0)
        if rule.kind is OperatorKind.UNKNOWN or len(known) < len(figures):
            self.unknown[rule.name] += weight
        self.kernels += weight
        self.bytes_moved += weight * traffic(rule, args, kwargs, out)
        for path in self.scope.watched:
            before = self.by_module.get(path, (0, 0))
            self.by_module[path] = (before[0] + flops, before[1] + elementwise)


_HIGHER = {"flex_attention": Rule("flex_attention", OperatorKind.MATMUL, {OperatorKind.MATMUL: attention})}


def _looks(func: Any, args: Any) -> bool:
    """Whether Python learns something of the data by this call: a value, or how many entries there are."""
    if func._schema.name == "aten::index":  # by masks alone
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return func is torch.ops.aten.equal.default or any(tag in func.tags for tag in _LOOKS)


def traffic(rule: Rule, args: Any, kwargs: dict[str, Any], out: Any) -> int:
    """Bytes that one call moves: every tensor argument read once, every tensor of the result written once.

    A tensor that stands twice among the arguments is read once, a broadcast one (stride 0) as far as it is memory.
    Look-ups read of their first tensor, and scatters in place read and write of it, what they touch.
    """
    outputs = {id(tensor): tensor for tensor in tensors(out)}
    inputs = {id(tensor): tensor for value in (args, tuple(kwargs.values())) for tensor in tensors(value)}
    moved, first = 0, first_tensor(args)
    if first is not None and rule.gather is not None:
        moved += min(size(first), rule.gather(args, kwargs, out) * first.element_size())
        del inputs[id(first)]
    elif first is not None and rule.scatter is not None:
        part = min(size(first), rule.scatter.touched(args, kwargs, out) * first.element_size())
        adds = rule.scatter.additions is not None and rule.scatter.additions(args, kwargs, out) > 0
        moved += 2 * part if adds else part
        del inputs[id(first)], outputs[id(out)]
    elif first is not None and rule.write_only:
        del inputs[id(first)]
    return moved + sum(size(tensor) for tensor in (*inputs.values(), *outputs.values()))
