"""The learned sum where nothing is differentiated: into one tensor, in place where the sum that stood there was.

In eager mode without gradients, a f + b (x + ...) is gathered in one tensor: the branch's own memory where the model
wrote `f += x`, else one new tensor. With gradients see `fast_training`. Everywhere else (under a compiler, an export, a
transform or a mode that watches operators) the plain formula stands, which is what counts and compilers are to see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.modules.module import _has_any_global_hook

from laurel_cli.laurel import worth
from laurel_cli.laurel.spec import Spec

Weight = float | Tensor  # a number of Python, or a tensor that can be broadcast to the sum
AT_HAND = ("cpu",)  # devices whose numbers Python can read without waiting for what is under way
PLAIN, WATCHED, WEIGHTS = (Tensor,), (Tensor, FakeTensor), (nn.Parameter, Tensor, FakeTensor)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
MAPS = (nn.Linear, *CONVOLUTIONS)
PRE_DISPATCH = torch._C.DispatchKey.PreDispatch  # in force where `make_fx(pre_dispatch=True)` makes a graph
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def fits(x: Tensor, *others: Any) -> bool:
    """Whether tensors can be summed here, of any size: plain ones alike, no gradient, nobody who watches.

    Args:
        x: the skip; `others` what is summed with it.
    """
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or type(x) is not Tensor:
        return False
    return (x.is_cpu or x.is_cuda) and not watched() and are_alike(x, others, PLAIN)


def are_alike(x: Tensor, others: Sequence[Any], types: tuple[type, ...]) -> bool:
    """Whether tensors are of these very types, dense, of one shape, type and device, real, and under no autocast.

    Every sum asks, however small: so it is a loop of few words, where `all` over a generator takes twice as long.
    """
    if type(x) not in types or x.layout is not torch.strided or x.is_nested or not x.is_floating_point():
        return False
    shape, dtype, device = x.shape, x.dtype, x.device
    for one in others:
        if type(one) not in types or one.dtype is not dtype or one.shape != shape or one.device != device:
            return False
        if one.layout is not torch.strided or one.is_nested:
            return False
    return not torch.is_autocast_enabled(device.type)


def autocasts(x: Tensor) -> bool:
    """Whether operators choose the dtype in which they compute with x; the meta device cannot even be asked."""
    return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)


def watched() -> bool:
    """Whether operators are seen by a dispatch mode, or `transformed`."""
    return torch._C._len_torch_dispatch_stack() > 0 or transformed()


def transformed() -> bool:
    """Whether operators are seen by a transform of functions or a trace, or carry forward gradients."""
    if torch._C._functorch.peek_interpreter_stack() is not None or worth.traced() or forward_ad._current_level >= 0:
        return True
    included: bool = torch._C._dispatch_tls_is_dispatch_key_included(PRE_DISPATCH)
    return included


def numbers(logits: Tensor, spec: Spec) -> tuple[float, float]:
    """(a, b) of Eq. 5 from RW's two logits (one with "sigmoid") on the CPU, read anew by each call: never stale."""
    values: list[float] = logits.tolist()
    if spec.normalize == "none":
        return values[0], values[1]
    if spec.normalize == "sigmoid":
        a = _share(values[0])
        return a, 1 - a
    # What has run away to infinity is no number, as of `softmax`: a model that is broken says so at inference too.
    difference = values[0] - values[1] if max(values) < math.inf else math.nan
    scale = 2 if spec.normalize == "2softmax" else 1
    return scale * _share(difference), scale * _share(-difference)


def _share(difference: float) -> float:
    """1 / (1 + exp(-difference)), without overflow."""
    if difference >= 0:
        return 1 / (1 + math.exp(-difference))
    grown = math.exp(difference)
    return grown / (1 + grown)


def spread(b: Weight, c: Sequence[Weight]) -> list[Weight]:
    """What x and the earlier inputs of a history are multiplied with: b (1 + c_0), b c_1, ...; b alone without one."""
    return [b + b * c[0], *(b * weight for weight in c[1:])] if c else [b]


def weighted(
    f: Tensor,
    a: Weight,
    x: Tensor,
    b: Weight,
    past: Sequence[Tensor] = (),
    c: Sequence[Weight] = (),
    *,
    first: bool,
    own: bool,
) -> Tensor:
    """a f + b x + sum_j c_j p_j in one tensor.

    Args:
        f, x: alike, see `fits`; `past` holds the p_j, alike too.
        c: as many as `past`, or more.
        first: x stood first, so that where their memory layouts differ, its own is the sum's.
        own: f's memory may be overwritten.
    """
    pair = (x, b, f, a) if first else (f, a, x, b)
    total = plus(f if _is_one(a) else f.mul_(a), x, b) if own else _two(*pair)
    for weight, earlier in zip(c, past, strict=False):
        total = plus(total, earlier, weight)
    return total


def blended(f: Tensor, x: Tensor, shares: tuple[Tensor, Tensor], scale: float, *, first: bool, own: bool) -> Tensor:
    """scale (a f + b x), where a + b = 1, in one tensor and by one operator, or two where `scale` is not 1.

    Args:
        f, x: alike, see `fits`.
        shares: (a, b), of x's type, which can be broadcast to it.
        first, own: see `weighted`.
    """
    a, b = shares
    total = f.lerp_(x, b) if own else torch.lerp(x, f, a) if first else torch.lerp(f, x, b)
    return total if scale == 1 else total.mul_(scale)


