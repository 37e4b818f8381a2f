"""What LAuReL layers remember within one forward pass: earlier stream inputs (PA), the parts of an unfinished sum.

A pass begins with the call of the method that runs the whole stream and ends with it, by a return or by an exception;
a pass within a pass has its own. Every thread has passes of its own: replicas and servers run one model in several.
"""

from __future__ import annotations

import copy
import threading
import warnings
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from laurel_cli.laurel.going_on import AGAIN, ANEW, UNSEEN, GoingOn
from laurel_cli.laurel.regions import (
    Region,
    as_at_first,
    is_compiled_within_a_checkpoint,
    is_recomputed_blindly,
    open_regions,
)

T = TypeVar("T")
EDITS = "laurel_edits"  # of a class in which LAuReL stands in the place of additions
REMEMBERED = "_laurel_remembered"  # attribute of a checkpoint's frame
REENTRANT = "LAuReL-PA under activation checkpointing needs checkpoint(..., use_reentrant=False)."
PIECEWISE = (
    "LAuReL-PA within activation checkpointing cannot be compiled layer by layer: compile the model as a whole, "
    "or each layer with the checkpoint inside."
)


class Pass:
    """One run through a stream.

    Attributes:
        inputs: x_{i-1}, x_{i-2}, ..., or what else a formula remembers; the last one first.
        turns: by layer, how often it was called; of layers whose calls differ.
        around: the pass within which this one runs.
        begun: whether the method that runs the stream began it; else layers are called from elsewhere.
        guarded: whether it ends by itself when that method is left by an exception.
        alive: until the method is left.
        position: of the last connection, where nothing began the pass.
        regions: frames of the checkpoints that were open when it began.
        seen: what its layers returned, where nothing began the pass.
    """

    def __init__(self, around: Pass | None = None, *, begun: bool = False) -> None:
        self.inputs: list[Any] = []
        self.turns: dict[int, int] = {}
        self.around = around
        self.begun, self.guarded, self.alive = begun, False, True
        self.position = -1
        self.regions: tuple[Any, ...] = ()
        self.seen = GoingOn()


class _Now:
    """The pass that a thread is in."""

    def __init__(self) -> None:
        self.here = Pass()

    def leave(self, run: Pass) -> None:
        run.alive = False
        while not self.here.alive and self.here.around is not None:
            self.here = self.here.around


class _Threads(threading.local):
    def __init__(self) -> None:
        self.now = _Now()


class _Guard:
    """Ends a pass when the frame that holds it goes away, however it does."""

    def __init__(self, now: _Now, run: Pass) -> None:
        self.now, self.run = now, run

    def __del__(self) -> None:
        self.now.leave(self.run)


