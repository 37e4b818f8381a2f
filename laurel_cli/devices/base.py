"""What the code asks of a device. A device is a file with a subclass, and its line in `KINDS`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor

from laurel_cli.devices.presence import Presence

Call = Callable[[], Any]
Dtype = torch.dtype  # within `Device`, `torch` is the attribute


class Device:
    """A device, opened in this process. What this class says holds for most accelerators.

    Attributes:
        name: "cpu", "cuda:0".
        torch: where tensors are put.
        grouped: AdamW works on all tensors at once here, and borrows as much memory again.

        host: it is the processor: its memory is the process's own, its threads are set by number.
        numbered: there may be several, told apart by number.
        fused: the fused kernels of AdamW and SGD are used.
        pins: batches on their way to it lie in pinned memory.
        channels_last: images are faster in that memory format.
        places: the runtime chooses where tensors lie in memory, nobody else.
        looks: a single forward pass in eager mode, with float64, costs little.
        whole_norms: torch norms batches over several processes on it (`nn.SyncBatchNorm`).
        shown_by: the variable that says which of several devices a process sees; "" where there is none.
    """

    name: str
    torch: torch.device
    grouped: bool = False

    host: ClassVar[bool] = False
    numbered: ClassVar[bool] = True
    fused: ClassVar[bool] = False
    pins: ClassVar[bool] = False
    channels_last: ClassVar[bool] = False
    places: ClassVar[bool] = False
    looks: ClassVar[bool] = False
    whole_norms: ClassVar[bool] = False
    shown_by: ClassVar[str] = ""

    # Before it is opened: nothing here may take the device for this process.

    @classmethod
    def presence(cls, name: str) -> Presence:
        """Whether the device of that name can be used here."""
        raise NotImplementedError

    @classmethod
    def open(cls, name: str, threads: int | None = None) -> Device:
        """The device of that name, for use in this process; fails as torch does where it cannot be used.

        Args:
            threads: of the processor.
        """
        raise NotImplementedError

    @classmethod
    def trials_at_once(cls) -> int:
        """How many trainings share it best."""
        return 1

    @classmethod
    def shown(cls) -> list[str]:
        """What `shown_by` holds for each of the devices that this process sees."""
        return []

    @classmethod
    def collective(cls, kind: str) -> str:
        """What torch.distributed calls the library by which several of them train together.

        Raises:
            UsageError: they cannot.
        """
        raise NotImplementedError

    @classmethod
    def random_states(cls) -> Call | None:
        """What puts its random states back as they are now; None where this process does not use it."""
        return None

    # Once it is open.

    def described(self) -> str:
        """Which it is, for people."""
        raise NotImplementedError

    def time(self, call: Call, repeats: int) -> float:
        """Seconds per call, of `repeats` calls, until their results are there: by the clock, around one wait."""
        self.wait()
        begin = time.perf_counter_ns()
        for _ in range(repeats):
            call()
        self.wait()
        return (time.perf_counter_ns() - begin) / repeats / 1e9

    def wait(self) -> None:
        """Until all that was asked of it is done."""
        raise NotImplementedError

    def end_step(self) -> None:
        """After each update of a training."""

    def peak(self, call: Call, held: int) -> int | None:
        """Bytes in use at most while `call` runs; None where it cannot tell.

        Args:
            held: bytes that the call's model, inputs and optimizer occupy all the time: the processor adds them,
                elsewhere the allocator knows.
        """
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """What it is and the state that it is in: for the record."""
        raise NotImplementedError

    def disturbances(self) -> list[str]:
        """What makes timings doubtful now, in sentences."""
        return []

    def pinned(self, tensor: Tensor) -> Tensor:
        """A tensor of the processor's where it is copied from fastest."""
        return tensor.pin_memory() if self.pins else tensor

    def no_grad(self) -> AbstractContextManager[Any]:
        """Around a forward pass without gradients."""
        return torch.inference_mode()

    def repeatable(self) -> AbstractContextManager[list[str]]:
        """Around a training, before its first product: run again it ends the same, bit for bit.

        What it gives is filled with the operations that keep that from being so.
        """
        return nullcontext([])

    def autocast(self, dtype: Dtype) -> AbstractContextManager[Any]:
        """Mixed precision while training: the weights stay float32."""
        return torch.autocast(self.torch.type, dtype) if dtype != torch.float32 else nullcontext()
