"""Every rival against its equation written out plainly, on models that people use, and on all that is done with one."""

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import laurel_cli
from laurel_cli.errors import ModelError, UsageError
from laurel_cli.laurel.apply import apply_laurel, laurel_layers
from laurel_cli.models import load
from laurel_cli.rivals import RIVALS

D = 6
Plain = Callable[[Tensor, Tensor, dict[str, Tensor], list[Tensor], list[Tensor]], Tensor]


def attended(w: Tensor, v: list[Tensor]) -> Tensor:
    """The mean of all v by softmax over w . RMSNorm(v); channels along the dimension of w."""
    dim = -w.dim()
    scores = [
        (w * value / (value.square().mean(dim, keepdim=True) + 1e-6).sqrt()).sum(dim, keepdim=True) for value in v
    ]
    weights = torch.stack(scores).softmax(0)
    return sum(weight * value for weight, value in zip(weights, v, strict=True))


# x' of skip, branch, parameters, all sums x + f so far and all branch outputs so far, the stream's input first of both.
EQUATIONS: dict[str, Plain] = {
    "rezero": lambda x, f, p, s, v: x + p["a"] * f,
    "layerscale": lambda x, f, p, s, v: x + p["l"] * f,
    "affine": lambda x, f, p, s, v: p["s1"] * (f + p["b1"]) + p["s2"] * (x + p["b2"]),
    "gate": lambda x, f, p, s, v: (
        torch.sigmoid(p["w"] / 0.3) * f + torch.sqrt(1 - torch.sigmoid(p["w"] / 0.3).square()) * x
    ),
    "depthscale": lambda x, f, p, s, v: math.sqrt((len(s) - 1) / len(s)) * x + f / math.sqrt(len(s)),
    "x0": lambda x, f, p, s, v: p["r"] * (x + f) + p["s"] * s[0] if p else x + f,  # the last connection has none
    "dense": lambda x, f, p, s, v: sum(a * value for a, value in zip(p["a"], s, strict=True)),
    "attnres": lambda x, f, p, s, v: attended(p["w"], v),
    "delta-attnres": lambda x, f, p, s, v: sum(v) + p["alpha"] * attended(p["w"], v),
}
# Of three connections together.
PARAMETERS = {
    "rezero": 3,
    "layerscale": 3 * D,
    "affine": 12 * D,
    "gate": 3 * D,
    "depthscale": 0,
    "x0": 4,
    "dense": 9,
} | {
    "attnres": 3 * D,
    "delta-attnres": 3 * D + 3,
}


