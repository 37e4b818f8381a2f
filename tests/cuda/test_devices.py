"""A CUDA device for real: that it is found, timed and measured as it is. Skipped where there is none."""

from __future__ import annotations

import gc
import json
import subprocess
import sys

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device", allow_module_level=True)

from laurel_cli import devices

MIB = 2**20
CYCLES = 20_000_000  # some 10 ms


@pytest.fixture(scope="module")
def device():
    return devices.opened("cuda")


def test_auto_takes_it_and_looking_holds_none_of_its_memory() -> None:
    code = """
import json, torch
from laurel_cli import devices
name = devices.resolve("auto")
print(json.dumps([name, devices.presence("cuda").detail, torch.cuda.is_initialized()]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name, detail, initialised = json.loads(done.stdout)
    assert name == "cuda"
    assert torch.cuda.get_device_name() in detail
    assert not initialised


def test_the_table_of_devices_names_it(laurel) -> None:
    done = laurel("env", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert torch.cuda.get_device_name() in done.stdout


def test_a_number_too_high_is_5_and_says_how_many_there_are(laurel) -> None:
    done = laurel("profile", "resnet18", "--device", f"cuda:{torch.cuda.device_count()}")
    assert done.returncode == 5
    assert f"cuda has {torch.cuda.device_count()} device" in done.stderr


@pytest.mark.parametrize("repeats", [1, 4])
def test_time_is_that_of_the_device_not_of_the_launch(device, repeats: int) -> None:
    """A kernel that spins for so many cycles: what is asked for twice as long takes twice as long."""
    device.time(lambda: torch.cuda._sleep(CYCLES), 2)
    once, twice = (
        min(device.time(lambda n=n: torch.cuda._sleep(n * CYCLES), repeats) for _ in range(5)) for n in (1, 2)
    )
    assert twice / once == pytest.approx(2, rel=0.05)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    torch.cuda._sleep(CYCLES)
    end.record()
    torch.cuda.synchronize()
    assert once == pytest.approx(begin.elapsed_time(end) / 1e3, rel=0.1)


def test_a_short_call_finds_its_inputs_in_memory_not_in_the_cache(device) -> None:
    """32 MiB lie in an L2 cache that nobody flushes: a sum that reads them then takes less than from memory."""
    x = torch.randn(8 * MIB // 2, device="cuda")
    flushed = min(device.time(x.sum, 50) for _ in range(5))
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    warm = []
    for _ in range(50):
        torch.cuda._sleep(CYCLES // 100)  # the launches come in meanwhile, as they do while the cache is flushed
        begin.record()
        x.sum()
        end.record()
        torch.cuda.synchronize()
        warm.append(begin.elapsed_time(end) / 1e3)
    assert flushed > min(warm)


@pytest.mark.parametrize("mib", [32, 256])
def test_peak_is_what_was_held_at_most(device, mib: int) -> None:
    gc.collect()  # of what earlier tests left
    held = torch.empty(64 * MIB, dtype=torch.int8, device="cuda")

    def call() -> None:
        one = torch.empty(mib * MIB, dtype=torch.int8, device="cuda")
        other = torch.empty(mib * MIB, dtype=torch.int8, device="cuda")
        del one, other
        torch.empty(mib * MIB, dtype=torch.int8, device="cuda")

    before = torch.cuda.memory_allocated() - device._flush.numel()
    assert device.peak(call, 0) == before + 2 * mib * MIB
    assert held.numel() <= before


def test_what_it_is_and_its_state_are_facts(device) -> None:
    facts = device.facts()
    assert facts["gpu"] == torch.cuda.get_device_name()
    assert facts["bytes"] == torch.cuda.get_device_properties(0).total_memory
    pynvml = pytest.importorskip("pynvml")
    assert pynvml
    assert 0 < facts["celsius"] < 110
    assert 100 <= facts["megahertz"] < 5000
    assert facts["watts"] > 0


def test_another_process_on_it_is_a_disturbance(device) -> None:
    pytest.importorskip("pynvml")
    code = "import sys, torch; torch.ones(1, device='cuda'); print('there', flush=True); sys.stdin.read()"
    before = [said for said in device.disturbances() if "other process" in said]
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"there\n"
        after = [said for said in device.disturbances() if "other process" in said]
        other.communicate()
    assert after
    assert after != before


def test_random_states_are_put_back(device) -> None:
    put_back = [restore for restore in devices.random_states() if restore]
    expected = torch.randn(3, device="cuda")
    for restore in put_back:
        restore()
    assert torch.equal(torch.randn(3, device="cuda"), expected)


def test_out_of_memory_is_known_by_its_error(device) -> None:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(torch.cuda.get_device_properties(0).total_memory, dtype=torch.float64, device="cuda")
    assert devices.is_out_of_memory(caught.value)
