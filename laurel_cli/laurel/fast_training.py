"""The learned sum in training, in eager mode: one node of the graph, which keeps x, f and r-wide products alone.

y = a f + b (x + sum_j c_j p_j + B n), where n = A x or the products of a history. The plain formula's graph keeps
g = x + ... and f; this one x (which the branch keeps as well), f for a's gradient, and n, each where something learns
that has it in its gradient. Gradients, with <u, v> the sum of u * v, p_0 = x and s = B^T dy:

    df = a dy    dp_j = b c_j dy    dx = b (1 + c_0) dy + A^T dn    dn = b s    dB = b dy n^T    dA = dn x^T
    da = <dy, f>    db = <dy, x> + sum_j c_j <dy, p_j> + <s, n>    dc_j = b <dy, p_j>

They can be differentiated again. Forward, what is computed is that of `fast`; where operators are watched (counts,
fake tensors) it is the plain formula, and what is kept is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from laurel_cli.laurel import fast

DOT = 1 << 20  # elements of one product on the CPU, whose sums in float32 are 1e-4 off at sixteen times as many
MOST_AT_ONCE = 1 << 31  # elements of one product on CUDA, which sums bfloat16 in float32 too

Weights = tuple[Tensor | None, Tensor]  # (a, b) of Eq. 5; a is None where f holds it


@dataclass(frozen=True)
class Making:
    """How a sum is made, beyond its tensors.

    Attributes:
        first: whether the skip stands first.
        dim: where the channels lie.
        plainly: the sum by the plain formula's operators, of x, f, the earlier inputs, a and b, and n.
        up: the layer whose weight is B; None without low-rank maps.
        down: the layer whose weight is A, where n = A x; None where n is given.
        own: f's memory may be overwritten, where its gradient asks for nothing of f.
        parted: x stands for b x, see `parted`.
    """

    first: bool
    dim: int
    plainly: Callable[[Tensor, Tensor, Sequence[Tensor], Weights | None, Tensor | None], Tensor]
    up: Any = None
    down: Any = None
    own: bool = False
    parted: bool = False


def fits(x: Tensor, *others: Any) -> bool:
    """Whether tensors can be summed here, of any size: plain or fake ones alike, in eager mode with gradients, under no
    transform of functions.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or x.is_nested or fast.transformed():
        return False
    return bool(x.numel()) and fast.are_alike(x, others, fast.WATCHED)


def summed(
    way: Making,
    x: Tensor,
    f: Tensor,
    weights: Weights | None,
    narrow: Tensor | None = None,
    c: Tensor | None = None,
    past: Sequence[Tensor] = (),
) -> Tensor:
    """a f + b (x + sum_j c_j p_j + B n).

    Args:
        way: how.
        x, f: skip and branch.
        weights: a and b, of one element each and of x's type; None for 1 and 1, a is None for 1.
        narrow: n, r channels wide, where it is not A x.
        c: of x itself and of `past`, the earlier inputs, the newest first.
    """
    a, b = (None, None) if weights is None else weights
    up, down = (None if one is None else one.weight for one in (way.up, way.down))
    total: Tensor = _Sum.apply(way, x, f, a, b, narrow, up, down, c, *past)
    return total


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        way: Making,
        x: Tensor,
        f: Tensor,
        a: Tensor | None,
        b: Tensor | None,
        narrow: Tensor | None,
        up: Tensor | None,
        down: Tensor | None,
        c: Tensor | None,
        *past: Tensor,
    ) -> Tensor:
        plain = fast.watched() or type(x) is not Tensor
        if down is not None:
            narrow = way.down(x) if plain else fast.narrow(way.down, x)
        ctx.way = way
        _, _, _, for_a, for_b, _, for_up, for_down, for_c, *_ = ctx.needs_input_grad
        # n made within needs x beside it: a gradient's own gradient goes through A x.
        by_x = for_b or for_c or for_down or (for_up and down is not None)
        earlier = past if for_b or for_c else (None,) * len(past)
        kept = x if by_x else None, f if for_a else None, a, b, narrow if for_b or for_up else None
        ctx.save_for_backward(*kept, up, down, c, *earlier)
        ctx.set_materialize_grads(False)
        if plain:
            return way.plainly(x, f, past, None if b is None else (a, b), narrow)
        by_a, by_b, by_c = at_hand(a), at_hand(b), _numbers(c)
        of_x, *of_past = fast.spread(by_b, by_c)
        own = way.own and not for_a and not f._is_view()
        if own:
            ctx.mark_dirty(f)
        total = fast.weighted(f, by_a, x, of_x, past, of_past, first=way.first, own=own)
        if narrow is None:
            return total
        done = fast.plus_product(way.up, total, narrow, by_b)
        return fast.plus(total, way.up(narrow), by_b) if done is None else done

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> Any:
        x, f, a, b, narrow, up, down, c, *past = ctx.saved_tensors
        if dy is None:
            return (None,) * (9 + len(past))
        _, *wanted = ctx.needs_input_grad
        for_x, for_f, for_a, for_b, for_narrow, for_up, for_down, for_c, *for_past = wanted
        dim = ctx.way.dim
        if down is not None and narrow is not None and torch.is_grad_enabled():
            # n was made within: once more, so that it has a graph.
            narrow = mapped(x, down.flatten(1).t(), dim)
        by_a, by_b, by_c = at_hand(a), at_hand(b), _numbers(c)
        of_x, *of_past = fast.spread(by_b, by_c)
        df = _times(dy, by_a) if for_f else None
        dpast = [_times(dy, weight) if needed else None for needed, weight in zip(for_past, of_past, strict=True)]
        da = inner(dy, f).view_as(a) if for_a else None
        products = [inner(dy, one) for one in (x, *past)] if for_b or for_c else []
        dc = _times(torch.stack(products), by_b) if for_c else None
        db = dnarrow = dup = ddown = None
        if for_b:
            db = products[0]
            for product, weight in zip(products, by_c, strict=False):
                db = db + product * weight
        if up is not None:
            s = mapped(dy, up.flatten(1), dim)
            db = None if db is None else db + inner(s, narrow)
            dnarrow = _times(s, by_b)
            dup = outer(dy, _times(narrow, by_b), dim).view_as(up) if for_up else None
            ddown = outer(dnarrow, x, dim).view_as(down) if for_down else None
        dx = None
        if for_x and ctx.way.parted:
            dx = dy
        elif for_x:
            dx = _times(dy, of_x) if dnarrow is None or down is None else _with_product(dy, of_x, dnarrow, down, dim)
        db = None if db is None else db.view_as(b)
        return None, dx, df, da, db, dnarrow if for_narrow else None, dup, ddown, dc, *dpast


