"""Decoders of simplified blocks against their formulas written out, and what arms find in them."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laurel_cli.analysis import analyze
from laurel_cli.errors import ModelError
from laurel_cli.laurel.apply import apply_laurel, laurel_layers
from laurel_cli.models import load
from laurel_cli.models.simplified import SimplifiedDecoder
from laurel_cli.residual import find_connections
from laurel_cli.rivals import RIVALS
from laurel_cli.rivals.running import RunningSum

V, P, D, H, WIDE, LAYERS = 13, 9, 8, 2, 20, 3
every = pytest.mark.parametrize("block", ["sas", "sas-p"])


def small(block: str, *, moved: bool = True) -> nn.Module:
    """A small decoder, its parameters away from their start."""
    torch.manual_seed(0)
    model = SimplifiedDecoder(block, V, P, D, WIDE, LAYERS, H).double()
    with torch.no_grad():
        for parameter in model.parameters() if moved else ():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def normed(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x / (x.square().mean() + torch.finfo(x.dtype).eps).sqrt()


def attention(n: list[Tensor], p: dict[str, Tensor], i: int, *, first: bool) -> Tensor:
    """The tokens' row i: for each head alpha v_i + beta sum_j a_ij v_j - gamma mean_j v_j, j up to i."""
    size = D // H
    heads = []
    for h in range(H):
        part = slice(h * size, (h + 1) * size)
        v = n
        if first:
            v = [p["values.skip"] * x + p["values.branch"] * (p["values.weight"] @ x) for x in n]
        q = (p["query.weight"] @ n[i])[part]
        scores = [float(q @ (p["key.weight"] @ n[j])[part]) / math.sqrt(size) for j in range(i + 1)]
        total = sum(math.exp(score) for score in scores)
        mixed = p["alpha"][h, 0, 0] * v[i][part]
        for j, score in enumerate(scores):
            mixed = mixed + p["beta"][h, 0, 0] * math.exp(score) / total * v[j][part]
            mixed = mixed - p["gamma"][h, 0, 0] * v[j][part] / (i + 1)
        heads.append(mixed)
    return torch.cat(heads)


def feed_forward(n: Tensor, p: dict[str, Tensor]) -> Tensor:
    return p["down.weight"] @ (p["up.weight"] @ n).clamp(min=0)


def block_by_formula(block: str, x: list[Tensor], layer: nn.Module, *, first: bool) -> list[Tensor]:
    p = {name: value.detach() for name, value in layer.named_parameters()}
    inside = {
        part: {name.removeprefix(f"{part}."): value for name, value in p.items() if name.startswith(f"{part}.")}
        for part in ("attention", "feed_forward")
    }
    tokens = range(len(x))
    if block == "sas-p":
        n = [normed(one, p["norm.weight"]) for one in x]
        return [
            p["attention_gain"] * attention(n, inside["attention"], i, first=first)
            + p["branch_gain"] * feed_forward(n[i], inside["feed_forward"])
            for i in tokens
        ]
    n = [normed(one, p["attention_norm.weight"]) for one in x]
    z = [p["attention_gain"] * attention(n, inside["attention"], i, first=first) for i in tokens]
    return [
        p["skip_gain"] * one
        + p["branch_gain"] * feed_forward(normed(one, p["feed_forward_norm.weight"]), inside["feed_forward"])
        for one in z
    ]


@every
def test_it_is_its_formula(block: str) -> None:
    model, ids = small(block), torch.randint(V, (1, P))
    x = [model.tokens.weight[token] + model.positions.weight[place] for place, token in enumerate(ids[0])]
    for number, layer in enumerate(model.layers):
        x = block_by_formula(block, [one.detach() for one in x], layer, first=number == 0)
    logits = [model.tokens.weight @ F.layer_norm(one, (D,), model.norm.weight, model.norm.bias) for one in x]
    torch.testing.assert_close(model(ids)[0], torch.stack(logits), rtol=1e-9, atol=1e-9)


@every
def test_it_has_as_many_parameters_as_its_formula(block: str) -> None:
    norms, gains = {"sas": (2, 3), "sas-p": (1, 2)}[block]
    one = 2 * D * D + 2 * D * WIDE + 3 * H + norms * D + gains  # queries and keys, no values, no projection
    expected = (V + P) * D + LAYERS * one + (D * D + 2) + 2 * D  # the first layer's values, the final norm
    assert sum(parameter.numel() for parameter in small(block).parameters()) == expected


@pytest.mark.parametrize(("name", "norms"), [("simplified-sas", 2), ("simplified-sas-p", 1)])
def test_at_its_own_size_a_block_has_ten_squares_of_its_width_instead_of_twelve(name: str, norms: int) -> None:
    loaded = load(name)
    assert loaded.on_meta
    maps = [sum(p.numel() for p in layer.parameters() if p.dim() == 2) for layer in loaded.module.layers]
    assert maps == [11 * 768**2, *[10 * 768**2] * 17]
    assert sum(isinstance(module, nn.RMSNorm) for module in loaded.module.modules()) == 18 * norms


@every
def test_at_its_start_attention_is_the_identity_and_a_branch_is_small(block: str) -> None:
    model, ids = small(block, moved=False), torch.randint(V, (2, P))
    x = model.tokens(ids) + model.positions.weight
    layer = model.layers[0]
    n = (layer.norm if block == "sas-p" else layer.attention_norm)(x)
    assert torch.equal(layer.attention(n), layer.attention.values(n))
    torch.testing.assert_close(layer.attention(n), n)
    assert layer.branch_gain.item() == pytest.approx(0.1 * math.sqrt(18 / LAYERS))
    assert SimplifiedDecoder(block, V, P, D, WIDE, 18, H).layers[0].branch_gain.item() == pytest.approx(0.1)


