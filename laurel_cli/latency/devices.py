"""The devices that a model can be timed on: one interface, a class each.

A device times calls, waits for them, knows the peak of its memory, says what it is and what disturbs it.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import torch

from laurel_cli.errors import ResourceError, UsageError

NAMES = ("auto", "cpu", "cuda", "xla", "tpu")
Call = Callable[[], Any]


class Device(Protocol):
    """What the protocol needs of a device."""

    name: str
    torch: torch.device

    def time(self, call: Call, repeats: int) -> float:
        """Seconds per call, of `repeats` calls, until their results are there."""

    def wait(self) -> None:
        """Until all that was asked of it is done."""

    def peak(self, call: Call, held: int) -> int | None:
        """Bytes in use at most while `call` runs; None where it cannot tell.

        Args:
            held: bytes that the call's model, inputs and optimizer occupy all the time: `Cpu` adds them, elsewhere
                the allocator knows.
        """

    def facts(self) -> dict[str, Any]:
        """What it is and the state that it is in: for the record."""

    def disturbances(self) -> list[str]:
        """What makes timings doubtful now, in sentences."""


class Cpu:
    """The processor, with a fixed number of threads."""

    def __init__(self, threads: int | None = None) -> None:
        self.name, self.torch = "cpu", torch.device("cpu")
        if threads is not None:
            torch.set_num_threads(threads)

    def time(self, call: Call, repeats: int) -> float:
        """By the monotonic clock; without garbage collections in between."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            begin = time.perf_counter_ns()
            for _ in range(repeats):
                call()
            return (time.perf_counter_ns() - begin) / repeats / 1e9
        finally:
            if collecting:
                gc.enable()

    def wait(self) -> None:
        """Nothing is ever outstanding."""

    def peak(self, call: Call, held: int) -> int:
        """By the allocator's own record of `call`, beside what is held."""
        gc.collect()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            call()
        now = highest = 0
        events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
        for event in sorted(events, key=lambda event: event.start_ns()):
            now += event.nbytes()
            highest = max(highest, now)
        return held + highest

    def facts(self) -> dict[str, Any]:
        """Threads, the load of the machine, the processor's clock."""
        facts: dict[str, Any] = {"threads": torch.get_num_threads(), "cores": os.cpu_count()}
        with suppress(OSError):
            facts["load"] = os.getloadavg()[0]
        with suppress(OSError), open("/proc/cpuinfo") as file:  # noqa: PTH123
            facts["megahertz"] = [float(line.partition(":")[2]) for line in file if line.startswith("cpu MHz")]
        return facts

    def disturbances(self) -> list[str]:
        """Other processes that compute."""
        with suppress(OSError):
            load, cores = os.getloadavg()[0], os.cpu_count() or 1
            if load > cores + 0.5:
                return ["the machine was busy: its load was above its number of cores"]
        return []


class Cuda:
    """An NVIDIA or AMD GPU. Times by events; flushes the L2 cache before each call of a short step."""

    def __init__(self, name: str = "cuda") -> None:
        index = torch.device(name).index
        self.torch = torch.device("cuda", torch.cuda.current_device() if index is None else index)
        self.name = str(self.torch)
        torch.cuda.set_device(self.torch)
        cache = getattr(torch.cuda.get_device_properties(self.torch), "L2_cache_size", 0) or 64 * 2**20
        self._flush = torch.empty(2 * cache, dtype=torch.int8, device=self.torch)

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

    def facts(self) -> dict[str, Any]:
        """Name, memory, clocks and temperature."""
        properties = torch.cuda.get_device_properties(self.torch)
        facts: dict[str, Any] = {"gpu": properties.name, "bytes": properties.total_memory}
        from laurel_cli.latency.nvml import state

        return facts | state(self.torch.index or 0)

    def disturbances(self) -> list[str]:
        """Throttling, other processes."""
        from laurel_cli.latency.nvml import disturbances

        return disturbances(self.torch.index or 0)


