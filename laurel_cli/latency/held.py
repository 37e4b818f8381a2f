"""How many bytes a training step holds at once, counted without a device: the "peak by counting".

One step runs on fake tensors, which say their shapes and hold nothing: forward, backward, AdamW; learned sums in the
form that they have on the device that is asked about. Storages are counted when an operator makes them and given back
when autograd lets go of them, so that activations leave while gradients come, and the figure is the most that lived at
one moment. What kernels borrow inside (workspaces) is not in it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from laurel_cli.devices.base import Device
from laurel_cli.devices.cpu import Cpu
from laurel_cli.latency.workload import DTYPES, LEARNING_RATE, Workload, loss_of
from laurel_cli.laurel import worth
from laurel_cli.models.fake import faked
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.preserve import preserved
from laurel_cli.text import first_line


class Held(TorchDispatchMode):
    """Adds up the storages that live.

    Attributes:
        now: bytes of those known and alive.
        most: the largest `now` so far.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        """Begin with what is there already."""
        super().__init__()
        self.now = self.most = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._add(tensors)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._add(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        return out

    def _add(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            if tensor.layout is not torch.strided:
                continue
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._alive:
                self._alive[key] = weakref.ref(storage, self._gone(key, storage.nbytes()))
                self.now += storage.nbytes()
        self.most = max(self.most, self.now)

    def _gone(self, key: int, size: int) -> Callable[[Any], None]:
        def gone(_: Any) -> None:
            del self._alive[key]
            self.now -= size

        return gone


def held_by_a_step(model: nn.Module, inputs: Inputs, work: Workload, device: Device) -> tuple[int | None, str]:
    """Bytes that a training step of `model` holds at most: weights, buffers, AdamW's state, batch, gradients, and what
    is kept for them.

    Args:
        model: on the CPU; it is left as it was, unless it cannot be run on fake tensors and will run on the CPU: then
            a step is run for real, which moves its weights by a little.
        inputs: example inputs, on the CPU.
        work: a training step; `device` where it will run.

    Returns:
        (bytes, ""), or (None, why not). Of compiled steps and of automatic mixed precision away from the CPU, whose
        operators are others, nothing is said, nor why.
    """
    dtype = DTYPES[work.dtype]
    if work.compile or (dtype != torch.float32 and not device.host):
        return None, ""
    try:
        with preserved(model, values=False), worth.as_on(device.torch.type):
            return _held(model.train(), faked(model, inputs), dtype, device.grouped), ""
    except Exception as error:  # noqa: BLE001 - the model's own code, which may look at its data
        if not device.host:
            return None, first_line(error)
    try:
        with preserved(model, values=True):
            return _held(model.train(), nullcontext(inputs), dtype, device.grouped), ""
    except Exception as error:  # noqa: BLE001 - as above
        return None, first_line(error)


def _held(model: nn.Module, given: AbstractContextManager[Inputs], dtype: torch.dtype, grouped: bool) -> int:
    count = sum(parameter.requires_grad for parameter in model.parameters())
    steps = [torch.tensor(1.0) for _ in range(count)]  # real ones: AdamW looks at them
    with given as inputs:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, foreach=grouped or None)
        for parameter, step in zip(trained, steps, strict=True):
            moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[parameter] = {"step": step, **moments}
        state = [item for entry in optimizer.state.values() for item in entry.values()]
        batch = [leaf for leaf in tree_leaves((inputs.args, inputs.kwargs)) if isinstance(leaf, Tensor)]
        there = [*model.parameters(), *model.buffers(), *state, *batch]
        held = Held(there)
        with held:
            with Cpu().autocast(dtype):
                loss = loss_of(inputs.call(model), inputs, [])
            loss.backward()
    # Outside of the fake mode, which would make AdamW's counters fakes: it reads them.
    with held:
        optimizer.step()
    for parameter in trained:
        parameter.grad = None
    return held.most
