"""Names of ATen operators (without overload and without the underscore of in-place ones), sorted by what they do."""

from __future__ import annotations

from laurel_cli.cost.lookups import GATHERS, SCATTERS

UNTAGGED_VIEWS = frozenset(
    {"_unsafe_view", "_reshape_alias", "detach", "alias", "lift_fresh", "lift", "resize", "set"}
    | {"unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk"}
)
"""Other looks at the same memory whose schema does not say so."""

WRITE_ONLY = frozenset(
    {"copy", "fill", "zero", "uniform", "normal", "bernoulli", "random", "exponential", "log_normal", "geometric"}
    | {"cauchy"}
)
"""Operators whose in-place form overwrites its target without reading it."""

_COPIES = {"clone", "_to_copy", "copy", "lift_fresh_copy", "contiguous", "cat", "stack", "repeat", "repeat_interleave"}
_FILLS = {"fill", "zero", "zeros", "zeros_like", "new_zeros", "ones", "ones_like", "new_ones", "full", "full_like"}
_RAMPS = {"new_full", "arange", "linspace", "logspace", "eye", "scalar_tensor", "tril_indices", "triu_indices"}
_RANDOM = {"rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "randperm", "normal_functional"}
_SHUFFLES = {"roll", "flip", "rot90", "tril", "triu", "im2col", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"}
_PADS = {
    "constant_pad_nd",
    *(f"{mode}_pad{d}d" for mode in ("reflection", "replication", "circular") for d in (1, 2, 3)),
}
_SCATTERS = {"slice_scatter", "select_scatter", "diagonal_scatter", "as_strided_scatter"}
_INDEXED = {"nonzero", "nonzero_static", "_to_dense", "_to_sparse"}
_NEAREST = {f"{name}{d}d" for name in ("upsample_nearest", "_upsample_nearest_exact") for d in (1, 2, 3)}
_OTHER = {"multinomial", "native_channel_shuffle", "block_diag", "view_as_real_copy", "complex", "_pin_memory"}

MOVES = frozenset(
    WRITE_ONLY
    | GATHERS.keys()
    | _COPIES
    | _FILLS
    | _RAMPS
    | _RANDOM
    | _SHUFFLES
    | _PADS
    | {name for name, scatter in SCATTERS.items() if scatter.additions is None}
    | _SCATTERS
    | _INDEXED
    | _NEAREST
    | _OTHER
)
"""Copies, casts, fills, random numbers, rearrangements: memory traffic without arithmetic."""

UNTAGGED_POINTWISE = frozenset(
    {"gelu", "hardswish", "glu", "log_sigmoid_forward", "log_sigmoid", "prelu", "_prelu_kernel", "rrelu_with_noise"}
    | {"native_dropout", "masked_fill", "where", "polar", "isin", "bucketize", "floor_divide", "nan_to_num", "elu"}
    | {"__and__", "__or__", "__xor__", "hardsigmoid", "hardtanh", "softplus", "mish", "threshold", "_conj_physical"}
    | {"smooth_l1_loss", "huber_loss", "mse_loss", "binary_cross_entropy"}
)
"""Elementwise operators without `torch.Tag.pointwise`; the losses do one operation an element before any mean."""

ONE_PER_INPUT = frozenset(
    {"sum", "mean", "prod", "amax", "amin", "aminmax", "max", "min", "argmax", "argmin", "any", "all", "nansum"}
    | {"count_nonzero", "cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "topk", "trace", "bincount", "histc"}
    | {"nll_loss_forward", "nll_loss2d_forward", "col2im", "segment_reduce", "_sparse_sum", "fractional_max_pool2d"}
    | {"_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d"}
)
"""Reductions and scans: one operation an element of the first tensor."""