class Accelerator:
    """Any other device that torch drives through `torch.accelerator`, as torch_tpu's: untested on hardware."""

    def __init__(self, name: str) -> None:
        self.name, self.torch = name, torch.device(name)

    def time(self, call: Call, repeats: int) -> float:
        """By the clock, around calls and one synchronisation."""
        self.wait()
        begin = time.perf_counter_ns()
        for _ in range(repeats):
            call()
        self.wait()
        return (time.perf_counter_ns() - begin) / repeats / 1e9

    def wait(self) -> None:
        """Synchronise."""
        torch.accelerator.synchronize(self.torch)

    def peak(self, call: Call, held: int) -> int | None:
        """The allocator's peak, where the backend keeps one."""
        try:
            torch.accelerator.reset_peak_memory_stats(self.torch)
        except (AttributeError, RuntimeError):
            return None
        call()  # what fails here is the arm's own failure, out of memory above all
        self.wait()
        return int(torch.accelerator.max_memory_allocated(self.torch))

    def facts(self) -> dict[str, Any]:
        """Its kind."""
        return {"accelerator": self.name, "tested_on_hardware": False}

    def disturbances(self) -> list[str]:
        """Nothing is known."""
        return []


class Xla:
    """A device of torch_xla. Operations are recorded; a call is the graph that they make, run and waited for."""

    def __init__(self) -> None:
        import torch_xla

        self._xla = torch_xla
        self.torch = torch_xla.device()
        self.name = "xla"

    def time(self, call: Call, repeats: int) -> float:
        """By the clock. Each call's graph is cut and started at once; the wait is for the last."""
        self.wait()
        begin = time.perf_counter_ns()
        for _ in range(repeats):
            result = call()  # noqa: F841 - held, since what nobody holds is never computed
            self._xla.sync()
        self.wait()
        return (time.perf_counter_ns() - begin) / repeats / 1e9

    def wait(self) -> None:
        """Cut the graph, run it, wait."""
        import torch_xla.core.xla_model as xm

        self._xla.sync()
        xm.wait_device_ops()

    def peak(self, call: Call, held: int) -> int | None:
        """The runtime's peak since its start, where it keeps one (the CPU plugin does not)."""
        import torch_xla.core.xla_model as xm

        result = call()  # noqa: F841 - as above
        self.wait()
        try:
            info = xm.get_memory_info(self.torch)
        except RuntimeError:
            return None
        peak = info.get("peak_bytes_used") or info.get("bytes_used")
        return int(peak) if peak else None

    def facts(self) -> dict[str, Any]:
        """Kind and number of devices."""
        import torch_xla.runtime as runtime

        return {"runtime": runtime.device_type(), "devices": runtime.global_runtime_device_count()}

    def disturbances(self) -> list[str]:
        """Graphs that were compiled while timing would be seen as slow samples; nothing else is known."""
        return []


def present() -> list[str]:
    """Names of the devices that can be used here, the fastest kind first."""
    names = ["cuda"] if torch.cuda.is_available() else []
    names += ["tpu"] if _is_tpu() else []
    names += ["xla"] if _has_xla() else []
    return [*names, "cpu"]


def resolve(name: str) -> str:
    """The device that a name means: "auto" is the first of those present.

    Raises:
        UsageError: no such name.
        ResourceError: it is absent; names those present.
    """
    kind = name.partition(":")[0]
    if kind not in NAMES:
        raise UsageError(f"Device {name!r} is unknown.", f"It is one of {', '.join(NAMES)}.", "Try `device='auto'`.")
    there = present()
    if name == "auto":
        return there[0]
    if kind not in there:
        raise ResourceError(
            f"There is no device {name!r} here.", f"Present: {', '.join(there)}.", "Why not is said by: laurel env"
        )
    if kind == "cuda" and ":" in name:
        index = name.partition(":")[2]
        if not index.isdecimal() or int(index) >= torch.cuda.device_count():
            raise ResourceError(f"There is no device {name!r} here.", f"GPUs: {torch.cuda.device_count()}.")
    return name


def opened(name: str, threads: int | None = None) -> Device:
    """The device called `name`, as `resolve` gives it, ready for use in this process."""
    kind = name.partition(":")[0]
    if kind == "cuda":
        return Cuda(name)
    if kind == "xla":
        return Xla()
    return Cpu(threads) if kind == "cpu" else Accelerator(name)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device's or the machine's memory ran out."""
    said = str(error)
    kinds = (MemoryError, getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError))
    return isinstance(error, kinds) or any(
        sign in said for sign in ("out of memory", "not enough memory", "RESOURCE_EXHAUSTED")
    )


def _has_xla() -> bool:
    """Whether torch_xla can be used: with the torch that it is made for, and a runtime."""
    try:
        import torch_xla  # noqa: F401
    except Exception:  # noqa: BLE001 - absent, or made for another torch: both mean no
        return False
    return True


def _is_tpu() -> bool:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator is not None and accelerator.type == "tpu"
