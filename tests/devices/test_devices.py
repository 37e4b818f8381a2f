"""Devices: the CPU for real; CUDA by a stand-in for `torch.cuda`, plainly marked, since no GPU is at hand in CI."""

from __future__ import annotations

import time
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from laurel_cli.devices import cpu, is_out_of_memory, listed, nvml, opened, present, probe, resolve
from laurel_cli.devices.cpu import Cpu
from laurel_cli.devices.cuda import Cuda
from laurel_cli.devices.presence import Presence
from laurel_cli.errors import ResourceError, UsageError


def test_the_cpu_times_a_call() -> None:
    device = Cpu(1)
    calls = []
    seconds = device.time(lambda: (calls.append(1), time.sleep(0.01)), 5)
    assert len(calls) == 5
    assert seconds >= 0.01
    assert device.facts()["threads"] == 1


@pytest.mark.parametrize(
    ("told", "processor", "said"),
    [
        ("model\t\t: 1\ncpu family\t: 25\nmodel name\t: AMD EPYC\n", "", "AMD EPYC, family 25 model 1"),
        ("model name\t: Some CPU\n", "", "Some CPU"),
        ("cpu family\t: unknown\nmodel name\t: unknown\n", "x86_64", None),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd40\n", "aarch64", "implementer 0x41 part 0xd40"),
        (None, "Intel64 Family 6 Model 158 Stepping 10", "Intel64 Family 6 Model 158 Stepping 10"),
        (None, "arm", None),  # of every Mac
    ],
)
def test_the_cpus_model_is_a_fact_where_the_system_tells_it(monkeypatch, tmp_path, told, processor, said) -> None:
    (place := tmp_path / "cpuinfo").write_text(told or "")
    monkeypatch.setattr(cpu, "Path", lambda _: place if told is not None else tmp_path / "none")
    monkeypatch.setattr(cpu.platform, "processor", lambda: processor)
    assert Cpu(1).facts().get("cpu") == said


@torch.no_grad()
def test_the_cpus_peak_is_what_the_tensors_hold() -> None:
    """At the widest place a hidden layer of 4 MB beside its activation."""
    model = nn.Sequential(nn.Linear(100, 1000), nn.ReLU(), nn.Linear(1000, 10))
    x = torch.randn(1000, 100)
    assert Cpu().peak(lambda: model(x), held=7) == 7 + 2 * 1000 * 1000 * 4


def test_the_cpus_peak_forgets_what_was_freed() -> None:
    one = Cpu().peak(lambda: torch.empty(1_000_000), held=0)
    four = Cpu().peak(lambda: [torch.empty(1_000_000).sum() for _ in range(4)], held=0)
    assert one == 4_000_000
    assert one <= four < one + 1000


def test_resolve() -> None:
    assert resolve("cpu") == "cpu"
    assert present()[-1] == "cpu"
    assert resolve("auto") == present()[0]
    assert isinstance(opened("cpu", 1), Cpu)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpu", "one of auto, cuda, mps, tpu, xla, cpu"),
        ("meta", "one of auto, cuda"),
        ("auto:1", "one of auto, cuda"),
        ("", "one of auto, cuda"),
        ("cuda:", "'' is no number"),
        ("cuda:one", "'one' is no number"),
        ("cuda:-1", "'-1' is no number"),
        ("cpu:1", "'1' follows cpu, of which there is one"),
    ],
)
def test_what_is_no_device_is_a_wrong_option(name: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        resolve(name)
    assert said in raised.value.why


def test_each_device_is_there_or_its_absence_is_an_error_with_the_same_reason() -> None:
    """`laurel env` and `--device` ask the same list."""
    for name, found in listed():
        if found.available:
            assert resolve(name) == name
            continue
        with pytest.raises(ResourceError) as raised:
            resolve(name)
        assert found.detail in raised.value.what
        assert "Present: " in raised.value.why
        assert "cpu" in raised.value.why


@pytest.mark.skipif(torch.accelerator.is_available(), reason="torch drives one here")
def test_a_device_that_only_torch_knows_is_absent_rather_than_unknown() -> None:
    with pytest.raises(ResourceError, match="drives no accelerator here; Intel's GPUs need the torch of"):
        resolve("xpu")


def stand_in(name: str) -> Presence:
    """For the process that tries a device: it would know of no stand-in."""
    return Presence(True, f"a stand-in for {name}")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("RESOURCE_EXHAUSTED: TPU HBM"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
    ],
)
def test_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_the_processor_s_own_error_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 45)  # 128 TiB
    assert is_out_of_memory(caught.value)


