"""Hooks of accelerate, which replace forward by a function of their own, before LAuReL and after it."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from laurel_cli import apply_laurel, parameters, remove
from laurel_cli.laurel.apply import laurel_layers

from .ways import Block, Chain, given

hooks = pytest.importorskip("accelerate.hooks")


def hooked(model: nn.Module) -> nn.Module:
    for block in model.blocks:  # type: ignore[union-attr]
        hooks.add_hook_to_module(block, hooks.ModelHook())
    return model


def built() -> nn.Module:
    torch.manual_seed(0)
    return Chain(Block).double().eval()


def stirred(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply_laurel(model, "rw+lr+pa@2", given())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters(model):
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


def test_hooks_before_and_after_compute_the_same() -> None:
    x = given()
    expected = stirred(built())(x)
    for model in (stirred(hooked(built())), hooked(stirred(built()))):
        assert len(laurel_layers(model)) == 3
        assert torch.equal(model(x), expected)
        model(x).sum().backward()
        assert all(parameter.grad is not None for parameter in parameters(model))


def test_hooks_that_are_taken_away_leave_laurel_and_the_other_way_round() -> None:
    x = given()
    expected = stirred(built())(x)
    model = stirred(hooked(built()))
    hooks.remove_hook_from_submodules(model)
    assert torch.equal(model(x), expected)
    model = stirred(hooked(built()))
    assert torch.equal(remove(model)(x), built()(x))
