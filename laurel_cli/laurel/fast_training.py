"""The learned sum in training, in eager mode: one node of the graph, which keeps x, f and r-wide products alone.

y = a f + b (x + sum_j c_j p_j + B n), where n = A x or the products of a history. The plain formula's graph keeps
b, g = x + ... and f; this one x (which the branch keeps as well), f for a's gradient, and n. Gradients, with <u, v> the
sum of u * v and s = B^T dy:

    df = a dy    dx = b (1 + c_0) dy    dp_j = b c_j dy    dn = b s    dB = b dy n^T
    da = <dy, f>    db = <dy, x> + sum_j c_j <dy, p_j> + <s, n>    dc_j = b <dy, p_j>, p_0 = x

They can be differentiated again. Forward, what is computed is that of `fast`; where operators are watched (counts,
fake tensors) it is the plain formula, and what is kept is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad

from laurel_cli.laurel import fast


@dataclass(frozen=True)
class Way:
    """How a sum is made, beyond its tensors.

    Attributes:
        first: whether the skip stands first.
        up: the layer whose weight is B; None without low-rank maps.
        dim: where the channels lie.
    """

    first: bool
    up: Any
    dim: int


def fits(x: Tensor, *others: Any) -> bool:
    """Whether tensors can be summed here: plain or fake ones alike, in eager mode, under no transform of functions."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or forward_ad._current_level >= 0:
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None or torch._C._get_tracing_state() is not None:
        return False
    if not all(type(one) in (Tensor, FakeTensor) and one.layout == torch.strided for one in (x, *others)):
        return False
    if not all(one.shape == x.shape and one.dtype == x.dtype and one.device == x.device for one in others):
        return False
    kind = x.device.type
    alike = not any(one.is_nested for one in (x, *others)) and x.numel() > 0
    return alike and kind in fast.DEVICES and x.is_floating_point() and not torch.is_autocast_enabled(kind)


def summed(
    way: Way,
    x: Tensor,
    f: Tensor,
    weights: tuple[Tensor, Tensor] | None,
    narrow: Tensor | None = None,
    c: Tensor | None = None,
    past: Sequence[Tensor] = (),
) -> Tensor:
    """a f + b (x + sum_j c_j p_j + B n).

    Args:
        way: how.
        x, f: skip and branch.
        weights: a and b, of one element each and of x's type; None for 1 and 1.
        narrow: n, r channels wide.
        c: of x itself and of `past`, the earlier inputs, the newest first.
    """
    a, b = (None, None) if weights is None else weights
    kernel = None if narrow is None else way.up.weight
    total: Tensor = _Sum.apply(way, x, f, a, b, narrow, kernel, c, *past)
    return total


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        way: Way,
        x: Tensor,
        f: Tensor,
        a: Tensor | None,
        b: Tensor | None,
        narrow: Tensor | None,
        kernel: Tensor | None,
        c: Tensor | None,
        *past: Tensor,
    ) -> Tensor:
        ctx.way = way
        skip = x if b is not None or c is not None else None
        ctx.save_for_backward(skip, f if a is not None else None, a, b, narrow, kernel, c, *past)
        ctx.set_materialize_grads(False)
        if fast.watched() or type(x) is not Tensor:
            return _plainly(way, x, f, a, b, narrow, c, past)
        by_a, by_b, by_c = _at_hand(a), _at_hand(b), _numbers(c)
        total = fast.weighted(f, by_a, x, by_b + by_b * by_c[0] if by_c else by_b, first=way.first, own=False)
        for weight, earlier in zip(by_c[1:], past, strict=False):
            total = fast.plus(total, earlier, by_b * weight)
        if narrow is None:
            return total
        done = fast.plus_product(way.up, total, narrow, by_b)
        return fast.plus(total, way.up(narrow), by_b) if done is None else done

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> Any:
        x, f, a, b, narrow, kernel, c, *past = ctx.saved_tensors
        if dy is None:
            return (None,) * (8 + len(past))
        _, needs_x, needs_f, needs_a, needs_b, needs_narrow, needs_kernel, needs_c, *needs_past = ctx.needs_input_grad
        dim = ctx.way.dim
        by_a, by_b, by_c = _at_hand(a), _at_hand(b), _numbers(c)
        df = _times(dy, by_a) if needs_f else None
        dx = _times(dy, by_b + by_b * by_c[0] if by_c else by_b) if needs_x else None
        dpast = [
            _times(dy, by_b * weight) if needed else None for needed, weight in zip(needs_past, by_c[1:], strict=True)
        ]
        da = _inner(dy, f).view_as(a) if needs_a else None
        inner = [_inner(dy, one) for one in (x, *past)] if needs_b or needs_c else []
        dc = _times(torch.stack(inner), by_b) if needs_c else None
        db = dnarrow = dkernel = None
        if needs_b:
            db = inner[0]
            for product, weight in zip(inner, by_c, strict=False):
                db = db + product * weight
        if kernel is not None:
            if needs_narrow or needs_b:
                s = _transposed(kernel, dy, dim)
                db = None if db is None else db + _inner(s, narrow)
                dnarrow = _times(s, by_b) if needs_narrow else None
            dkernel = _outer(dy, _times(narrow, by_b), dim).view_as(kernel) if needs_kernel else None
        return None, dx, df, da, None if db is None else db.view_as(b), dnarrow, dkernel, dc, *dpast


