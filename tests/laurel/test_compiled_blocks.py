"""Blocks that a compiler leaves half-way, and checkpoints in an exported model: what plain sums get through."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import laurel_cli as laurel

D = 6


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        x = x + torch.tanh(self.f(x))
        torch._dynamo.graph_break()
        return x + torch.tanh(self.g(x))


class Chain(nn.Module):
    def __init__(self, *, checkpointed: bool) -> None:
        super().__init__()
        self.blocks, self.checkpointed = nn.ModuleList(Block() for _ in range(2)), checkpointed

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        return x


def chain(spec: laurel.Spec, *, checkpointed: bool) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(2, 3, D, dtype=torch.float64)
    model = laurel.apply(Chain(checkpointed=checkpointed).double(), spec, x)
    with torch.no_grad():
        for parameter in laurel.parameters(model):
            parameter.add_(torch.randn_like(parameter) / 3)
    return model, x


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("per", ["block", "connection"])
@pytest.mark.parametrize("variant", ["rw+lr@2", "rw+lr+pa@2"])
def test_a_block_that_is_compiled_in_two_parts(variant: str, per: str, whole: bool) -> None:
    model, x = chain(laurel.Spec.parse(variant, per=per), checkpointed=False)
    compiled = copy.deepcopy(model)
    torch._dynamo.reset()
    for module in [compiled] if whole else compiled.blocks:
        module.compile(backend="aot_eager")
    for one in (x, torch.cat([x, x * 2])):
        expected, found = model(one), compiled(one)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        expected.sum().backward()
        found.sum().backward()
    for parameter, other in zip(model.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(other.grad, parameter.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["pa", "rw+lr+pa@2"])
def test_a_model_that_checkpoints_its_blocks_is_exported_with_gradients(variant: str) -> None:
    model, x = chain(laurel.Spec.parse(variant), checkpointed=True)
    exported = torch.export.export(model, (x,), strict=False).module()
    torch.testing.assert_close(exported(x * 2), model(x * 2), rtol=1e-12, atol=1e-12)
