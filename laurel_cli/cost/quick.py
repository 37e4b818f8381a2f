"""Shapes of batch normalisation without taking it apart: most of the time of a first count of a ResNet otherwise."""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

_DTYPES = (torch.float32, torch.float64)  # of narrower inputs the statistics have a dtype of their own


class QuickBatchNorm(TorchDispatchMode):
    """Answers `native_batch_norm` on fake tensors by its shapes: the result is like x, the statistics [channels].

    In eval mode the CPU returns statistics without elements. A fake tensor would find the same by tracing a
    decomposition into a dozen operators for every new shape. The running statistics, fakes too, stay untouched.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.native_batch_norm.default and not kwargs and len(args) >= 6:
            x, weight, training = args[0], args[1], args[5]
            if isinstance(x, FakeTensor) and x.dtype in _DTYPES and (weight is None or weight.dtype == x.dtype):
                values = x.numel() // x.shape[1] if x.dim() > 1 and x.shape[1] else 0
                if values > 1 or not training:
                    channels = x.shape[1] if training else 0
                    return torch.empty_like(x), x.new_empty(channels), x.new_empty(channels)
        return func(*args, **(kwargs or {}))