class History:
    """The inputs x_i, x_{i-1}, ... of one stream's connections (Eq. 4), in the pass that this thread is in.

    Args:
        length: connections in the stream.
        lags: k, how many entries it serves, the current one among them; None keeps all.
        begins: whether a method that runs the stream begins its passes, so that layers called outside of one are
            called by hand.
    """

    def __init__(self, length: int, lags: int | None, *, begins: bool = False) -> None:
        self.length, self.lags, self.begins = length, lags, begins
        self._direct: set[Hashable] = set()
        self._threads = _Threads()
        # Layers hold their history: weak the other way, so that a model's memory is freed as soon as it is gone.
        self._layers: tuple[weakref.ref[Any], ...] = ()

    def hand_to(self, layers: Sequence[Any]) -> None:
        """Let it know the layers that it connects, one for each place."""
        self._layers = tuple(map(weakref.ref, layers))

    def readers(self, position: int) -> list[Any]:
        """The layers that read what is remembered at a place: the one that stands there, then later ones; none where
        it is not known.
        """
        last = None if self.lags is None else position + self.lags
        return _alive(self._layers[position:last]) if position >= 0 else []

    def begin(self) -> object:
        """Begin a pass. It ends at `end`, or as soon as what is returned is gone."""
        now = self._threads.now
        if not now.here.begun and now.here.around is None:  # blocks that were called by hand: not gone on with
            now.here.inputs.clear()
        around: Pass | None = now.here
        if now.here.begun and not now.here.guarded:  # an exception left it
            around = now.here.around
        now.here = run = Pass(around, begun=True)
        if torch.compiler.is_compiling():
            return None
        run.guarded = True
        run.regions = tuple(region.frame for region in open_regions())
        return _Guard(now, run)

    def end(self, result: T) -> T:
        """End the pass that `begin` began in this call of the method; hand its result on."""
        here = self._threads.now.here
        if here.begun and not here.guarded:
            self._threads.now.here = here.around or Pass()
        return result

    def restart(self, *_: Any) -> None:
        """Forward pre-hook of a module that runs the stream in code that cannot be changed: forget everything."""
        self._threads.now.here = Pass()

    def met(self, position: int, key: Hashable, x: Tensor) -> None:
        """A layer is called with x: where it is called by hand, on other data than before, begin anew.

        Args:
            position: as for `exchange`.
            key: tells the layer from others.
            x: the input.
        """
        if self._threads.now.here.begun or not self.begins or self.lags == 1 or torch.compiler.is_compiling():
            return
        run = self.now(needed=False)
        if (
            run.begun
            or 0 <= position <= run.position
            or position == 0
            or (is_recomputed_blindly() and not open_regions())
        ):
            return
        goes_on: bool | None = False
        if run.inputs:
            goes_on = run.seen.is_continued_by(x, run.inputs[0], key, self._direct)
            goes_on = as_at_first(self, goes_on)
        if goes_on is None:
            warnings.warn(UNSEEN, stacklevel=2)
        elif not goes_on:
            run.inputs.clear()
            run.position = -1
            if position > 0:
                warnings.warn(ANEW, stacklevel=2)

    def returned(self, total: Tensor) -> None:
        """A layer made this of what it was called with."""
        here = self._threads.now.here
        if not here.begun and self.begins and not torch.compiler.is_compiling():
            here.seen.returned(total)

    def exchange(
        self, position: int, make: Callable[[list[Any]], Any], count: int, *, is_last: bool = False
    ) -> list[Any]:
        """Remember what `make` makes of what was remembered before; return both, at most `count`, the new one first.

        Args:
            position: of the connection in its stream, or -1 for one of many. Where layers are called one by one, not
                by the method that runs the stream, a position that is not beyond the last one begins anew.
            make: is given the earlier entries, the newest first, `count` - 1 at most.
            is_last: nothing reads the history after this in the pass: it is emptied.

        Raises:
            RuntimeError: activation checkpointing of a kind that would lose gradients.
        """
        run = self.now(needed=count > 1)
        if position >= 0 and not (run.begun and torch.compiler.is_compiling()):
            if position <= run.position and run.begun:
                warnings.warn(AGAIN, stacklevel=2)
            elif position <= run.position:
                run.inputs.clear()
            run.position = position
        earlier = run.inputs[: count - 1]
        new = make(earlier)
        if is_last or (not run.begun and position == self.length - 1):
            run.inputs.clear()
            run.position = -1
        elif self.lags != 1:
            run.inputs.insert(0, new)
            if self.lags is not None:
                del run.inputs[self.lags - 1 :]
        return [new, *earlier]

    def now(self, *, needed: bool = True) -> Pass:
        """The pass that this code belongs to: the thread's, or the one whose region is recomputed.

        Args:
            needed: whether what happened earlier in the pass matters.
        """
        here = self._threads.now.here
        if torch.compiler.is_compiling():
            # An export that runs the model's own code runs all of it, checkpoints too.
            exported = torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling()
            if not exported and is_compiled_within_a_checkpoint():
                raise RuntimeError(PIECEWISE)
            return here
        regions = open_regions()
        if regions:
            return self._within(here, regions)
        if needed and not here.begun and is_recomputed_blindly():
            # Recomputed by a reentrant checkpoint: its first pass ran without gradients, so the history has none.
            raise RuntimeError(REENTRANT)
        return here

    def _within(self, here: Pass, regions: tuple[Region, ...]) -> Pass:
        """The pass within `regions`; each that runs for the first time remembers what it found."""
        first = 0
        for number, region in enumerate(regions):
            known = vars(region.frame).get(REMEMBERED, {})
            if region.recomputation is not None and self in known:
                here, first = known[self].again(region.recomputation), number + 1
        for region in regions[first:]:
            known = vars(region.frame).setdefault(REMEMBERED, {})
            if region.recomputation is None and self not in known and region.frame not in here.regions:
                known[self] = _Remembered(here)
        return here

    def __deepcopy__(self, memo: dict[int, Any]) -> History:
        copied = self if is_copied_alone(memo) else History(self.length, self.lags, begins=self.begins)
        memo[id(self)] = copied
        if copied is not self:
            copied.hand_to([copy.deepcopy(layer, memo) for layer in _alive(self._layers)])
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.length, self.lags, self.begins), _alive(self._layers)

    def __setstate__(self, layers: Sequence[Any]) -> None:
        self.hand_to(layers)


