"""FLOPs of matrix products, convolutions, attention and recurrent layers, 2 a multiply-add, beyond those for which
`torch.utils.flop_counter` has a formula; and what is dense there and sparse or complex here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch

from laurel_cli.cost.formulas import Figure
from laurel_cli.cost.tensors import argument, elements, first_tensor, tensors


def product(name: str, formula: Callable[..., int | None]) -> Figure:
    """`formula` of the operator `name`; of sparse operands by their entries; four times that of complex numbers.

    A complex multiply-add is four real ones. (PyTorch runs a complex convolution as three real ones, which is what
    is seen and counted.)
    """

    def figure(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int | None:
        sparse = any(tensor.layout is not torch.strided for tensor in tensors(args))
        chosen = SPARSE_FORMULAS.get(name) if sparse else formula
        real = None if chosen is None else chosen(args, kwargs, out)
        result = first_tensor(out)
        return 4 * real if real is not None and result is not None and result.is_complex() else real

    return figure


def _shapes(args: Sequence[Any]) -> list[tuple[int, ...]]:
    return [tuple(arg.shape) for arg in args if isinstance(arg, torch.Tensor)]


def _grouped_mm(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # Rows, columns or the summed dimension come in groups: every element of `a` meets one matrix of `b` alone; but
    # where the columns of a 2-d `b` come in groups, every column meets one matrix of `a` alone.
    a, b = _shapes(args)[:2]
    return 2 * prod(a[1:] if len(a) == 3 and len(b) == 2 else a) * b[-1]


def attention(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    """(query, key, value, ...): every query meets every key, as in PyTorch's own formula.

    An upper bound where the attention is causal or has a block mask. Masks, score functions and the softmax of a fused
    kernel count no operations.
    """
    query, key, value = _shapes(args)[:3]
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _lstm(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # One layer, one direction: every step multiplies the input and the state by all their weights; gates apart.
    x, weight_input, weight_state = args[:3]
    return 2 * prod(x.shape[:-1]) * (weight_input.numel() + weight_state.numel())


def lstm_gates(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    """Elementwise operations of an LSTM's cell, those that it runs where it is not fused.

    For each step and unit: the two products summed, and the activations, for four gates; f c + i g; o tanh(c).
    """
    x, weight_state = args[0], args[2]
    return prod(x.shape[:-1]) * weight_state.shape[-1] * (4 + 4 + 3 + 2)


def _trilinear(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # What stands behind `functional.bilinear`, by ATen's own way (native/Linear.cpp): the first two operands are
    # multiplied and summed over what the third does not have, then the third is.
    shapes = [list(operand.shape) for operand in args[:3]]
    for shape, expanded in zip(shapes, args[3:6], strict=True):
        for dim in sorted(expanded):
            shape.insert(dim, 1)
    inner = [max(sizes) for sizes in zip(*shapes[:2], strict=True)]
    summed_first = [dim for dim in args[6] if dim in args[5]]
    left = [1 if dim in summed_first else length for dim, length in enumerate(inner)]
    outer = [max(sizes) for sizes in zip(left, shapes[2], strict=True)]
    return 2 * (prod(inner) + prod(outer))


def _euclidean(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # |x|^2 - 2 x y + |y|^2 as one product of rows lengthened by two (native/Distance.cpp).
    return 2 * elements(out) * (args[0].shape[-1] + 2)


def _deformable(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # Dai et al. 2017 (arXiv 1703.06211): a convolution of what was sampled.
    return 2 * elements(out) * prod(args[1].shape[1:])


def deformable_sampling(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    """Bilinear samples for every channel, kernel position and output position: 7 operations, 8 with a mask."""
    x, weight = args[:2]
    masked = bool(argument(args, kwargs, 13, "use_mask", False))
    return (8 if masked else 7) * x.shape[0] * x.shape[1] * prod(weight.shape[2:]) * prod(out.shape[2:])


def _packed_linear(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # A linear layer whose weight is packed, so that its shape does not say its size.
    return 2 * args[0].shape[-1] * elements(out)


EXTRA_FORMULAS: dict[str, Figure] = {
    "dot": lambda args, kwargs, out: 2 * args[0].numel(),
    "vdot": lambda args, kwargs, out: 2 * args[0].numel(),
    "mv": lambda args, kwargs, out: 2 * args[0].numel(),
    "addmv": lambda args, kwargs, out: 2 * args[1].numel(),
    "addr": lambda args, kwargs, out: 2 * elements(out),
    "addbmm": lambda args, kwargs, out: 2 * args[1].numel() * args[2].shape[-1],
    "_addmm_activation": lambda args, kwargs, out: 2 * args[1].numel() * args[2].shape[-1],
    "_int_mm": lambda args, kwargs, out: 2 * args[0].numel() * args[1].shape[-1],
    "_weight_int8pack_mm": _packed_linear,
    "_weight_int4pack_mm": _packed_linear,
    "_weight_int4pack_mm_for_cpu": _packed_linear,
    "_dyn_quant_matmul_4bit": _packed_linear,
    "_grouped_mm": _grouped_mm,
    "_scaled_grouped_mm": _grouped_mm,
    "mkldnn_rnn_layer": _lstm,
    "_trilinear": _trilinear,
    "_euclidean_dist": _euclidean,
    "_scaled_dot_product_flash_attention_for_cpu": attention,  # not in every version's registry
    "_scaled_dot_product_fused_attention_overrideable": attention,
    "_scaled_dot_product_attention_math_for_mps": attention,
    "torchvision.deform_conv2d": _deformable,
    **{f"quantized.linear{kind}": _packed_linear for kind in ("", "_relu", "_tanh", "_dynamic", "_relu_dynamic")},
    **{f"quantized.linear{kind}": _packed_linear for kind in ("_leaky_relu", "_dynamic_fp16", "_relu_dynamic_fp16")},
}
"""FLOPs of products that `torch.utils.flop_counter` has no formula for; aten's operators by their bare names."""


def _entries_times_columns(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int | None:
    """A product with one sparse operand: every entry meets one row (or column) of the dense one."""
    operands = [tensor for tensor in tensors(args) if tensor.dim() >= 1][-2:]
    first, second = operands
    if first.layout is not torch.strided and second.layout is not torch.strided:
        return _entries_times_entries(first, second)
    sparse, dense = (first, second) if first.layout is not torch.strided else (second, first)
    if dense.dim() == 1:
        return 2 * elements(sparse)
    return 2 * elements(sparse) * (dense.shape[-1] if sparse is first else dense.shape[-2])


def _entries_times_entries(first: torch.Tensor, second: torch.Tensor) -> int | None:
    """A product of two sparse matrices: for each inner index, the entries of that column times those of that row."""
    if first.dim() != 2 or second.dim() != 2:
        return None
    left, right = first.to_sparse_coo(), second.to_sparse_coo()
    columns = torch.bincount(left._indices()[1], minlength=first.shape[1])
    rows = torch.bincount(right._indices()[0], minlength=second.shape[0])
    return 2 * int((columns * rows).sum())


SPARSE_FORMULAS: dict[str, Figure] = {
    **dict.fromkeys(("mm", "mv", "bmm", "addmm", "addmv", "baddbmm", "_sparse_addmm"), _entries_times_columns),
    **dict.fromkeys(("hspmm", "sspaddmm", "_sparse_mm", "_sparse_sparse_matmul", "smm"), _entries_times_columns),
    # Entries of the pattern (the first operand) alone, each a dot product.
    "sparse_sampled_addmm": lambda args, kwargs, out: 2 * elements(args) * args[1].shape[-1],
}
"""FLOPs of products of which an operand is sparse: by its entries."""
