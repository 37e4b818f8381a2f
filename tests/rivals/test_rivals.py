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
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import laurel_cli
from laurel_cli.errors import ModelError, UsageError
from laurel_cli.laurel.apply import apply_laurel, laurel_layers
from laurel_cli.models import load
from laurel_cli.rivals import RIVALS
from laurel_cli.rivals.running import RunningSum
from laurel_cli.rivals.static import Static
from laurel_cli.rivals.streams import Streams

D = 6
Plain = Callable[[Tensor, Tensor, dict[str, Tensor], list[Tensor], list[Tensor], dict[str, Any]], Tensor]


def attended(w: Tensor, v: list[Tensor]) -> Tensor:
    """The mean of all v by softmax over w . RMSNorm(v); channels along the dimension of w."""
    dim = -w.dim()
    scores = [
        (w * value / (value.square().mean(dim, keepdim=True) + 1e-6).sqrt()).sum(dim, keepdim=True) for value in v
    ]
    weights = torch.stack(scores).softmax(0)
    return sum(weight * value for weight, value in zip(weights, v, strict=True))


def in_blocks(v: list[Tensor], size: int) -> list[Tensor]:
    """The first input, and the sums of `size` branch outputs each."""
    return [v[0], *(sum(v[start : start + size], torch.zeros(())) for start in range(1, len(v), size))]


def normed(v: Tensor) -> Tensor:
    return v / (v.square().mean() + 1e-6).sqrt()


def sinkhorn(a: list[list[Tensor]]) -> list[list[Tensor]]:
    """Columns, then rows, divided by their sums, 20 times; no entry below 1e-6 after the first columns."""
    n, smallest = range(len(a)), 1e-6
    for _ in range(20):
        a = [[a[i][j] / sum(a[m][j] for m in n) + smallest for j in n] for i in n]
        a = [[a[i][j] / sum(a[i]) for j in n] for i in n]
        smallest = 0.0
    return a


def ihc_step(streams: list[Tensor], f: Tensor, p: dict[str, Tensor]) -> list[Tensor]:
    v = normed(torch.cat(streams))
    post = [2 * torch.sigmoid(p["post_scale"] * (w @ v) + b) for w, b in zip(p["post"], p["post_bias"], strict=True)]
    mixed = streams
    if "mix" in p:
        n = range(len(streams))
        z = p["mix_scale"] * (p["mix"] @ v)
        a = sinkhorn([[torch.exp(z[len(n) * i + j] + p["mix_bias"][i, j]) for j in n] for i in n])
        mixed = [sum(a[i][j] * streams[j] for j in n) for i in n]
    return [x + share * f for x, share in zip(mixed, post, strict=True)]


def ihc_read(streams: list[Tensor], p: dict[str, Tensor]) -> Tensor:
    v, even = normed(torch.cat(streams)), -math.log(len(streams) - 1)
    pre = [torch.sigmoid(p["pre_scale"] * (w @ v) + b + even) for w, b in zip(p["pre"], p["pre_bias"], strict=True)]
    return sum(share * x for x, share in zip(streams, pre, strict=True))


def hc_step(streams: list[Tensor], f: Tensor, p: dict[str, Tensor]) -> list[Tensor]:
    n = range(len(streams))
    v = [normed(x) for x in streams]
    b = [p["post_scale"] * torch.tanh(p["post"][0] @ v[i]) + p["post_bias"][i] for i in n]
    a = [[p["mix_scale"] * torch.tanh(p["mix"][j] @ v[i]) + p["mix_bias"][i, j] for j in n] for i in n]
    return [sum(a[i][j] * streams[i] for i in n) + b[j] * f for j in n]


def hc_read(streams: list[Tensor], p: dict[str, Tensor]) -> Tensor:
    if "pre" not in p:  # the last one: the head reads the mean
        return sum(streams) / len(streams)
    a = [p["mix_scale"] * torch.tanh(p["pre"][0] @ normed(x)) + b for x, b in zip(streams, p["pre_bias"], strict=True)]
    return sum(share * x for x, share in zip(streams, a, strict=True))


def streams(n: int, step: Callable[..., Any], read: Callable[..., Any]) -> Plain:
    """Position by position: n copies of the first skip, a step at every connection, and what is read of its result."""

    def equation(x: Tensor, f: Tensor, p: dict[str, Tensor], s: Any, v: Any, kept: dict[str, Any]) -> Tensor:
        positions, branch = (value.movedim(kept["dim"], -1).reshape(-1, D) for value in (x, f))
        before = kept.setdefault("streams", [[one] * n for one in positions])
        kept["streams"] = [step(state, one, p) for state, one in zip(before, branch, strict=True)]
        rows = torch.stack([read(state, p) for state in kept["streams"]])
        return rows.reshape(x.movedim(kept["dim"], -1).shape).movedim(-1, kept["dim"])

    return equation


