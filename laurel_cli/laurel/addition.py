"""The module that stands where a `+` stood: which operand is the skip, which call it is, what earlier inputs it reads.

x is the skip x_i, f the branch f(x_i); shapes are those of the sum, D its channels. What it makes of them its formula
says.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from laurel_cli.laurel.formula import Formula
from laurel_cli.laurel.history import Carry, History, Schedule

Call = tuple[History, int]
OPERANDS = (Tensor, Proxy)  # of a sum that may be learned: what `torch.fx` traces stands for a tensor
UNTOLD = "torch.fx cannot trace a LAuReL layer that is called several times in a pass: use torch.export."


class MapStart(partial[None]):
    """Starts a module within a learned sum: it stands for that module's own `reset_parameters`, which would draw."""


class LearnedSum(nn.Module):
    """Called with the two operands of the addition that it replaces; a subclass says what it makes of them.

    Args:
        spec: the formula.
        width: D.
        shape: of the sum, for its number of dimensions; `channel_dim` its channel dimension.
        skip: which operand of the addition is the skip, 0 or 1.
        lags: entries of the history that it reads, the current input among them; 0 without a history.
        scores: the operands are attention scores, of which some may be masked by infinities.
    """

    def __init__(
        self,
        spec: Formula,
        width: int,
        shape: tuple[int, ...],
        channel_dim: int,
        skip: int,
        *,
        lags: int = 0,
        scores: bool = False,
    ) -> None:
        super().__init__()
        self.spec, self.width, self.lags, self.skip, self.scores = spec, width, lags, skip, scores
        self._broadcast = tuple(-1 if dim == channel_dim else 1 for dim in range(channel_dim, len(shape)))
        self.schedule: Schedule | None = None
        self.carry: Carry | None = None

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Start all parameters as the formula says; what is drawn comes from `generator`."""
        raise NotImplementedError

    def combine(
        self, x: Tensor, f: Tensor, sign: int, call: Call | None, *, first: bool, plain: Tensor | None, own: bool
    ) -> Tensor:
        """x' of skip and branch.

        Args:
            x: the skip; f: the branch.
            sign: -1 where one is subtracted from the other: f from x where `first`, else x from f.
            call: the history and the position in it.
            first: whether the skip stands first.
            plain: the sum as it was, for attention scores.
            own: the sum that stood here overwrote the branch, so that this one may.
        """
        raise NotImplementedError

    def coefficients(self) -> dict[str, float | list[float] | None]:
        """What it has learned, in the paper's names: a and b of Eq. 5 (their means where they are vectors), c of Eq. 4.

        None for what it has not.
        """
        return {"a": None, "b": None, "c": None}

    @property
    def adds_plainly(self) -> bool:
        """Whether some of its calls are no residual connection."""
        return self.schedule is not None and None in self.schedule.calls

    def forward(
        self,
        left: Tensor,
        right: Tensor,
        sign: int = 1,
        flip: bool = False,
        overwrites: bool = False,
        by_graph: bool = False,
    ) -> Tensor:
        """The learned sum of an addition's two operands.

        Args:
            left, right: what stood on the two sides of the `+`; the skip is the one that `skip` names.
            sign: -1 where the right one is subtracted.
            flip: the operands stand the other way round than `skip` says.
            overwrites: it was `left += right`, so that nobody needs what `left` held.
            by_graph: a graph of `torch.fx` calls it, which runs the stream from its beginning.

        Returns:
            x', of the operands' shape.

        Raises:
            RuntimeError: `torch.fx` traces a layer whose calls in a pass differ.
        """
        if not (isinstance(left, Tensor) and isinstance(right, Tensor)):
            return self._of_others(left, right, sign, flip, overwrites)  # type: ignore[unreachable]
        call = None
        if self.schedule is not None:
            call = self.schedule.next()
            if call is None:  # no residual connection
                return plainly(left, right, sign, overwrites)
        first = (self.skip == 0) != flip  # whether the skip stands first
        x, f = (left, right) if first else (right, left)
        plain = (left + right if sign > 0 else left - right) if self.scores else None
        if self.carry is not None:
            x, f, sign = self.carry.take(f, sign)
            first = first or sign < 0
        own = overwrites and f is left
        if call is not None and not by_graph:
            call[0].met(call[1], self.schedule.number, x)  # type: ignore[union-attr]
        total = self.combine(x, f, sign, call, first=first, plain=plain, own=own)
        if call is not None:
            call[0].returned(total)
        if overwrites and total.dtype is not left.dtype:  # what `left += right` leaves has left's type
            return total.to(left.dtype)
        return total

    def _of_others(self, left: Any, right: Any, sign: int, flip: bool, overwrites: bool) -> Any:
        """The sum where not both are tensors: what stands for them in a graph, or an accumulator, at first a number."""
        if not (isinstance(left, OPERANDS) and isinstance(right, OPERANDS)):
            return left + right if sign > 0 else left - right
        if self.schedule is not None and len(self.schedule.calls) != 1:  # a graph begins no pass
            raise RuntimeError(UNTOLD)
        return called_in_graph(self, left, right, sign, flip, overwrites, True)

    def past(self, make: Callable[[list[Any]], Any], call: Call | None, most: int) -> list[Any]:
        """What is remembered: what `make` makes here of the earlier entries, then those, `most` in all at most."""
        if call is None:
            raise RuntimeError("This layer reads earlier inputs and has no history: it must be placed by apply_laurel.")
        history, position = call
        # A layer with one place knows it; nothing comes after the last one, though the method that runs the stream may
        # go on with another stream.
        return history.exchange(position, make, most, is_last=position == history.length - 1)

    def extra_repr(self) -> str:
        """The spec in short."""
        return f"{self.spec.name}, width={self.width}, lags={self.lags}"


class PartialSum(nn.Module):
    """An addition that a later layer completes: adds as before, and hands both operands on."""

    def __init__(self, skip: int, carry: Carry, *, first: bool) -> None:
        super().__init__()
        self.skip, self.carry, self.first = skip, carry, first

    def forward(self, left: Any, right: Any, sign: int = 1, flip: bool = False, overwrites: bool = False) -> Any:
        """left + right, or left - right where `sign` is -1; see `LearnedSum.forward`."""
        if isinstance(left, Proxy) or isinstance(right, Proxy):
            return called_in_graph(self, left, right, sign, flip, overwrites)
        x, f = (left, right) if (self.skip == 0) != flip else (right, left)
        self.carry.add(x, f, sign, first=self.first)
        return plainly(left, right, sign, overwrites)


def start_of(module: nn.Module) -> Callable[[], None] | None:
    """What starts a learned sum, or a module within one; None of any other module."""
    if isinstance(module, LearnedSum):
        return module.reset_parameters
    own = vars(module).get("reset_parameters")
    return own if isinstance(own, MapStart) else None


def fill(value: Tensor, begin: Callable[[Tensor], object]) -> None:
    """Give a parameter of any type, on any device, whole or sharded, what `begin` fills a tensor of its shape with.

    That one is on the host and in float32 at least, so that all begin alike; a parameter without memory stays so.
    """
    if value.is_meta:
        return
    start = torch.empty(value.shape, dtype=torch.promote_types(value.dtype, torch.float32), device="cpu")
    begin(start)
    sharded: Any = value
    if hasattr(value, "device_mesh"):  # a DTensor: what one process drew is everybody's
        from torch.distributed.tensor import distribute_tensor

        start = distribute_tensor(start.to(value.dtype), sharded.device_mesh, sharded.placements)
    value.copy_(start)


def plainly(left: Any, right: Any, sign: int, overwrites: bool) -> Any:
    """The ordinary sum, in the type of `left` where it overwrites that."""
    total = left + right if sign > 0 else left - right
    return total.to(left.dtype) if overwrites and isinstance(left, Tensor) else total


def called_in_graph(layer: nn.Module, left: Any, right: Any, *rest: Any) -> Any:
    """The call of a layer as a node of the graph that `torch.fx` traces, whatever its tracer takes for a leaf."""
    tracer: Any = next(one for one in (left, right) if isinstance(one, Proxy)).tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), (left, right, *rest), {})