class Block(nn.Module):
    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.f = (
            nn.Conv2d(D, D, 3, padding=1) if dim == 1 else nn.Sequential(nn.Linear(D, 9), nn.Tanh(), nn.Linear(9, D))
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


class Behind(Block):
    def forward(self, x: Tensor) -> Tensor:
        return self.f(x) + x


class Minus(Block):
    def forward(self, x: Tensor) -> Tensor:
        return x - self.f(x)


class Chain(nn.Module):
    def __init__(self, make: Callable[[], nn.Module] = Block, depth: int = 3) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(make() for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Checkpointed(Chain):
    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return x


FORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "plain": (Block, (2, 4, D)),
    "branch first": (Behind, (2, 4, D)),
    "subtracted": (Minus, (2, 4, D)),
    "images": (partial(Block, 1), (2, D, 5, 5)),
}


def chain(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Chain(make).double(), torch.randn(shape, dtype=torch.float64)


def moved(model: nn.Module) -> nn.Module:
    """The same model with all coefficients away from their start."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for layer in laurel_layers(model).values():
            for parameter in layer.parameters():
                parameter.add_(torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("form", FORMS)
def test_it_is_its_equation(name: str, form: str) -> None:
    make, shape = FORMS[form]
    model, x = chain(make, shape)
    branches = [copy.deepcopy(block.f) for block in model.blocks]
    moved(apply_laurel(model, name, x))
    layers = [*laurel_layers(model).values(), nn.Module()][: len(branches)]
    expected, sums, outputs = x, [x], [x]
    for branch, layer in zip(branches, layers, strict=True):
        parameters = {key: p.detach() for key, p in layer.named_parameters()}
        if form == "images":
            parameters = {key: p.view(-1, 1, 1) if p.shape == (D,) else p for key, p in parameters.items()}
        f = branch(expected) * (-1 if form == "subtracted" else 1)
        sums.append(expected + f)
        outputs.append(f)
        expected = EQUATIONS[name](expected, f, parameters, sums, outputs)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", RIVALS)
def test_its_parameters_learn_and_are_as_many_as_it_says(name: str) -> None:
    model, x = chain(Block, (2, 4, D))
    moved(apply_laurel(model, name, x))
    layers = laurel_layers(model).values()
    assert sum(p.numel() for layer in layers for p in layer.parameters()) == PARAMETERS[name]
    assert sum(layer.spec.parameters(D, layer.lags) for layer in layers) == PARAMETERS[name]
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [
        ("rezero", 3, 1),
        ("layerscale", 3, 1),
        ("affine", 3, 3),
        ("gate", 1 / (1 + math.exp(-10)), math.sqrt(1e-3)),  # the skip's weight is kept from vanishing
        ("depthscale", 1 / math.sqrt(2), 1 / math.sqrt(2)),
        ("x0", 3, 3),
        ("dense", 3, 3),
        ("attnres", None, None),
        ("delta-attnres", None, None),
    ],
)
def test_what_it_tells_of_its_weights(name: str, a: float | None, b: float | None) -> None:
    model, x = chain(Block, (2, 4, D))
    layer = next(iter(laurel_layers(apply_laurel(model, name, x)).values()))
    for parameter in layer.parameters():
        nn.init.constant_(parameter, 3.0)
    found = layer.coefficients()
    assert (found["a"], found["b"]) == (pytest.approx((a, b), rel=1e-5) if a is not None else (None, None))
    assert found["c"] == {"x0": [3], "dense": [3, 3], "delta-attnres": [3]}.get(name)


@pytest.mark.parametrize("name", RIVALS)
def test_its_gradients_are_those_of_differences(name: str) -> None:
    model, x = chain(Block, (2, 2, D))
    moved(apply_laurel(model, name, x))
    assert torch.autograd.gradcheck(model, (x.requires_grad_(),))


@pytest.mark.parametrize("name", RIVALS)
def test_it_starts_as_it_says(name: str) -> None:
    torch.manual_seed(0)
    loaded = load("paper-c4", seq_len=16, model_args={"layers": 3, "width": 32, "heads": 2, "vocabulary": 64})
    model, inputs = loaded.build().eval(), loaded.inputs
    with torch.no_grad():
        before = model(*inputs.args, **inputs.kwargs)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            apply_laurel(model, name, inputs)
        after = model(*inputs.args, **inputs.kwargs)
    starts = RIVALS[name].starts
    assert torch.equal(after, before) == (starts == "exact")
    # Where every reader normalises a scale is no matter, but for what keeps the norm from dividing by zero.
    assert torch.allclose(after, before, rtol=0, atol=2e-3 * float(before.abs().max())) == (starts != "no")


@pytest.mark.slow
@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize(
    ("reference", "options", "connections"),
    [
        ("torchvision:resnet18", {"image_size": 64}, 8),
        ("timm:vit_tiny_patch16_224", {}, 24),
        ("gpt2", {"seq_len": 16, "model_args": {"n_layer": 3, "n_embd": 64, "n_head": 2}}, 6),
        ("llama-3-8b", {"seq_len": 16}, 64),
    ],
)
def test_count_and_equation_agree_on_models_that_people_use(
    name: str, reference: str, options: dict[str, Any], connections: int
) -> None:
    from laurel_cli.analysis import analyze
    from laurel_cli.arms import parse_arms

    if "attnres" in name and "resnet" in reference:  # an activation stands between its sums
        analysis = analyze(load(reference, **options), parse_arms(f"{name},rw"), check=False)
        left_out = {result.arm.name: result.note for result in analysis.arms if result.cost is None}
        assert list(left_out) == [name]
        assert "no running sum" in left_out[name]
        assert any(name in warning for warning in analysis.warnings)
        return
    analysis = analyze(load(reference, **options), parse_arms(name), check=False)  # raises where they disagree
    found = {result.arm.name: result for result in analysis.arms}[name]
    assert len(analysis.residual.connections) == connections
    widths = [connection.width for connection in analysis.residual.connections]
    streams = Counter(connection.stream for connection in analysis.residual.connections)
    ends = sum(
        one.block != after.block for one, after in pairwise(analysis.residual.connections) if one.stream == after.stream
    )
    by_hand = {
        "rezero": len(widths),
        "layerscale": sum(widths),
        "affine": 4 * sum(widths),
        "gate": sum(widths),
        "depthscale": 0,
        "x0": 2 * ends,
        "attnres": sum(widths),
        "delta-attnres": sum(widths) + len(widths),
        "dense": sum(n + 1 for length in streams.values() for n in range(1, length + 1)),
    }[name]
    assert found.cost.parameters - analysis.baseline.parameters == by_hand
    assert found.cost.flops == analysis.baseline.flops
    assert bool(found.note) == (RIVALS[name].starts != "exact")


@pytest.mark.parametrize("name", RIVALS)
def test_compiled_it_is_one_graph_and_the_same(name: str) -> None:
    model, x = chain(Block, (2, 4, D))
    moved(apply_laurel(model, name, x))
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("name", RIVALS)
def test_a_stream_keeps_its_type_under_autocast_and_in_bfloat16(name: str) -> None:
    model, x = chain(Block, (2, 4, D))
    apply_laurel(model, name, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.float()(x.float()).isfinite().all()
    assert model.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", RIVALS)
def test_recomputed_it_has_the_same_gradients(name: str) -> None:
    plain, x = chain(Block, (2, 4, D))
    moved(apply_laurel(plain, name, x))
    again = copy.deepcopy(plain)
    again.__class__ = type("Checkpointed", (type(again),), {"forward": Checkpointed.forward})
    for model in (plain, again):
        model(x).square().sum().backward()
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("name", RIVALS)
def test_copied_saved_and_taken_away(name: str, tmp_path: Path) -> None:
    model, x = chain(Block, (2, 4, D))
    before, names = model(x), list(model.state_dict())
    moved(apply_laurel(model, name, x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    laurel_cli.save(model, tmp_path)
    other, _ = chain(Block, (2, 4, D))
    assert torch.equal(laurel_cli.restore(other, tmp_path)(x), model(x))
    laurel_cli.remove(model)
    assert torch.equal(model(x), before)
    assert list(model.state_dict()) == names


def test_places_that_share_a_layer_have_no_number() -> None:
    block = Block()
    model = nn.Sequential(nn.Linear(D, D), *[block] * 3)
    with pytest.raises(ModelError, match="several places of its stream"):
        apply_laurel(model, "depthscale", torch.randn(2, 4, D))
    assert len(laurel_layers(apply_laurel(model, "rezero", torch.randn(2, 4, D)))) == 1


class Scaled(Block):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x + self.f(x)


class Turned(Block):
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(1) + self.f(x)


@pytest.mark.parametrize("make", [Scaled, Turned])
@pytest.mark.parametrize("name", RIVALS)
def test_a_skip_that_is_changed_is_no_running_sum(name: str, make: Callable[[], nn.Module]) -> None:
    model, x = chain(make, (2, 4, D))
    before = model(x)
    if "attnres" in name:
        with pytest.raises(ModelError, match="no running sum"):
            apply_laurel(model, name, x)
        return
    after = apply_laurel(model, name, x)(x)
    assert torch.equal(after, before) or RIVALS[name].starts != "exact"


def test_attention_scores_stay_ordinary() -> None:
    class Scores(nn.Module):
        """Each layer adds its scores to those of the layer before; behind the diagonal all are minus infinity."""

        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.ModuleDict({"q": nn.Linear(D, D), "k": nn.Linear(D, D)}) for _ in range(3))
            self.register_buffer("mask", torch.full((4, 4), -math.inf).triu(1))

        def forward(self, x: Tensor) -> Tensor:
            scores = self.mask.expand(x.shape[0], 4, 4)
            for block in self.blocks:
                scores = scores + block["q"](x) @ block["k"](x).transpose(1, 2)
                x = x + scores.softmax(-1) @ x
            return x

    torch.manual_seed(0)
    model, x = Scores().eval(), torch.randn(2, 4, D)
    before = model(x)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            apply_laurel(model, "rezero", x)
        except ModelError as error:
            said.append(error)
    assert any("attention scores" in str(getattr(one, "message", one)) for one in said)
    assert not model(x).isnan().any()
    torch.testing.assert_close(model(x)[:, 0], before[:, 0], rtol=1, atol=10)  # finite everywhere


@pytest.mark.parametrize("name", ["rezero@4", "layerscale@x"])
def test_a_setting_that_it_has_not_is_refused(name: str) -> None:
    from laurel_cli.arms import parse_arms

    with pytest.raises(UsageError, match="has no rank"):
        parse_arms(name)