def _plainly(
    way: Way,
    x: Tensor,
    f: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    narrow: Tensor | None,
    c: Tensor | None,
    past: Sequence[Tensor],
) -> Tensor:
    """The sum by the operators of the plain formula, `LaurelLayer.combine`."""
    g = x
    if c is not None:
        total = c[0] * x
        for weight, earlier in zip(c[1:], past, strict=True):
            total = total + weight * earlier
        g = x + way.up(narrow) + total if narrow is not None else x + total
    elif narrow is not None:
        g = x + way.up(narrow)
    if a is None or b is None:
        return g + f if way.first else f + g
    return torch.addcmul(b * g, a, f) if way.first else torch.addcmul(a * f, b, g)


def _at_hand(weight: Tensor | None) -> Any:
    """A coefficient as a number where Python can read it, unless gradients of gradients go through it; 1 for none."""
    if weight is None:
        return 1.0
    return weight if _stays(weight) else float(weight)


def _numbers(c: Tensor | None) -> list[Any]:
    if c is None:
        return []
    return list(c.unbind()) if _stays(c) else c.tolist()


def _stays(weight: Tensor) -> bool:
    return torch.is_grad_enabled() or type(weight) is not Tensor or weight.device.type not in fast.AT_HAND


def _times(tensor: Tensor, weight: Any) -> Tensor:
    return tensor if isinstance(weight, float) and weight == 1 else tensor * weight


def _inner(u: Tensor, v: Tensor) -> Tensor:
    """<u, v>; by one product where both lie alike in memory and its sums are precise enough."""
    if u.dtype in (torch.float32, torch.float64):
        for dim in (-1, 1):
            one, other = (tensor.movedim(dim, -1) if tensor.dim() > 1 else tensor for tensor in (u, v))
            if one.is_contiguous() and other.is_contiguous():
                return torch.dot(one.view(-1), other.view(-1))
    return (u * v).sum()


def _rows(tensor: Tensor, dim: int) -> Tensor | None:
    """(places, channels) of a tensor whose channels lie at `dim`, where these are innermost in memory; else None."""
    last = tensor.movedim(dim, -1)
    return last.reshape(-1, last.shape[-1]) if dim == tensor.dim() - 1 or last.is_contiguous() else None


def _transposed(kernel: Tensor, dy: Tensor, dim: int) -> Tensor:
    """B^T dy, of dy's shape with r channels."""
    maps = kernel.flatten(1)
    rows = _rows(dy, dim)
    if rows is not None:
        places = dy.movedim(dim, -1).shape[:-1]
        return (rows @ maps).view(*places, -1).movedim(-1, dim)
    product = torch.bmm(maps.t().expand(len(dy), -1, -1), dy.reshape(len(dy), len(maps), -1))
    return product.view(len(dy), -1, *dy.shape[2:])


def _outer(dy: Tensor, narrow: Tensor, dim: int) -> Tensor:
    """The sum over all places of dy n^T, of shape (D, r)."""
    rows = _rows(dy, dim)
    if rows is not None:
        return rows.t() @ narrow.movedim(dim, -1).reshape(len(rows), -1)
    batch = len(dy)
    planes = dy.reshape(batch, dy.shape[1], -1), narrow.reshape(batch, narrow.shape[1], -1).transpose(1, 2)
    return torch.bmm(*planes).sum(0)
