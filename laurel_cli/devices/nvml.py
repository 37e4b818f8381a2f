"""The state of an NVIDIA GPU through nvidia-ml-py, where it is installed: clocks, temperature, who else computes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from laurel_cli.text import whole_number

HOT = {  # why a clock is lower than it could be
    "nvmlClocksThrottleReasonSwThermalSlowdown": "it is too hot",
    "nvmlClocksThrottleReasonHwThermalSlowdown": "it is too hot",
    "nvmlClocksThrottleReasonSwPowerCap": "it is at its power limit",
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": "its power supply is at its limit",
}


def state(index: int) -> dict[str, Any]:
    """Clocks in MHz, temperature in degrees Celsius, power in watts; empty where they cannot be read."""
    with _handle(index) as (nvml, gpu):
        if nvml is None:
            return {}
        return {
            "megahertz": nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
            "memory_megahertz": nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
            "celsius": nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
            "watts": nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
        }


def disturbances(index: int) -> list[str]:
    """Sentences on throttling and on other processes."""
    with _handle(index) as (nvml, gpu):
        if nvml is None:
            return []
        others = [p.pid for p in nvml.nvmlDeviceGetComputeRunningProcesses(gpu) if p.pid != os.getpid()]
        said = [f"{len(others)} other process{'es' * (len(others) != 1)} on the GPU"] if others else []
        reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)
        why = dict.fromkeys(text for name, text in HOT.items() if reasons & getattr(nvml, name, 0))
        return said + [f"the GPU is throttled: {text}" for text in why]


@contextmanager
def _handle(index: int) -> Iterator[tuple[Any, Any]]:
    """(the library, the GPU), or (None, None) where there is none."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 - not installed, or no driver: nothing is known then
        yield None, None
        return
    try:
        yield pynvml, pynvml.nvmlDeviceGetHandleByIndex(_physical(index))
    finally:
        pynvml.nvmlShutdown()


def _physical(index: int) -> int:
    """The driver's number of a GPU that CUDA_VISIBLE_DEVICES may have renumbered."""
    visible = [item.strip() for item in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    number = whole_number(visible[index]) if index < len(visible) else None
    return index if number is None else number
