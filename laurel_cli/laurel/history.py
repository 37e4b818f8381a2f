"""What LAuReL layers remember within one forward pass: earlier stream inputs (PA), the parts of an unfinished sum.

Both start anew with every forward pass, also after one that raised, and hold nothing between two of them, unless
activation checkpointing will recompute a part of the pass and needs them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class History:
    """The inputs x_i, x_{i-1}, ... of one stream's connections, one slot for each (Eq. 4).

    Args:
        length: connections in the stream.
        lags: k, how many of them a connection reads; None reads all.
    """

    def __init__(self, length: int, lags: int | None) -> None:
        self.length, self.lags = length, lags
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.slots: list[Tensor | None] = [None] * self.length
        self.last = -1
        self.kept = False  # a checkpoint will ask for the slots again

    def exchange(self, position: int, x: Tensor, count: int) -> list[Tensor]:
        """Remember `x` at `position`; return [x_i, x_{i-1}, ...], at most `count` of them, the current one first.

        Raises:
            RuntimeError: activation checkpointing of a kind that would lose gradients.
        """
        if position == 0 or (position <= self.last and not self.kept):
            self.clear()
        if is_checkpointed():
            self.kept = True
        elif position and not self.kept and _is_in_backward():
            # Recomputed by a reentrant checkpoint: its first pass ran without gradients, so the history has none.
            raise RuntimeError("LAuReL-PA under activation checkpointing needs checkpoint(..., use_reentrant=False).")
        past = [x]
        for slot in range(position - 1, max(position - count, -1), -1):
            earlier = self.slots[slot]
            if earlier is None:  # a layer that was dropped in this pass
                break
            past.append(earlier)
        self.slots[position] = x
        self.last = position
        if not self.kept:
            if self.lags is not None and position + 1 >= self.lags:
                self.slots[position + 1 - self.lags] = None
            if position == self.length - 1:
                self.clear()
        return past

    def __deepcopy__(self, memo: dict[int, Any]) -> History:
        copy = History(self.length, self.lags)
        memo[id(self)] = copy
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        return History, (self.length, self.lags)


@dataclass
class Schedule:
    """Where a layer stands: (history, position) for each of its calls in a pass; several where weights are shared."""

    calls: tuple[tuple[History, int], ...]
    turn: int = 0

    def begin(self, *_: Any) -> None:
        """Forward pre-hook of the module that makes all the calls."""
        self.turn = 0

    def next(self) -> tuple[History, int]:
        """The history and the position of the call that now begins.

        Raises:
            RuntimeError: more calls than planned, or checkpointing, after which calls can no longer be told apart.
        """
        if len(self.calls) == 1:
            return self.calls[0]
        if is_checkpointed():
            raise RuntimeError("LAuReL-PA cannot be checkpointed where layers share their weights.")
        if self.turn == len(self.calls):
            raise RuntimeError(f"A LAuReL-PA layer that is planned for {self.turn} calls in a pass was called again.")
        self.turn += 1
        return self.calls[self.turn - 1]


class Carry:
    """The skip and the branches of a sum that several additions make: x + f(x), then + g(x)."""

    def __init__(self) -> None:
        self.skip: Tensor | None = None
        self.branch: Tensor | None = None

    def add(self, skip: Tensor, branch: Tensor, *, first: bool) -> None:
        """Take part in the sum; the first addition brings the skip."""
        if first or self.branch is None:
            self.skip, self.branch = skip, branch
        else:
            self.branch = self.branch + branch

    def take(self, branch: Tensor) -> tuple[Tensor, Tensor]:
        """The skip and the sum of all branches, `branch` the last; forget them."""
        skip, earlier = self.skip, self.branch
        self.skip = self.branch = None
        if skip is None or earlier is None:
            raise RuntimeError("The block's last residual connection ran without its first one.")
        return skip, earlier + branch

    def __deepcopy__(self, memo: dict[int, Any]) -> Carry:
        memo[id(self)] = copy = Carry()
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        return Carry, ()


def _is_in_backward() -> bool:
    """Whether autograd is running this forward pass again."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def is_checkpointed() -> bool:
    """Whether this runs inside a non-reentrant checkpoint: its saved-tensor hooks are then in force."""
    if torch.compiler.is_compiling():
        return False
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks is not None and getattr(hooks[0], "__module__", "") == "torch.utils.checkpoint"
