"""What torch drives through `torch.accelerator`, Apple's GPU among it: stand-ins for torch, since none is at hand."""

from __future__ import annotations

import platform
from collections.abc import Callable

import pytest
import torch

from laurel_cli.devices import listed, probe, resolve
from laurel_cli.devices.accelerator import Accelerator
from laurel_cli.devices.mps import Mps
from laurel_cli.devices.presence import Presence
from laurel_cli.errors import ResourceError

Plant = Callable[[str, int], list[str]]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Let torch say that it drives so many devices of a kind; returns the log of what it is asked."""

    def plant(kind: str, count: int) -> list[str]:
        log: list[str] = []
        for name, value in {
            "is_available": lambda: True,
            "current_accelerator": lambda: torch.device(kind),
            "device_count": lambda: count,
            "set_device_index": lambda index: log.append(f"current {index}"),
            "synchronize": lambda device: log.append(f"wait for {device}"),
        }.items():
            monkeypatch.setattr(torch.accelerator, name, value)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # also where there is one
        monkeypatch.setattr(probe, "_elsewhere", lambda name: Presence(True, f"a stand-in for {name}"))
        return log

    return plant


def test_one_that_no_line_names_is_listed_and_taken_before_the_processor(planted: Plant) -> None:
    planted("xpu", 2)
    assert [name for name, _ in listed()][-1] == "xpu"
    assert dict(listed())["xpu"].available
    assert resolve("auto") == "xpu"
    assert resolve("xpu:1") == "xpu:1"
    with pytest.raises(ResourceError, match="xpu has 2 devices, numbered from 0"):
        resolve("xpu:2")


def test_apples_gpu_is_an_accelerator_too(planted: Plant) -> None:
    planted("mps", 1)
    assert [name for name, found in listed() if found.available] == ["cpu", "mps"]
    assert resolve("auto") == "mps"
    assert type(Mps.open("mps")) is Mps
    assert not Mps.looks  # which takes float64


@pytest.mark.skipif(platform.system() == "Darwin", reason="there may be one")
def test_without_a_mac_there_is_no_mps() -> None:
    assert Mps.presence("mps") == Presence(False, "only on macOS")


def test_another_kind_than_torch_drives_is_absent(planted: Plant) -> None:
    planted("xpu", 1)
    with pytest.raises(ResourceError, match="drives xpu here, and one kind alone; a TPU that torch_xla") as raised:
        resolve("tpu")
    assert raised.value.why == "Present: xpu, cpu."


def test_time_is_between_two_waits(planted: Plant) -> None:
    log = planted("xpu", 2)
    device = Accelerator.open("xpu:1")
    assert device.time(lambda: log.append("call"), 2) > 0
    assert log == ["current 1", "wait for xpu:1", "call", "call", "wait for xpu:1"]
    assert device.facts() == {"accelerator": "xpu:1", "tested_on_hardware": False}


def test_the_peak_is_the_allocators_where_it_keeps_one(planted: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    planted("xpu", 1)
    device, held = Accelerator.open("xpu"), [9000]
    monkeypatch.setattr(torch.accelerator, "reset_peak_memory_stats", lambda _: held.clear(), raising=False)
    monkeypatch.setattr(torch.accelerator, "max_memory_allocated", lambda _: max(held, default=0), raising=False)
    assert device.peak(lambda: held.append(5000), held=7) == 5000

    def none(_: object) -> None:
        raise RuntimeError("Allocator for xpu is not a DeviceAllocator.")

    monkeypatch.setattr(torch.accelerator, "reset_peak_memory_stats", none)
    assert device.peak(lambda: None, held=7) is None


def test_what_runs_out_of_memory_is_not_taken_for_an_allocator_without_figures(
    planted: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted("xpu", 1)
    monkeypatch.setattr(torch.accelerator, "reset_peak_memory_stats", lambda _: None, raising=False)

    def call() -> None:
        raise torch.OutOfMemoryError("XPU out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        Accelerator.open("xpu").peak(call, held=0)
