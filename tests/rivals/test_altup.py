"""Alternating updates as an arm: held against transformers' own module, and what its layer is."""

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laurel_cli.analysis import analyze
from laurel_cli.laurel.apply import apply_laurel, laurel_layers
from laurel_cli.rivals.altup import AltUp

D = 6


class Layer(nn.Module):
    """A transformer layer's two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Sequential(nn.LayerNorm(D), nn.Linear(D, D), nn.Tanh()) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.first(x)
        return x + self.second(x)


def layers(depth: int = 3) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(*(Layer() for _ in range(depth))).double(), torch.randn(2, 4, D, dtype=torch.float64)


def gemma_3n_s(k: int) -> Any:
    gemma3n = pytest.importorskip("transformers.models.gemma3n.modeling_gemma3n", reason="transformers is missing")
    config = gemma3n.Gemma3nTextConfig(hidden_size=D, num_attention_heads=1, altup_num_inputs=k)
    return gemma3n.Gemma3nTextAltUp(config)


@pytest.mark.parametrize("k", [2, 4])
def test_it_predicts_and_corrects_as_gemma_3n_s_module_with_the_same_weights(k: int) -> None:
    """Theirs depend on the data through what its router makes of it: of a router that answers 1, 0, ... they do not."""
    torch.manual_seed(0)
    theirs = gemma_3n_s(k).double()
    theirs.compute_router_modalities = lambda x: F.one_hot(torch.zeros(x.shape[:-1], dtype=torch.int64), k).double()
    *streams, f = torch.randn(k + 1, 2, 4, D, dtype=torch.float64)
    with torch.no_grad():
        predictions = theirs.predict(torch.stack(streams))
        corrected = theirs.correct(predictions, streams[0] + f)
        p = torch.eye(k, dtype=torch.float64) + theirs.prediction_coefs.weight[:, 0].view(k, k)
        g = 1 + theirs.correction_coefs.weight[:, 0]
    ours = AltUp(streams=k).remembered(streams[0], f, {"predict": p, "correct": g}, k + 1, [tuple(streams)])
    torch.testing.assert_close(torch.stack(ours), corrected)


def test_where_gemma_3n_s_weights_are_zero_it_is_our_start() -> None:
    theirs = gemma_3n_s(2)
    for parameter in theirs.parameters():
        nn.init.zeros_(parameter)
    *streams, f = torch.randn(3, 2, 4, D)
    model = nn.Sequential(Layer())
    layer = next(iter(laurel_layers(apply_laurel(model, "altup", f)).values()))
    p, g = layer.predict.detach(), layer.correct.detach()
    ours = AltUp().remembered(streams[0], f, {"predict": p, "correct": g}, 3, [tuple(streams)])
    with torch.no_grad():
        corrected = theirs.correct(theirs.predict(torch.stack(streams)), streams[0] + f)
    torch.testing.assert_close(torch.stack(ours), corrected)
    torch.testing.assert_close(torch.stack(ours), torch.stack(streams) + f)


def test_per_block_its_layer_is_a_transformer_layer() -> None:
    """L(x) = x + both branches, the second of which reads the sum with the first."""
    model, x = layers()
    plain, _ = layers()
    apply_laurel(model, AltUp(per="block"), x)
    placed = list(laurel_layers(model).values())
    assert [vars(layer.spec)["last"] for layer in placed] == [False, False, True]
    with torch.no_grad():
        for layer in placed:
            for parameter in layer.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    streams = [x, x]
    for number, (layer, mixed) in enumerate(zip(plain, placed, strict=True)):
        active, p, g = number % 2, mixed.predict, mixed.correct
        y = [p[i, 0] * streams[0] + p[i, 1] * streams[1] for i in range(2)]
        computed = layer(streams[active])
        streams = [y[i] + g[i] * (computed - y[active]) for i in range(2)]
    torch.testing.assert_close(model(x), (streams[0] + streams[1]) / 2)


def test_streams_that_start_equal_do_not_stay_so() -> None:
    model, x = layers()
    with torch.no_grad():
        before = model(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply_laurel(model, "altup", x)
    assert torch.equal(model(x), before)
    seen: list[tuple[Tensor, ...]] = []
    layer = list(laurel_layers(model).values())[2]
    layer.register_forward_pre_hook(lambda *_: seen.append(layer.schedule.calls[0][0].now().inputs[0]))
    optimiser, target = torch.optim.SGD(model.parameters(), lr=0.1), torch.randn_like(x)
    for _ in range(3):
        optimiser.zero_grad()
        F.mse_loss(model(x), target).backward()
        optimiser.step()
    apart = [float((one - other).abs().max().detach()) for one, other in seen]
    assert apart[0] == 0
    assert apart[1] > 0
    assert apart[2] > 1e-4


@pytest.mark.parametrize(("name", "exact"), [("altup", True), ("altup@3", False), ("altup@4", True)])
def test_how_it_starts_with_other_numbers_of_streams(name: str, exact: bool) -> None:
    model, x = layers()
    found = analyze(model, name, x, check=False).arm(name)
    with torch.no_grad():
        before = model(x)
        apply_laurel(model, name, x)
        after = model(x)
    torch.testing.assert_close(after, before, rtol=1e-14, atol=1e-14)
    assert torch.equal(after, before) or not exact
    assert bool(found.note) == (not exact)
    k = int(name.partition("@")[2] or 2)
    assert found.added_parameters == 6 * (k * k + k)
