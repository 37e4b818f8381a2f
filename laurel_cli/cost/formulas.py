"""Operations of one call, from its arguments and its result; shapes alone are looked at, and the entries of what is
sparse.

A complex addition is two real ones, a complex multiplication six (four multiplications, two additions).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch

from laurel_cli.cost.lookups import SCATTERS, bag_operations
from laurel_cli.cost.tables import ONE_PER_INPUT
from laurel_cli.cost.tensors import argument, elements, first_tensor

Figure = Callable[[Sequence[Any], Mapping[str, Any], Any], int | None]
"""(args, kwargs, result) of one call -> operations; None where they cannot be told from these."""


def _linear_combination(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    return 1 if argument(args, kwargs, 2, "alpha", 1) == 1 else 2


def _scaled_product(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    return 2 if argument(args, kwargs, 3, "value", 1) == 1 else 3


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

COMPLEX_FACTORS = {"mul": 6, "addcmul": 4, "div": 11}
"""Real operations for each of an operator's on complex numbers, where it is not two. (a + bi)(c + di) takes four
multiplications and two additions, x + y z two operations of four on average; a division is a product with the
conjugate, the sum of two squares, two divisions."""


def elementwise(name: str) -> Figure:
    """Operations of an elementwise operator: its factor, else 1, times the elements of its (first) result."""
    factor = ELEMENTWISE_FACTORS.get(name)

    def figure(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
        real = COMPLEX_FACTORS.get(name, 2) if _is_complex(out) else 1
        return (1 if factor is None else factor(args, kwargs)) * real * elements(out)

    return figure


def per_input(factor: int) -> Figure:
    """`factor` operations an element of the first tensor among the arguments, twice that of a complex one."""
    return lambda args, kwargs, out: factor * (2 if _is_complex(args) else 1) * elements(args)


def per_output(factor: int) -> Figure:
    """`factor` operations an element of the (first) result, twice that of a complex one."""
    return lambda args, kwargs, out: factor * (2 if _is_complex(out) else 1) * elements(out)


def _is_complex(value: Any) -> bool:
    tensor = first_tensor(value)
    return tensor is not None and tensor.is_complex()


def _normalisation(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # Mean, deviation, square, its mean; then subtract and divide; then whatever of weight and bias there is.
    affine = sum(isinstance(extra, torch.Tensor) for extra in args[1:])
    return (6 + affine) * elements(args)


def _batch_norm(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # With running statistics it is one scale and one shift; arguments: x, weight, bias, mean, var, training.
    return (8 if len(args) > 5 and args[5] is True else 2) * elements(args)


def _rms_norm(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    return (4 if isinstance(argument(args, kwargs, 2, "weight"), torch.Tensor) else 3) * elements(args)


def _pool(dimensions: int) -> Figure:
    def figure(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
        window = list(args[1])
        return elements(out) * (window[0] ** dimensions if len(window) == 1 else prod(window))

    return figure


def _distances(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # |x - y|^p summed over the width: subtract, raise, add. `torch.cdist` takes long rows apart into a matrix product.
    return 3 * elements(out) * args[0].shape[-1]


def _pair_distances(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    return 3 * elements(out) * args[0].shape[-1]


def _grid_sample(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # The taps of each point multiplied and added, as in interpolation: 2^d linear, 4^d cubic, none for the nearest.
    dimensions, mode = args[0].dim() - 2, argument(args, kwargs, 2, "interpolation_mode", 0)
    taps = {0: 2**dimensions, 1: 0, 2: 4**dimensions}[mode]
    return max(2 * taps - 1, 0) * elements(out)


def _search(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # Bisection of a row of n: ceil(log2(n + 1)) comparisons for each value.
    return elements(out) * int(args[0].shape[-1]).bit_length()


def _sort(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # Comparisons of a merge sort, at most ceil(log2 n) for each of n elements in a row; the dimension stands second, or
    # third where the sort is stable, and is the last by default.
    numbers = [value for value in (*args[1:], kwargs.get("dim")) if type(value) is int]
    length = args[0].shape[numbers[0] if numbers else -1] if args[0].dim() else 1
    return elements(args) * (length - 1).bit_length()


def _roi_align(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int | None:
    # He et al. 2017 (arXiv 1703.06870): s^2 bilinear samples a bin (7 operations each), and their mean (s^2). Without a
    # sampling ratio s follows from each box's size, which is data.
    samples = argument(args, kwargs, 5, "sampling_ratio", -1)
    return None if samples <= 0 else 8 * samples * samples * elements(out)


REDUCTIONS: dict[str, Figure] = {
    **{name: per_input(1) for name in ONE_PER_INPUT},
    **{name: scatter.additions for name, scatter in SCATTERS.items() if scatter.additions is not None},
    "_embedding_bag": bag_operations,
    "_embedding_bag_forward_only": bag_operations,
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
    "_sparse_softmax": per_input(5),
    "_sparse_log_softmax": per_input(5),
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
    "grid_sampler_2d": _grid_sample,
    "grid_sampler_3d": _grid_sample,
    "_cdist_forward": _distances,
    "_pdist_forward": _pair_distances,
    "searchsorted": _search,
    "sort": _sort,
    "argsort": _sort,
    "torchvision.roi_align": _roi_align,
}
"""Operations of normalisations, softmax, reductions, scans, scatters, pooling and interpolation."""
