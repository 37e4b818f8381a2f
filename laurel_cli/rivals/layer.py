"""The module of every formula of the static family."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from laurel_cli.laurel.addition import Call, LearnedSum, fill
from laurel_cli.rivals.static import Static, Terms


class StaticLayer(LearnedSum):
    """x' = g + a f, with the coefficients of a `Static` as parameters.

    Args:
        spec, width, shape, channel_dim, skip, lags, scores: as for `LearnedSum`.
        number: of the connection in its stream, from 1.
        device, dtype: of its parameters.
    """

    spec: Static

    def __init__(
        self,
        spec: Static,
        width: int,
        shape: tuple[int, ...],
        channel_dim: int,
        skip: int,
        *,
        lags: int = 0,
        number: int = 1,
        scores: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(spec, width, shape, channel_dim, skip, lags=lags, scores=scores)
        self.number = number
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        for name, coefficient in spec.own().items():
            self.register_parameter(name, nn.Parameter(torch.empty(coefficient.size(width, lags), **options)))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Every coefficient where the formula lets it start."""
        for name, coefficient in self.spec.own().items():
            fill(getattr(self, name), partial(coefficient.begin, number=self.number, generator=generator))

    def combine(
        self, x: Tensor, f: Tensor, sign: int, call: Call | None, *, first: bool, plain: Tensor | None, own: bool
    ) -> Tensor:
        """g + a f."""
        del plain, own  # it stands at no attention scores, and writes into no tensor
        if sign < 0:
            x, f = (x, -f) if first else (-x, f)
        c = {name: kind.ready(getattr(self, name), f, self._broadcast) for name, kind in self.spec.own().items()}
        past: list[Any] = []
        if self.spec.reads_history:
            past = self.past(partial(self.spec.remembered, x, f, c, self.number), call, self.number)
        return summed(self.spec.terms(x, f, c, self.number, past), first=first)

    @torch.no_grad()
    def coefficients(self) -> dict[str, float | list[float] | None]:
        """What branch (a) and skip (b) are multiplied with, as means over the channels; c for what was remembered."""
        own = {name: getattr(self, name).float() for name in self.spec.own()}
        told = self.spec.told(own)
        if told is not None or self.spec.reads_history:
            return super().coefficients() | (told or {})
        nothing = torch.zeros(self.width, device=self._place)

        def of(x: Tensor, f: Tensor) -> Tensor:
            return summed(self.spec.terms(x, f, own, self.number, ()), first=True)

        bias = of(nothing, nothing)
        a, b = of(nothing, nothing + 1) - bias, of(nothing + 1, nothing) - bias
        return super().coefficients() | {"a": float(a.mean()), "b": float(b.mean())}

    @property
    def _place(self) -> torch.device | None:
        return next((parameter.device for parameter in self.parameters()), None)


def summed(terms: Terms, *, first: bool) -> Tensor:
    """x' of its terms, in the order that was there: where memory layouts differ, the first operand's is the sum's."""
    g, a, f = terms.g, terms.a, terms.f
    if f is None:
        return g
    if isinstance(a, float) and not f.is_nested:
        return torch.add(g, f, alpha=a) if first else f * a + g
    if a is not None:
        if first and not f.is_nested:
            return torch.addcmul(g, a, f)  # type: ignore[arg-type]  # one kernel for two
        f = a * f
    return g + f if first else f + g
