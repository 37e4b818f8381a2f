"""A deep stack looked at through a few of its layers gives what looking at every layer gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from laurel_cli import analysis
from laurel_cli.analysis import analyze
from laurel_cli.arms import parse_arms
from laurel_cli.cost.count import count
from laurel_cli.laurel.apply import apply_laurel
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.loaded import LoadedModel
from laurel_cli.residual import depth, survey

ARMS = "baseline,copy,naive+1,rw,lr@4,pa,rw+lr+pa@4"
IDS = Inputs((), {"input_ids": torch.arange(8).view(1, 8)})


class Block(nn.Module):
    def __init__(self, width: int, number: int) -> None:
        super().__init__()
        self.layer_idx = number
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(torch.relu(self.wide(self.norm(x))))


class CountsItsLayers(nn.Module):
    """Layers are equal, but the forward pass treats the last ones otherwise, by their number."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(16, number) for number in range(14))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, layer in enumerate(self.layers):
            if number == 11:
                x = torch.cat([x, x], dim=1)
            x = layer(x)
        return x


class Reversed(nn.Module):
    """Runs its layers by index, twice as many as it holds parameters for are not there: a plain deep stack."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 20
        self.layers = nn.ModuleList(Block(16, number) for number in range(self.depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number in range(self.depth):
            x = self.layers[number](x)
        return x


def _transformers(name: str, **options: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, name)(**options)
    config.use_cache = False
    kind = transformers.AutoModelForSeq2SeqLM if name.startswith("T5") else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        return kind.from_config(config).eval()


SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "vocab_size": 64}
MODELS = {
    "llama": lambda: (_transformers("LlamaConfig", **SMALL, num_hidden_layers=13), IDS),
    "gemma2": lambda: (
        _transformers("Gemma2Config", **SMALL, head_dim=8, num_key_value_heads=4, num_hidden_layers=19),
        IDS,
    ),
    "gpt2": lambda: (_transformers("GPT2Config", n_embd=32, n_head=4, n_layer=12, vocab_size=64), IDS),
    "t5": lambda: (
        _transformers("T5Config", d_model=32, d_kv=8, d_ff=48, num_heads=4, num_layers=12, vocab_size=64),
        Inputs((), {**IDS.kwargs, "decoder_input_ids": IDS.kwargs["input_ids"]}),
    ),
    "counts": lambda: (CountsItsLayers(), Inputs((torch.rand(1, 4, 16),))),
    "by index": lambda: (Reversed(), Inputs((torch.rand(1, 4, 16),))),
}


def _plain(residual: Any) -> list[Any]:
    connections = [
        (
            (c.name, c.kind, c.width, c.shape, c.channel_dim, c.stream, c.position, c.block),
            *((s.owner, s.place, s.turn, s.turns, s.skip) for s in c.sites),
        )
        for c in residual.connections
    ]
    return sorted(map(repr, connections)) + sorted(repr((r.name, r.reason)) for r in residual.refused)


@pytest.mark.parametrize("name", MODELS)
def test_the_map_is_that_of_all_layers(name: str) -> None:
    model, inputs = MODELS[name]()
    names = [path for path, _ in model.named_modules()]
    short, whole = survey.survey(model, inputs), survey.survey(model, inputs, kept=None)
    assert bool(short.stacks) == (name != "counts")
    assert _plain(short.whole) == _plain(whole.whole)
    assert [c.name for c in short.whole.connections] == [c.name for c in whole.whole.connections]
    assert [path for path, _ in model.named_modules()] == names


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_figure_is_that_of_all_layers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = MODELS[name]()
    on_meta = next(model.parameters()).is_meta
    loaded = LoadedModel(name, "test", model.eval(), inputs, "", lambda: model, on_meta)
    short = analyze(loaded, parse_arms(ARMS), check=False).document()
    monkeypatch.setattr(survey, "candidates", lambda model, kept: [])
    assert analyze(loaded, parse_arms(ARMS), check=False).document() == short


def test_layers_are_equal_but_for_their_own_number() -> None:
    first, second, other = Block(8, 3), Block(8, 4), Block(8, 9)
    assert depth.sign(first, 3) == depth.sign(second, 4)
    assert depth.sign(first, 3) != depth.sign(other, 4)
    second.norm.eps = 1e-3
    assert depth.sign(first, 3) != depth.sign(second, 4)


class Stack(nn.Module):
    def __init__(self, block: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block(16, number) for number in range(12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Checkpointed(Stack):
    """The first six layers are checkpointed, in training mode."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, block in enumerate(self.blocks):
            x = checkpoint(block, x, use_reentrant=False) if self.training and number < 6 else block(x)
        return x


class Frozen(Stack):
    """The first eight layers run without gradients."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, block in enumerate(self.blocks):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= 8):
                x = block(x)
        return x


class Drops(Block):
    """Dropout in the late layers alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(super().forward(x), 0.1 if self.layer_idx > 6 else 0.0, self.training)


@pytest.mark.parametrize("make", [lambda: Checkpointed(Block), lambda: Frozen(Block), lambda: Stack(Drops)])
def test_what_layers_keep_in_training_is_seen_of_every_layer(make: Any) -> None:
    model, x = make().eval(), torch.rand(2, 5, 16)
    found = analyze(model, "baseline,rw", x, check=False)
    whole = count(model, Inputs((x,)), real=True)
    assert found.baseline.saved_activation_bytes == whole.saved_activation_bytes
    apply_laurel(model, "rw", x)
    with_laurel = found.arms[1].cost
    assert with_laurel is not None
    assert with_laurel.saved_activation_bytes == count(model, Inputs((x,)), real=True).saved_activation_bytes


def test_a_plain_stack_is_still_looked_at_through_a_few_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def surveyed(*args: Any, kept: int | None) -> survey.Survey:
        asked.append(kept)
        return survey.survey(*args, kept=kept)

    monkeypatch.setattr(analysis, "survey", surveyed)
    analyze(Stack(Block).eval(), "baseline,rw", torch.rand(2, 5, 16), check=False)
    assert asked == [survey.KEPT]
