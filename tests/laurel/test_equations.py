"""Every formula of LAuReL (arXiv 2411.07501v4) against its equation written out plainly, in float64, off the start."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from laurel_cli.errors import UsageError
from laurel_cli.laurel.apply import apply_laurel, laurel_layers
from laurel_cli.laurel.layers import LaurelLayer
from laurel_cli.laurel.spec import Spec

D, RANK, CONNECTIONS = 6, 2, 5
TOKENS, IMAGE, SEQUENCE = (2, 3, D), (2, D, 3, 4), (2, D, 7)


class Branch(nn.Module):
    """tanh of a linear map of the channels."""

    def __init__(self, channel_dim: int) -> None:
        super().__init__()
        self.map, self.channel_dim = nn.Linear(D, D), channel_dim

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.map(x.movedim(self.channel_dim, -1)))
        return y.movedim(-1, self.channel_dim)


class ConvBranch(nn.Module):
    def __init__(self, dims: int) -> None:
        super().__init__()
        self.map = (nn.Conv1d, nn.Conv2d)[dims - 1](D, D, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.map(x))


class Toy(nn.Module):
    """Five residual connections in a row, each of its own class instance; the skip stands on either side."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        made = [Branch(-1) if shape == TOKENS else ConvBranch(len(shape) - 2) for _ in range(CONNECTIONS)]
        self.branches = nn.ModuleList(made)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.branches[0](x)
        x = self.branches[1](x) + x
        for branch in self.branches[2:]:
            x = x + branch(x)
        return x


def channels_last(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if shape == TOKENS else x.movedim(1, -1)


def channels_back(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if shape == TOKENS else x.movedim(-1, 1)


def randomised(spec: Spec, shape: tuple[int, ...]) -> tuple[Toy, list[LaurelLayer], Tensor]:
    """A toy with LAuReL at five connections, all its parameters drawn anew; its layers in order of execution."""
    torch.manual_seed(7)
    model = Toy(shape).double().eval()
    x = torch.randn(shape, dtype=torch.float64)
    apply_laurel(model, spec, x)
    layers = list(laurel_layers(model).values())
    order: list[LaurelLayer] = []
    hooks = [layer.register_forward_hook(lambda module, *_: order.append(module)) for layer in layers]
    model(x)
    for hook in hooks:
        hook.remove()
    assert len(order) == len(set(map(id, order))) == CONNECTIONS
    with torch.no_grad():
        for layer in order:
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64) * 0.7)
    return model, order, x


def weights(layer: LaurelLayer, normalize: str) -> tuple[Tensor, Tensor]:
    """a and b, one number or one for each channel."""
    w = layer.weights
    if normalize == "sigmoid":
        a = 1 / (1 + torch.exp(-w[0]))
        return a, 1 - a
    if normalize == "none":
        return w[0], w[1]
    scale = 2.0 if normalize == "2softmax" else 1.0
    total = torch.exp(w[0]) + torch.exp(w[1])
    return scale * torch.exp(w[0]) / total, scale * torch.exp(w[1]) / total


def down_up(layer: LaurelLayer, lag: int, x: Tensor) -> Tensor:
    """B_lag A_lag x for channels-last x."""
    A = layer.A[lag].weight.flatten(1)  # type: ignore[operator]
    B = layer.B.weight.flatten(1)[:, lag * RANK : (lag + 1) * RANK]
    assert A.shape == (RANK, D)
    assert B.shape == (D, RANK)
    return torch.einsum("dr,re,...e->...d", B, A, x)


def expected(model: Toy, layers: list[LaurelLayer], x: Tensor, shape: tuple[int, ...], spec: Spec) -> Tensor:
    """The whole toy by the equations, with the full history kept as a plain list."""
    past: list[Tensor] = []
    for branch, layer in zip(model.branches, layers, strict=True):
        f = channels_last(branch(x), shape)
        x_i = channels_last(x, shape)
        past.insert(0, x_i)
        g = x_i.clone()
        k = len(past) if spec.lags is None else min(spec.lags, len(past))
        if spec.lr and spec.history_map != "per-lag" and not (spec.pa and spec.history_map == "shared"):
            g = g + down_up(layer, 0, x_i)  # Eq. 3, and the x + B A x of Eq. 5
        if spec.pa:
            assert layer.c.shape == (k,)
            for j in range(k):
                if spec.history_map == "identity":
                    h = past[j]
                elif spec.history_map == "shared":
                    h = down_up(layer, 0, past[j])  # Eq. 4 with one h
                else:
                    h = down_up(layer, j, past[j])  # Eq. 6
                g = g + layer.c[j] * h
        a, b = weights(layer, spec.normalize) if spec.rw else (1.0, 1.0)
        x = channels_back(a * f + b * g, shape)
    return x


def check(spec: Spec, shape: tuple[int, ...]) -> None:
    model, layers, x = randomised(spec, shape)
    learning = model(x)
    assert learning.requires_grad
    with torch.no_grad():  # where the sum is made by other operators
        ours, plain = model(x), expected(model, layers, x, shape, spec)
        ordinary = Toy(shape).double().eval()
        ordinary.load_state_dict({name: value for name, value in model.state_dict().items() if "laurel" not in name})
        assert not torch.allclose(plain, ordinary(x), atol=1e-3)  # the formula changes something here
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(learning.detach(), plain, rtol=1e-12, atol=1e-12)


