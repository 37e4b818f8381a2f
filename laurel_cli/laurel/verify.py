"""See with one pass that every layer is called as planned, and which one is to blame where the model stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from laurel_cli.errors import ModelError
from laurel_cli.laurel.running import Turns
from laurel_cli.models.higher import written_out
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.run import try_run

STOPS = "with LAuReL in its place the model stops: {}"
ALIASED = "it adds in place, and its old value is read under another name"


def verify(
    model: nn.Module, planned: Mapping[nn.Module, int], in_place: frozenset[nn.Module], inputs: Inputs
) -> dict[nn.Module, str]:
    """Run the model once, in eval mode.

    Args:
        planned: for each layer how often the pass calls it.
        in_place: layers that stand where the sum overwrote its first operand.

    Returns:
        For each layer that cannot stay, why. Those that stand where something reads later what an addition in place
        would have overwritten cannot: replaced, they would leave it as it was.
    """
    watch = _Watch(in_place)
    hooks = []
    for layer in planned:
        hooks += [layer.register_forward_pre_hook(watch.enter), layer.register_forward_hook(watch.leave)]
    try:
        try_run(model, inputs, watch)
    except ModelError as error:
        blamed = _blamed(error.__cause__, planned)
        return dict.fromkeys(planned if blamed is None else [blamed], STOPS.format(error.why))
    finally:
        for hook in hooks:
            hook.remove()
    wrong = {
        layer: _miscount(watch.calls[layer], times) for layer, times in planned.items() if watch.calls[layer] != times
    }
    return dict.fromkeys(watch.aliased, ALIASED) | wrong


def _miscount(times: int, planned: int) -> str:
    if not times:
        return "the method that was rewritten is not the one that runs: something else holds the old one"
    return f"it runs {times} times where the example run added {planned} times"


def _blamed(error: BaseException | None, layers: Mapping[nn.Module, int]) -> nn.Module | None:
    """The layer in whose call, or at whose place, an error came up."""
    found = None
    trace: TracebackType | None = error.__traceback__ if error is not None else None
    while trace is not None:
        own = trace.tb_frame.f_locals.get("self")
        if isinstance(own, nn.Module) and own in layers:
            found = own
        elif isinstance(own, Turns) and not isinstance(own.layers, nn.ModuleList) and own.layers in layers:
            found = own.layers
        elif isinstance(own, nn.Module) and found is None and hasattr(type(own), "laurel_edits"):
            found = next((layer for layer in own.children() if layer in layers), None)
        trace = trace.tb_next
    return found


@contextmanager
def counted(modules: Iterable[nn.Module]) -> Iterator[Counter[nn.Module]]:
    """Count the calls of `modules`."""
    calls: Counter[nn.Module] = Counter()
    hooks = [
        module.register_forward_pre_hook(lambda module, _: calls.update([module])) for module in dict.fromkeys(modules)
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


class _Watch(TorchDispatchMode):
    """Counts the calls of LAuReL layers, and sees who reads what an addition would have overwritten."""

    supports_higher_order_operators = True

    def __init__(self, in_place: frozenset[nn.Module]) -> None:
        super().__init__()
        self._in_place = in_place

    def __enter__(self) -> Any:
        self.calls: Counter[nn.Module] = Counter()
        self.aliased: dict[nn.Module, None] = {}
        self._overwritten: dict[int, tuple[nn.Module, torch.Tensor]] = {}
        self._inside = 0
        return super().__enter__()

    def enter(self, layer: nn.Module, operands: Any) -> None:
        """Forward pre-hook of a LAuReL layer."""
        self.calls[layer] += 1
        self._read(operands)  # what another sum overwrote may be one of this one's terms
        self._inside += 1

    def leave(self, layer: nn.Module, operands: Any, _: Any) -> None:
        """Forward hook of a LAuReL layer."""
        self._inside -= 1
        left = operands[0]
        if layer in self._in_place and isinstance(left, torch.Tensor):
            self._overwritten[left.untyped_storage()._cdata] = (layer, left)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        form = written_out(func, args) if isinstance(func, HigherOrderOperator) else None
        if form is not None:
            with self:
                return form()
        if not self._inside:
            self._read((args, kwargs))
        return func(*args, **(kwargs or {}))

    def _read(self, values: Any) -> None:
        """See whether one of `values` is what a sum in place would have overwritten."""
        for leaf in tree_leaves(values) if self._overwritten else ():
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata in self._overwritten:
                self.aliased[self._overwritten[leaf.untyped_storage()._cdata][0]] = None
