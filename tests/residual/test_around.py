"""What the map says of norms and factors around a sum, held against architectures whose papers say where they are."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

import laurel_cli as laurel

BEFORE, AFTER, SUM = "before the branch", "after the branch", "after the sum"
SMALL = {"vocab_size": 64, "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
IDS = torch.arange(8)[None]


def said(model, inputs):
    found = laurel.residual_map(model, inputs).connections
    return {c.norm for c in found}, [c.scale for c in found]


def test_convolutional_networks():
    """He et al. 2016: a batch norm ends the branch. Liu et al. 2022: a layer scale does, and its norm stands inside."""
    assert said(torchvision.models.resnet18(), torch.randn(1, 3, 64, 64)) == ({AFTER}, [""] * 8)
    norms, scales = said(torchvision.models.convnext_tiny(), torch.randn(1, 3, 64, 64))
    assert norms == {""}
    assert scales[0] == "branch by features.1.0.layer_scale"
    assert all(scale.startswith("branch by features.") for scale in scales)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("Bert", SUM),  # Devlin et al. 2019: post-norm, of the last layer too
        ("Llama", BEFORE),  # Touvron et al. 2023: RMSNorm before, written out in plain operators
        ("Gemma2", f"{BEFORE}, {AFTER}"),  # Gemma 2, 2024: both
        ("Olmo2", AFTER),  # OLMo 2, 2024: reordered norm
        ("GPTNeoX", BEFORE),  # one norm for each of two parallel branches
    ],
)
def test_transformers_say_where_their_norms_are(name, where):
    # Of OLMo 2 older versions cannot build the configuration.
    transformers = pytest.importorskip("transformers", minversion="5.20" if name == "Olmo2" else None)
    more = {"num_key_value_heads": 2, "head_dim": 16} if name == "Gemma2" else {}
    config = getattr(transformers, f"{name}Config")(**SMALL, **more)
    norms, scales = said(getattr(transformers, f"{name}Model")(config), IDS)
    assert norms == {where}
    assert set(scales) == {""}  # a norm's own weight is no scale of the branch


def test_numbers_that_multiply():
    """Granite multiplies each branch by one number of its configuration."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GraniteConfig(**SMALL, residual_multiplier=0.22)
    assert said(transformers.GraniteForCausalLM(config), IDS) == ({BEFORE}, ["branch by 0.22"] * 4)


class Sums(nn.Module):
    """Each kind of factor once."""

    def __init__(self):
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.gain = nn.Parameter(torch.ones(8))
        self.lamb = nn.Parameter(torch.ones(1))
        self.gate = nn.Linear(8, 8)

    def forward(self, x):
        x = self.lamb * x + self.maps[0](x).tanh()
        x = x / 2 + self.gain * self.maps[1](x).tanh()
        x = x - self.maps[2](x).tanh() * 0.5
        return x + self.gate(x).sigmoid() * self.maps[3](x).tanh()


def test_factors_of_the_skip_and_gates():
    """A gate depends on the input: it is the branch's own work and no factor."""
    found = said(Sums(), torch.randn(2, 8))[1]
    assert found == ["skip by lamb", "branch by gain, skip by 1/2", "branch by 0.5", ""]


def test_they_stand_in_the_frame_and_the_document():
    found = laurel.residual_map(Sums(), torch.randn(2, 8))
    frame = found.to_frame()
    assert list(frame["scale"])[:2] == ["skip by lamb", "branch by gain, skip by 1/2"]
    assert set(frame["norm"].dropna()) == {""}
    assert [c["scale"] for c in found.document()["connections"]] == [c.scale for c in found.connections]