class FakeGpu:
    """Stands in for `torch.cuda`: a clock that each recorded event and each call of `work` moves on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []
        self.highest = 0

    def work(self) -> None:
        self.now += 3.0  # milliseconds
        self.log.append("call")

    def event(self, enable_timing: bool) -> SimpleNamespace:
        event = SimpleNamespace(at=None)

        def record() -> None:
            event.at = self.now
            self.now += 0.5  # what is launched between two calls is no part of them

        event.record = record
        event.elapsed_time = lambda end: end.at - event.at - 0.5
        return event


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    fake = FakeGpu()
    properties = SimpleNamespace(name="Fake GPU", total_memory=80 * 2**30, L2_cache_size=1024)
    flush = SimpleNamespace(zero_=lambda: fake.log.append("flush"), numel=lambda: 2048)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: flush)
    monkeypatch.setattr(torch.version, "cuda", "0.0")
    monkeypatch.setattr(probe, "_elsewhere", stand_in)
    for name, value in {
        "current_device": lambda: 1,
        "device_count": lambda: 2,
        "is_available": lambda: True,
        "set_device": lambda _: None,
        "get_device_properties": lambda _: properties,
        "Event": fake.event,
        "synchronize": lambda _: fake.log.append("wait"),
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda _: setattr(fake, "highest", 0),
        "max_memory_allocated": lambda _: fake.highest + 2048,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return fake


def test_cuda_times_by_events_and_flushes_for_short_calls(gpu: FakeGpu) -> None:
    device = Cuda()
    assert device.name == "cuda:1"
    assert device.time(gpu.work, 3) == pytest.approx(3.0e-3)
    assert gpu.log == ["wait", "flush", "call", "flush", "call", "flush", "call", "wait"]
    gpu.log.clear()
    assert device.time(gpu.work, 1) == pytest.approx(3.0e-3)
    assert gpu.log == ["wait", "call", "wait"]


def test_cudas_peak_leaves_out_our_own_buffer(gpu: FakeGpu) -> None:
    assert Cuda("cuda:0").peak(lambda: setattr(gpu, "highest", 5_000), held=0) == 5_000


def test_cuda_is_first_where_it_is(gpu: FakeGpu) -> None:
    assert resolve("auto") == "cuda"
    assert resolve("cuda:1") == "cuda:1"
    with pytest.raises(ResourceError, match="cuda has 2 devices, numbered from 0"):
        resolve("cuda:2")


def test_nvml_says_who_disturbs(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetComputeRunningProcesses=lambda _: [SimpleNamespace(pid=1)],
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda _: 4,
        nvmlClocksThrottleReasonSwPowerCap=4,
        NVML_CLOCK_SM=0,
        NVML_CLOCK_MEM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlDeviceGetClockInfo=lambda _, kind: (1980, 2619)[kind],
        nvmlDeviceGetTemperature=lambda *_: 41,
        nvmlDeviceGetPowerUsage=lambda _: 350_000,
    )
    monkeypatch.setitem(__import__("sys").modules, "pynvml", fake)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert nvml.disturbances(0) == ["1 other process on the GPU", "the GPU is throttled: it is at its power limit"]
    assert nvml.state(0) == {"megahertz": 1980, "memory_megahertz": 2619, "celsius": 41, "watts": 350.0}


def test_what_cannot_be_repeated_on_a_gpu_is_named_and_the_settings_come_back() -> None:
    """`put_` has no deterministic form on the processor either, so that torch says it here too."""
    gpu = Cuda.__new__(Cuda)
    with gpu.repeatable() as found:
        assert torch.are_deterministic_algorithms_enabled()
        for _ in range(2):
            torch.zeros(4).put_(torch.tensor([0]), torch.tensor([1.0]))
        with pytest.warns(UserWarning, match="another"):
            warnings.warn("another", stacklevel=1)
    assert found == ["put_"]
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with Cpu().repeatable() as found:
        assert not torch.are_deterministic_algorithms_enabled()
    assert found == []
