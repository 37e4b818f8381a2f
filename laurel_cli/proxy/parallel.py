"""The processes that train one model together: one alone, or those that torchrun has started."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from laurel_cli.devices import kind_of, opened
from laurel_cli.devices.base import Device
from laurel_cli.errors import RecordError, UsageError
from laurel_cli.proxy import checkpoint
from laurel_cli.text import whole_number

if TYPE_CHECKING:
    from laurel_cli.proxy.start import Start


@dataclass(frozen=True)
class Group:
    """Which of how many processes this one is, where it computes, and whether it holds a part of every parameter."""

    device: Device
    rank: int = 0
    world: int = 1
    parted: bool = False

    def wrapped(self, model: Any, begun: Start) -> Any:
        """The model, its gradients averaged over the group; norms over batches see the whole batch.

        Where parameters are parted, that is done in place: optimizers are made of what they are afterwards.

        Raises:
            ModelError: they cannot be.
        """
        if self.world == 1:
            return model
        if self.parted:
            from laurel_cli.proxy import sharded

            return sharded.parted(model, begun, self)
        index = self.device.torch.index
        return DistributedDataParallel(model, device_ids=None if index is None else [index])

    def gathering(self, forward: Any, *, last: bool) -> AbstractContextManager[Any]:
        """Around a part of a batch: gradients are averaged with the last one."""
        if self.parted:
            forward.set_requires_gradient_sync(last)
        if self.world == 1 or self.parted or last:
            return nullcontext()
        return forward.no_sync()

    def no_grad(self) -> AbstractContextManager[Any]:
        """Around a forward pass without gradients; parts that are put together there are used with gradients later."""
        return torch.no_grad() if self.parted else self.device.no_grad()

    def restored(self, path: Path, owner: Mapping[str, Any]) -> dict[str, Any] | None:
        """The state at `path`, as the first process finds it: all begin at one step, whatever each sees of the folder.

        Raises:
            RecordError: as `checkpoint.restore` says; parts that are not all there, or have been changed.
        """
        saved: dict[str, Any] | None = self.shared(checkpoint.restore(path, owner) if self.rank == 0 else None)
        if saved is None or not self.parted:
            return saved
        from laurel_cli.proxy import sharded

        return sharded.restore(path, saved, self)

    def save(self, path: Path, state: Mapping[str, Any], owner: Mapping[str, Any]) -> None:
        """Replace the checkpoint at `path`: by the first process, where parameters are parted by all.

        Raises:
            ResourceError: the disk is full or the folder cannot be written; the old checkpoint is as it was.
        """
        if self.parted:
            from laurel_cli.proxy import sharded

            sharded.save(path, state, owner, self)
        elif self.rank == 0:
            checkpoint.save(path, state, owner)
        self.agree()  # torchrun ends all once one has left, so nobody leaves before it is written

    def whole(self, modules: Sequence[nn.Module]) -> AbstractContextManager[None]:
        """Around what reads parameters of modules; all processes go there together."""
        if not self.parted:
            return nullcontext()
        from laurel_cli.proxy import sharded

        return sharded.whole(modules)

    def mean(self, value: Tensor) -> float:
        """Over the group."""
        if self.world > 1:
            dist.all_reduce(value)
            value = value / self.world
        return float(value)

    def every(self, value: Any) -> list[Any]:
        """What each process gives, in all of them: plain values and tensors on the CPU."""
        found: list[Any] = [value]
        if self.world > 1:
            found *= self.world
            dist.all_gather_object(found, value)
        return found

    def shared(self, value: Any) -> Any:
        """What the first process gives, in all of them: plain values and tensors on the CPU."""
        if self.world == 1:
            return value
        given = [value if self.rank == 0 else None]
        dist.broadcast_object_list(given, src=0)
        return given[0]

    def agree(self, **said: Any) -> None:
        """Go on once all processes are here, and where every one says the same.

        Raises:
            RecordError: they do not; what differs is named.
        """
        every = self.every(said)
        apart = {name: list(dict.fromkeys(str(one.get(name)) for one in every)) for name in said}
        differing = [f"{name} is {' and '.join(found)}" for name, found in apart.items() if len(found) > 1]
        if differing:
            why = f"Their {'; their '.join(differing)}."
            raise RecordError("The processes of this trial do not train the same.", why)

    def any(self, *said: bool) -> tuple[bool, ...]:
        """Of each, whether any process says so: all of them do the same after one step."""
        if self.world == 1:
            return said
        flags = torch.tensor(said, dtype=torch.float32, device=self.device.torch)
        dist.all_reduce(flags)
        return tuple(flag > 0 for flag in flags.tolist())


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
def joined(device: Device, batch: int, accumulate: int, parallel: str = "ddp") -> Iterator[Group]:
    """This process's group.

    Args:
        device: where it computes.
        batch, accumulate, parallel: as the recipe has them.

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
        yield Group(device, rank(), count, parallel == "fsdp")
    finally:
        dist.destroy_process_group()


def synchronised(model: nn.Module, group: Group) -> nn.Module:
    """The model with batch norms over the whole batch, as one process has it.

    Raises:
        UsageError: batch norms on a device where no such norm exists, or in a model that is parted.
    """
    if group.world == 1 or not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return model
    if group.parted:
        raise UsageError(
            "A model with batch norms cannot be trained by `parallel='fsdp'`.",
            "No test has held one whose parameters are parted against one process.",
            "Train it by `parallel='ddp'` on GPUs, or in one process.",
        )
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
