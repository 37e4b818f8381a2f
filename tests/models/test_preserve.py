"""Counting leaves the model and the random generators as they were."""

import random
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn

from laurel_cli.cost.checks import check
from laurel_cli.cost.count import count
from laurel_cli.models.inputs import Inputs


class Stateful(nn.Module):
    """Batch norm, dropout, a cache, a frozen part, a draw from every generator."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.frozen = nn.BatchNorm2d(4)
        self.cache = {}
        self.last = None
        self.body.register_forward_hook(lambda module, args, output: None)

    def forward(self, x):
        random.random()
        np.random.rand()
        self.last = self.cache["x"] = self.frozen(self.body(x))
        return self.last + torch.rand(())


def hooks(model: nn.Module) -> list[tuple[int, int]]:
    return [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()]


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("also_check", [False, True])
def test_nothing_changes(real: bool, also_check: bool) -> None:
    model, inputs = Stateful(), Inputs((torch.randn(2, 3, 8, 8),))
    model.frozen.eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    tensors = {name: id(value) for name, value in (*model.named_parameters(), *model.named_buffers())}
    flags, hooked = [module.training for module in model.modules()], hooks(model)
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    expected = torch.rand(3), random.random(), np.random.rand()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)

    cost = count(model, inputs, real=real, watch=["body"], multiplicity={"frozen": 2})
    if also_check:
        check(model, inputs, cost)

    after = model.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(after[name], value) for name, value in state.items())
    assert {name: id(value) for name, value in (*model.named_parameters(), *model.named_buffers())} == tensors
    assert [module.training for module in model.modules()] == flags
    assert hooks(model) == hooked
    assert model.last is None
    assert model.cache == {}
    assert torch.equal(torch.rand(3), expected[0])
    assert (random.random(), np.random.rand()) == expected[1:]
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_failing_model_is_left_as_it_was_too() -> None:
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            raise RuntimeError(f"no {self.linear(x).shape}")

    model = Fails()
    weight = model.linear.weight
    with pytest.raises(Exception, match="no torch"):
        count(model, Inputs((torch.randn(1, 4),)), watch=["linear"])
    assert model.linear.weight is weight
    assert hooks(model) == [(0, 0), (0, 0)]


class Remembers:
    """A cache of a class of its own, as models keep one for what they have encoded before."""

    def __init__(self) -> None:
        self.kept, self.hits, self.recent = {}, 0, deque(maxlen=2)

    def of(self, key, compute):
        self.hits += key in self.kept
        self.recent.append(key)
        if key not in self.kept:
            self.kept[key] = compute()
        return self.kept[key]


class Caching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.text, self.image = nn.Linear(8, 8), nn.Linear(8, 8)
        self.memory = Remembers()
        vars(self.memory)["self"] = self.memory  # an object may lead back to itself

    def forward(self, x):
        return self.image(x) + self.memory.of("text", lambda: self.text(x))


@pytest.mark.parametrize("on_meta", [True, False])
def test_what_an_object_of_the_model_remembers_is_forgotten(on_meta: bool) -> None:
    """Else the second count would find the text encoded already, by tensors of a run that is over."""
    with torch.device("meta" if on_meta else "cpu"):
        model = Caching()
    inputs = Inputs((torch.randn(2, 8),))
    first, second = count(model, inputs), count(model, inputs, real=not on_meta)
    assert first.macs == second.macs == 2 * 2 * 64
    assert (model.memory.kept, model.memory.hits, list(model.memory.recent)) == ({}, 0, [])