def alternating(k: int, connections: int = 3) -> Plain:
    """Predict, compute, correct; stream l mod k is read by the l-th layer, from 0, and the head reads the mean."""

    def equation(x: Tensor, f: Tensor, p: dict[str, Tensor], s: list[Tensor], v: Any, kept: dict[str, Any]) -> Tensor:
        layer = len(s) - 2
        old, active = kept.setdefault("streams", [x] * k), layer % k
        assert torch.equal(old[active], x)
        predicted = [sum(p["predict"][i, j] * old[j] for j in range(k)) for i in range(k)]
        computed = old[active] + f
        kept["streams"] = [predicted[i] + p["correct"][i] * (computed - predicted[active]) for i in range(k)]
        if layer == connections - 1:
            return sum(kept["streams"]) / k
        return kept["streams"][(layer + 1) % k]

    return equation


def low_rank_and_normed(x: Tensor, f: Tensor, p: dict[str, Tensor], s: Any, v: Any, kept: dict[str, Any]) -> Tensor:
    """Position by position: y = R L x, and w y / sqrt(mean(y^2) + 1e-6) beside the skip."""
    positions = x.movedim(kept["dim"], -1).reshape(-1, D)
    rows = [one + p["norm"].flatten() * normed(p["linear_right"] @ (p["linear_left"] @ one)) for one in positions]
    return f + torch.stack(rows).reshape(x.movedim(kept["dim"], -1).shape).movedim(-1, kept["dim"])


# x' of skip, branch, parameters, all sums x + f so far, all branch outputs so far, the stream's input first of both,
# and of what the equation kept at the connections before.
EQUATIONS: dict[str, Plain] = {
    "rezero": lambda x, f, p, s, v, k: x + p["a"] * f,
    "layerscale": lambda x, f, p, s, v, k: x + p["l"] * f,
    "affine": lambda x, f, p, s, v, k: p["s1"] * (f + p["b1"]) + p["s2"] * (x + p["b2"]),
    "gate": lambda x, f, p, s, v, k: (
        torch.sigmoid(p["w"] / 0.3) * f + torch.sqrt(1 - torch.sigmoid(p["w"] / 0.3).square()) * x
    ),
    "depthscale": lambda x, f, p, s, v, k: math.sqrt((len(s) - 1) / len(s)) * x + f / math.sqrt(len(s)),
    "x0": lambda x, f, p, s, v, k: p["r"] * (x + f) + p["s"] * s[0] if p else x + f,  # the last connection has none
    "gemma3n": low_rank_and_normed,
    "gemma3n@2": low_rank_and_normed,
    "dense": lambda x, f, p, s, v, k: sum(a * value for a, value in zip(p["a"], s, strict=True)),
    "attnres": lambda x, f, p, s, v, k: attended(p["w"], v),
    "delta-attnres": lambda x, f, p, s, v, k: sum(v) + p["alpha"] * attended(p["w"], v),
    "attnres-block": lambda x, f, p, s, v, k: attended(p["w"], v),  # three outputs are blocks of their own
    "attnres-block@2": lambda x, f, p, s, v, k: attended(p["w"], in_blocks(v, 2)),
    "attnres-block@1": lambda x, f, p, s, v, k: attended(p["w"], [v[0], sum(v[1:])]),
    "altup": alternating(2),
    "altup@3": alternating(3),
    "ihc": streams(4, ihc_step, ihc_read),
    "ihc@2": streams(2, ihc_step, ihc_read),
    "hc": streams(4, hc_step, hc_read),
    "hc@3": streams(3, hc_step, hc_read),
    "mhc": streams(4, ihc_step, ihc_read),
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
    "gemma3n": 3 * (2 * 64 * D + D),
    "gemma3n@2": 3 * (2 * 2 * D + D),
} | {
    "attnres": 3 * D,
    "delta-attnres": 3 * D + 3,
    "attnres-block": 3 * D,
    "attnres-block@2": 3 * D,
    "attnres-block@1": 3 * D,
    "altup": 3 * (2 * 2 + 2),
    "altup@3": 3 * (3 * 3 + 3),
    "ihc": 3 * (2 * 4 * (4 * D + 1) + 2),
    "ihc@2": 3 * (2 * 2 * (2 * D + 1) + 2),
    "hc": 3 * (4 * 6 + D * 6 + 2) - 4 - D,
    "hc@3": 3 * (3 * 5 + D * 5 + 2) - 3 - D,
    "mhc": 3 * ((16 + 8) * (4 * D + 1) + 3),
}
STREAMS = [name for name, rival in RIVALS.items() if issubclass(rival, Streams)]


