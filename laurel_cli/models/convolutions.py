"""Convolutions whose backward pass on the CPU writes outside its memory: they are found before anything is trained.

oneDNN (up to 3.12 at least, thus in torch 2.9 to 2.14) copies the input of a strided 1 x 1 convolution to a workspace
before it computes the gradient of the weights, and where channels lie innermost it steps through that workspace by a
whole vector of channels (8 with AVX2, 16 with AVX-512) even where the image has fewer. One thread writes past the end
(the process aborts, or goes on with whatever was overwritten); two threads write into each other's part, and the
gradient is wrong without a word. Contiguous images are safe, and so is every other convolution that was tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from laurel_cli.errors import LayoutError, UsageError

VECTOR = 16  # channels of the widest vector: which memory format is safe must not depend on the machine that asks


@dataclass
class Convolutions(TorchDispatchMode):
    """While it is entered, notes the convolutions that cannot be trained on the CPU with their channels innermost.

    Attributes:
        unsafe: in words, those whose shape is at fault; `innermost` those of them that were called in that format.
    """

    unsafe: list[str] = field(default_factory=list)
    innermost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operator as it is."""
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default and _is_unsafe(*args, output=result):
            image, kernel, stride = args[0], args[1], args[3]
            word = f"1 x 1, stride {max(stride)}, from {kernel.shape[1]} channels to {kernel.shape[0]}"
            self.unsafe.append(word)
            if _is_innermost(image) or _is_innermost(kernel):
                self.innermost.append(word)
        return result

    def refuse(self, *, compiled: bool) -> None:
        """Raise if a backward pass on the CPU would write outside its memory.

        Args:
            compiled: whether the model is to be compiled: `torch.compile` puts channels innermost of its own accord.

        Raises:
            LayoutError: a convolution was called with its channels innermost.
            UsageError: one is at fault that would be compiled.
        """
        if self.innermost:
            raise LayoutError(
                "The model cannot be trained on the CPU with its channels innermost in memory (channels last).",
                f"oneDNN writes outside its memory in the backward pass of a convolution ({self.innermost[0]}).",
                f"Train it contiguous, or give that convolution {VECTOR} channels.",
            )
        if self.unsafe and compiled:
            raise UsageError(
                "The model cannot be compiled for training on the CPU.",
                "torch.compile puts channels innermost in memory, and there oneDNN writes outside its memory in the "
                f"backward pass of a convolution ({self.unsafe[0]}).",
                f"Leave out `compile`, or give that convolution {VECTOR} channels.",
            )


def _is_unsafe(
    image: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *,
    output: Tensor,
) -> bool:
    """Whether the shape is one for which oneDNN copies images to a workspace that its own step does not fit."""
    if image.dim() != 4 or transposed or groups != 1:  # of one dimension, torch makes images contiguous
        return False
    return (
        tuple(kernel.shape[2:]) == (1, 1)
        and image.shape[1] < VECTOR
        and max(stride) > 1
        and not any(padding)
        and all(output.shape[axis + 2] * stride[axis] == image.shape[axis + 2] for axis in (0, 1))
    )


def _is_innermost(tensor: Tensor) -> bool:
    """Whether torch takes the strides for those of channels last; a dimension of size 1 counts by its stride."""
    reach = 0
    for axis in (1, 3, 2, 0):
        step = tensor.stride(axis)
        if step < reach or (axis == 0 and reach == tensor.stride(1)):
            return False
        reach = step * max(tensor.shape[axis], 1)
    return tensor.stride(1) > 0
