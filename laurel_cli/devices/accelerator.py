"""Any other device that torch drives through `torch.accelerator`: Intel's, a TPU by torch_tpu, other packages' own.

Tested on a stand-in alone, on no hardware.
"""

from __future__ import annotations

import gc
from typing import Any

import torch

from laurel_cli.devices import probe
from laurel_cli.devices.base import Call, Device
from laurel_cli.devices.presence import Presence

GROUPED = ("xpu",)  # where torch's AdamW works on all tensors at once
ADVICE = {  # what to do where there is none of a kind
    "tpu": "; a TPU that torch_xla drives is called xla",
    "xpu": "; Intel's GPUs need the torch of https://download.pytorch.org/whl/xpu",
}


class Accelerator(Device):
    """The one accelerator that this torch drives; torch knows its kind and its number."""

    def __init__(self, name: str) -> None:
        self.name, self.torch = name, torch.device(name)
        self.grouped = self.torch.type in GROUPED
        if self.torch.index is not None:
            torch.accelerator.set_device_index(self.torch.index)

    @classmethod
    def presence(cls, name: str) -> Presence:
        """By torch's word and a small computation in another process."""
        kind = name.partition(":")[0]
        there = current()
        if kind != there:
            return Presence(False, cls.why_none(kind, there))
        return probe.tried(name, torch.accelerator.device_count())

    @classmethod
    def why_none(cls, kind: str, there: str | None) -> str:
        """Why there is no accelerator of a kind, where torch drives that called `there`, or none."""
        seen = "drives no accelerator here" if there is None else f"drives {there} here, and one kind alone"
        return f"torch {torch.__version__} {seen}{ADVICE.get(kind, '')}"

    @classmethod
    def open(cls, name: str, threads: int | None = None) -> Device:
        """It becomes the current one, where it has a number."""
        return cls(name)

    @classmethod
    def collective(cls, kind: str) -> str:
        """What its backend has registered; torch raises where it has none."""
        return torch.distributed.get_default_backend_for_device(kind)

    @classmethod
    def random_states(cls) -> Call | None:
        """Of all devices, where its module keeps them as torch.xpu does."""
        kind = torch.accelerator.current_accelerator()  # the one that torch is built for; nothing is touched
        module: Any = None if kind is None or kind.type == "cuda" else getattr(torch, kind.type, None)
        if not hasattr(module, "get_rng_state_all") or not hasattr(module, "is_initialized"):
            return None
        if not module.is_initialized():
            return None
        states = module.get_rng_state_all()
        return lambda: module.set_rng_state_all(states)

    def described(self) -> str:
        """How many of which kind."""
        count = torch.accelerator.device_count()
        return f"{count} device{'s' * (count != 1)} by torch.accelerator, untested on hardware"

    def wait(self) -> None:
        """Synchronise."""
        torch.accelerator.synchronize(self.torch)

    def peak(self, call: Call, held: int) -> int | None:
        """The allocator's peak, where the backend keeps one."""
        gc.collect()
        try:
            torch.accelerator.reset_peak_memory_stats(self.torch)
        except (AttributeError, RuntimeError):
            return None
        call()  # what fails here is the arm's own failure, out of memory above all
        self.wait()
        return int(torch.accelerator.max_memory_allocated(self.torch)) or None  # which a backend without figures says

    def facts(self) -> dict[str, Any]:
        """Its kind."""
        return {"accelerator": self.name, "tested_on_hardware": False}


def current() -> str | None:
    """The kind of accelerator that torch can use here, if it is none of those that have a file of their own."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return None if found is None or found.type == "cuda" else found.type