SHAPES = pytest.mark.parametrize("shape", [TOKENS, IMAGE, SEQUENCE], ids=["tokens", "image", "sequence"])


@SHAPES
@pytest.mark.parametrize("vector", [False, True], ids=["scalar", "vector"])
@pytest.mark.parametrize("normalize", ["2softmax", "softmax", "sigmoid", "none"])
def test_rw(normalize: Any, vector: bool, shape: tuple[int, ...]) -> None:
    check(Spec(rw=True, normalize=normalize, vector_weights=vector), shape)


@SHAPES
def test_lr_equation_3(shape: tuple[int, ...]) -> None:
    check(Spec(lr=True, rank=RANK), shape)


@SHAPES
@pytest.mark.parametrize("lags", [1, 2, 3, 4, None])
@pytest.mark.parametrize("history", ["identity", "shared", "per-lag"])
def test_pa_equation_4(history: Any, lags: int | None, shape: tuple[int, ...]) -> None:
    check(Spec(pa=True, rank=RANK, lags=lags, history=history), shape)


@SHAPES
@pytest.mark.parametrize("vector", [False, True], ids=["scalar", "vector"])
@pytest.mark.parametrize("normalize", ["2softmax", "softmax", "sigmoid", "none"])
def test_rw_lr_equation_5(normalize: Any, vector: bool, shape: tuple[int, ...]) -> None:
    check(Spec(rw=True, lr=True, rank=RANK, normalize=normalize, vector_weights=vector), shape)


@SHAPES
@pytest.mark.parametrize("lags", [1, 3, None])
@pytest.mark.parametrize("history", ["auto", "per-lag", "shared", "identity"])
def test_rw_lr_pa_equation_6(history: Any, lags: int | None, shape: tuple[int, ...]) -> None:
    check(Spec(rw=True, lr=True, pa=True, rank=RANK, lags=lags, history=history), shape)


@pytest.mark.parametrize("history", ["auto", "shared", "identity"])
def test_rw_pa_and_lr_pa(history: Any) -> None:
    check(Spec(rw=True, pa=True, rank=RANK, history=history), TOKENS)
    check(Spec(lr=True, pa=True, rank=RANK, history=history), IMAGE)


def test_eq_6_with_one_map_is_eq_4_with_a_shared_one() -> None:
    """By linearity, sum_j c_j h(x_{i-j}) = h(sum_j c_j x_{i-j})."""
    shared, layers, x = randomised(Spec(pa=True, rank=RANK, history="shared"), TOKENS)
    per_lag, others, _ = randomised(Spec(pa=True, rank=RANK, history="per-lag"), TOKENS)
    per_lag.load_state_dict({name: v for name, v in shared.state_dict().items() if "laurel" not in name}, strict=False)
    with torch.no_grad():
        for one, each in zip(layers, others, strict=True):
            each.c.copy_(one.c)
            for lag in range(len(one.c)):
                each.A[lag].weight.copy_(one.A[0].weight)  # type: ignore[operator]
                each.B.weight[:, lag * RANK : (lag + 1) * RANK].copy_(one.B.weight)
        torch.testing.assert_close(per_lag(x), shared(x), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- counts, by the table's own words


def added(spec: Spec, shape: tuple[int, ...]) -> int:
    model = Toy(shape)
    before = sum(p.numel() for p in model.parameters())
    apply_laurel(model, spec, torch.randn(shape))
    return sum(p.numel() for p in model.parameters()) - before


@SHAPES
@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (Spec(rw=True), 5 * 2),
        (Spec(rw=True, normalize="sigmoid"), 5 * 1),
        (Spec(rw=True, vector_weights=True), 5 * 2 * D),
        (Spec(lr=True, rank=RANK), 5 * 2 * RANK * D),
        (Spec(pa=True), 1 + 2 + 3 + 3 + 3),
        (Spec(pa=True, lags=1), 5),
        (Spec(pa=True, lags=None), 1 + 2 + 3 + 4 + 5),
        (Spec(pa=True, history="shared", rank=RANK), 5 * 2 * RANK * D + 12),
        (Spec(rw=True, lr=True, rank=RANK), 5 * (2 * RANK * D + 2)),
        (Spec(rw=True, lr=True, pa=True, rank=RANK), 12 * 2 * RANK * D + 12 + 5 * 2),
        (Spec(rw=True, lr=True, pa=True, rank=RANK, history="shared"), 5 * (2 * RANK * D + 2) + 12),
        (Spec(rw=True, lr=True, pa=True, rank=RANK, lags=None), 15 * 2 * RANK * D + 15 + 5 * 2),
    ],
    ids=lambda value: value.name if isinstance(value, Spec) else str(value),
)
def test_parameters_per_connection(spec: Spec, count: int, shape: tuple[int, ...]) -> None:
    assert added(spec, shape) == count


# ---------------------------------------------------------------- the start


