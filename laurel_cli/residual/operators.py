"""What each ATen operator means for the search: a bare view, a linear map, a mixing or a non-linear operation."""

from __future__ import annotations

from functools import cache

from laurel_cli.residual.graph import Node
from laurel_cli.residual.linear import is_linear

# The same numbers in another arrangement, a part of them, or all of them times a constant.
VIEWS = {
    "view",
    "_unsafe_view",
    "_reshape_alias",
    "reshape",
    "permute",
    "transpose",
    "t",
    "clone",
    "contiguous",
    "slice",
    "select",
    "narrow",
    "split",
    "split_with_sizes",
    "chunk",
    "unbind",
    "expand",
    "squeeze",
    "squeeze_",
    "unsqueeze",
    "unsqueeze_",
    "detach",
    "alias",
    "_to_copy",
    "copy_",
    "native_dropout",
    "lift_fresh",
    "unfold",
    "constant_pad_nd",
    "pad",
    "roll",
    "flip",
    "cat",
    "stack",
    "index_select",
    "pixel_shuffle",
    "pixel_unshuffle",
    "im2col",
    "col2im",
    "repeat",
    "repeat_interleave",
    "index",
    "gather",
    "masked_fill",
    "masked_fill_",
    "tril",
    "triu",
    "as_strided",
    "native_channel_shuffle",
    "channel_shuffle",
    *(f"{kind}_pad{dims}d" for kind in ("reflection", "replication") for dims in (1, 2, 3)),
}
SCALINGS = {"mul", "mul_", "div", "div_", "neg"}
SUMS = {"add", "add_", "sub", "sub_"}
PARTS = {"slice", "select", "narrow", "split", "split_with_sizes", "unbind"}
CONVOLUTIONS = {"convolution", "_convolution", "conv1d", "conv2d", "conv3d"}
PRODUCTS = {"addmm", "mm", "linear", "mv", "dot", "baddbmm", "bmm", "matmul", "_grouped_mm", "_scaled_mm", "_trilinear"}
NORMS = {
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit",
    "cudnn_batch_norm",
    "_batch_norm_with_update",
    "native_layer_norm",
    "native_group_norm",
    "_fused_rms_norm",
    "rms_norm",
}
REDUCTIONS = {"mean", "max", "amax"}
# Operators that combine different positions or channels; all others work element by element or rearrange.
MIXING = (
    CONVOLUTIONS
    | PRODUCTS
    | NORMS
    | REDUCTIONS
    | {
        "_softmax",
        "_safe_softmax",
        "sum",
        "var",
        "var_mean",
        "std",
        "linalg_vector_norm",
        "norm",
        "_fft_r2c",
        "_fft_c2c",
        "_fft_c2r",
        "cumsum",
        "logcumsumexp",
        "lstm",
        "gru",
        "mkldnn_rnn_layer",
        "_cdist_forward",
        "_sparse_mm",
        "deform_conv2d",
        "grid_sampler_2d",
        "scatter_add",
        "scatter_add_",
        "index_add",
        "index_add_",
    }
)
TRANSFORMS = {"_fft_r2c", "_fft_c2c", "_fft_c2r"}
# Linear in their first operand, though they combine positions.
LINEAR_IN_FIRST = TRANSFORMS | {"cumsum", "grid_sampler_2d", "grid_sampler_3d"}
NONLINEAR = {
    "relu",
    "relu_",
    "gelu",
    "gelu_",
    "silu",
    "silu_",
    "sigmoid",
    "sigmoid_",
    "tanh",
    "tanh_",
    "hardtanh",
    "hardtanh_",
    "hardswish",
    "hardswish_",
    "hardsigmoid",
    "hardsigmoid_",
    "leaky_relu",
    "leaky_relu_",
    "elu",
    "elu_",
    "mish",
    "mish_",
    "softplus",
    "clamp",
    "clamp_",
    "clamp_min",
    "clamp_min_",
    "_prelu_kernel",
    "selu",
    "celu",
    "threshold",
    "softshrink",
    "hardshrink",
    "log_sigmoid_forward",
    "exp",
    "sin",
    "cos",
    "sqrt",
    "pow",
    "square",
    "abs",
    "maximum",
    "erf",
    "log",
    "glu",
    "_softmax",
    "_safe_softmax",
    "_log_softmax",
    "max_pool2d_with_indices",
    "rsqrt",
}


@cache
def is_pool(op: str) -> bool:
    """Pooling of any kind, resizing in any mode."""
    return op in REDUCTIONS or "pool" in op or op.removeprefix("_").startswith("upsample_")


@cache
def is_known(op: str) -> bool:
    """Whether the tables here say what the operator is; others are tried with numbers."""
    known = VIEWS | SCALINGS | SUMS | MIXING | NONLINEAR | {"input", "parameter", "constant"}
    return op in known or is_pool(op) or "scaled_dot_product" in op


def is_attention(node: Node) -> bool:
    """A fused attention operator, of whichever backend."""
    return "scaled_dot_product" in node.op or "flex_attention" in node.op


def is_mixing(node: Node) -> bool:
    """Whether the operator combines different positions or channels; of one that is not PyTorch's own it is assumed."""
    foreign = node.replay is not None and node.replay.func.namespace not in ("aten", "prims")
    return node.op in MIXING or is_pool(node.op) or is_attention(node) or foreign


def is_nonlinear(node: Node, nodes: tuple[Node, ...]) -> bool:
    """An activation function, or a product of two tensors that both depend on the inputs."""
    if node.op in NONLINEAR or is_attention(node):
        return True
    if node.op in SCALINGS | PRODUCTS:
        return sum(nodes[i].active for i in node.inputs) > 1
    return not is_known(node.op) and not is_linear(node, nodes)


def region(node: Node, nodes: tuple[Node, ...]) -> tuple[int, int, int] | None:
    """(dimension, start, stop) of the part of its input that a slice, split or select keeps; None for the whole."""
    if node.op not in PARTS or not node.inputs:
        return None
    source = nodes[node.inputs[0]].shape
    numbers = [constant for constant in node.constants if isinstance(constant, int)]
    if node.op in ("split", "split_with_sizes"):
        sizes = [size for size in node.constants if isinstance(size, int)]
        dim = next((d for d in range(len(source)) if source[d] != node.shape[d]), 0)
        start = node.output * sizes[0] if node.op == "split" else sum(sizes[: node.output])
        return dim, start, start + node.shape[dim]
    dim = numbers[0] % len(source) if numbers else 0
    if node.op == "unbind":
        return dim, node.output, node.output + 1
    start = numbers[1] if len(numbers) > 1 else 0
    start = start + source[dim] if start < 0 else start
    length = 1 if node.op == "select" else node.shape[dim]
    return dim, start, start + length
