"""Frameworks that start every module of a model anew, LAuReL's maps after the layers that hold them."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import laurel_cli
from laurel_cli.errors import ModelError
from laurel_cli.laurel import formulas
from laurel_cli.rivals import RIVALS

from .test_apply import VARIANTS, D, ResNet, Transformer, stir

EXACT = [*VARIANTS, *(name for name in RIVALS if formulas.parse(name).starts == "exact")]


def reset_each(model: nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def materialised_each(model: nn.Module) -> None:
    """Memory for a module of a model without any and its start, one after the other, as FSDP and Lightning do it."""
    for module in model.modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if any(one.is_meta for one in own):
            module.to_empty(device="cpu", recurse=False)
            with torch.no_grad():
                for one in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
                    one.fill_(3)
            module.reset_parameters()


def plain(model: nn.Module) -> nn.Module:
    return laurel_cli.remove(copy.deepcopy(model))


def again(model: nn.Module) -> nn.Module:
    """As it is after `torch.save` and `torch.load`."""
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("arm", EXACT)
@pytest.mark.parametrize("of", [lambda model: model, copy.deepcopy, again], ids=["itself", "copy", "pickled"])
def test_a_model_of_which_every_module_is_reset_starts_as_the_plain_one(
    arm: str, of: Callable[[nn.Module], nn.Module]
) -> None:
    x = torch.randn(2, 5, D)
    model = of(laurel_cli.apply(Transformer(), arm, x))
    stir(model)
    assert not torch.allclose(model(x), plain(model)(x), atol=1e-3)
    reset_each(model)
    assert torch.equal(model(x), plain(model)(x))


@pytest.mark.parametrize("arm", ["lr@2", "rw+lr+pa@2"])
def test_and_so_does_one_of_convolutions_whose_maps_can_still_learn(arm: str) -> None:
    x = torch.randn(2, 3, 8, 8)
    model = laurel_cli.apply(ResNet().eval(), arm, x)
    stir(model)
    reset_each(model)
    torch.testing.assert_close(model(x), plain(model)(x))
    model(x).sum().backward()
    up = {name: one for name, one in model.named_parameters() if ".B." in name}
    assert up
    assert all(bool((one == 0).all()) and bool((one.grad != 0).any()) for one in up.values())


@pytest.mark.parametrize("init", ["xavier", "orthogonal"])
def test_a_map_that_is_reset_alone_starts_as_its_spec_says(init: str) -> None:
    from laurel_cli.laurel.spec import Spec

    model = laurel_cli.apply(Transformer(), Spec(lr=True, rank=4, init=init), torch.randn(2, 5, D))
    stir(model)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    for name, weight in model.named_parameters():
        if ".A." in name and init == "orthogonal":  # 1 / sqrt(r D) where i mod r = j, else 0
            expected = torch.tensor([[(4 * D) ** -0.5 * (i % 4 == j) for i in range(D)] for j in range(4)])
            torch.testing.assert_close(weight.detach(), expected)
        elif ".A." in name:  # uniform up to sqrt(6 / (r + D)), where a linear map's own start ends at 1 / sqrt(D)
            assert D**-0.5 < float(weight.detach().abs().max()) <= (6 / (4 + D)) ** 0.5


@pytest.mark.parametrize("arm", EXACT)
def test_memory_and_a_start_for_one_module_after_the_other(arm: str) -> None:
    with torch.device("meta"):
        model = Transformer()
    x = torch.randn(2, 5, D)
    laurel_cli.apply(model, arm, x)
    materialised_each(model)
    assert torch.equal(model(x), plain(model)(x))


@pytest.fixture
def one_process() -> Iterator[Any]:
    from torch.distributed.device_mesh import init_device_mesh

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


# Others have scalars, which `fully_shard` refuses.
@pytest.mark.parametrize("arm", [*VARIANTS, "layerscale", "dense", "altup", "gemma3n"])
def test_sharded_parameters_start_as_whole_ones(arm: str, one_process: Any) -> None:
    from torch.distributed.fsdp import fully_shard

    with torch.device("meta"):
        model = Transformer()
    x = torch.randn(2, 5, D)
    laurel_cli.apply(model, arm, x)
    fully_shard(model, mesh=one_process)
    model.to_empty(device="cpu")
    reset_each(model)
    whole = laurel_cli.apply(Transformer(), arm, x)
    whole.load_state_dict({name: _whole(value) for name, value in model.state_dict().items()})
    torch.testing.assert_close(whole(x), plain(whole)(x), rtol=0, atol=0)
    torch.testing.assert_close(model(x), whole(x))
    for name, value in whole.named_parameters():
        if ".A." in name:
            assert bool((value != 0).any(dim=1).all()), name


TWO = """
import os, sys, torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
import laurel_cli
from tests.laurel.test_apply import D, VARIANTS, Transformer
from tests.laurel.test_start import _whole, plain, reset_each

dist.init_process_group("gloo", store=dist.FileStore(sys.argv[2], 2), rank=int(sys.argv[1]), world_size=2)
mesh = init_device_mesh("cpu", (2,))
x = torch.randn(2, 5, D)
for arm in (*VARIANTS, "layerscale", "dense", "altup", "gemma3n"):
    with torch.device("meta"):
        model = Transformer()
    laurel_cli.apply(model, arm, x)
    fully_shard(model, mesh=mesh)
    model.to_empty(device="cpu")
    torch.manual_seed(0)  # in both processes alike, as people do
    reset_each(model)
    whole = laurel_cli.apply(Transformer(), arm, x)
    whole.load_state_dict({name: _whole(value) for name, value in model.state_dict().items()})
    assert torch.equal(whole(x), plain(whole)(x)), arm
    drawn = [value for name, value in whole.named_parameters() if ".A." in name or "linear_left" in name]
    assert all(len(value) == len(value.unique(dim=0)) for value in drawn), arm  # no row is another process's
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_start_the_parts_of_one_parameter(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "ignore", "-c", TWO]
    both = [
        subprocess.Popen([*command, rank, str(tmp_path / "store")], cwd=root, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said


def _whole(value: Tensor) -> Tensor:
    full: Any = value
    return full.full_tensor() if hasattr(value, "full_tensor") else value


def test_a_folded_model_says_that_it_has_no_start() -> None:
    x = torch.randn(2, 5, D)
    model = laurel_cli.apply(Transformer(), "rw+lr@4", x)
    stir(model)
    with pytest.raises(ModelError, match="This model is folded"):
        reset_each(laurel_cli.fold(model, x))