@every
def test_no_token_sees_a_later_one(block: str) -> None:
    model, ids = small(block), torch.randint(V - 1, (2, P))
    before = model(ids)
    ids[:, 5:] += 1
    after = model(ids)
    assert torch.equal(after[:, :5], before[:, :5])
    assert not torch.isclose(after[:, 5:], before[:, 5:]).all(-1).any()


@every
def test_every_parameter_learns_from_the_start(block: str) -> None:
    model, ids = small(block, moved=False), torch.randint(V, (2, P))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # keys learn once the queries have
        optimiser.zero_grad()
        F.cross_entropy(model(ids).flatten(0, 1), ids.roll(1).flatten()).backward()
        optimiser.step()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@every
def test_in_bfloat16_it_counts_more_tokens_than_bfloat16_can(block: str) -> None:
    attention = SimplifiedDecoder(block, V, 600, D, WIDE, 1, H).bfloat16().layers[0].attention
    with torch.no_grad():
        attention.alpha.zero_(), attention.beta.zero_()
        rows = -attention.matrix(torch.zeros(1, 600, D, dtype=torch.bfloat16))[0, 0].float()
    expected = 1 / torch.arange(1, 601)
    torch.testing.assert_close(rows[:, 0], expected, rtol=2**-8, atol=0)
    torch.testing.assert_close(rows.diagonal(), expected, rtol=2**-8, atol=0)


def test_another_block_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"block is sas or sas-p, not 'pre-norm'"):
        load("simplified-sas", model_args={"block": "pre-norm"})


# ---------------------------------------------------------------- what arms find in them

OPTIONS: dict[str, Any] = {
    "seq_len": P,
    "model_args": {"layers": LAYERS, "width": D, "heads": H, "feed_forward": WIDE, "vocabulary": V, "positions": P},
}


@pytest.mark.parametrize("compute", ["matrix", "sdpa"])
def test_without_skips_it_says_that_it_has_no_residual_connection(compute: str) -> None:
    """Whichever way attention is computed, what it mixes is tokens: no stream, and no hyper-connection."""
    model, ids = small("sas-p"), torch.randint(V, (2, P))
    if compute == "sdpa":
        for layer in model.layers:
            layer.attention = Fused(layer.attention)
    found = find_connections(model, ids)
    assert not found.connections
    assert {entry.kind for entry in found.refused} == {""}
    sums = [entry for entry in found.refused if "common fork" in entry.reason]
    assert [entry.name.split(" ")[0] for entry in sums] == [f"layers.{n}" for n in range(LAYERS)]
    message = str(found.nothing_found("It"))
    assert "It has no residual connection" in message
    assert "in layers.0" in message
    with pytest.raises(ModelError, match="no residual connection"):
        analyze(load("simplified-sas-p", **OPTIONS), check=False)


class Fused(nn.Module):
    """beta A n by one operator, without the identity and the mean."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.inner = attention

    def forward(self, n: Tensor) -> Tensor:
        q, k, v = (one.unflatten(-1, (H, -1)).transpose(1, 2) for one in (self.inner.query(n), self.inner.key(n), n))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("name", ["rw", "lr@2", "rw+lr@2", "pa", "rw+lr+pa@2", *RIVALS])
def test_arms_stand_at_the_skip_that_is_left_around_the_feed_forward_branch(name: str) -> None:
    torch.manual_seed(0)
    loaded = load("simplified-sas", **OPTIONS)
    model, inputs = loaded.build(), loaded.inputs
    with torch.no_grad():
        before = inputs.call(model)
    rival = RIVALS.get(name)
    if rival is not None and issubclass(rival, RunningSum):
        with pytest.raises(ModelError, match="no running sum"):  # attention without a skip stands between
            apply_laurel(model, name, inputs)
        return
    apply_laurel(model, name, inputs)
    layers = laurel_layers(model)
    places = LAYERS - 1 if name == "x0" else LAYERS  # x0 stands between blocks
    assert [path.rpartition(".")[0] for path in layers] == [f"layers.{n}" for n in range(places)]
    after = inputs.call(model)
    assert torch.equal(after, before) or (rival is not None and rival.starts != "exact")
    after.square().sum().backward()
    # Behind a start of zero (B, or a norm's scale) the rest waits for the second step.
    learned = [[float(p.grad.abs().sum()) for p in layer.parameters()] for layer in layers.values()]
    assert all(not gradients or max(gradients) > 0 for gradients in learned)


@pytest.mark.parametrize("arm", ["rw+lr@2", "layerscale"])
def test_with_an_arm_it_is_compiled_to_one_graph_and_runs_under_autocast(arm: str) -> None:
    model, ids = small("sas"), torch.randint(V, (2, P))
    apply_laurel(model, arm, ids)
    torch._dynamo.reset()
    expected = model(ids)
    torch.testing.assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(ids), expected)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.float()(ids)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=5e-2 * float(expected.detach().abs().max()))


def test_what_is_said_of_the_skip_that_is_left() -> None:
    """RW has its a and b in the model already: the map says so."""
    found = find_connections(small("sas"), torch.randint(V, (2, P)))
    said = [(connection.kind, connection.scale) for connection in found.connections]
    assert said == [
        ("identity", f"branch by layers.{n}.branch_gain, skip by layers.{n}.skip_gain") for n in range(LAYERS)
    ]
    assert not [entry for entry in found.refused if entry.kind]
