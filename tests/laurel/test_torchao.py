"""int8 and ternary weights by torchao: LAuReL's maps are quantised with the others, or left as they are, as asked."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import laurel_cli as laurel

from .together import IDS, decoder, distance, maps, next_token_loss, others

quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed: the extra `together`")
INT8 = ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"]


def quantised(model: nn.Module, config: object, *, keep: bool = False) -> nn.Module:
    """A copy with its linear maps quantised; with `keep` all but LAuReL's, as README says it."""
    model = copy.deepcopy(model)
    own = set(map(id, laurel.parameters(model))) if keep else set()
    quantization.quantize_(model, config, filter_fn=lambda m, _: isinstance(m, nn.Linear) and id(m.weight) not in own)
    return model


def ternary() -> object:
    training = pytest.importorskip("torchao.prototype.quantized_training", reason="this torchao trains no ternary maps")
    return training.bitnet_training()


@pytest.mark.parametrize("name", INT8)
def test_int8_takes_the_low_rank_maps_with_it_and_they_survive(name: str) -> None:
    model = decoder()
    after = quantised(model, getattr(quantization, name)())
    for before, int8 in zip(maps(model) + others(model), maps(after) + others(after), strict=True):
        assert type(int8.weight) is not nn.Parameter
        whole, rounded = before.weight.detach(), int8.weight.dequantize()
        step = whole.abs().amax(1, keepdim=True) / 127
        assert bool(((whole - rounded).abs() <= 0.51 * step).all())  # each row to the nearest of 255 numbers
    # What the maps bring is still there: without them the model is ten times as far away.
    without = decoder()
    with torch.no_grad():
        for one in maps(without):
            one.weight.zero_()
        expected = model(IDS)
        assert distance(after(IDS), expected) < 0.05
        assert distance(without(IDS), expected) > 10 * distance(after(IDS), expected)


@pytest.mark.parametrize("name", INT8)
def test_int8_leaves_them_in_their_own_type_where_asked(name: str) -> None:
    model = decoder().bfloat16()
    after = quantised(model, getattr(quantization, name)(), keep=True)
    assert all(type(one.weight) is not nn.Parameter for one in others(after))
    for before, kept in zip(maps(model), maps(after), strict=True):
        assert type(kept.weight) is nn.Parameter
        assert kept.weight.dtype == torch.bfloat16
        assert torch.equal(kept.weight, before.weight)
    with torch.no_grad():
        assert distance(after(IDS).float(), model(IDS).float()) < 0.1


@pytest.mark.parametrize("keep", [False, True], ids=["quantised", "kept"])
@pytest.mark.parametrize("arm", ["rw+lr@16", "rw+lr+pa@16"])
def test_at_its_start_laurel_changes_nothing_of_a_quantised_model(arm: str, keep: bool) -> None:
    plain = quantised(decoder("baseline"), quantization.Int8WeightOnlyConfig())
    with_laurel = quantised(decoder(arm, learned=False), quantization.Int8WeightOnlyConfig(), keep=keep)
    with torch.no_grad():
        assert torch.equal(with_laurel(IDS), plain(IDS))


@pytest.mark.parametrize("keep", [False, True], ids=["all", "but for the low-rank maps"])
def test_folded_and_then_int8(keep: bool) -> None:
    """A folded layer multiplies with B's transpose in place, which int8 tensors do not have: then it does not."""
    model = decoder()
    after = laurel.fold(model, IDS)

    def chosen(module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Linear) and not (keep and "laurel" in name)

    quantization.quantize_(after, quantization.Int8WeightOnlyConfig(), filter_fn=chosen)
    assert all(type(one.weight) is not nn.Parameter for one in others(after))
    with torch.no_grad():
        assert distance(after(IDS), model(IDS)) < 0.05


@pytest.mark.parametrize("keep", [False, True], ids=["ternary", "kept"])
def test_ternary_training_moves_the_low_rank_maps_from_their_start(keep: bool) -> None:
    """B starts at zero, whose mean magnitude, the ternary scale, is zero too: it must leave it all the same."""
    model = quantised(decoder(learned=False), ternary(), keep=keep).train()
    if keep:
        assert all(type(one.weight) is nn.Parameter for one in maps(model))
    else:
        a = maps(model)[0].weight
        whole = a.detach().dequantize() if hasattr(a, "dequantize") and type(a) is nn.Parameter else a.detach()
        assert whole.dtype == torch.float32  # what is trained; it is rounded in the product
    started = [one.weight.detach().clone() for one in maps(model)]
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = next_token_loss(model, IDS)
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]
    with torch.no_grad():
        for one, start in zip(maps(model), started, strict=True):
            assert float((one.weight - start).abs().max()) > 0


def test_a_ternary_map_is_what_the_paper_of_bitnet_says() -> None:
    """B A x with both maps in {-1, 0, 1} times their mean magnitude, and the input of each in int8 by its largest."""

    def rounded(weight: torch.Tensor) -> torch.Tensor:
        scale = weight.abs().mean()
        return (weight / scale).round().clamp(-1, 1) * scale

    def in_int8(x: torch.Tensor) -> torch.Tensor:
        scale = x.abs().amax(-1, keepdim=True) / 127
        return (x / scale).round().clamp(-128, 127) * scale

    model = decoder("lr@16")
    layer = model.layers[0].laurel0
    a, b = layer.A[0].weight.detach().clone(), layer.B.weight.detach().clone()
    after = quantised(model, ternary())
    x, f = torch.randn(2, 5, 64), torch.randn(2, 5, 64)
    with torch.no_grad():
        found = after.layers[0].laurel0(x, f) - x - f
    expected = in_int8(in_int8(x) @ rounded(a).T) @ rounded(b).T
    assert distance(found, expected) < 0.02
