"""Models of one architecture have one fingerprint, others another."""

import copy

import pytest
import torch
from torch import nn

from laurel_cli.models.fingerprint import architecture


def net(width=8, layers=2, dtype=None, device=None, act=nn.ReLU):
    return nn.Sequential(*[nn.Sequential(nn.Linear(width, width, device=device, dtype=dtype), act())] * layers)


def test_the_same_whatever_the_weights_the_device_and_the_mode():
    torch.manual_seed(0)
    one = architecture(net())
    torch.manual_seed(1)
    assert architecture(net()) == architecture(net(device="meta")) == architecture(copy.deepcopy(net()).eval()) == one
    assert len(one) == 64


@pytest.mark.parametrize(
    "other",
    [
        net(width=9),
        net(layers=3),
        net(dtype=torch.bfloat16),
        net(act=nn.GELU),
        nn.ModuleDict({"a": net()}),
        nn.Sequential(net(), net()),
    ],
)
def test_another_architecture_is_another(other):
    assert architecture(other) != architecture(net())


def test_shared_weights_are_part_of_it():
    tied, untied = nn.ModuleDict(), nn.ModuleDict()
    for model in (tied, untied):
        model["a"], model["b"] = nn.Linear(4, 4), nn.Linear(4, 4)
    tied["b"] = tied["a"]
    assert architecture(tied) == architecture(untied)  # names, shapes and classes are the same
