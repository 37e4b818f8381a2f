"""What each ATen operator means for the search: a bare view, a linear map, a mixing or a non-linear operation."""

from __future__ import annotations

from laurel_cli.residual.trace import Node

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
}
SCALINGS = {"mul", "mul_", "div", "div_", "neg"}
PARTS = {"slice", "select", "narrow", "split", "split_with_sizes", "unbind"}
CONVOLUTIONS = {"convolution", "_convolution", "conv1d", "conv2d", "conv3d"}
PRODUCTS = {"addmm", "mm", "linear", "mv", "baddbmm", "bmm", "matmul"}
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
POOLS = {
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "max_pool2d",
    "max",
    "amax",
    "mean",
    "upsample_nearest2d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "_upsample_bicubic2d_aa",
    "_upsample_bilinear2d_aa",
}
# Operators that combine different positions or channels; all others work element by element or rearrange.
MIXING = (
    CONVOLUTIONS
    | PRODUCTS
    | NORMS
    | POOLS
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
        "grid_sampler_2d",
        "scatter_add",
        "scatter_add_",
        "index_add",
        "index_add_",
    }
)
TRANSFORMS = {"_fft_r2c", "_fft_c2c", "_fft_c2r"}
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
    "exp",
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


def is_attention(node: Node) -> bool:
    """A fused attention operator, of whichever backend."""
    return "scaled_dot_product" in node.op or "flex_attention" in node.op


def is_mixing(node: Node) -> bool:
    """Whether the operator combines different positions or channels."""
    return node.op in MIXING or is_attention(node)


def is_nonlinear(node: Node, nodes: tuple[Node, ...]) -> bool:
    """An activation function, or a product of two tensors that both depend on the inputs."""
    if node.op in NONLINEAR or is_attention(node):
        return True
    return node.op in SCALINGS | PRODUCTS and sum(nodes[i].active for i in node.inputs) > 1


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
