"""Activation checkpoints around the code that runs now: which will run it again, which are running it again.

A non-reentrant checkpoint keeps a frame object for as long as the graph may need its region, and makes it known
by the hooks on saved tensors that it puts in force: while the region runs for the first time, and while it is
recomputed. What a region read from outside must be the same both times, so it is remembered with that frame.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

T = TypeVar("T")
TOLD = "_laurel_told"  # attribute of a checkpoint's frame
_hooks: Any = torch._C._autograd


@dataclass(frozen=True)
class Region:
    """A region that is running.

    Attributes:
        frame: of the checkpoint; lives as long as the region may be recomputed.
        recomputation: what tells this recomputation from others of the same region; None the first time.
    """

    frame: Any
    recomputation: Any = None


def open_regions() -> tuple[Region, ...]:
    """The non-reentrant checkpoints around this code, the outermost first.

    Raises:
        RuntimeError: a checkpoint of a kind that this version does not know.
    """
    if torch.compiler.is_compiling() or _hooks._top_saved_tensors_default_hooks(True) is None:
        return ()
    stack = []
    try:
        while (top := _hooks._top_saved_tensors_default_hooks(True)) is not None:
            _hooks._pop_saved_tensors_default_hooks()
            stack.append(top)
    finally:
        for pack, unpack in reversed(stack):
            _hooks._push_saved_tensors_default_hooks(pack, unpack)
    return tuple(_region(pack) for pack, _ in reversed(stack) if _is_checkpoints(pack))


class _FirstAnswers:
    """What code in a region was told when it ran for the first time, in the order of its calls."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.recomputation: Any = None
        self.place = 0

    def again(self, recomputation: Any, now: Any) -> Any:
        """The next answer in this recomputation; `now` where there was none."""
        if self.recomputation is not recomputation:
            self.recomputation, self.place = recomputation, 0
        self.place += 1
        return self.answers[self.place - 1] if self.place <= len(self.answers) else now


def as_at_first(key: object, now: T) -> T:
    """`now`, or where this code is recomputed, what it was at this of the calls that `key` tells apart."""
    for region in open_regions():
        told = vars(region.frame).setdefault(TOLD, {}).setdefault(key, _FirstAnswers())
        if region.recomputation is None:
            told.answers.append(now)
        else:
            now = told.again(region.recomputation, now)
    return now


def is_recomputed() -> bool:
    """Whether a checkpoint runs this code again."""
    return any(region.recomputation is not None for region in open_regions())


def is_recomputed_blindly() -> bool:
    """Whether autograd runs this again without a checkpoint that could tell of which pass it is a part."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


@torch.compiler.assume_constant_result
def is_compiled_within_a_checkpoint() -> bool:
    """Whether a checkpoint is open around a module that is being compiled by itself."""
    top = _hooks._top_saved_tensors_default_hooks(True)
    return top is not None and _is_checkpoints(top[0])


def _is_checkpoints(pack: Any) -> bool:
    return getattr(pack, "__module__", "") == "torch.utils.checkpoint"


def _region(pack: Any) -> Region:
    function = inspect.unwrap(pack)
    held = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    if "frame" in held:
        return Region(held["frame"].cell_contents)
    if "target_frame_ref" in held:
        return Region(held["target_frame_ref"].cell_contents(), function)
    raise RuntimeError("LAuReL-PA does not know how this version of PyTorch checkpoints activations.")
