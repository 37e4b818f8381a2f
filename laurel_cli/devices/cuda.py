"""An NVIDIA or AMD GPU."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from laurel_cli.devices import nvml, probe
from laurel_cli.devices.base import Call, Device
from laurel_cli.devices.presence import Presence

NOT_REPEATABLE = " does not have a deterministic implementation"


class Cuda(Device):
    """Times by events; flushes the L2 cache before each call of a short step."""

    fused = True
    pins = True
    channels_last = True
    looks = True
    whole_norms = True
    grouped = True
    shown_by = "CUDA_VISIBLE_DEVICES"

    def __init__(self, name: str = "cuda") -> None:
        index = torch.device(name).index
        self.torch = torch.device("cuda", torch.cuda.current_device() if index is None else index)
        self.name = str(self.torch)
        torch.cuda.set_device(self.torch)
        cache = getattr(torch.cuda.get_device_properties(self.torch), "L2_cache_size", 0) or 64 * 2**20
        self._flush = torch.empty(2 * cache, dtype=torch.int8, device=self.torch)

    @classmethod
    def presence(cls, name: str) -> Presence:
        """By torch, the driver and a small computation in another process: this one is to hold no memory there."""
        if torch.version.cuda is None and torch.version.hip is None:
            return Presence(False, f"torch {torch.__version__} is built without CUDA")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            return Presence(False, _why_none([str(warning.message) for warning in said]))
        return probe.tried(name, count)

    @classmethod
    def open(cls, name: str, threads: int | None = None) -> Device:
        """It becomes the current one."""
        return cls(name)

    @classmethod
    def shown(cls) -> list[str]:
        """Their numbers, or what the variable has already."""
        count, said = torch.cuda.device_count(), os.environ.get(cls.shown_by, "")
        return [name.strip() for name in said.split(",")][:count] if said else list(map(str, range(count)))

    @classmethod
    def collective(cls, kind: str) -> str:
        """NCCL, RCCL on AMD's."""
        return "nccl"

    @classmethod
    def random_states(cls) -> Call | None:
        """Of all GPUs."""
        if not torch.cuda.is_initialized():
            return None
        states = torch.cuda.get_rng_state_all()
        return lambda: torch.cuda.set_rng_state_all(states)

    def described(self) -> str:
        """All GPUs with their memory, and the version."""
        every = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
        names = [f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB)" for properties in every]
        return f"{'; '.join(names)}; CUDA {torch.version.cuda or torch.version.hip}"

    def time(self, call: Call, repeats: int) -> float:
        """The mean over calls of the time between two events around each, read after one synchronisation."""
        pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
        self.wait()
        for begin, end in pairs:
            if repeats > 1:  # the protocol repeats what is short
                self._flush.zero_()
            begin.record()
            call()
            end.record()
        self.wait()
        return sum(begin.elapsed_time(end) for begin, end in pairs) / repeats / 1e3

    def wait(self) -> None:
        """Synchronise."""
        torch.cuda.synchronize(self.torch)

    def peak(self, call: Call, held: int) -> int:
        """The caching allocator's own peak."""
        gc.collect()
        torch.cuda.empty_cache()
        self.wait()
        torch.cuda.reset_peak_memory_stats(self.torch)
        call()
        self.wait()
        return torch.cuda.max_memory_allocated(self.torch) - self._flush.numel()

    @contextmanager
    def repeatable(self) -> Iterator[list[str]]:
        """By torch's deterministic algorithms; an operation that has none runs as it is, and is named."""
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read with the first product
        found: list[str] = []
        before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        settings: Any = torch.utils.deterministic
        fills = settings.fill_uninitialized_memory
        with warnings.catch_warnings():
            warnings.filterwarnings("always", message=f".*{NOT_REPEATABLE}")
            shown = warnings.showwarning

            def show(message: Any, *where: Any, **options: Any) -> None:
                name, separator, _ = str(message).partition(NOT_REPEATABLE)
                if not separator:
                    shown(message, *where, **options)
                elif (operation := name.split()[-1]) not in found:
                    found.append(operation)

            warnings.showwarning = show
            torch.use_deterministic_algorithms(True, warn_only=True)
            settings.fill_uninitialized_memory = False  # a safeguard that costs time
            try:
                yield found
            finally:
                torch.use_deterministic_algorithms(before[0], warn_only=before[1])
                settings.fill_uninitialized_memory = fills

    def facts(self) -> dict[str, Any]:
        """Name, memory, clocks and temperature."""
        properties = torch.cuda.get_device_properties(self.torch)
        facts: dict[str, Any] = {"gpu": properties.name, "bytes": properties.total_memory}
        return facts | nvml.state(self.torch.index or 0)

    def disturbances(self) -> list[str]:
        """Throttling, other processes."""
        return nvml.disturbances(self.torch.index or 0)


def _why_none(said: list[str]) -> str:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU"
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "no NVIDIA driver found"
    return said[0].splitlines()[0] if said else "the NVIDIA driver shows no GPU"
