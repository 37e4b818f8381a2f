"""a (W x + v) by one product that has a as its factor, in eager mode on the CPU: no a W is made or kept.

With <u, v> the sum of u * v, and rows of x and dy:

    dx = a dy W    dW = a dy^T x    dv = a sum dy    da = <dy, W x + v> = (<W, dW> + <v, dv>) / a

They can be differentiated again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from laurel_cli.laurel import fast
from laurel_cli.laurel.fast_training import at_hand, dot

TYPES = (torch.float32, torch.float64)  # in 16 bits the sum over W takes longer than a W does
TRANSPOSED = "transformers.pytorch_utils.Conv1D"  # a linear map that holds W^T
LEAST = 1e-12  # of a that is divided by


def fits(module: nn.Module, x: Any, a: Tensor) -> bool:
    """Whether a module's call on x, times a number a, can be made here: a linear map's, in plain tensors of one type.

    Args:
        module: any.
        x: what it is called with.
        a: of one element.
    """
    if torch.compiler.is_compiling() or fast.transformed() or type(x) not in fast.WATCHED:
        return False
    if type(module) is not nn.Linear and not _is_transposed(module):
        return False
    weight: Any = module.weight
    if type(weight) not in fast.WEIGHTS or x.dtype not in TYPES or x.device.type not in fast.AT_HAND or a.numel() != 1:
        return False
    alike = weight.dtype == x.dtype == a.dtype and x.dim() > 0 and x.numel() > 0
    return alike and fast.are_alike(x, (), fast.WATCHED)


def scaled(module: nn.Module, x: Tensor, a: Tensor) -> Tensor:
    """a (W x + v), of the shape of the module's output.

    Args:
        module, x, a: as for `fits`.
    """
    product: Tensor = _Scaled.apply(x, module.weight, module.bias, a, _is_transposed(module))
    return product


def _is_transposed(module: nn.Module) -> bool:
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}" == TRANSPOSED


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, transposed: bool) -> Tensor:
        ctx.save_for_backward(x, weight, bias, a)
        ctx.transposed = transposed
        kernel, rows, factor = weight if transposed else weight.t(), x.reshape(-1, x.shape[-1]), at_hand(a)
        y = _product(rows, kernel, factor, bias)
        return y.view(*x.shape[:-1], kernel.shape[1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, weight, bias, a = ctx.saved_tensors
        for_x, for_weight, for_bias, for_a, _ = ctx.needs_input_grad
        kernel, factor = weight if ctx.transposed else weight.t(), at_hand(a.view(()))
        rows, d = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        dx = _product(d, kernel.t(), factor).view(x.shape) if for_x else None
        one, other = (rows.t(), d) if ctx.transposed else (d.t(), rows)
        dweight = _product(one, other, factor) if for_weight or for_a else None
        dbias = d.sum(0) * factor if bias is not None and (for_bias or for_a) else None
        da = None
        if for_a and (torch.is_grad_enabled() or (isinstance(factor, float) and abs(factor) < LEAST)):
            da = (d * _product(rows, kernel, 1.0, bias)).sum().view(a.shape)
        elif for_a and dweight is not None:
            da = dot(weight.reshape(-1), dweight.reshape(-1))
            da = ((da if dbias is None else da + dot(bias, dbias)) / factor).view(a.shape)
        return dx, dweight if for_weight else None, dbias if for_bias else None, da, None


def _product(one: Tensor, other: Tensor, factor: Any, bias: Tensor | None = None) -> Tensor:
    """factor (one other + bias): by one operator where the factor is a number, but 0, which would hide what is NaN."""
    if isinstance(factor, float) and factor != 0:
        start = one.new_zeros(()) if bias is None else bias
        return torch.addmm(start, one, other, beta=0.0 if bias is None else factor, alpha=factor)
    return factor * (one @ other if bias is None else torch.addmm(bias, one, other))
