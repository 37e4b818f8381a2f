"""The processor, with a fixed number of threads."""

from __future__ import annotations

import gc
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from laurel_cli.cores import cores
from laurel_cli.devices.base import Call, Device
from laurel_cli.devices.presence import Presence


class Cpu(Device):
    """The processor. Nothing is ever outstanding: a call ends when its result is there."""

    host = True
    numbered = False
    fused = True
    channels_last = True
    looks = True

    def __init__(self, threads: int | None = None) -> None:
        self.name, self.torch = "cpu", torch.device("cpu")
        if threads is not None:
            torch.set_num_threads(threads)

    @classmethod
    def presence(cls, name: str) -> Presence:
        """It always is; nothing is tried."""
        return Presence(True, cls().described())

    @classmethod
    def open(cls, name: str, threads: int | None = None) -> Device:
        """With so many threads."""
        return cls(threads)

    @classmethod
    def trials_at_once(cls) -> int:
        """One a core: two processes with a thread each train up to twice as fast as one with two."""
        return cores()

    @classmethod
    def collective(cls, kind: str) -> str:
        """Gloo."""
        return "gloo"

    def described(self) -> str:
        """Its model, threads, cores."""
        threads = torch.get_num_threads()
        model = _model() or platform.machine() or "unknown CPU"
        return f"{model}, {threads} thread{'s' * (threads != 1)}, {os.cpu_count()} cores seen"

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
        """Its model where the system tells it, threads, the load of the machine, the processor's clock."""
        facts: dict[str, Any] = {"threads": torch.get_num_threads(), "cores": os.cpu_count()}
        facts |= {"cpu": model} if (model := _model()) else {}
        with suppress(OSError):
            facts["load"] = os.getloadavg()[0]
        with suppress(OSError), open("/proc/cpuinfo") as file:  # noqa: PTH123
            facts["megahertz"] = [float(line.partition(":")[2]) for line in file if line.startswith("cpu MHz")]
        return facts

    def disturbances(self) -> list[str]:
        """Other processes that compute."""
        with suppress(OSError):
            if os.getloadavg()[0] > (os.cpu_count() or 1) + 0.5:
                return ["the machine was busy: its load was above its number of cores"]
        return []


def _model() -> str:
    """`AMD EPYC 7B13, family 25 model 1`; "" where the system does not tell it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    parts = [line.partition(":") for line in lines]
    said = {name.strip(): value.strip() for name, _, value in parts if value.strip() not in ("", "unknown")}
    if "model name" in said:
        # Clouds cut the names of theirs to "AMD EPYC", of whatever generation.
        numbers = f", family {said['cpu family']} model {said['model']}" if {"cpu family", "model"} <= set(said) else ""
        return said["model name"] + numbers
    if "CPU part" in said:  # ARM has numbers in the place of names
        return f"implementer {said.get('CPU implementer', '?')} part {said['CPU part']}"
    processor = platform.processor()
    return processor if " " in processor else ""  # "arm", "x86_64": of every model
