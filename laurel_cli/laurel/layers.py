"""LAuReL's own learned sum.

Source: arXiv 2411.07501v4. x is the skip x_i, f the branch f(x_i); shapes are those of the sum, D its channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from laurel_cli.laurel import fast, fast_training, low_rank, projected, worth
from laurel_cli.laurel.addition import Call, LearnedSum, MapStart
from laurel_cli.laurel.spec import Spec
from laurel_cli.laurel.within import came_with_a
from laurel_cli.laurel.wrapped import REPLICATED

if TYPE_CHECKING:
    from laurel_cli.laurel.parted import Part, Reader


class LaurelLayer(LearnedSum):
    """x' = a f(x) + b (x + B A x + ...), Eqs. 3 to 6: called with the two operands of the addition it replaces.

    Args:
        spec, width, shape, channel_dim, skip, lags, scores: as for `LearnedSum`; scores for scalars alone.
        device, dtype: of its parameters.
    """

    spec: Spec
    within: tuple[Any, ...] = ()  # what multiplies f with a before it comes here, see `within`
    a_is_within = False  # whether all of them did, this time
    reader: Reader | None = None  # what parts x where the branch begins

    def __init__(
        self,
        spec: Spec,
        width: int,
        shape: tuple[int, ...],
        channel_dim: int,
        skip: int,
        *,
        lags: int = 0,
        scores: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(spec, width, shape, channel_dim, skip, lags=lags, scores=scores)
        self._kind = worth.kind(spec)
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        if spec.rw:
            logits = (1 if spec.normalize == "sigmoid" else 2, *([width] if spec.vector_weights else []))
            self.weights = nn.Parameter(torch.empty(logits, **options))
        maps = low_rank.maps_of(spec, lags)
        if maps:
            self.A = nn.ModuleList(
                low_rank.pointwise(width, spec.rank, shape, channel_dim, options) for _ in range(maps)
            )
            self.B = low_rank.pointwise(maps * spec.rank, width, shape, channel_dim, options)
            for part in (*self.A, self.B):  # who resets every module of a model resets these after the layer itself
                vars(part)["reset_parameters"] = MapStart(low_rank.begin, part, spec, up=part is self.B)
        if spec.pa:
            self.c = nn.Parameter(torch.empty(lags, **options))
        self._channel_last = channel_dim == len(shape) - 1
        self._channel_dim = channel_dim - len(shape)  # from the end: there may be other leading dimensions in a call
        self._moved = maps > 0 and isinstance(self.B, nn.Linear) and not self._channel_last

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """The start: a = b = 1 (2 softmax), B = 0, A as the spec says, c = 1 before low-rank maps, else 0.

        c = 0 beside B = 0 would be a dead point: the gradients of both vanish there.
        """
        if self.spec.rw:
            self.weights.fill_(1.0 if self.spec.normalize == "none" else 0.0)
        if hasattr(self, "B"):
            for down in self.A:
                low_rank.begin(down, self.spec, generator)
            low_rank.begin(self.B, self.spec, up=True)
        if self.spec.pa:
            self.c.fill_(0.0 if self.spec.history_map == "identity" else 1.0)

    def residual_weights(self) -> tuple[Tensor, Tensor]:
        """(a, b) of Eq. 5, scalars or vectors of length D."""
        if self.spec.normalize == "sigmoid":
            a = torch.sigmoid(self.weights[0])
            return a, 1 - a
        both: Tensor = self.weights
        if self.spec.normalize != "none":
            if torch.compiler.is_compiling():  # the same, as a part of any kernel: a reduction is one of its own
                difference = both[0] - both[1]
                scale = 2 if self.spec.normalize == "2softmax" else 1
                return scale * torch.sigmoid(difference), scale * torch.sigmoid(-difference)
            both = torch.softmax(both, dim=0)
        if self.spec.normalize == "2softmax":
            both = 2 * both
        a, b = both.unbind(0)
        return a, b

    @torch.no_grad()
    def coefficients(self) -> dict[str, float | list[float] | None]:
        """a, b and c; see `LearnedSum.coefficients`."""
        found = super().coefficients()
        if self.spec.rw:
            found["a"], found["b"] = (float(weight.float().mean()) for weight in self.residual_weights())
        if self.spec.pa:
            found["c"] = [float(value) for value in self.c.float()]
        return found

    def combine(
        self, x: Tensor, f: Tensor, sign: int, call: Call | None, *, first: bool, plain: Tensor | None, own: bool
    ) -> Tensor:
        """a f + b g."""
        spec = self.spec
        both = None  # (a, b), where they were made on the way here
        if self.within:
            self.a_is_within, both = came_with_a(self)
        part = None if self.reader is None or torch.compiler.is_compiling() else self.reader.part(x)
        if plain is not None:
            return self._with_scores(plain, x, f, (1, sign) if first else (sign, 1), call)
        entries: list[Any] = self.past(lambda _: self._entry(x, call), call, self.lags) if spec.pa else []
        past = projected.inputs(entries) if entries else []
        if not worth.pays(x, self._kind):
            return self._plainly(x, f, sign, past, first=first, weights=both and self._outside(both))
        if fast.fits(x, f, *past[1:]):
            own = own and fast.is_apart(f, x, *past)
            return self._at_once(x, f, (1, sign) if first else (sign, 1), past, entries, first=first, own=own)
        if sign > 0 and fast_training.fits(x, f, *past[1:]) and self._trains_at_once(x):
            own = own and type(f) is Tensor and fast.is_apart(f, x, *past)  # a fake tensor lies nowhere
            return self._learning(x, f, past, entries, part, both, first=first, own=own)
        return self._plainly(x, f, sign, past, first=first)

    def _replicate_for_data_parallel(self) -> Any:
        if self.within or self.reader is not None:  # a copied module's `forward` would be that of the first one
            raise RuntimeError(REPLICATED)
        return super()._replicate_for_data_parallel()

    def _entry(self, x: Tensor, call: Call | None) -> Any:
        """What is remembered of x."""
        if self.spec.history_map != "per-lag" or self._moved:
            return x
        return projected.projected(x, call, last=self._channel_last)

    def _plainly(
        self,
        x: Tensor,
        f: Tensor,
        sign: int,
        past: Sequence[Tensor],
        *,
        first: bool,
        weights: fast_training.Weights | None = None,
        narrow: Tensor | None = None,
    ) -> Tensor:
        """a f + b g by the operators of the equations; (a, b) are `weights` and n is `narrow` where they are made."""
        spec = self.spec
        g = self._augmented(x, past, narrow) if spec.pa or spec.lr else x
        if spec.rw:  # Eq. 5
            a, b = self._outside() if weights is None else weights
            # In the operands' own types: float32 beside bfloat16 would widen the stream, as vectors and under autocast.
            b = b if b.dtype is g.dtype else b.to(g.dtype)  # which asks for less than to convert to the same one
            if a is None:
                return self._with_a_within(f, g, b, sign, first=first)
            a = a if a.dtype is f.dtype else a.to(f.dtype)
            if spec.vector_weights:
                a, b = a.view(self._broadcast), b.view(self._broadcast)
            if not f.is_nested:  # two kernels instead of three; at a = b = 1 as exact as the sum
                if sign < 0:
                    return torch.addcmul(b * g, -a, f) if first else torch.addcmul(a * f, -b, g)
                return torch.addcmul(b * g, a, f) if first else torch.addcmul(a * f, b, g)
            f, g = a * f, b * g
        if sign < 0:
            return g - f if first else f - g
        # In the order that was there: where the operands' memory layouts differ, the first one's is the sum's.
        return g + f if first else f + g

    def _with_a_within(self, f: Tensor, g: Tensor, b: Tensor, sign: int, *, first: bool) -> Tensor:
        """f + b g, of an f that holds a: f is not kept for the backward pass."""
        if f.is_nested:
            g = b * g
            return (g + f if first else f + g) if sign > 0 else g - f if first else f - g
        b = b.view(self._broadcast) if self.spec.vector_weights else b
        if first:  # its memory layout is the sum's
            return b * g + f if sign > 0 else b * g - f
        return torch.addcmul(f, b, g, value=sign)

    def _outside(self, both: tuple[Tensor, Tensor] | None = None) -> fast_training.Weights:
        """(a, b) of Eq. 5, or `both`, as they stand in the sum: a is None where f holds it."""
        a, b = self.residual_weights() if both is None else both
        return None if self.a_is_within else a, b

    def _augmented(self, x: Tensor, past: Sequence[Tensor], narrow: Tensor | None) -> Tensor:
        """x + B A x, Eq. 3; x + sum_j c_j h(x_{i-j}), Eq. 4; with one low-rank map per lag, Eq. 6."""
        g = x
        if self.spec.low_rank:
            g = x + low_rank.widened(self, self._narrow(x, past) if narrow is None else narrow, x.dtype)
        return g + self._gathered(past) if self.spec.history_map == "identity" else g

    def _narrow(
        self,
        x: Tensor,
        past: Sequence[Tensor],
        by: Callable[..., Tensor] = nn.Module.__call__,
        entries: Sequence[Any] = (),
    ) -> Tensor:
        """What B is multiplied with: A x, or the products of the history, of which `entries` may hold some."""
        history = self.spec.history_map
        if history == "per-lag":
            return low_rank.narrowed(self, past, self.c, by, projected.products(self, entries) if entries else ())
        # A shared h is linear: one product for all lags.
        return low_rank.narrowed(self, [self._gathered(past) if history == "shared" else x], None, by)

    def _at_once(
        self,
        x: Tensor,
        f: Tensor,
        signs: tuple[int, int],
        past: list[Tensor],
        entries: list[Any],
        *,
        first: bool,
        own: bool,
    ) -> Tensor:
        """The same sum, gathered in one tensor: see `fast`. x and f have `signs`."""
        spec = self.spec
        at_hand = x.device.type in fast.AT_HAND
        shares = None if at_hand or not spec.rw or signs != (1, 1) else self._shares(f)
        b: fast.Weight
        if shares is not None:
            scale = 2.0 if spec.normalize == "2softmax" else 1.0
            total = fast.blended(f, x, shares, scale, first=first, own=own)
            b = scale * shares[1] if spec.low_rank else 1.0
        else:
            a, b = self._at_hand(f, at_hand) if spec.rw else (1.0, 1.0)
            if signs != (1, 1):
                b, a = signs[0] * b, signs[1] * a
            if spec.history_map == "identity":
                c: Sequence[Any] = self.c.tolist() if at_hand else self.c.to(x.dtype).unbind()
                of_x, *of_past = fast.spread(b, c)  # x is the newest entry of the history
                total = fast.weighted(f, a, x, of_x, past[1:], of_past, first=first, own=own)
            else:
                total = fast.weighted(f, a, x, b, first=first, own=own)
        if not spec.low_rank:
            return total
        narrow = self._narrow(x, past, fast.narrow, entries)
        done = None if self._moved else fast.plus_product(self.B, total, narrow, b)
        return fast.plus(total, low_rank.widened(self, narrow, total.dtype), b) if done is None else done

    def _shares(self, f: Tensor) -> tuple[Tensor, Tensor] | None:
        """(a, b) over their sum, to be multiplied with; None where their sum is not fixed, or more is multiplied."""
        spec = self.spec
        if spec.vector_weights or spec.normalize == "none" or spec.history_map == "identity" or self.a_is_within:
            return None
        both = self.residual_weights() if spec.normalize == "sigmoid" else torch.softmax(self.weights, 0).unbind(0)
        a, b = (weight.to(f.dtype) for weight in both)
        return a, b

    def _trains_at_once(self, x: Tensor) -> bool:
        """Whether `fast_training` knows the formula, and what the maps are."""
        usual = not self.spec.low_rank or (not self._moved and fast.is_plain(self.B, x))
        return usual and not self.spec.vector_weights

    def _learning(
        self,
        x: Tensor,
        f: Tensor,
        past: list[Tensor],
        entries: list[Any],
        part: Part | None,
        both: tuple[Tensor, Tensor] | None,
        *,
        first: bool,
        own: bool,
    ) -> Tensor:
        """The same sum as one node of the graph: see `fast_training`."""
        weights = narrow = c = up = down = None
        if self.spec.rw:
            a, b = self._outside(both if part is None else part.both)
            weights = None if a is None else a.to(f.dtype), (b if part is None else b.detach()).to(f.dtype)
        if self.spec.low_rank:
            up, of_x = self.B, self.spec.history_map in ("none", "identity")
            if of_x and fast.is_plain(self.A[0], x):
                down = self.A[0]
            else:
                watched = fast.watched()
                by = nn.Module.__call__ if watched else fast.narrow
                narrow = self._narrow(x, past, by, () if watched else entries)
        if self.spec.history_map == "identity":
            c = self.c[: len(past)].to(x.dtype)

        def plainly(
            x: Tensor, f: Tensor, past: Sequence[Tensor], weights: fast_training.Weights | None, narrow: Tensor | None
        ) -> Tensor:
            return self._plainly(x, f, 1, [x, *past], first=first, weights=weights, narrow=narrow)

        way = fast_training.Making(first, x.dim() + self._channel_dim, plainly, up, down, own, part is not None)
        x = x if part is None else part.v
        return fast_training.summed(way, x, f, weights, narrow, c, past[1:] if c is not None else ())

    def _gathered(self, past: Sequence[Tensor]) -> Tensor:
        """sum_j c_j x_{i-j}."""
        first, *others = self.c.unbind(0)  # one operator, where an index asks for one a lag
        total = first * past[0]
        for weight, earlier in zip(others, past[1:], strict=False):  # early connections have fewer
            total = total + weight * earlier
        return total

    def _at_hand(self, f: Tensor, at_hand: bool) -> tuple[fast.Weight, fast.Weight]:
        """(a, b): as numbers where Python can read them at no cost, `at_hand`, else ready to be multiplied with."""
        a: fast.Weight
        b: fast.Weight
        if at_hand and not self.spec.vector_weights:
            a, b = fast.numbers(self.weights, self.spec)
        else:
            a, b = (weight.to(f.dtype) for weight in self.residual_weights())
            if self.spec.vector_weights:
                a, b = a.view(self._broadcast), b.view(self._broadcast)
        return 1.0 if self.a_is_within else a, b

    def _with_scores(self, total: Tensor, x: Tensor, f: Tensor, signs: tuple[int, int], call: Call | None) -> Tensor:
        """The plain sum of x and f, in which they have `signs`, and beside it, apart, what is learned.

        Where scores are masked no gradient is 0 times infinity.
        """
        limits = torch.finfo(x.dtype)
        x = x.clamp(limits.min, limits.max)
        scale: Tensor | int = signs[0]
        if self.spec.rw:
            a, b = (weight.to(x.dtype) for weight in self.residual_weights())
            total = total + (a - 1 if signs[1] > 0 else 1 - a) * f.clamp(limits.min, limits.max)
            total = total + (b - 1 if signs[0] > 0 else 1 - b) * x
            scale = b if signs[0] > 0 else -b
        if self.spec.pa:
            weights = scale * self.c.to(x.dtype)
            for lag, earlier in enumerate(self.past(lambda _: x, call, self.lags)):
                total = total + weights[lag] * earlier
        return total
