"""Operations of one call, from its arguments and its result; shapes alone are looked at.

Formulas of matrix products count 2 FLOPs a multiply-add, like those of `torch.utils.flop_counter`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch

from laurel_cli.cost.tables import ONE_PER_INPUT

Figure = Callable[[Sequence[Any], Mapping[str, Any], Any], int]
"""(args, kwargs, result) of one call -> operations."""


def first_tensor(value: Any) -> torch.Tensor | None:
    """The first tensor of an operator's result or arguments, None if there is none."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, (tuple, list)):
        return next((found for item in value if (found := first_tensor(item)) is not None), None)
    return None


def _numel(value: Any) -> int:
    tensor = first_tensor(value)
    return 0 if tensor is None else tensor.numel()


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], index: int, name: str, default: Any = None) -> Any:
    return args[index] if len(args) > index else kwargs.get(name, default)


def _linear_combination(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    return 1 if _argument(args, kwargs, 2, "alpha", 1) == 1 else 2


def _scaled_product(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    return 2 if _argument(args, kwargs, 3, "value", 1) == 1 else 3


ELEMENTWISE_FACTORS: dict[str, Callable[[Sequence[Any], Mapping[str, Any]], int]] = {
    "add": _linear_combination,  # x + alpha y: the multiplication is done only where alpha is not 1
    "sub": _linear_combination,
    "rsub": _linear_combination,
    "addcmul": _scaled_product,  # x + value y z
    "addcdiv": _scaled_product,
    "lerp": lambda args, kwargs: 3,  # x + w (y - x)
    "native_dropout": lambda args, kwargs: 2,  # mask and scale
    "glu": lambda args, kwargs: 2,  # a sigmoid(b)
    "polar": lambda args, kwargs: 2,
    "positive": lambda args, kwargs: 0,
}
"""Operations an element where it is not one."""


def elementwise(name: str) -> Figure:
    """Operations of an elementwise operator: its factor, else 1, times the elements of its (first) result."""
    factor = ELEMENTWISE_FACTORS.get(name)
    if factor is None:
        return lambda args, kwargs, out: _numel(out)
    return lambda args, kwargs, out: factor(args, kwargs) * _numel(out)


def per_input(factor: int) -> Figure:
    """`factor` operations an element of the first tensor among the arguments."""
    return lambda args, kwargs, out: factor * _numel(args)


def per_output(factor: int) -> Figure:
    """`factor` operations an element of the (first) result."""
    return lambda args, kwargs, out: factor * _numel(out)


def _normalisation(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # Mean, deviation, square, its mean; then subtract and divide; then whatever of weight and bias there is.
    affine = sum(isinstance(extra, torch.Tensor) for extra in args[1:])
    return (6 + affine) * _numel(args)


def _batch_norm(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # With running statistics it is one scale and one shift; arguments: x, weight, bias, mean, var, training.
    return (8 if len(args) > 5 and args[5] is True else 2) * _numel(args)


def _rms_norm(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    return (4 if isinstance(_argument(args, kwargs, 2, "weight"), torch.Tensor) else 3) * _numel(args)


def _pool(dimensions: int) -> Figure:
    def figure(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
        window = list(args[1])
        return _numel(out) * (window[0] ** dimensions if len(window) == 1 else prod(window))

    return figure


REDUCTIONS: dict[str, Figure] = {
    **{name: per_input(1) for name in ONE_PER_INPUT},
    "var": per_input(4),  # mean, deviation, square, mean
    "std": per_input(4),
    "var_mean": per_input(4),
    "std_mean": per_input(4),
    "linalg_vector_norm": per_input(2),
    "norm": per_input(2),
    "logsumexp": per_input(4),
    "_softmax": per_input(5),  # maximum, subtract, exp, sum, divide
    "_log_softmax": per_input(5),
    "_safe_softmax": per_input(5),
    "native_layer_norm": lambda args, kwargs, out: _normalisation((args[0], *args[2:4]), kwargs, out),
    "native_group_norm": lambda args, kwargs, out: _normalisation(args[:3], kwargs, out),
    "native_batch_norm": _batch_norm,
    "cudnn_batch_norm": _batch_norm,
    "miopen_batch_norm": _batch_norm,
    "_native_batch_norm_legit": _batch_norm,
    "_native_batch_norm_legit_no_training": per_input(2),
    "_batch_norm_no_update": per_input(2),
    "_batch_norm_with_update": per_input(8),
    "_fused_rms_norm": _rms_norm,
    "_weight_norm_interface": per_input(3),  # square, sum, scale
    "max_pool2d_with_indices": _pool(2),
    "max_pool3d_with_indices": _pool(3),
    "avg_pool1d": _pool(1),
    "avg_pool2d": _pool(2),
    "avg_pool3d": _pool(3),
    "upsample_linear1d": per_output(3),  # 2^d taps multiplied and added
    "upsample_bilinear2d": per_output(7),
    "_upsample_bilinear2d_aa": per_output(7),
    "upsample_trilinear3d": per_output(15),
    "upsample_bicubic2d": per_output(31),
    "_upsample_bicubic2d_aa": per_output(31),
}
"""Operations of normalisations, softmax, reductions, scans, pooling and interpolation."""


def _shapes(args: Sequence[Any]) -> list[tuple[int, ...]]:
    return [tuple(arg.shape) for arg in args if isinstance(arg, torch.Tensor)]


def _grouped_mm(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # Rows, columns or the summed dimension come in groups: every element of `a` meets one matrix of `b` alone; but
    # where the columns of a 2-d `b` come in groups, every column meets one matrix of `a` alone.
    a, b = _shapes(args)[:2]
    return 2 * prod(a[1:] if len(a) == 3 and len(b) == 2 else a) * b[-1]


def _attention(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # Every query meets every key: an upper bound where the attention is causal, as in PyTorch's own formula.
    query, key, value = _shapes(args)[:3]
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _lstm(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # One layer, one direction: every step multiplies the input and the state by all their weights; gates apart.
    x, weight_input, weight_state = args[:3]
    return 2 * prod(x.shape[:-1]) * (weight_input.numel() + weight_state.numel())


EXTRA_FORMULAS: dict[str, Figure] = {
    "dot": lambda args, kwargs, out: 2 * args[0].numel(),
    "vdot": lambda args, kwargs, out: 2 * args[0].numel(),
    "mv": lambda args, kwargs, out: 2 * args[0].numel(),
    "addmv": lambda args, kwargs, out: 2 * args[1].numel(),
    "addbmm": lambda args, kwargs, out: 2 * args[1].numel() * args[2].shape[-1],
    "_addmm_activation": lambda args, kwargs, out: 2 * args[1].numel() * args[2].shape[-1],
    "_int_mm": lambda args, kwargs, out: 2 * args[0].numel() * args[1].shape[-1],
    "_grouped_mm": _grouped_mm,
    "mkldnn_rnn_layer": _lstm,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,  # not in every version's registry
    "_scaled_dot_product_fused_attention_overrideable": _attention,
    "_scaled_dot_product_attention_math_for_mps": _attention,
}
"""FLOPs, 2 a multiply-add, of products that `torch.utils.flop_counter` has no formula for."""
