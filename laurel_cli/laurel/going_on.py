"""Whether a layer that is called by hand goes on with what was computed before, so that its history is of one pass.

Where the method that runs a stream is not called, but its blocks one by one, nobody says where a pass begins: a loop
may have stopped early, and another one begin in the midst of the stream with other data. What shows it is the data
itself: an input that shares its memory with what the last layer returned, or that was computed from it, as far as
autograd recorded that.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from laurel_cli.laurel import fast

ANEW = (
    "A block with LAuReL was called by hand in the midst of its stream, with what no earlier block returned: "
    "its history begins there, and it does not compute what it does within the model."
)
UNSEEN = (
    "Blocks with LAuReL are called by hand, and it cannot be seen whether one goes on with what the one before it "
    "returned: what is remembered of that is read, though it may be of other data. With gradients it can be seen."
)
AGAIN = (
    "A layer of LAuReL was called again in one pass, more often than with the example inputs, as by a hook that calls "
    "a block: it reads, and later ones read, what was remembered in between."
)
MARK = "laurel_returned"
MOST = 10_000  # nodes of a graph that are looked at


class GoingOn:
    """What is known of a pass whose layers are called by hand: what the last one returned."""

    def __init__(self) -> None:
        self._tensor: ref[Tensor] | None = None
        self._memory: StorageWeakRef | None = None
        self._mark: object | None = None  # on the node of the graph that made it

    def returned(self, total: Tensor) -> None:
        """A layer made this."""
        self._tensor, self._memory, self._mark = ref(total), _memory(total), None
        if total.grad_fn is not None:
            self._mark = _notes(total.grad_fn)[MARK] = object()

    def is_continued_by(self, x: Tensor, newest: Any, key: Hashable, direct: set[Hashable]) -> bool | None:
        """Whether x comes from what was returned; None where it cannot be seen.

        Args:
            x: what a layer is called with.
            newest: what is remembered last: an input, or something that has one as `x`.
            key: of the layer's place.
            direct: keys of the places where x was seen to be just what was returned; it is added to.
        """
        if self._tensor is None:  # nothing that was seen: compiled code may have run
            return None
        memory = _memory(x)
        if x is self._tensor() or (memory is not None and self._memory is not None and memory == self._memory):
            direct.add(key)
            return True
        before = newest if isinstance(newest, Tensor) else getattr(newest, "x", None)
        if isinstance(before, Tensor) and not _fit(before, x):
            return False
        if self._mark is not None:  # what comes from it has a graph, unless gradients are recorded no more
            return torch.is_grad_enabled() and _descends(x, self._mark)
        return False if key in direct else None


def _memory(tensor: Tensor) -> StorageWeakRef | None:
    if type(tensor) is not Tensor or not torch._C._has_storage(tensor) or fast.transformed():
        return None
    return StorageWeakRef(tensor.untyped_storage())


def _notes(node: Any) -> dict[str, Any]:
    """What may be written on a node of a graph."""
    notes: dict[str, Any] = node.metadata
    return notes


def _fit(one: Tensor, other: Tensor) -> bool:
    try:
        torch.broadcast_shapes(one.shape, other.shape)
    except RuntimeError:
        return False
    return True


def _descends(x: Tensor, mark: object) -> bool | None:
    """Whether the graph of x leads to the node with this mark; None where it is too large to say."""
    seen: set[Any] = set()
    level = [x.grad_fn]
    while level and len(seen) < MOST:
        following = []
        for node in level:
            if node is None or node in seen:
                continue
            seen.add(node)
            if _notes(node).get(MARK) is mark:
                return True
            following += [one for one, _ in node.next_functions]
        level = following
    return None if level else False
