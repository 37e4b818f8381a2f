"""Pruning and 2:4 sparsity: LAuReL's maps are pruned where they are named, and else stay dense, bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import laurel_cli as laurel

from .together import IDS, decoder, distance, maps, next_token_loss, others


def two_of_four(weight: Tensor) -> Tensor:
    """A mask that keeps the two largest of every four in a row."""
    fours = weight.detach().abs().unflatten(-1, (-1, 4))
    return torch.zeros_like(fours).scatter_(-1, fours.topk(2, -1).indices, 1.0).flatten(-2)


def pruned(model: nn.Module, modules: list[nn.Linear], amount: float) -> nn.Module:
    prune.global_unstructured([(m, "weight") for m in modules], prune.L1Unstructured, amount=amount)
    return model


def zeros(module: nn.Linear) -> float:
    return float((module.weight == 0).float().mean())


def trained(model: nn.Module, steps: int = 5) -> list[float]:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = next_token_loss(model, IDS)
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    return losses


@pytest.mark.parametrize("arm", ["rw+lr@16", "rw+lr+pa@16"])
def test_the_model_s_own_maps_are_pruned_and_laurel_s_stay(arm: str) -> None:
    model = decoder(arm)
    before = [one.weight.detach().clone() for one in maps(model)]
    pruned(model, others(model), 0.5)
    assert sum(map(zeros, others(model))) / len(others(model)) == pytest.approx(0.5, abs=0.1)
    assert all(torch.equal(one.weight, whole) for one, whole in zip(maps(model), before, strict=True))
    losses = trained(model)
    assert losses[-1] < losses[0]
    assert not any(torch.equal(one.weight, whole) for one, whole in zip(maps(model), before, strict=True))
    assert sum(map(zeros, others(model))) / len(others(model)) == pytest.approx(0.5, abs=0.1)  # after training too


def test_laurel_s_maps_are_pruned_where_they_are_named() -> None:
    """x' of the pruned layer is that of the masked A and B; a pruned entry has no gradient."""
    model = decoder("rw+lr@16")
    layer = model.layers[0].laurel0
    whole = {name: one.weight.detach().clone() for name, one in (("A", layer.A[0]), ("B", layer.B))}
    for one in (layer.A[0], layer.B):
        prune.l1_unstructured(one, "weight", amount=0.5)
    masks = {"A": layer.A[0].weight_mask, "B": layer.B.weight_mask}
    assert all(int(mask.sum()) == mask.numel() // 2 for mask in masks.values())
    x, f = torch.randn(2, 5, 64), torch.randn(2, 5, 64)
    a, b = layer.residual_weights()
    expected = a * f + b * (x + x @ (whole["A"] * masks["A"]).T @ (whole["B"] * masks["B"]).T)
    torch.testing.assert_close(layer(x, f) if layer.skip == 0 else layer(f, x), expected, rtol=1e-5, atol=1e-5)
    next_token_loss(model, IDS).backward()
    gradient = layer.B.weight_orig.grad
    assert float(gradient.abs().max()) > 0
    assert not bool((gradient * (1 - masks["B"])).any())


def test_pruned_for_good_it_is_saved_folded_and_taken_away(tmp_path: Path) -> None:
    model = decoder("rw+lr@16")
    both = maps(model) + others(model)
    pruned(model, both, 0.4)
    with torch.no_grad():
        expected = model(IDS)
    for one in both:
        prune.remove(one, "weight")
    with torch.no_grad():  # plain maps again: another product adds them
        found = model(IDS)
        torch.testing.assert_close(found, expected)
        laurel.save(model, tmp_path)
        again = laurel.restore(decoder("baseline"), tmp_path)
        assert torch.equal(again(IDS), found)
        assert [zeros(one) for one in maps(again)] == [zeros(one) for one in maps(model)]
        assert distance(laurel.fold(model, IDS)(IDS), expected) < 1e-5
    names = list(decoder("baseline").state_dict())
    assert list(laurel.remove(copy.deepcopy(model)).state_dict()) == names


def test_two_of_four_beside_dense_maps() -> None:
    """The model's own maps lose two of every four weights, before and after training; LAuReL's none."""
    model = decoder("rw+lr@16")
    before = [one.weight.detach().clone() for one in maps(model)]
    for one in others(model):
        prune.custom_from_mask(one, "weight", two_of_four(one.weight))
    losses = trained(model)
    assert losses[-1] < losses[0]
    for one in others(model):
        assert set((one.weight.detach() != 0).unflatten(-1, (-1, 4)).sum(-1).flatten().tolist()) == {2}
    assert all(zeros(one) == 0 for one in maps(model))
    assert not any(torch.equal(one.weight, whole) for one, whole in zip(maps(model), before, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="2:4 kernels run on CUDA alone, and there is no such device")
def test_two_of_four_in_its_own_kernels() -> None:
    """Maps of rank 16 stay dense: the kernels take no side below 32 or 64."""
    model = decoder("rw+lr@16").cuda().half()
    for one in others(model):
        prune.custom_from_mask(one, "weight", two_of_four(one.weight))
        prune.remove(one, "weight")
    ids = IDS.repeat(4, 4).cuda()[:, :16]
    with torch.no_grad():
        expected = model(ids)
        for one in others(model):
            one.weight = nn.Parameter(torch.sparse.to_sparse_semi_structured(one.weight.detach()), requires_grad=False)
        assert all(type(one.weight) is nn.Parameter for one in maps(model))
        assert distance(model(ids).float(), expected.float()) < 0.02
