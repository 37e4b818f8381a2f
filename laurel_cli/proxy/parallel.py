"""The processes that train one model together: one alone, or those that torchrun has started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from laurel_cli.devices import kind_of, opened
from laurel_cli.devices.base import Device
from laurel_cli.errors import RecordError, UsageError
from laurel_cli.text import whole_number


@dataclass(frozen=True)
class Group:
    """Which of how many processes this one is, and where it computes."""

    device: Device
    rank: int = 0
    world: int = 1

    def wrapped(self, model: Any) -> Any:
        """The model, its gradients averaged over the group; norms over batches see the whole batch."""
        if self.world == 1:
            return model
        index = self.device.torch.index
        return DistributedDataParallel(model, device_ids=None if index is None else [index])

    def gathering(self, forward: Any, *, last: bool) -> AbstractContextManager[Any]:
        """Around a part of a batch: gradients are averaged with the last one."""
        if self.world == 1 or last:
            return nullcontext()
        return forward.no_sync()

    def mean(self, value: Tensor) -> float:
        """Over the group."""
        if self.world > 1:
            dist.all_reduce(value)
            value = value / self.world
        return float(value)

    def shared(self, value: Any) -> Any:
        """What the first process gives, in all of them: plain values and tensors on the CPU."""
        if self.world == 1:
            return value
        given = [value if self.rank == 0 else None]
        dist.broadcast_object_list(given, src=0)
        return given[0]

    def agree(self, **said: Any) -> None:
        """Go on where every process says the same.

        Raises:
            RecordError: they do not; what differs is named.
        """
        if self.world == 1:
            return
        every: list[Any] = [None] * self.world
        dist.all_gather_object(every, said)
        apart = {name: list(dict.fromkeys(str(one.get(name)) for one in every)) for name in said}
        differing = [f"{name} is {' and '.join(found)}" for name, found in apart.items() if len(found) > 1]
        if differing:
            why = f"Their {'; their '.join(differing)}."
            raise RecordError("The processes of this trial do not train the same.", why)

    def any(self, flag: bool) -> bool:
        """Whether any process says so: all of them stop at one step."""
        if self.world == 1:
            return flag
        flags = torch.tensor(float(flag), device=self.device.torch)
        dist.all_reduce(flags)
        return bool(flags)


def launched() -> bool:
    """Whether torchrun, or what works like it, has started this process together with others."""
    return world() > 1


def world() -> int:
    """How many processes train together."""
    return _given("WORLD_SIZE")


def rank() -> int:
    """Which of them this process is; the first one, 0, writes."""
    return _given("RANK")


def own_device(name: str, threads: int | None) -> Device:
    """Open the device that this process computes on: of several that of its number on this machine.

    Raises:
        ResourceError: it cannot be used here.
    """
    kind = name.partition(":")[0]
    if launched() and kind_of(kind).numbered:
        name = f"{kind}:{os.environ.get('LOCAL_RANK', '0')}"
    return opened(name, threads)


@contextmanager
def joined(device: Device, batch: int, accumulate: int) -> Iterator[Group]:
    """This process's group.

    Raises:
        UsageError: a batch that cannot be parted evenly; a device on which processes cannot train together.
    """
    if not launched():
        yield Group(device)
        return
    count = world()
    if batch % (count * accumulate):
        raise UsageError(
            f"`batch={batch}` cannot be parted among {count} processes.", hint="Make it a multiple of them."
        )
    dist.init_process_group(device.collective(device.torch.type))
    try:
        yield Group(device, rank(), count)
    finally:
        dist.destroy_process_group()


def synchronised(model: nn.Module, group: Group) -> nn.Module:
    """The model with batch norms over the whole batch, as one process has it.

    Raises:
        UsageError: batch norms on a device where no such norm exists.
    """
    if group.world == 1 or not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return model
    if not group.device.whole_norms:
        place = "the CPU" if group.device.host else group.device.name
        raise UsageError(
            f"A model with batch norms cannot be trained by several processes on {place}.",
            "Each would norm its own part of the batch.",
            "Train it in one process.",
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def _given(variable: str) -> int:
    """The number that torchrun has put into the environment; 1 process, or the first of them, where it has not."""
    usual = "1" if variable == "WORLD_SIZE" else "0"
    number = whole_number(os.environ.get(variable, usual))
    if number is None:
        raise UsageError(f"{variable}={os.environ[variable]!r} is no whole number.", hint="Leave it to torchrun.")
    return number
