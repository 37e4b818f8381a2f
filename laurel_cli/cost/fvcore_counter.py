"""fvcore's count: operators of a TorchScript trace, with handles of ours for what it misses."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import nn

GAPS = {
    "convolution": "fvcore counts a convolution by its traced shapes",
    "matmul": "fvcore has no handle for some matrix products (grouped ones, matrix times vector, custom operators), "
    "and takes the first operand of a broadcast product for the larger one",
    "attention": "counted by a handle of ours, every query against every key",
    "recurrent": "fvcore has no handle for recurrent layers",
    "parameters": "fvcore counts what nn.Module.named_parameters() lists",
}
"""Why fvcore may differ, by family of operators."""

_FAMILIES = {
    "conv": "convolution",
    "_convolution_mode": "convolution",
    **dict.fromkeys(("addmm", "mm", "bmm", "baddbmm", "matmul", "linear", "einsum"), "matmul"),
    "scaled_dot_product_attention": "attention",
}
"""fvcore's operators by family; its figures for normalisations, pooling and interpolation are not compared."""


def family(operator: str) -> str:
    """The family in which one of our operators stands here: a trace holds `linear` where eager mode runs `addmm`."""
    name = operator.rpartition(".")[2]
    if "convolution" in name or "conv2d" in name:
        return "convolution"
    if "attention" in name:
        return "attention"
    return "recurrent" if "rnn" in name else "matmul"


def run(model: nn.Module, tensors: tuple[torch.Tensor, ...]) -> tuple[dict[str, int], int]:
    """MACs by family, and parameters; raises whatever fvcore and TorchScript raise."""
    from fvcore.nn import FlopCountAnalysis, parameter_count

    analysis = FlopCountAnalysis(model, tensors)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention)
    analysis.set_op_handle("aten::_convolution_mode", _convolution)
    analysis.set_op_handle("aten::baddbmm", _baddbmm)
    default_einsum = analysis._op_handles["aten::einsum"]
    analysis.set_op_handle("aten::einsum", lambda inputs, outputs: _einsum(inputs, outputs, default_einsum))
    macs: dict[str, int] = {}
    for operator, figure in analysis.by_operator().items():
        group = _FAMILIES.get(operator)
        if group is not None:
            macs[group] = macs.get(group, 0) + round(figure)
    return macs, int(parameter_count(model)[""])


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
