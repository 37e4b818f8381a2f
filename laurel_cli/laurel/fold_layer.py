"""A learned sum whose coefficients are numbers: x' = f + b x + B A x + sum_j c_j x_{i-j} + a bias, f scaled already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from laurel_cli.errors import ModelError
from laurel_cli.laurel import fast, projected
from laurel_cli.laurel.addition import Call, LearnedSum
from laurel_cli.laurel.fold_path import CannotFoldError
from laurel_cli.laurel.layers import LaurelLayer
from laurel_cli.laurel.layout import Member
from laurel_cli.laurel.low_rank import narrowed, widened
from laurel_cli.rivals.layer import StaticLayer, summed

HISTORY = "{} makes of the branch what depends on earlier connections"
UNKNOWN = "its formula, {}, is not known to be a f + b x + c"
SCORES = "it adds attention scores"
TOLERANCE = 1e-9  # relative, in float64: whether a rival's formula is what its coefficients say


@dataclass(frozen=True)
class Numbers:
    """x' = a f + b (x + ...) + bias, in float64: numbers, or vectors of length D."""

    a: Tensor
    b: Tensor
    bias: Tensor


def numbers(layer: LearnedSum) -> Numbers:
    """The coefficients that a layer has now.

    Raises:
        CannotFoldError: its formula has no such form.
    """
    if layer.scores:
        raise CannotFoldError(SCORES)
    one, nothing = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    if isinstance(layer, LaurelLayer):
        if not layer.spec.rw:
            return Numbers(one, one, nothing)
        a, b = (weight.detach().cpu().double() for weight in layer.residual_weights())
        return Numbers(a, b, nothing)
    if not isinstance(layer, StaticLayer):
        raise CannotFoldError(UNKNOWN.format(layer.spec.name))
    if layer.spec.reads_history:
        raise CannotFoldError(HISTORY.format(layer.spec.name))
    return _of_static(layer)


def is_vector(layer: LearnedSum) -> bool:
    """Whether a layer has coefficients for each channel."""
    if isinstance(layer, StaticLayer):
        return any(coefficient.vector for coefficient in layer.spec.own().values())
    return bool(getattr(layer.spec, "vector_weights", False))