def at_hand(weight: Tensor | None) -> Any:
    """A coefficient as a number where Python can read it, else as it is, see `_stays`; 1 for none."""
    if weight is None:
        return 1.0
    return weight if _stays(weight) else float(weight)


def _numbers(c: Tensor | None) -> list[Any]:
    if c is None:
        return []
    return list(c.unbind()) if _stays(c) else c.tolist()


def _stays(weight: Tensor) -> bool:
    """Whether a coefficient must stay a tensor: gradients of gradients go through it, or a graph is made of it."""
    recorded = torch.is_grad_enabled() or fast.watched() or torch.compiler.is_compiling()
    return recorded or type(weight) is not Tensor or weight.device.type not in fast.AT_HAND


def _times(tensor: Tensor, weight: Any) -> Tensor:
    return tensor if isinstance(weight, float) and weight == 1 else tensor * weight


def inner(u: Tensor, v: Tensor) -> Tensor:
    """<u, v>; by products where both lie alike in memory and their sums are precise enough."""
    if u.dtype in (torch.float32, torch.float64) or (u.device.type == "cuda" and u.numel() < MOST_AT_ONCE):
        for dim in (-1, 1):
            one, other = (tensor.movedim(dim, -1) if tensor.dim() > 1 else tensor for tensor in (u, v))
            if one.is_contiguous() and other.is_contiguous():
                return dot(one.view(-1), other.view(-1))
    return (u * v).sum()


def dot(u: Tensor, v: Tensor) -> Tensor:
    """<u, v> of two vectors, precise enough in float32."""
    if len(u) <= DOT or u.device.type != "cpu":
        return torch.dot(u, v)
    return torch.stack([torch.dot(*pair) for pair in zip(u.split(DOT), v.split(DOT), strict=True)]).sum()


def _rows(tensor: Tensor, dim: int) -> Tensor | None:
    """(places, channels) of a tensor whose channels lie at `dim`, where these are innermost in memory; else None."""
    last = tensor.movedim(dim, -1)
    return last.reshape(-1, last.shape[-1]) if dim == tensor.dim() - 1 or last.is_contiguous() else None


def mapped(u: Tensor, maps: Tensor, dim: int) -> Tensor:
    """u with the r channels maps^T u at every place; `maps` has a row for each of u's channels."""
    rows = _rows(u, dim)
    if rows is not None:
        return (rows @ maps).view(*u.movedim(dim, -1).shape[:-1], -1).movedim(-1, dim)
    product = torch.bmm(maps.t().expand(len(u), -1, -1), u.reshape(len(u), len(maps), -1))
    return product.view(len(u), -1, *u.shape[2:])


def outer(u: Tensor, v: Tensor, dim: int) -> Tensor:
    """The sum over all places of u v^T, a matrix of u's channels by v's."""
    rows = _rows(u, dim)
    if rows is not None:
        return rows.t() @ v.movedim(dim, -1).reshape(len(rows), -1)
    planes = u.reshape(len(u), u.shape[1], -1), v.reshape(len(v), v.shape[1], -1).transpose(1, 2)
    return torch.bmm(*planes).sum(0)


def _with_product(dy: Tensor, weight: Any, dnarrow: Tensor, down: Tensor, dim: int) -> Tensor:
    """weight dy + A^T dn, of dy's shape."""
    if not isinstance(weight, float):
        dy, weight = dy * weight, 1.0
    maps, rows = down.flatten(1), _rows(dy, dim)
    if rows is not None:
        found = torch.addmm(rows, dnarrow.movedim(dim, -1).reshape(len(rows), -1), maps, beta=weight)
        return found.view(dy.movedim(dim, -1).shape).movedim(-1, dim)
    batch = len(dy)
    planes = dy.reshape(batch, dy.shape[1], -1), maps.t().expand(batch, -1, -1), dnarrow.reshape(batch, len(maps), -1)
    return torch.baddbmm(*planes, beta=weight).view(dy.shape)