def _made(length: int, lags: int | None, begins: bool) -> History:
    return History(length, lags, begins=begins)


def _alive(layers: Sequence[weakref.ref[Any]]) -> list[Any]:
    found = [layer() for layer in layers]
    return [] if None in found else found


class _Remembered:
    """What a checkpointed region found when it ran for the first time."""

    def __init__(self, run: Pass) -> None:
        self.inputs, self.turns, self.position, self.begun = tuple(run.inputs), dict(run.turns), run.position, run.begun
        self.recomputation: Any = None

    def again(self, recomputation: Any) -> Pass:
        """The pass of this recomputation."""
        if self.recomputation is not recomputation:
            self.recomputation = recomputation
            self.run = Pass(begun=self.begun)
            self.run.inputs, self.run.turns, self.run.position = list(self.inputs), dict(self.turns), self.position
        return self.run


class Schedule:
    """What a layer's calls in a pass are, in their order: the history and the position of each.

    Args:
        calls: None for a call that is no residual connection. After the last one come more of its kind.
        number: tells it from other layers' schedules.
    """

    def __init__(self, calls: tuple[tuple[History, int] | None, ...], number: int = 0) -> None:
        self.calls, self.number = calls, number
        self.histories = tuple(dict.fromkeys(call[0] for call in calls if call is not None))
        self.alike = len(self.histories) == 1 and None not in calls
        # Where every call begins a stream, more of them do so too.
        self.further = History(1, 1) if all(call is not None and call[1] == 0 for call in calls) else None

    def next(self) -> tuple[History, int] | None:
        """The call that now begins.

        Raises:
            RuntimeError: more calls than planned, of which it cannot be told to which stream they belong.
        """
        if len(self.calls) == 1:
            return self.calls[0]
        if self.alike:
            return self.histories[0], -1
        run = self.histories[0].now()
        turn = run.turns.get(self.number, 0)
        run.turns[self.number] = turn + 1
        if turn < len(self.calls):
            return self.calls[turn]
        if len(self.histories) > 1:
            if self.further is not None:
                return self.further, 0
            raise RuntimeError(
                f"A LAuReL layer that is planned for {len(self.calls)} calls in a pass was called again."
            )
        return self.calls[-1]


class _Unfinished:
    """A sum that is not finished."""

    def __init__(self) -> None:
        self.skip: Tensor | None = None
        self.branch: Tensor | None = None
        self.sign = 1
        self.recording = False


class _Sums(threading.local):
    """One for each thread, in an object of its own: where a compiler leaves a block half-way, it writes down what was
    set on that, but nothing that was set on this.
    """

    def __init__(self) -> None:
        self.mine = _Unfinished()


class Carry:
    """The skip and the branches of a sum that several additions make: x + f(x), then + g(x)."""

    def __init__(self) -> None:
        self._sums = _Sums()

    def add(self, skip: Tensor, branch: Tensor, sign: int = 1, *, first: bool) -> None:
        """Take part in the sum; the first addition brings the skip. A `sign` of -1 subtracts the branch."""
        sums = self._sums.mine
        if first or sums.branch is None:
            sums.skip, sums.branch, sums.sign = skip, branch, sign
            sums.recording = torch.is_grad_enabled()
        else:
            sums.branch = sums.branch + branch if sign == sums.sign else sums.branch - branch

    def take(self, branch: Tensor, sign: int = 1) -> tuple[Tensor, Tensor, int]:
        """The skip, the sum of all branches, `branch` the last, and its sign; forget them.

        Raises:
            RuntimeError: the parts of the sum were not added in one piece.
        """
        sums = self._sums.mine
        skip = sums.skip
        if skip is None or sums.branch is None:
            raise RuntimeError("The block's last residual connection ran without its first one.")
        if sums.recording != torch.is_grad_enabled():
            raise RuntimeError(
                "LAuReL per block needs checkpoint(..., use_reentrant=False) where a checkpoint ends within a block."
            )
        self.add(skip, branch, sign, first=False)
        total = sums.branch
        sums.skip = sums.branch = None
        return skip, total, sums.sign

    def __deepcopy__(self, memo: dict[int, Any]) -> Carry:
        copied = self if is_copied_alone(memo) else Carry()
        memo[id(self)] = copied
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        return Carry, ()


def is_copied_alone(memo: dict[int, Any]) -> bool:
    """Whether a layer is copied alone, as adapters do: it goes on within its model. A copied model has its own."""
    return not any(hasattr(type(copied), EDITS) for copied in list(memo.values()))
