"""What tests of LAuReL together with other methods share: a small decoder that has learned something."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from laurel_cli import apply, parameters
from laurel_cli.laurel.apply import laurel_layers
from laurel_cli.models import load

VOCABULARY = 64
IDS = torch.arange(32).view(2, 16) * 5 % VOCABULARY


def decoder(arm: str = "rw+lr@16", *, learned: bool = True) -> nn.Module:
    """The paper's decoder, two layers of 64, with an arm in place; `learned`: its parameters have left their start."""
    size = {"layers": 2, "width": 64, "feed_forward": 128, "heads": 2, "vocabulary": VOCABULARY}
    loaded = load("paper-c4", seq_len=16, model_args=size)
    torch.manual_seed(0)
    model = loaded.build().eval()
    if arm == "baseline":
        return model
    apply(model, arm, loaded.inputs)
    with torch.no_grad():
        for parameter in parameters(model) if learned else ():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


def maps(model: nn.Module) -> list[nn.Linear]:
    """LAuReL's low-rank maps, A and B of every connection."""
    return [m for layer in laurel_layers(model).values() for m in layer.modules() if isinstance(m, nn.Linear)]


def others(model: nn.Module) -> list[nn.Linear]:
    """The linear maps of the model itself."""
    learned = set(map(id, maps(model)))
    return [m for m in model.modules() if isinstance(m, nn.Linear) and id(m) not in learned]


def distance(one: Tensor, other: Tensor) -> float:
    """Of two tensors, as a share of the second one's norm."""
    return float((one - other).norm().detach() / other.norm().detach())


def next_token_loss(model: nn.Module, ids: Tensor) -> Tensor:
    """Nats a token."""
    return nn.functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
