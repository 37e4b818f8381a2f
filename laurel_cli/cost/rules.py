"""What one operator call of an eager model does: the rule for every operator that a forward pass may meet.

Kinds, and what each is counted as:

- `VIEW`: another look at the same memory (`view`, `transpose`, `detach`): nothing. `IGNORED`: it returns no tensor.
- `ALLOCATION`: `empty` and its like: nothing, memory is reserved and not touched.
- `MOVE`: copies, casts, fills, random numbers, concatenation, padding, look-up by index (`embedding`, `gather`): no
  FLOPs, one kernel, bytes read and written.
- `MATMUL`: operators with a formula in `torch.utils.flop_counter`, or in `EXTRA_FORMULAS` for the products that it
  leaves out: 2 FLOPs a multiply-add. Complex multiply-adds are four real ones, sparse operands count by their entries.
- `ELEMENTWISE`: operators tagged `torch.Tag.pointwise` (PyTorch tags some overloads and forgets others, so an in-place
  overload takes the tag of its functional twin, and `UNTAGGED_POINTWISE` lists the rest): one operation an output
  element, whatever the operation (a comparison, `exp`, `gelu`), but for those in `ELEMENTWISE_FACTORS`.
- `REDUCTION`: normalisations, softmax, reductions, scans, scatters that add, sorting, pooling, interpolation: the
  figures of `REDUCTIONS`.
- `UNKNOWN`: everything else (custom operators, Fourier transforms): reported, never guessed.

An operator that does work of two kinds (the gates of a fused LSTM beside its products) has a figure for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils.flop_counter import flop_registry

from laurel_cli.cost.formulas import REDUCTIONS, Figure, elementwise, per_input, per_output
from laurel_cli.cost.lookups import GATHERS, SCATTERS, Scatter, Touched
from laurel_cli.cost.products import EXTRA_FORMULAS, SPARSE_FORMULAS, deformable_sampling, lstm_gates, product
from laurel_cli.cost.tables import MOVES, UNTAGGED_POINTWISE, UNTAGGED_VIEWS, WRITE_ONLY

_REDUCTION = getattr(torch.Tag, "reduction", None)  # absent from older versions, where the names have to do


class OperatorKind(Enum):
    """What an operator does, see the module's text."""

    IGNORED = "ignored"
    VIEW = "view"
    ALLOCATION = "allocation"
    MOVE = "move"
    MATMUL = "matmul"
    ELEMENTWISE = "elementwise"
    REDUCTION = "reduction"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Rule:
    """How one operator is counted.

    Attributes:
        name: the operator without its overload, "aten.add".
        kind: what it does.
        figures: operations of one call by kind, from its arguments and its result; empty where it computes nothing.
        gather: it reads of its first tensor as many elements as this says, not all of them.
        scatter: it writes in place into some elements of its first tensor.
        write_only: it overwrites its first tensor without reading it (`copy_`, `fill_`).
        decomposes: it is made of other operators and is counted as those, as `FlopCounterMode` does.
    """

    name: str
    kind: OperatorKind
    figures: Mapping[OperatorKind, Figure] = field(default_factory=dict)
    gather: Touched | None = None
    scatter: Scatter | None = None
    write_only: bool = False
    decomposes: bool = False


BESIDES: dict[str, tuple[OperatorKind, Figure]] = {
    "mkldnn_rnn_layer": (OperatorKind.ELEMENTWISE, lstm_gates),
    "torchvision.deform_conv2d": (OperatorKind.REDUCTION, deformable_sampling),
}
"""Work of a second kind that an operator with a product does."""


def _product(name: str, full: str, formula: Figure) -> Rule:
    figures = {OperatorKind.MATMUL: product(name, formula), **dict([BESIDES[name]] if name in BESIDES else ())}
    return Rule(full, OperatorKind.MATMUL, figures)


def _registered(target: Any) -> Figure | None:
    formula = flop_registry.get(target)
    if formula is None:
        return None
    return lambda args, kwargs, out: int(formula(*args, **kwargs, out_val=out))


