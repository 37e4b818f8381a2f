"""What fake tensors do not know, or find out slowly: batch normalisation, what LSTMs and embedding bags keep."""

from __future__ import annotations

from functools import cache
from math import gcd
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

_DTYPES = (torch.float32, torch.float64)  # of narrower inputs the statistics have a dtype of their own
_FEWEST = 32  # steps of an LSTM; with fewer its workspace does not grow evenly
_PAGE = 4096  # bytes to which oneDNN rounds the parts of a workspace


class FakeAnswers(TorchDispatchMode):
    """Answers three operators on fake tensors by their shapes, as the CPU would.

    `native_batch_norm`: the result is like x, the statistics [channels], in eval mode without elements. A fake tensor
    would find the same by tracing a decomposition into a dozen operators for every new shape, most of the time of a
    first count of a ResNet. The running statistics, fakes too, stay untouched.

    `mkldnn_rnn_layer` where gradients are wanted: its fourth result is what it keeps for the backward pass, which a
    fake tensor takes for empty. How large it is the kernel alone knows, so one is run for real, on zeros.

    `_embedding_bag`: two of its results are the first places of a longer memory, which is kept as a whole: the bag of
    each index, of one index more, and the bags' sizes, one for each offset.
    """

    supports_higher_order_operators = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.native_batch_norm.default and not kwargs and len(args) >= 6:
            x, weight, training = args[0], args[1], args[5]
            if isinstance(x, FakeTensor) and x.dtype in _DTYPES and (weight is None or weight.dtype == x.dtype):
                values = x.numel() // x.shape[1] if x.dim() > 1 and x.shape[1] else 0
                if values > 1 or not training:
                    channels = x.shape[1] if training else 0
                    return torch.empty_like(x), x.new_empty(channels), x.new_empty(channels)
        result = func(*args, **(kwargs or {}))
        is_lstm = func is torch.ops.aten.mkldnn_rnn_layer.default
        if is_lstm and isinstance(args[0], FakeTensor) and torch.is_grad_enabled():
            shapes = tuple(tuple(tensor.shape) for tensor in args[:7])
            kept = args[0].new_empty(workspace(shapes, args[0].dtype, tuple(args[7:])), dtype=torch.uint8)
            return (*result[:3], kept)
        if func is torch.ops.aten._embedding_bag.default and isinstance(args[0], FakeTensor):
            out, bags, sizes, most = result
            bags = bags.new_empty(args[1].numel() + 1)[: bags.numel()] if bags.numel() else bags
            return out, bags, sizes.new_empty(args[2].numel())[: sizes.numel()], most
        return result


def workspace(shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype, settings: tuple[Any, ...]) -> int:
    """Bytes that `mkldnn_rnn_layer` keeps for the backward pass on this processor.

    Args:
        shapes: of its tensors: the input (steps, batch, width), weights, biases, states.
        settings: its other arguments.
    """
    steps, batch = shapes[0][:2]
    settings = tuple(tuple(value) if isinstance(value, list) else value for value in settings)
    # Each part is so many numbers a step and sample, rounded up to pages: after `period` steps more, every part is
    # whole pages larger. So a long sequence needs no longer run than two shorter ones.
    period = _PAGE // gcd(_PAGE, batch * dtype.itemsize)
    first = steps % period
    first += period * max(0, -(-(_FEWEST - first) // period))
    if steps <= first + period:
        return _measured(shapes, dtype, settings)
    low, high = (_measured(((n, *shapes[0][1:]), *shapes[1:]), dtype, settings) for n in (first, first + period))
    return low + (steps - first) // period * (high - low)


@cache
def _measured(shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype, settings: tuple[Any, ...]) -> int:
    with _disable_current_modes(), torch.enable_grad():
        tensors = [torch.zeros(shape, dtype=dtype) for shape in shapes]
        arguments = [list(value) if isinstance(value, tuple) else value for value in settings]
        kept = torch.ops.aten.mkldnn_rnn_layer.default(*tensors, *arguments)[3]
        return kept.numel() * kept.element_size()
