"""The reference models: how many residual connections each has, of which kind, in how many blocks. Exact."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from laurel_cli.residual import find_connections

CSV = Path(__file__).parents[3] / "shared" / "reference" / "models.csv"
IDS = {"input_ids": torch.arange(8).view(1, 8)}
# reference: (connections, identity, projection, blocks)
FACTS = {
    "torchvision:resnet18": (8, 5, 3, 8),
    "torchvision:resnet50": (16, 12, 4, 16),
    "torchvision:wide_resnet50_2": (16, 12, 4, 16),
    "torchvision:resnext50_32x4d": (16, 12, 4, 16),
    "torchvision:vit_b_16": (24, 24, 0, 12),
    "torchvision:swin_t": (24, 24, 0, 12),
    "torchvision:convnext_tiny": (18, 18, 0, 18),
    "torchvision:efficientnet_b0": (9, 9, 0, 9),
    "torchvision:mobilenet_v2": (10, 10, 0, 10),
    "torchvision:mobilenet_v3_large": (10, 10, 0, 10),
    "torchvision:densenet121": (0, 0, 0, 0),
    "torchvision:vgg16": (0, 0, 0, 0),
    "timm:vit_base_patch16_224": (24, 24, 0, 12),
    "timm:mixer_b16_224": (24, 24, 0, 12),
    "timm:poolformer_s12": (24, 24, 0, 12),
    "timm:regnety_040": (22, 18, 4, 22),
    "timm:seresnet50": (16, 12, 4, 16),
    "timm:inception_resnet_v2": (40, 40, 0, 40),
    "transformers:GPT2Config()": (24, 24, 0, 12),
    "transformers:LlamaConfig()": (64, 64, 0, 32),
    "transformers:BertConfig()": (24, 24, 0, 12),
    "transformers:GPTJConfig()": (28, 28, 0, 28),
    "transformers:FalconConfig()": (32, 32, 0, 32),
    "transformers:BloomConfig(n_layer=4)": (8, 8, 0, 4),
    "transformers:T5Config()": (30, 30, 0, 12),
    "transformers:MambaConfig(num_hidden_layers=4)": (4, 4, 0, 4),
    "transformers:MixtralConfig(num_hidden_layers=4)": (8, 8, 0, 4),
    "transformers:Gemma2Config()": (52, 52, 0, 26),
    "transformers:ViTConfig()": (24, 24, 0, 12),
}


def image(model: str) -> torch.Tensor:
    """As small as the model allows: a fixed size for transformers, five halvings for the others."""
    fixed = ("vit", "mixer")
    size = 224 if any(word in model for word in fixed) else 96 if "inception" in model else 64
    return torch.zeros(1, 3, size, size, device="cpu")


def build(reference: str) -> tuple[nn.Module, Any]:
    """On the meta device, with example inputs."""
    library, _, name = reference.partition(":")
    if library == "torchvision":
        import torchvision

        return torchvision.models.get_model(name), image(name)
    if library == "timm":
        import timm

        return timm.create_model(name), image(name)
    import transformers

    cls, _, arguments = name.rstrip(")").partition("(")
    options = {key: int(value) for key, _, value in (pair.partition("=") for pair in arguments.split(",") if pair)}
    config = getattr(transformers, cls)(**options)
    model = transformers.AutoModel.from_config(config)
    if cls == "ViTConfig":
        return model, {"pixel_values": torch.zeros(1, 3, 224, 224, device="cpu")}
    return model, IDS | ({"decoder_input_ids": IDS["input_ids"]} if cls == "T5Config" else {})


@pytest.mark.parametrize("reference", FACTS)
def test_connections_of(reference: str) -> None:
    with torch.device("meta"):
        model, inputs = build(reference)
    found = find_connections(model, inputs)
    kinds = Counter(connection.kind for connection in found.connections)
    counted = (len(found.connections), kinds["identity"], kinds["projection"], len(found.blocks))
    assert counted == FACTS[reference], [f"{c.name} {c.kind} {c.block}" for c in found.connections]
    assert len({c.name for c in found.connections}) == len(found.connections)
    assert all(c.name.rpartition(":")[0] in {*dict(model.named_modules()), "(root)"} for c in found.connections)


@pytest.mark.skipif(not CSV.exists(), reason="the reference table is not beside this checkout")
def test_the_facts_are_those_of_the_reference_table() -> None:
    with CSV.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ("sites", "identity", "projection", "blocks")
    assert {row["model"]: tuple(int(row[column]) for column in columns) for row in rows} == FACTS


def detail(reference: str) -> list[Any]:
    with torch.device("meta"):
        model, inputs = build(reference)
    return list(find_connections(model, inputs).connections)


def test_resnet50_by_name_width_and_stream() -> None:
    """16 bottlenecks; the output widths of the four stages; a stream for each, begun by its projection."""
    found = detail("torchvision:resnet50")
    assert [c.name for c in found] == [f"layer{s + 1}.{i}:0" for s, n in enumerate((3, 4, 6, 3)) for i in range(n)]
    assert [c.width for c in found] == [w for w, n in ((256, 3), (512, 4), (1024, 6), (2048, 3)) for _ in range(n)]
    assert [c.stream for c in found] == [s for s, n in enumerate((3, 4, 6, 3)) for _ in range(n)]
    assert [c.position for c in found] == [i for n in (3, 4, 6, 3) for i in range(n)]
    assert [c.kind == "projection" for c in found] == [c.position == 0 for c in found]
    assert {c.channel_dim for c in found} == {1}
    assert [c.block for c in found] == [c.owner for c in found]


def test_t5_by_stream() -> None:
    """Encoder and decoder are two streams of one width each."""
    found = detail("transformers:T5Config()")
    assert [c.stream for c in found] == [0] * 12 + [1] * 18
    assert [c.position for c in found] == [*range(12), *range(18)]
    assert {(c.width, c.channel_dim) for c in found} == {(512, 2)}
    assert len({c.block for c in found}) == 12


def test_channels_last_and_first() -> None:
    """Swin's images are channels-last, ConvNeXt's channels-first: the width is the channels' either way."""
    swin, convnext = detail("torchvision:swin_t"), detail("torchvision:convnext_tiny")
    assert [c.width for c in swin] == [w for w, n in ((96, 4), (192, 4), (384, 12), (768, 4)) for _ in range(n)]
    assert {c.channel_dim for c in swin} == {3}
    assert [c.width for c in convnext] == [w for w, n in ((96, 3), (192, 3), (384, 9), (768, 3)) for _ in range(n)]
    assert {c.channel_dim for c in convnext} == {1}
    for c in (*swin, *convnext):
        assert c.shape[c.channel_dim] == c.width
        assert c.tokens * c.width == torch.Size(c.shape).numel()