def _is_view(func: OpOverload) -> bool:
    returns = func._schema.returns
    return torch.Tag.inplace_view in func.tags or any(
        ret.alias_info is not None and not ret.alias_info.is_write for ret in returns
    )


def _is_pointwise(func: OpOverload, name: str) -> bool:
    if torch.Tag.pointwise in func.tags or name in UNTAGGED_POINTWISE:
        return True
    if _REDUCTION in func.tags:
        return False
    functional = getattr(torch.ops.aten, name, None) if func.namespace == "aten" else None
    return functional is not None and any(
        torch.Tag.pointwise in getattr(functional, overload).tags
        and _REDUCTION not in getattr(functional, overload).tags
        for overload in functional.overloads()
    )


def _returns_tensor(func: OpOverload) -> bool:
    return any("Tensor" in str(ret.type) for ret in func._schema.returns)


@cache
def rule_for(func: OpOverload) -> Rule:
    """The rule of an operator as `__torch_dispatch__` sees it."""
    packet = func._overloadpacket
    base = func._schema.name.split("::")[1]
    in_place = base.endswith("_") and not base.endswith("__")
    name = base[:-1] if in_place else base
    full = f"{func.namespace}.{name}"
    formula = _registered(packet)
    if formula is not None:
        return _product(name, full, formula)
    if func is torch.ops.prim.device.default:
        return Rule(full, OperatorKind.IGNORED)
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), torch._C.DispatchKey.CompositeImplicitAutograd):
        return Rule(full, OperatorKind.UNKNOWN, decomposes=True)
    if func.namespace != "aten":
        return _foreign(func, full)
    if name in EXTRA_FORMULAS or name in SPARSE_FORMULAS:
        return _product(name, full, EXTRA_FORMULAS.get(name, _nothing_dense))
    if not _returns_tensor(func):
        return Rule(full, OperatorKind.IGNORED)
    if name in UNTAGGED_VIEWS or _is_view(func):
        return Rule(full, OperatorKind.VIEW)
    if name.startswith(("empty", "new_empty")):
        return Rule(full, OperatorKind.ALLOCATION)
    gather, scatter = GATHERS.get(name), SCATTERS.get(name) if in_place else None
    if name in REDUCTIONS and not (torch.Tag.pointwise in func.tags and _REDUCTION not in func.tags):
        return Rule(full, OperatorKind.REDUCTION, {OperatorKind.REDUCTION: REDUCTIONS[name]}, gather, scatter)
    if name in MOVES or torch.Tag.view_copy in func.tags:
        return Rule(full, OperatorKind.MOVE, {}, gather, scatter, write_only=in_place and name in WRITE_ONLY)
    if _is_pointwise(func, name):
        return Rule(full, OperatorKind.ELEMENTWISE, {OperatorKind.ELEMENTWISE: elementwise(name)})
    if _REDUCTION in func.tags:
        return Rule(full, OperatorKind.REDUCTION, {OperatorKind.REDUCTION: per_input(1)})
    return Rule(full, OperatorKind.UNKNOWN)


def _nothing_dense(args: Any, kwargs: Any, out: Any) -> None:
    """The formula of an operator that takes sparse operands alone, for others: none."""


def _foreign(func: OpOverload, name: str) -> Rule:
    """Operators of other libraries: those that are known here, those that carry a tag, else unknown."""
    if name in EXTRA_FORMULAS:
        return _product(name, name, EXTRA_FORMULAS[name])
    if name in REDUCTIONS:
        return Rule(name, OperatorKind.REDUCTION, {OperatorKind.REDUCTION: REDUCTIONS[name]})
    if not _returns_tensor(func):
        return Rule(name, OperatorKind.IGNORED)
    if _is_view(func):
        return Rule(name, OperatorKind.VIEW)
    if torch.Tag.pointwise in func.tags:
        return Rule(name, OperatorKind.ELEMENTWISE, {OperatorKind.ELEMENTWISE: per_output(1)})
    if _REDUCTION in func.tags:
        return Rule(name, OperatorKind.REDUCTION, {OperatorKind.REDUCTION: per_input(1)})
    return Rule(name, OperatorKind.UNKNOWN)