def _two(one: Tensor, its: Weight, other: Tensor, others: Weight) -> Tensor:
    """its * one + others * other in a new tensor, which lies in memory as the first."""
    if _is_one(others) and one.stride() == other.stride():
        (one, its), (other, others) = (other, others), (one, its)
    if _is_one(its):
        return torch.add(one, other, alpha=others) if isinstance(others, float) else torch.addcmul(one, other, others)
    return plus(one * its, other, others)


def is_apart(f: Tensor, *others: Tensor) -> bool:
    """Whether f shares its memory with none of the others."""
    memory = f.untyped_storage().data_ptr()
    for other in others:  # noqa: SIM110 - see `are_alike`
        if other.untyped_storage().data_ptr() == memory:
            return False
    return True


def _is_one(weight: Weight) -> bool:
    return isinstance(weight, float) and weight == 1


def plus(total: Tensor, term: Tensor, weight: Weight) -> Tensor:
    """total + weight * term, in `total`."""
    return total.add_(term, alpha=weight) if isinstance(weight, float) else total.addcmul_(term, weight)


def narrow(down: Any, x: Tensor) -> Tensor:
    """A x, where images lie channel by channel as a product for each: half the time of a convolution, or less.

    Args:
        down: A, a linear layer or a convolution of kernel 1; x of shape (..., D) or (N, D, ...).
    """
    if type(down) not in CONVOLUTIONS or not is_plain(down, x) or not x.is_contiguous() or x.numel() == 0:
        return down(x)
    return _of_planes(down.weight.flatten(1), x)


def narrow_at_once(downs: Sequence[Any], x: Tensor) -> tuple[Tensor, ...]:
    """A x of several maps by one product, which reads x once.

    Args:
        downs: alike, each plain, see `is_plain`; x as for `narrow`.
    """
    weight = torch.cat([down.weight for down in downs])
    ranks = [len(down.weight) for down in downs]
    if type(downs[0]) not in CONVOLUTIONS:
        return functional.linear(x, weight).split(ranks, -1)
    if x.is_contiguous():
        return _of_planes(weight.flatten(1), x).split(ranks, 1)
    return functional.linear(x.movedim(1, -1), weight.flatten(1)).movedim(-1, 1).split(ranks, 1)


def _of_planes(kernel: Tensor, x: Tensor) -> Tensor:
    """A x of images that lie channel by channel."""
    rank, width = kernel.shape
    if x.numel() == len(x) * width:  # one place
        return torch.mm(x.view(-1, width), kernel.t()).view(len(x), rank, *x.shape[2:])
    if len(x) == 1 and x.dtype == torch.float32:  # with the longer side first: two threads share it better
        product = torch.mm(x.view(width, -1).t(), kernel.t()).t()
    else:
        product = torch.bmm(kernel.expand(len(x), -1, -1), x.view(len(x), width, -1))
    return product.view(len(x), rank, *x.shape[2:])


def plus_product(up: Any, total: Tensor, narrow: Tensor, weight: Weight) -> Tensor | None:
    """total + weight * B narrow, in `total` and by one product that adds; None where there is none.

    Args:
        up: B, a linear layer or a convolution of kernel 1; not one that somebody hooked, wrapped or quantised.
        total: (..., D), or (N, D, ...) for a convolution; `narrow` the same with r channels.
        weight: a number, or a tensor, of which one of a single element can be multiplied in.
    """
    images = type(up) in CONVOLUTIONS
    if not is_plain(up, total) or total.dtype != narrow.dtype:
        return None
    kernel = up.weight.flatten(1)
    width, rank = kernel.shape
    if total.numel() == 0 or narrow.numel() * width != total.numel() * rank:
        return None
    if isinstance(weight, Tensor) and weight.numel() != 1:
        return None
    if isinstance(weight, Tensor) or weight == 0:  # as a factor of its own, 0 would hide a product that is NaN
        narrow, weight = narrow * weight, 1.0
    if not images or total.numel() == total.shape[0] * width:
        rows, of_narrow = total, narrow
    elif total.is_contiguous():
        batch = total.shape[0]
        flat, maps = narrow.reshape(batch, rank, -1), kernel.expand(batch, -1, -1)
        total.view(batch, width, -1).baddbmm_(maps, flat, alpha=weight)
        return total
    else:
        rows, of_narrow = total.movedim(1, -1), narrow.movedim(1, -1)
    if not rows.is_contiguous():
        return None
    rows.view(-1, width).addmm_(of_narrow.reshape(-1, rank), kernel.t(), alpha=weight)
    return total


def is_bare(module: nn.Module) -> bool:
    """Whether it is a linear layer or a convolution itself, with no hook and no forward method of its own."""
    return type(module) in MAPS and "forward" not in vars(module) and not is_hooked(module)


def is_hooked(module: nn.Module) -> bool:
    """Whether somebody has hooks on it."""
    own = vars(module)
    for hooks in HOOKS:  # noqa: SIM110 - see `are_alike`
        if own[hooks]:
            return True
    return False


def are_all_hooked() -> bool:
    """Whether somebody has hooks on all modules, other than to count: a counter watches the operators too."""
    return _has_any_global_hook() and not watched()


def is_plain(module: nn.Module, x: Tensor) -> bool:
    """Whether its call is a product with its weight and nothing else: no hook, no other forward method, weight or bias.

    Hooks of all modules do no harm where operators are watched, as counters set them: the module is called there.

    Args:
        module: a map of the channels.
        x: with the type and the number of dimensions of what it is called with: a convolution also takes one image
            without a batch, whose channels stand elsewhere.
    """
    if not is_bare(module) or are_all_hooked() or getattr(module, "bias", None) is not None:
        return False
    weight: Any = module.weight
    return type(weight) in WEIGHTS and weight.dtype == x.dtype and (weight.dim() in (2, x.dim()))
