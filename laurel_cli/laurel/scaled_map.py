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
from laurel_cli.laurel.fast_training import dot

TYPES = (torch.float32, torch.float64)  # in 16 bits the sum over W takes longer than a W does
TRANSPOSED = "transformers.pytorch_utils.Conv1D"  # a linear map that holds W^T
LEAST = 1e-12  # of a that is divided by


def fits(module: nn.Module, x: Any, a: Tensor) -> bool:
    """Whether a module's call on x, times a number a, can be made here: a linear map's, in plain tensors of one type.

    Args:
        module: with a weight, and a bias or None.
        x: what it is called with.
        a: of one element.
    """
    weight: Any = module.weight
    if (
        torch.compiler.is_compiling()
        or type(x) is not Tensor
        or not (type(module) is nn.Linear or _is_transposed(module))
    ):
        return False
    if type(weight) not in fast.WEIGHTS or x.dtype not in TYPES or x.device.type not in fast.AT_HAND or a.numel() != 1:
        return False
    alike = weight.dtype == x.dtype == a.dtype and x.dim() > 0 and x.numel() > 0
    return alike and not fast.watched() and fast.are_alike(x, (), fast.PLAIN)


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
        kernel, rows, number = weight if transposed else weight.t(), x.reshape(-1, x.shape[-1]), float(a)
        start = rows.new_zeros(()) if bias is None else bias
        return torch.addmm(start, rows, kernel, beta=number, alpha=number).view(*x.shape[:-1], kernel.shape[1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, weight, bias, a = ctx.saved_tensors
        for_x, for_weight, for_bias, for_a, _ = ctx.needs_input_grad
        kernel, rows, d = (
            weight if ctx.transposed else weight.t(),
            x.reshape(-1, x.shape[-1]),
            dy.reshape(-1, dy.shape[-1]),
        )
        number = 0.0 if torch.is_grad_enabled() else float(a)
        pair = (rows.t(), d) if ctx.transposed else (d.t(), rows)
        if abs(number) < LEAST:  # nothing is divided by it, and a tensor can be differentiated again
            factor = a.view(())
            dx = factor * (d @ kernel.t()) if for_x else None
            dweight = factor * (pair[0] @ pair[1]) if for_weight else None
            dbias = factor * d.sum(0) if for_bias else None
            plain = rows @ kernel if bias is None else rows @ kernel + bias
            da = (d * plain).sum() if for_a else None
        else:
            zero, da = d.new_zeros(()), None
            dx = torch.addmm(zero, d, kernel.t(), beta=0, alpha=number) if for_x else None
            dweight = torch.addmm(zero, *pair, beta=0, alpha=number)
            dbias = None if bias is None else d.sum(0).mul_(number)
            if for_a:
                both = dot(weight.reshape(-1), dweight.view(-1))
                da = (both if dbias is None else both + dot(bias, dbias)) / number
        dx = None if dx is None else dx.view(x.shape)
        da = None if da is None else da.view(a.shape)
        return dx, dweight if for_weight else None, dbias if for_bias else None, da, None
