"""Batch norms merged into convolutions: equal to the formula written out, and only where nothing else would change."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn

import laurel_cli as laurel
from laurel_cli.latency.folded import folded
from laurel_cli.laurel.fold_norms import merge_norms, norms
from laurel_cli.models.inputs import as_inputs


class Block(nn.Module):
    """x + bn(conv(x)); `read` lets something else read the convolution's output too."""

    def __init__(self, read=False, shared=False, twice=False, looked=False):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.other = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        if shared:
            self.other.weight = self.conv.weight
        self.read, self.twice, self.looked = read, twice, looked

    def forward(self, x):
        y = self.conv(x)
        z = self.bn(y)
        if self.twice:
            z = self.bn(z)
        if self.looked:
            z = z + self.bn.eps
        return x + z + (y if self.read else 0) + self.other(x)


def trained(model):
    """With the numbers of a model that was trained; some gammas below zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return model.eval().double()


def test_the_merged_convolution_is_the_formula():
    model = trained(Block())
    conv, bn, x = copy.deepcopy(model.conv), copy.deepcopy(model.bn), torch.randn(2, 4, 5, 5, dtype=torch.float64)
    assert merge_norms(model, as_inputs(x, model)) == 1
    factor = bn.weight / (bn.running_var + bn.eps).sqrt()
    torch.testing.assert_close(model.conv.weight, conv.weight * factor[:, None, None, None])
    torch.testing.assert_close(model.conv.bias, bn.bias - bn.running_mean * factor)
    assert norms(model) == 0


@pytest.mark.parametrize("kind", ["read", "shared", "twice", "looked"])
def test_what_would_change_something_else_stays(kind):
    model = trained(Block(**{kind: True}))
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    expected = model(x)
    assert merge_norms(model, as_inputs(x, model)) == 0
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("arm", ["", "rw", "rw+lr@4"])
def test_a_resnet_loses_all_its_norms_and_computes_the_same(arm):
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    model = trained(torchvision.models.resnet18(num_classes=10))
    if arm:
        laurel.apply(model, arm, x)
    before = copy.deepcopy(model)
    done, became = folded(model, as_inputs(x, model))
    assert (became.norms, became.merged, norms(done)) == (20, 20, 0)
    assert became.difference <= became.allowed < 1e-10
    if not arm:
        torch.testing.assert_close(done(x), before(x))
    # Its coefficients were moved, so that folding had something to do.
    assert sum(became.sums.values()) == (8 if arm else 0)
    assert "as it was" not in became.sums
    assert bool(arm) == (not torch.allclose(done(x), before(x)))