def rival(name: str) -> type[Static]:
    return RIVALS[name.partition("@")[0]]


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


@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("form", FORMS)
def test_it_is_its_equation(name: str, form: str) -> None:
    make, shape = FORMS[form]
    model, x = chain(make, shape)
    branches = [copy.deepcopy(block.f) for block in model.blocks]
    moved(apply_laurel(model, name, x))
    layers = [*laurel_layers(model).values(), nn.Module()][: len(branches)]
    expected, sums, outputs, kept = x, [x], [x], {"dim": 1 if form == "images" else -1}
    for branch, layer in zip(branches, layers, strict=True):
        parameters = {key: p.detach() for key, p in layer.named_parameters()}
        if form == "images":
            parameters = {key: p.view(-1, 1, 1) if p.shape == (D,) else p for key, p in parameters.items()}
        f = branch(expected) * (-1 if form == "subtracted" else 1)
        sums.append(expected + f)
        outputs.append(f)
        expected = EQUATIONS[name](expected, f, parameters, sums, outputs, kept)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


def test_every_rival_has_its_equation_here() -> None:
    assert {*RIVALS} <= {*EQUATIONS} == {*PARAMETERS}


@pytest.mark.parametrize("name", EQUATIONS)
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
        ("gemma3n", None, None),
        ("attnres", None, None),
        ("delta-attnres", None, None),
        *((name, None, None) for name in ("attnres-block", "altup", "ihc", "hc", "mhc")),
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
    starts = rival(name).starts
    assert torch.equal(after, before) == (starts == "exact")
    # Where every reader normalises a scale is no matter, but for what keeps the norm from dividing by zero.
    atol = (2e-2 if starts == "near" else 2e-3) * float(before.abs().max())
    assert torch.allclose(after, before, rtol=0, atol=atol) == (starts != "no")


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

    if issubclass(RIVALS[name], RunningSum) and "resnet" in reference:  # an activation stands between its sums
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

    def ends_of_streams(figure: Callable[[Any], int]) -> int:
        return sum(map(figure, {c.stream: c for c in analysis.residual.connections}.values()))

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
        "attnres-block": sum(widths),
        "delta-attnres": sum(widths) + len(widths),
        "gemma3n": sum(2 * 64 * width + width for width in widths),
        "dense": sum(n + 1 for length in streams.values() for n in range(1, length + 1)),
        "altup": (2 * 2 + 2) * len(widths),
        "ihc": sum(8 * (4 * width + 1) + 2 for width in widths),
        "hc": sum(6 * (4 + width) + 2 for width in widths) - ends_of_streams(lambda c: 4 + c.width),
        "mhc": sum(24 * (4 * width + 1) + 3 for width in widths),
    }[name]
    assert found.cost.parameters - analysis.baseline.parameters == by_hand
    elements = sum(math.prod(connection.shape) for connection in analysis.residual.connections)
    products = {  # multiply-adds
        "gemma3n": 2 * 64 * elements,
        "ihc": 8 * 4 * elements,
        "hc": 4 * (6 * elements - ends_of_streams(lambda c: math.prod(c.shape))),
        "mhc": 24 * 4 * elements,
    }.get(name, 0)
    assert found.cost.flops - analysis.baseline.flops == 2 * products
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


class PostNorm(Block):
    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x + self.f(x), (D,))


@pytest.mark.parametrize("make", [Scaled, Turned, PostNorm])
@pytest.mark.parametrize("name", RIVALS)
def test_a_skip_that_is_changed_is_no_running_sum(name: str, make: Callable[[], nn.Module]) -> None:
    model, x = chain(make, (2, 4, D))
    before = model(x)
    if issubclass(RIVALS[name], RunningSum):
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


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rezero@4", "has no rank"),
        ("layerscale@x", "has no rank"),
        ("altup@1", "how many streams it has, a whole number from 2"),
        ("ihc@1", "how many streams it has, a whole number from 2"),
        ("hc@x", "how many streams"),
        ("mhc@-2", "how many streams"),
        ("gemma3n@0", "how many dimensions between its two maps it has, a whole number from 1"),
        ("gemma3n@x", "how many dimensions"),
        ("attnres-block@0", "how many blocks it has, a whole number from 1"),
    ],
)
def test_a_setting_that_it_has_not_is_refused(name: str, reason: str) -> None:
    from laurel_cli.arms import parse_arms

    with pytest.raises(UsageError, match=reason):
        parse_arms(name)
