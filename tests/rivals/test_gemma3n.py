"""Gemma 3n's block as an arm: held against transformers' own block, its start, and how it is told where it stands."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laurel_cli.analysis import analyze
from laurel_cli.laurel.apply import apply_laurel, laurel_layers
from laurel_cli.models import load
from laurel_cli.residual import find_connections
from laurel_cli.rivals.gemma3n import Gemma3n
from tests.rivals.small import small

gemma3n = pytest.importorskip("transformers.models.gemma3n.modeling_gemma3n", reason="transformers is not installed")
D, RANK = 16, 4
TINY = {
    "vocab_size": 32,
    "vocab_size_per_layer_input": 32,
    "hidden_size": D,
    "hidden_size_per_layer_input": 4,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "laurel_rank": RANK,
    "num_kv_shared_layers": 0,
    "layer_types": ["full_attention"] * 2,
    "activation_sparsity_pattern": [0.0] * 2,
    "altup_num_inputs": 2,
}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, D), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


def block(**config: Any) -> nn.Module:
    return gemma3n.Gemma3nTextLaurelBlock(gemma3n.Gemma3nTextConfig(**config))


def test_it_is_the_block_that_gemma_3n_has() -> None:
    torch.manual_seed(0)
    theirs, model, x = block(hidden_size=D, laurel_rank=RANK), nn.Sequential(Block()), torch.randn(2, 5, D)
    layer = next(iter(laurel_layers(apply_laurel(model, f"gemma3n@{RANK}", x)).values()))
    with torch.no_grad():
        theirs.post_laurel_norm.weight.copy_(torch.randn(D))
        layer.linear_left.copy_(theirs.linear_left.weight)
        layer.linear_right.copy_(theirs.linear_right.weight)
        layer.norm.copy_(theirs.post_laurel_norm.weight)
    torch.testing.assert_close(model(x), model[0].f(x) + theirs(x))


def test_at_gemma_3n_s_widths_it_has_as_many_parameters() -> None:
    with torch.device("meta"):
        theirs = block()
    count = sum(parameter.numel() for parameter in theirs.parameters())
    assert Gemma3n().parameters(2048) == count == 264_192


SMALL = {"resnet": ("torchvision:resnet18", {"image_size": 32}), **small(layers=2)}


@pytest.mark.parametrize("kind", SMALL)
def test_it_starts_as_the_baseline_exactly_and_every_parameter_learns(kind: str) -> None:
    """L and R stand behind w = 0: they move from the second step on."""
    reference, options = SMALL[kind]
    loaded = load(reference, **options)
    torch.manual_seed(0)
    model, inputs = loaded.build().eval(), loaded.inputs

    def answer() -> Tensor:
        found = model(*inputs.args, **inputs.kwargs)
        return found if isinstance(found, Tensor) else found.logits

    with torch.no_grad():
        before = answer()
    apply_laurel(model, "gemma3n@8", inputs)
    with torch.no_grad():
        assert torch.equal(answer(), before)
    own = [p for layer in laurel_layers(model).values() for p in layer.parameters()]
    optimiser, started = torch.optim.SGD(own, lr=0.1), [p.detach().clone() for p in own]
    target = torch.randn_like(before)
    for _ in range(2):
        optimiser.zero_grad()
        F.mse_loss(answer(), target).backward()
        optimiser.step()
    assert not any(torch.equal(p, start) for p, start in zip(own, started, strict=True))


def test_where_a_model_has_it_already_it_is_named() -> None:
    torch.manual_seed(0)
    model = gemma3n.Gemma3nForCausalLM(gemma3n.Gemma3nTextConfig(**TINY)).eval()
    found = analyze(model, f"gemma3n@{RANK}", {"input_ids": torch.randint(32, (1, 4))}, check=False)
    own = {entry.name.split(" ")[0]: entry.reason for entry in found.residual.refused if entry.kind == "laurel"}
    assert {*own} == {f"model.layers.{n}{inside}" for n in range(2) for inside in ("", ".laurel")}
    assert {*own.values()} == {f"it is x + norm(B A x) already, Gemma 3n's form of LAuReL, of rank {RANK}"}
    assert any(
        "the model has LAuReL of its own" in warning and "model.layers.0.laurel" in warning
        for warning in found.warnings
    )
    each = sum(2 * RANK * connection.width + connection.width for connection in found.residual.connections)
    assert found.arm(f"gemma3n@{RANK}").added_parameters == each


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rank", "batch", "tokens"), [(4, 1, 1), (8, 2, 3), (16, 1, 5), (64, 2, 4)])
def test_it_is_named_at_every_rank_and_in_every_type(rank: int, batch: int, tokens: int, dtype: torch.dtype) -> None:
    """A narrow model of Gemma 3n has its rank of 64 still: above half of the width, and above it."""
    torch.manual_seed(0)
    model = gemma3n.Gemma3nForCausalLM(gemma3n.Gemma3nTextConfig(**TINY | {"laurel_rank": rank})).to(dtype).eval()
    found = find_connections(model, torch.randint(32, (batch, tokens)))
    own = {entry.name.split(" ")[0]: entry.reason for entry in found.refused if entry.kind == "laurel"}
    assert {*own} == {f"model.layers.{n}{inside}" for n in range(2) for inside in ("", ".laurel")}
    assert {*own.values()} == {f"it is x + norm(B A x) already, Gemma 3n's form of LAuReL, of rank {rank}"}
    assert not [connection for connection in found.connections if connection.owner.endswith(".laurel")]


@pytest.mark.parametrize("arm", ["rw+lr@4", "gemma3n@4"])
def test_arms_stand_in_gemma_3n_beside_altup_and_its_own_block(arm: str) -> None:
    torch.manual_seed(0)
    model = gemma3n.Gemma3nForCausalLM(gemma3n.Gemma3nTextConfig(**TINY)).eval()
    ids = torch.randint(32, (2, 4))
    with torch.no_grad():
        before = model(input_ids=ids).logits
    apply_laurel(model, arm, {"input_ids": ids})
    after = model(input_ids=ids).logits
    assert torch.equal(after, before)
    after.square().sum().backward()
    layers = laurel_layers(model)
    assert {name.rpartition(".")[0] for name in layers} == {
        f"model.layers.{n}{part}" for n in (0, 1) for part in ("", ".altup")
    }
    assert all(any(p.grad.abs().sum() > 0 for p in layer.parameters()) for layer in layers.values())


def test_without_a_norm_it_is_the_paper_s() -> None:
    class LowRank(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(D, RANK, bias=False), nn.Linear(RANK, D, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.b(self.a(x))

    found = find_connections(nn.Sequential(Block(), LowRank(), Block()), torch.randn(2, 5, D))
    reasons = [entry.reason for entry in found.refused if entry.kind == "laurel"]
    assert reasons == [f"it is x + B A x already, the low-rank part of LAuReL (Eq. 3), of rank {RANK}"]
