"""One model in several threads, replicas and processes: every pass has its own history, every process equal weights."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from laurel_cli import apply_laurel, fold_training, parameters, remove, save, unfold_training
from laurel_cli.errors import ModelError

from .ways import Block, Chain, D

with_history = pytest.mark.parametrize("spec", ["pa", "rw+lr+pa@2"])


class Waits(nn.Module):
    """Lets all threads come to the middle of their passes before any goes on."""

    barrier: threading.Barrier | None = None

    def forward(self, x: Tensor) -> Tensor:
        if Waits.barrier is not None:
            Waits.barrier.wait(30)
        return x


class Meets(Block):
    def __init__(self) -> None:
        super().__init__()
        self.wait = Waits()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(self.wait(x))


def model_with(spec: str, depth: int = 4) -> nn.Module:
    torch.manual_seed(0)
    model = Chain(Meets, depth).double().eval()
    apply_laurel(model, spec, torch.randn(2, 3, D, dtype=torch.float64))
    with torch.no_grad():
        for parameter in parameters(model):
            parameter.copy_(torch.randn_like(parameter))
    return model


@with_history
def test_threads_that_meet_in_every_layer_do_not_see_each_other(spec: str) -> None:
    model = model_with(spec)
    batches = [torch.randn(2, 3, D, dtype=torch.float64) for _ in range(4)]
    with torch.no_grad():
        expected = [model(x) for x in batches]
        Waits.barrier = threading.Barrier(len(batches))
        try:
            with ThreadPoolExecutor(len(batches)) as pool:
                results = list(pool.map(torch.no_grad()(model), batches))
        finally:
            Waits.barrier = None
    assert all(torch.equal(ours, alone) for ours, alone in zip(results, expected, strict=True))


@with_history
def test_replicas_as_data_parallel_makes_them(spec: str) -> None:
    """Shallow copies of every module, in a thread each, whose gradients come back to the model."""
    model = model_with(spec)
    batches = [torch.randn(2, 3, D, dtype=torch.float64) for _ in range(3)]
    sum(model(x).sum() for x in batches).backward()
    expected = [parameter.grad.clone() for parameter in parameters(model)]
    model.zero_grad()
    Waits.barrier = threading.Barrier(len(batches))
    try:
        with ThreadPoolExecutor(len(batches)) as pool:
            outputs = list(pool.map(lambda x: replica_of(model)(x), batches))
    finally:
        Waits.barrier = None
    sum(output.sum() for output in outputs).backward()
    for parameter, grad in zip(parameters(model), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad)


def replica_of(model: nn.Module) -> nn.Module:
    """As `torch.nn.parallel.replicate` does, on one device."""
    modules = list(model.modules())
    copies = {module: module._replicate_for_data_parallel() for module in modules}
    for module, copied in copies.items():
        for name, child in module._modules.items():
            copied._modules[name] = None if child is None else copies[child]
        for name, parameter in module._parameters.items():
            setattr(copied, name, None if parameter is None else parameter * 1.0)
    return copies[model]


def test_replicas_after_folding_for_training_are_refused_with_what_to_do() -> None:
    torch.manual_seed(0)
    model, x = Chain(Block, 2), torch.randn(2, 3, D)
    apply_laurel(model, "rw", x)
    assert any(layer.form != "a f + b x" for layer in fold_training(model, x).connections)
    with pytest.raises(RuntimeError, match="unfold_training first"):
        replica_of(model)
    unfold_training(model)
    torch.testing.assert_close(replica_of(model)(x), model(x))


@with_history
def test_data_parallel_on_the_accelerators(spec: str) -> None:
    if torch.cuda.device_count() < 1:
        pytest.skip("DataParallel needs a CUDA device")
    model = model_with(spec).cuda()
    x = torch.randn(8, 3, D, dtype=torch.float64, device="cuda")
    torch.testing.assert_close(nn.DataParallel(model)(x), model(x))


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda m: nn.Sequential(nn.DataParallel(m))])
def test_what_is_wrapped_already_is_refused_with_what_to_do(wrap: object, tmp_path: Path) -> None:
    wrapped = wrap(Chain(Block))  # type: ignore[operator]
    with pytest.raises(ModelError, match="wrapped") as caught:
        apply_laurel(wrapped, "rw", torch.randn(2, 3, D))
    assert "Apply LAuReL first" in caught.value.hint
    for use in (remove, lambda model: save(model, tmp_path)):
        with pytest.raises(ModelError, match="wrapped"):
            use(wrapped)


BLOCK = """
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Linear(4, 4)
    def forward(self, x):
        return x + self.f(x)
"""
PROCESSES = """
import sys, torch, torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from laurel_cli import apply_laurel
from laurel_cli.errors import ModelError
from block_of_two_processes import Block

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
torch.manual_seed(rank)  # weights differ until DDP makes them equal
plain = nn.Sequential(*(Block() for _ in range(3)))
model = nn.Sequential(*(Block() for _ in range(3)))
inputs = torch.randn(5, 4)
try:
    apply_laurel(DistributedDataParallel(plain), "rw", inputs)
    raise SystemExit("a wrapped model was taken")
except ModelError:
    pass
apply_laurel(model, "rw+lr+pa@2", inputs)
parallel = DistributedDataParallel(model)
optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    parallel(inputs).square().mean().backward()
    optimizer.step()
torch.save({"parameters": dict(model.named_parameters()), "inputs": inputs}, f"{folder}/rank{rank}.pt")
dist.barrier()
"""


@pytest.mark.slow
def test_two_processes_learn_the_same(
    tmp_path: Path, laurel_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes, each with data of its own; what they learn is what one process learns from both halves."""
    (tmp_path / "train.py").write_text(PROCESSES)
    (tmp_path / "block_of_two_processes.py").write_text(BLOCK)
    command = [sys.executable, "train.py"]
    running = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], cwd=tmp_path, env=laurel_env, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    one, other = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    assert any("laurel" in name for name in one["parameters"])
    for name, parameter in one["parameters"].items():
        assert torch.equal(parameter, other["parameters"][name]), name
    monkeypatch.syspath_prepend(str(tmp_path))
    block = importlib.import_module("block_of_two_processes").Block
    torch.manual_seed(0)
    _, model = (nn.Sequential(*(block() for _ in range(3))) for _ in range(2))  # the first was wrapped
    apply_laurel(model, "rw+lr+pa@2", one["inputs"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.cat([one["inputs"], other["inputs"]])).square().mean().backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, one["parameters"][name], msg=name)