def _of_static(layer: StaticLayer) -> Numbers:
    """What the formula makes of zeros and ones; tried with other numbers too, since it may be anybody's."""
    own = {name: getattr(layer, name).detach().cpu().double() for name in layer.spec.own()}

    def of(x: Tensor, f: Tensor) -> Tensor:
        return summed(layer.spec.terms(x, f, own, layer.number, ()), first=True)

    nothing = torch.zeros(2, layer.width, dtype=torch.float64)
    bias = of(nothing, nothing)
    a, b = of(nothing, nothing + 1) - bias, of(nothing + 1, nothing) - bias
    x, f = torch.randn(2, 2, layer.width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    error = (of(x, f) - (a[0] * f + b[0] * x + bias[0])).abs().max()
    if not error <= TOLERANCE * (1 + a.abs().max() + b.abs().max() + bias.abs().max()):
        raise CannotFoldError(UNKNOWN.format(layer.spec.name))
    return Numbers(*(_one_number(value[0]) if not is_vector(layer) else value[0] for value in (a, b, bias)))


def _one_number(value: Tensor) -> Tensor:
    return value[0] if bool((value == value[0]).all()) else value


class FoldedSum(LearnedSum):
    """x' = f + b x + what else the formula had, as numbers that no longer learn.

    In training mode it computes the same. In the state dict b stands as `alpha`, beside the low-rank maps.

    Args:
        layer: of which it takes the place; of its low-rank maps those that b and c_j were multiplied into.
        member: what the layout says of that layer.
        b, bias: in float64, as `Numbers` has them; what could be folded elsewhere is 1, or 0.
    """

    alpha: Tensor
    bias: Tensor | None
    c: Tensor | None
    within = False  # whether f holds B A x, see `fold_maps`

    def __init__(self, layer: LearnedSum, member: Member, b: Tensor, bias: Tensor) -> None:
        super().__init__(
            layer.spec, layer.width, member.shape, member.channel_dim, layer.skip, lags=layer.lags, scores=False
        )
        self.schedule = layer.schedule
        like = next(layer.parameters(), None)
        options: dict[str, Any] = {"dtype": getattr(torch, member.dtype)}
        if like is not None:
            options = {"dtype": like.dtype, "device": like.device}
        self.register_buffer("alpha", b.to(**options))
        self.register_buffer("bias", bias.to(**options) if bool(bias.any()) else None)
        self.register_buffer("c", None)
        self._channel_dim = member.channel_dim - len(member.shape)
        self._channel_last = member.channel_dim == len(member.shape) - 1
        self._moved = False
        self.history = "none"
        if isinstance(layer, LaurelLayer):
            self.history = layer.spec.history_map
            self._moved = layer._moved
            self._take_maps(layer, b)
        # Numbers of Python, which operators take as they are: alpha as it was before it was rounded to its dtype.
        self._alpha: float | None = float(b) if b.dim() == 0 else None
        self._c: list[float] | None = None
        self._seen: tuple[Any, ...] = ()
        self._read_numbers()
        self.train(layer.training)

    @torch.no_grad()
    def _take_maps(self, layer: LaurelLayer, b: Tensor) -> None:
        """b goes into B, and of per-lag maps c_j into A_j; B A is one D x D map where that is less work.

        Not I + B A: in 16 bits the identity would round away what is learned beside it.
        """
        c = layer.c.detach().cpu().double() if layer.spec.pa else torch.zeros(0)
        if layer.spec.pa and self.history != "per-lag":
            # A shared map is multiplied by b; the identity is not, and a vector b cannot be one number a lag.
            weights = c if self.history == "shared" else c.view(-1, *[1] * b.dim()) * b
            self.register_buffer("c", weights.to(layer.c))
        if not hasattr(layer, "B"):
            return
        if self.history == "none" and not self._moved and self.width <= 2 * layer.spec.rank:
            self.A, self.B = nn.ModuleList([nn.Identity()]), _one_map(layer, b)
            return
        self.A, self.B = layer.A, layer.B
        scaled(self.B.weight, b, 0)
        if self.history == "per-lag":
            for weight, down in zip(c, self.A, strict=True):
                scaled(down.weight, weight, None)  # type: ignore[arg-type]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Nothing where it is the ordinary sum.

        Raises:
            ModelError: it is not: what it holds stands in other weights too, and has no start.
        """
        if not self.is_plain:
            raise ModelError(
                "This model is folded.",
                "Its LAuReL is part of its weights, and cannot start anew.",
                "Reset the model that it was made of.",
            )

    def without_maps(self) -> None:
        """Let it be f + x: x is b x + B A x already."""
        del self.A, self.B
        self.alpha.fill_(1)
        self._read_numbers()

    @property
    def is_plain(self) -> bool:
        """Whether it is the ordinary sum."""
        return not hasattr(self, "B") and self.c_is_none and self.bias is None and bool((self.alpha == 1).all())

    @property
    def c_is_none(self) -> bool:
        """Whether it reads no earlier inputs."""
        return self.history == "none"

    @property
    def form(self) -> str:
        """What is left of the formula, in words."""
        if self.is_plain and not self.within:
            return "f + x"
        parts = ["f", "x" if bool((self.alpha == 1).all()) else "b x" if self.alpha.dim() == 0 else "b * x"]
        if not self.c_is_none and self.history != "per-lag":
            parts.append("h(sum_j c_j x_j)" if self.history == "shared" else "sum_j c_j x_j")
        if hasattr(self, "B") and self.history != "shared":
            product = "W x" if isinstance(self.A[0], nn.Identity) else "B A x"
            parts.append("sum_j B_j A_j x_j" if self.history == "per-lag" else product)
        return " + ".join(parts + ["bias"] * (self.bias is not None)) + " (B A x in f)" * self.within

    def _read_numbers(self) -> None:
        """What buffers say, unless it is the number that is known, less exact."""
        if self.alpha.is_meta:
            return
        if self._alpha is not None and not _is(self._alpha, self.alpha):
            self._alpha = float(self.alpha)
        self._c = None if self.c is None or self.c.dim() > 1 else self.c.tolist()
        self._seen = self._now()

    def _now(self) -> tuple[Any, ...]:
        """What tells whether somebody moved the buffers: their values."""
        return tuple(None if one is None else one.tolist() for one in (self.alpha, self.c))

    def _at_hand(self) -> tuple[fast.Weight, Sequence[fast.Weight]]:
        """alpha and c: numbers, as the buffers have them now, where Python can read them at no cost.

        The buffers themselves where they are vectors or on an accelerator, and where a compiler, an export, a transform
        of functions or a mode that watches operators would keep a number for ever.
        """
        kept = torch.compiler.is_compiling() or fast.watched() or self.alpha.device.type not in fast.AT_HAND
        if kept or self._alpha is None or type(self.alpha) is not Tensor:
            return self.alpha, () if self.c is None else self.c.unbind()
        if self._now() != self._seen:
            self._read_numbers()
        return self._alpha, () if self._c is None else self._c

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._read_numbers()

    def combine(
        self, x: Tensor, f: Tensor, sign: int, call: Call | None, *, first: bool, plain: Tensor | None, own: bool
    ) -> Tensor:
        """f + b x + ..., with the signs that the sum had."""
        del plain
        of_x, of_f = (1, sign) if first else (sign, 1)
        f = f if of_f > 0 else -f
        maps = self._modules  # `hasattr` of what is not there takes a microsecond
        entries = [] if self.history == "none" else self.past(lambda _: self._entry(x, call), call, self.lags)
        past = projected.inputs(entries)
        earlier = past if self.history == "identity" else []
        fits = fast.fits(x, f, *past[1:])
        b, c = self._at_hand()
        if fits:
            own = own and fast.is_apart(f, x, *past)
            total = self._at_once(x, f, b, earlier, c, of_x, first=first, own=own)
        else:
            total = self._with_past(self._plainly(x, f, b, of_x, first=first), earlier, c, of_x)
        if "B" in maps:
            inputs = past if self.history == "per-lag" else [x]
            if self.history == "shared":
                inputs = [_summed(past, c)]
            total = self._with_product(total, inputs, entries, of_x, fits=fits)
        bias = self.bias
        return total if bias is None else total + bias.to(total.dtype).view(self._broadcast)

    def _at_once(
        self,
        x: Tensor,
        f: Tensor,
        b: fast.Weight,
        earlier: list[Tensor],
        c: Sequence[fast.Weight],
        sign: int,
        *,
        first: bool,
        own: bool,
    ) -> Tensor:
        """f + b x + sum_j c_j x_j in one tensor: see `fast`."""
        of_x, *of_earlier = (self._ready(one, x) for one in (b, *c[: len(earlier)]))
        if of_earlier:  # x is the newest of the earlier inputs
            of_x = of_x + of_earlier.pop(0)
        if sign < 0:
            of_x, of_earlier = -of_x, [-weight for weight in of_earlier]
        return fast.weighted(f, 1.0, x, of_x, earlier[1:], of_earlier, first=first, own=own)

    def _plainly(self, x: Tensor, f: Tensor, b: fast.Weight, sign: int, *, first: bool) -> Tensor:
        """f + b x."""
        b = self._ready(b, x)
        if f.is_nested or x.is_nested:
            return f + x * (sign * b)
        if isinstance(b, Tensor):
            return torch.addcmul(f, x, b, value=sign)
        if b == 1:  # in the order that was there: the first one's memory layout is the sum's
            return x + f if first and sign > 0 else f + x if sign > 0 else f - x
        return torch.add(f, x, alpha=sign * b)

    def _with_past(self, total: Tensor, past: list[Tensor], c: Sequence[fast.Weight], sign: int) -> Tensor:
        for weight, earlier in zip(c, past, strict=False):
            ready = self._ready(weight, earlier)
            if isinstance(ready, Tensor):
                total = torch.addcmul(total, earlier, ready, value=sign)
            else:
                total = torch.add(total, earlier, alpha=sign * ready)
        return total

    def _ready(self, weight: fast.Weight, x: Tensor) -> fast.Weight:
        """A number, as Python has it or as a tensor, or a vector of the channels, to be multiplied with x."""
        if not isinstance(weight, Tensor):
            return weight
        weight = weight.to(x.dtype)
        return weight.view(self._broadcast) if weight.dim() else weight

    def _entry(self, x: Tensor, call: Call | None) -> Any:
        """What is remembered of x."""
        if self.history != "per-lag" or self._moved or torch.is_grad_enabled():
            return x
        return projected.projected(x, call, last=self._channel_last)

    def _with_product(
        self, total: Tensor, inputs: list[Tensor], entries: list[Any], sign: int, *, fits: bool
    ) -> Tensor:
        """total + sum_j B_j A_j x_j; by a product that adds, where nothing is differentiated: where it `fits`."""
        if fits and not self._moved:
            known = projected.products(self, entries) if self.history == "per-lag" else ()
            done = fast.plus_product(self.B, total, narrowed(self, inputs, by=fast.narrow, known=known), float(sign))
            if done is not None:
                return done
        wide = widened(self, narrowed(self, inputs), inputs[0].dtype)
        return total + wide if sign > 0 else total - wide

    def extra_repr(self) -> str:
        """What is left."""
        return f"{self.form}, of {self.spec.name}, width={self.width}"


def _summed(past: Sequence[Tensor], c: Sequence[fast.Weight]) -> Tensor:
    """sum_j c_j x_{i-j}: a shared map is linear."""
    total = past[0] * c[0]
    for weight, earlier in zip(c[1:], past[1:], strict=False):
        total = total + weight * earlier if isinstance(weight, Tensor) else torch.add(total, earlier, alpha=weight)
    return total


def _is(number: float, tensor: Tensor) -> bool:
    """Whether a tensor holds a number, in its own dtype."""
    return bool(torch.tensor(number, dtype=torch.float64).to(tensor.dtype) == tensor.cpu())


@torch.no_grad()
def _one_map(layer: LaurelLayer, b: Tensor) -> nn.Module:
    """W = b B A, of shape D x D: less work than two maps of rank r where D <= 2 r."""
    down, up = layer.A[0].weight, layer.B.weight
    product = up.detach().cpu().double().flatten(1) @ down.detach().cpu().double().flatten(1)  # type: ignore[operator]
    kind, kernel = type(layer.B), up.shape[2:]
    form = {"bias": False, "device": up.device, "dtype": up.dtype}
    made: Any = skip_init(kind, layer.width, layer.width, *([tuple(kernel)] if kernel else []), **form)
    made.weight.copy_((b.reshape(-1, 1) * product).view(made.weight.shape))
    made.weight.requires_grad_(up.requires_grad)
    return made


@torch.no_grad()
def scaled(weight: Tensor, factor: Tensor, axis: int | None) -> bool:
    """Multiply a weight in place, in float64; a vector of factors lies along `axis`. Leave it where it would overflow.

    Returns:
        Whether it was multiplied.
    """
    if bool((factor == 1).all()):
        return True
    shape = [1] * weight.dim()
    if factor.dim() and axis is not None:
        shape[axis] = -1
    product = (weight.detach().cpu().double() * factor.reshape(shape)).to(weight.dtype)
    if not bool(product.isfinite().all()) and bool(weight.isfinite().all()):
        return False
    weight.copy_(product)
    return True
