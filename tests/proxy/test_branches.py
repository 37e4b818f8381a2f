"""The last affine map of every branch: found in the trace, whatever it is, and started."""

import pytest
import torch
from torch import Tensor, nn

from laurel_cli.errors import ModelError
from laurel_cli.models.inputs import Inputs
from laurel_cli.proxy import branches

D = 8


class PostNorm(nn.Module):
    """x + norm(f(x)): the norm is the last map, not the linear one before it."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.norm = nn.Linear(D, D), nn.LayerNorm(D)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.f(x).relu()) + x


class Dropped(nn.Module):
    """A linear map, then views, an activation and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.first(x).relu())
        return x + nn.functional.dropout(y.reshape(x.shape).relu(), 0.1, self.training)


class Gated(nn.Module):
    """Squeeze and excitation: the gate is made from what it multiplies, the convolution before it is the last map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv1d(D, D, 1), nn.Conv1d(D, D, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.relu().transpose(1, 2))
        return x + (torch.sigmoid(self.gate(y.mean(-1, keepdim=True))) * y).transpose(1, 2)


class Offset(nn.Module):
    """A gain of 1 + w, as Gemma's norms have it."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.w = nn.Linear(D, D), nn.Parameter(torch.full((D,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.normalize(self.f(x), dim=-1) * (1.0 + self.w)


class Parallel(nn.Module):
    """(x + f(x)) + g(x): two branches, one connection."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = (nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x) + self.g(x)


class Scaled(nn.Module):
    """A layer scale, and a bias that is added apart, after it."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.gamma, self.bias = (
            nn.Linear(D, D),
            nn.Parameter(torch.full((D,), 1e-6)),
            nn.Parameter(torch.ones(D)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.f(x).tanh() * self.gamma + self.bias)


class Attention(nn.Module):
    """Without an output map the values are the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(D, D) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), -1)
        return x + weights @ self.v(x)


class Computed(nn.Module):
    """A weight that is no parameter: at zero it would be no number."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.utils.parametrizations.weight_norm(nn.Linear(D, D))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x.relu())


MODELS = {
    PostNorm: {"norm.weight", "norm.bias"},
    Dropped: {"last.weight", "last.bias"},
    Gated: {"conv.weight", "conv.bias"},
    Offset: {"w"},
    Parallel: {"f.2.weight", "f.2.bias", "g.2.weight", "g.2.bias"},
    Scaled: {"gamma", "bias"},
    Attention: {"v.weight", "v.bias"},
}


@pytest.mark.parametrize("kind", MODELS)
def test_at_zero_a_block_is_the_identity_and_every_map_still_learns(kind: type[nn.Module]) -> None:
    model, x = kind(), torch.randn(2, 5, D)
    before = {name: value.clone() for name, value in model.named_parameters()}
    branches.begin(model, Inputs((x,)), "zero")
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == MODELS[kind]
    out = model.eval()(x)
    assert torch.equal(out, x)
    if kind is not Dropped:  # a rectifier after the map has no slope at zero
        (out * torch.randn_like(x)).sum().backward()
        assert any(torch.count_nonzero(model.get_parameter(name).grad) for name in changed)


@pytest.mark.parametrize(
    ("kind", "expected"), [(PostNorm, {"norm.weight": 1.0}), (Offset, {"w": 0.0}), (Scaled, {"gamma": 1.0})]
)
def test_at_one_a_norm_or_a_layer_scale_leaves_its_input_as_it_is(kind: type[nn.Module], expected: dict) -> None:
    torch.manual_seed(0)
    model = kind()
    for name in expected:
        nn.init.normal_(model.get_parameter(name))
    before = {name: value.clone() for name, value in model.named_parameters()}
    branches.begin(model, Inputs((torch.randn(2, 5, D),)), "one")
    for name, value in model.named_parameters():
        torch.testing.assert_close(
            value.detach(), torch.full_like(value, expected[name]) if name in expected else before[name]
        )


def test_what_cannot_be_started_is_named_and_left_as_it_was() -> None:
    x, model = torch.randn(2, 5, D), Computed()
    before = {name: value.clone() for name, value in model.named_parameters()}
    with pytest.raises(ModelError, match="computed by"):
        branches.begin(model, Inputs((x,)), "zero")
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    with pytest.raises(ModelError, match="ends in a norm"):
        branches.begin(Attention(), Inputs((x,)), "one")
    with pytest.raises(ModelError, match="no residual connection"):
        branches.begin(nn.Linear(D, D), Inputs((x,)), "zero")
