"""fvcore's count: operators of a TorchScript trace, with handles of ours for what it misses."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import torch
from torch import nn

from laurel_cli.cost.answer import Answer, Ours, Reason

_FAMILIES = {
    "conv": "convolution",
    "_convolution_mode": "convolution",
    **dict.fromkeys(("addmm", "mm", "bmm", "baddbmm", "matmul", "linear", "einsum"), "matmul"),
    "scaled_dot_product_attention": "attention",
}
"""fvcore's operators by family; its figures for normalisations, pooling and interpolation are not compared."""

_TRACED_AS = {"aten._trilinear": "aten::bilinear", "aten._euclidean_dist": "aten::cdist"}
"""Our operators that stand in a trace under another name."""


def family(operator: str) -> str:
    """The family in which one of our operators stands here: a trace holds `linear` where eager mode runs `addmm`."""
    name = operator.rpartition(".")[2]
    if "convolution" in name or "conv2d" in name:
        return "convolution"
    if "attention" in name:
        return "attention"
    return "recurrent" if "rnn" in name else "matmul"


def run(model: nn.Module, tensors: tuple[torch.Tensor, ...]) -> Answer:
    """Count with fvcore; raises whatever fvcore and TorchScript raise."""
    from fvcore.nn import FlopCountAnalysis, parameter_count

    analysis = FlopCountAnalysis(model, tensors)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention)
    analysis.set_op_handle("aten::_convolution_mode", _convolution)
    analysis.set_op_handle("aten::baddbmm", _baddbmm)
    analysis.set_op_handle("aten::matmul", _matmul)
    default_einsum = analysis._op_handles["aten::einsum"]
    analysis.set_op_handle("aten::einsum", lambda inputs, outputs: _einsum(inputs, outputs, default_einsum))
    macs: dict[str, int] = {}
    for operator, figure in analysis.by_operator().items():
        group = _FAMILIES.get(operator)
        if group is not None:
            macs[group] = macs.get(group, 0) + round(figure)
    return Answer(macs, int(parameter_count(model)[""]), passed_over=dict(analysis.unsupported_ops()))


def modules(model: nn.Module) -> list[str]:
    """Paths of the modules whose operators stand in a trace as one that fvcore passes over."""
    return [path for path, module in model.named_modules() if isinstance(module, nn.RNNBase)]


def explain(ours: Ours, theirs: Answer) -> Iterator[Reason]:
    """Operators that stand in the trace and that fvcore passes over; complex numbers taken for real ones."""
    recurrent = [name for name in theirs.passed_over if name in ("aten::lstm", "aten::gru") or "::rnn_" in name]
    if recurrent:
        text = f"fvcore has no handle for {', '.join(recurrent)}"
        fused = sum(n for operator, n in ours.by_operator.items() if family(operator) == "recurrent")
        yield Reason("recurrent", fused, text)
        yield Reason("matmul", sum(ours.inside.values()) - fused, text)
    for operator, figure in ours.by_operator.items():
        traced = _TRACED_AS.get(operator, operator.replace(".", "::"))
        calls = theirs.passed_over.get(traced, 0)
        if calls and family(operator) != "recurrent":
            yield Reason(family(operator), figure, f"fvcore has no handle for {traced} (called {calls:,} times)")
    for name, figure in ours.macs.items():
        if figure and figure == 4 * theirs.macs.get(name, 0):
            yield Reason(name, figure - figure // 4, "fvcore takes complex multiply-adds for real ones")


def explain_parameters(ours: Ours, theirs: Answer) -> str:
    """fvcore lists the same parameters as we do: there is no reason to differ."""
    return ""


def _shape(value: Any) -> list[int]:
    if not value.isCompleteTensor():
        raise ValueError("the trace holds a tensor without a shape")
    sizes: list[int] = value.type().sizes()
    return sizes


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """scaled_dot_product_attention(query, key, value, ...): scores, then their product with the values."""
    query, key, value = (_shape(tensor) for tensor in inputs[:3])
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _convolution(inputs: list[Any], outputs: list[Any]) -> int:
    """_convolution_mode(x, weight, bias, stride, padding: str, ...): the convolution with padding in words."""
    weight, out = _shape(inputs[1]), _shape(outputs[0])
    return prod(out) * prod(weight[1:])


def _baddbmm(inputs: list[Any], outputs: list[Any]) -> int:
    return prod(_shape(inputs[1])) * _shape(inputs[2])[-1]


def _matmul(inputs: list[Any], outputs: list[Any]) -> int:
    """matmul(a, b), broadcast: every element of the result is a sum over a's last dimension.

    fvcore's own handle takes the first operand for the larger one, and fails on vectors.
    """
    return prod(_shape(outputs[0])) * _shape(inputs[0])[-1]


def _einsum(inputs: list[Any], outputs: list[Any], default: Any) -> Any:
    """Two operands, exactly; fvcore's own handle reads numpy's figure, which is rounded to four digits."""
    equation = inputs[0].toIValue().replace(" ", "")
    shapes = [_shape(tensor) for tensor in inputs[1].node().inputs()]
    terms, arrow, result = equation.partition("->")
    operands = terms.split(",")
    if not arrow or len(operands) != 2 or "." in equation:
        return default(inputs, outputs)
    sizes: dict[str, int] = {}
    for letters, shape in zip(operands, shapes, strict=True):
        for letter, size in zip(letters, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    # What stands in one operand alone and not in the result is summed before the product.
    first, second = set(operands[0]), set(operands[1])
    return prod(size for letter, size in sizes.items() if letter in result or letter in first & second)