def started(**options: Any) -> list[LaurelLayer]:
    model = Toy(IMAGE)
    apply_laurel(model, Spec(**options), torch.randn(IMAGE))
    return list(laurel_layers(model).values())


def test_b_starts_at_zero_and_a_within_xaviers_bound() -> None:
    entries = []
    for layer in started(lr=True, rank=RANK):
        assert layer.B.weight.abs().max() == 0
        entries.append(layer.A[0].weight.detach().flatten())  # type: ignore[operator]
    bound = math.sqrt(6 / (D + RANK))
    values = torch.cat(entries)
    assert values.abs().max() <= bound
    assert values.abs().max() > 0.8 * bound
    assert abs(values.var(unbiased=False).item() - bound**2 / 3) < 0.12 * bound**2
    assert len(set(values.tolist())) > 50  # no two layers start from the same numbers


def test_the_column_orthogonal_start() -> None:
    """A_ij = 1 / sqrt(r D) where i mod r = j, else 0 (i of D, j of r)."""
    for layer in started(lr=True, rank=RANK, init="orthogonal"):
        A = layer.A[0].weight.flatten(1).T  # type: ignore[operator]
        for i in range(D):
            for j in range(RANK):
                assert A[i, j].item() == pytest.approx(1 / math.sqrt(RANK * D) if i % RANK == j else 0, rel=1e-6)
        gram = A.T @ A
        assert torch.equal(gram, torch.diag(gram.diagonal()))


def test_the_rank_may_exceed_the_width() -> None:
    for init in ("xavier", "orthogonal"):
        model = Toy(TOKENS)
        x = torch.randn(TOKENS)
        before = model(x)
        apply_laurel(model, Spec(lr=True, rank=2 * D, init=init), x)  # type: ignore[arg-type]
        assert torch.equal(model(x), before)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"pa": True}, 0.0),
        ({"pa": True, "history": "shared"}, 1.0),
        ({"pa": True, "history": "per-lag"}, 1.0),
        ({"rw": True, "lr": True, "pa": True}, 1.0),
        ({"rw": True, "lr": True, "pa": True, "history": "identity"}, 0.0),
    ],
)
def test_c_starts_where_something_learns(options: dict[str, Any], value: float) -> None:
    """c = 0 beside B = 0 is a dead point: neither would ever get a gradient."""
    for layer in started(**options):
        assert (layer.c == value).all()


@pytest.mark.parametrize("history", ["identity", "shared", "per-lag"])
@pytest.mark.parametrize("variant", ["pa", "lr+pa", "rw+lr+pa"])
def test_the_start_is_no_dead_point(variant: str, history: str) -> None:
    model = Toy(TOKENS)
    x = torch.randn(TOKENS)
    apply_laurel(model, Spec.parse(variant, history=history, rank=RANK), x)
    model(x).square().sum().backward()
    for name, layer in laurel_layers(model).items():
        alive = layer.B.weight.grad if hasattr(layer, "B") else layer.c.grad
        assert alive is not None, name
        assert alive.abs().sum() > 0, name


def test_rw_starts_at_the_ordinary_residual_only_where_it_says_so() -> None:
    starts = {"2softmax": (1, 1), "none": (1, 1), "softmax": (0.5, 0.5), "sigmoid": (0.5, 0.5)}
    for normalize, (a, b) in starts.items():
        for layer in started(rw=True, normalize=normalize):
            assert tuple(w.item() for w in layer.residual_weights()) == (a, b)
        spec = Spec(rw=True, normalize=normalize)  # type: ignore[arg-type]
        assert (spec.starts == "exact") == (a == 1)


# ---------------------------------------------------------------- specs


def test_parse() -> None:
    assert Spec.parse("rw+lr@32") == Spec(rw=True, lr=True, rank=32)
    assert Spec.parse("PA", lags=None) == Spec(pa=True, lags=None)
    assert Spec.parse("lr+rw").name == "rw+lr@16"
    assert Spec.parse("pa").name == "pa"
    assert Spec.parse("pa", history="shared").name == "pa@16"


@pytest.mark.parametrize("text", ["", "rw+", "rw+rw", "rl", "rw@x", "lr@0", "lr@-1", "lr@1.5", "lr@"])
def test_a_spec_that_means_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        Spec.parse(text)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": True, "rank": 0},
        {"lr": True, "rank": True},
        {"lr": True, "rank": 2.0},
        {"pa": True, "lags": 0},
        {"pa": True, "lags": -1},
        {"pa": True, "history": "each"},
        {"rw": True, "normalize": "tanh"},
        {"lr": True, "init": "kaiming"},
        {"lr": True, "per": "layer"},
    ],
    ids=str,
)
def test_options_that_mean_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Spec(**options)


def test_lags_truncate_at_the_beginning_of_a_stream() -> None:
    assert [Spec(pa=True).lags_at(i) for i in range(5)] == [1, 2, 3, 3, 3]
    assert [Spec(pa=True, lags=None).lags_at(i) for i in range(5)] == [1, 2, 3, 4, 5]
    assert Spec(lr=True).lags_at(4) == 0
