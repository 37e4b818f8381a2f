"""The learned sum without gradients: gathered in one tensor, equal to the formula, in place only where the sum was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from laurel_cli import apply, fold
from laurel_cli.laurel import fast, worth
from laurel_cli.laurel.build import laurel_layers
from laurel_cli.laurel.formulas import parse
from laurel_cli.laurel.layers import LaurelLayer
from laurel_cli.laurel.spec import Spec
from tests.laurel import sums
from tests.laurel.sums import RANK, D, drawn

LAYOUTS = {**sums.LAYOUTS, "nothing": ((0, 5, D), 2)}
SPECS = [
    Spec(rw=True),
    Spec(rw=True, normalize="sigmoid"),
    Spec(rw=True, normalize="softmax"),
    Spec(rw=True, normalize="none"),
    Spec(rw=True, vector_weights=True),
    Spec(lr=True, rank=RANK),
    Spec(rw=True, lr=True, rank=RANK),
    Spec(rw=True, lr=True, rank=RANK, vector_weights=True),
]


def plainly(layer: LaurelLayer, x: Tensor, f: Tensor, dim: int) -> Tensor:
    """a f + b (x + B A x), in float64 and with the channels last."""
    x, f = (tensor.double().movedim(dim, -1) for tensor in (x, f))
    if layer.spec.lr:
        A, B = (weight.double().flatten(1) for weight in (layer.A[0].weight, layer.B.weight))  # type: ignore[operator]
        x = x + x @ A.T @ B.T
    if layer.spec.rw:
        a, b = (weight.double() for weight in layer.residual_weights())
        f, x = a * f, b * x
    return (f + x).movedim(-1, dim)


def laid_out(tensor: Tensor) -> list[int]:
    """Strides of the dimensions that have more than one entry."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


@pytest.fixture(autouse=True)
def _however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(worth.INFERENCE, "cpu", dict.fromkeys(worth.INFERENCE["cpu"], 0))


@pytest.fixture(params=["numbers", "tensors"])
def weights_as(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As on the CPU, where Python reads a and b; and as on an accelerator, where they stay tensors."""
    if request.param == "tensors":
        monkeypatch.setattr(fast, "AT_HAND", ())
    return str(request.param)


@pytest.mark.usefixtures("weights_as")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("overwrites", [False, True])
@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_equals_the_formula(spec: Spec, skip: int, overwrites: bool, layout: str) -> None:
    shape, dim = LAYOUTS[layout]
    for memory in (torch.contiguous_format, torch.channels_last)[: 2 if len(shape) == 4 else 1]:
        layer = drawn(spec, shape, dim, skip)
        left, right = (torch.randn(shape, dtype=torch.float64).to(memory_format=memory) for _ in range(2))
        x, f = (left, right) if skip == 0 else (right, left)
        with torch.no_grad():
            want = plainly(layer, x, f, dim)
        learning = layer(left, right)
        assert learning.requires_grad
        with torch.no_grad():
            given = left.clone()
            found = layer(given, right, overwrites=overwrites)
        torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(learning.detach(), want, rtol=1e-12, atol=1e-12)
        assert laid_out(found) == laid_out(learning)
        # Written over is the branch alone, and only where the model's own sum did it.
        assert torch.equal(given, left) != (overwrites and skip == 1 and given.numel() > 0)


@pytest.mark.usefixtures("weights_as")
@pytest.mark.parametrize("layout", ["tokens", "large image"])
@pytest.mark.parametrize("spec", SPECS, ids=repr)
@pytest.mark.parametrize("turned", ["transposed", "every second", "expanded"])
def test_any_strides(turned: str, spec: Spec, layout: str) -> None:
    shape, dim = LAYOUTS[layout]

    def made() -> Tensor:
        if turned == "transposed":
            return torch.randn(shape[::-1], dtype=torch.float64).permute(*reversed(range(len(shape))))
        if turned == "expanded":
            return torch.randn((1, *shape[1:]), dtype=torch.float64).expand(shape)
        return torch.randn((*shape[:-1], 2 * shape[-1]), dtype=torch.float64)[..., ::2]

    layer = drawn(spec, shape, dim, 0)
    for x, f in ((made(), made()), (torch.randn(shape, dtype=torch.float64), made()), (made(), made().contiguous())):
        with torch.no_grad():
            torch.testing.assert_close(layer(x, f), plainly(layer, x, f, dim), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("weights_as")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["tokens", "image", "large image"])
def test_half_precision_is_within_its_rounding(layout: str, dtype: torch.dtype) -> None:
    shape, dim = LAYOUTS[layout]
    layer = drawn(Spec(rw=True, lr=True, rank=RANK), shape, dim, 0, dtype)
    x, f = (torch.randn(shape).to(dtype) for _ in range(2))
    with torch.no_grad():
        found, want = layer(x, f), plainly(layer, x, f, dim)
    assert found.dtype == dtype
    # Every intermediate value is rounded, at most: those of r and of D numbers, and the sum's own.
    assert (found.double() - want).abs().max() < 4 * torch.finfo(dtype).eps * want.abs().max()


@pytest.mark.usefixtures("weights_as")
@pytest.mark.parametrize("called", sums.OTHER_RANKS)
@pytest.mark.parametrize("spec", [Spec(rw=True), Spec(lr=True, rank=RANK), Spec(rw=True, lr=True, rank=RANK)], ids=repr)
def test_other_numbers_of_dimensions_than_it_was_made_for(spec: Spec, called: str) -> None:
    made_for, shape, dim = sums.OTHER_RANKS[called]
    layer = drawn(spec, *LAYOUTS[made_for])
    x, f = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    with torch.no_grad():
        torch.testing.assert_close(layer(x, f), plainly(layer, x, f, dim), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- whole models


class InPlace(nn.Module):
    """`y += x`, as torchvision's ResNet writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(D, D), nn.Tanh()) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            y = block(x)
            y += x
            x = y
        return x


class OutOfPlace(InPlace):
    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


def placed(cls: type[InPlace], arm: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    x = torch.randn(2, 5, D, dtype=torch.float64)
    model = apply(cls().double().eval(), arm, x)
    with torch.no_grad():
        for layer in laurel_layers(model).values():
            for parameter in layer.parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))
    return model, x


ARMS = ["rw", "lr@2", "pa", "rw+lr@2", "rw+lr+pa@2", "rw+pa"]


class Narrowing(nn.Module):
    """`y += x` of a wider x: y keeps its type, which the map that reads it has."""

    def __init__(self, turns: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(D, D, dtype=torch.bfloat16) for _ in range(turns))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            y = block(x.bfloat16())
            y += x
            x = y.float()
        return y


@pytest.mark.parametrize("per", ["connection", "block"])
@pytest.mark.parametrize("arm", ["rw", "lr@2", "pa", "rw+lr@2", "rw+lr+pa@2", "rezero"])
def test_what_is_written_into_a_narrower_tensor_has_its_type(arm: str, per: str) -> None:
    torch.manual_seed(3)
    plain, x = Narrowing().eval(), torch.randn(2, 5, D)
    model = apply(copy.deepcopy(plain), parse(arm, per=per), x)
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            found, want = model(x), plain(x)
        assert found.dtype == want.dtype == torch.bfloat16
        if arm != "rezero":  # which starts without its branches
            torch.testing.assert_close(found, want)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("cls", [InPlace, OutOfPlace])
def test_a_model_answers_the_same_with_and_without_gradients(cls: type[InPlace], arm: str) -> None:
    model, x = placed(cls, arm)
    given = x.clone()
    with torch.inference_mode():
        found = model(given)
    torch.testing.assert_close(found.clone(), model(x).detach(), rtol=1e-12, atol=1e-12)
    assert torch.equal(given, x)


@pytest.mark.parametrize(("cls", "where"), [(InPlace, True), (OutOfPlace, False)])
def test_the_branch_is_overwritten_where_the_model_did_it(cls: type[InPlace], where: bool) -> None:
    model, x = placed(cls, "rw+lr@2")
    seen: list[tuple[int, Tensor, Tensor]] = []
    for block in model.blocks:  # type: ignore[union-attr]
        block.register_forward_hook(lambda _, __, out: seen.append((out.data_ptr(), out, out.clone())))
    sums: list[int] = []
    for layer in laurel_layers(model).values():
        layer.register_forward_hook(lambda _, __, out: sums.append(out.data_ptr()))
    with torch.no_grad():
        model(x)
    assert [pointer in sums for pointer, _, _ in seen] == [where] * 4
    assert [torch.equal(out, before) for _, out, before in seen] == [not where] * 4


@pytest.mark.parametrize("arm", ARMS)
def test_a_branch_that_is_the_skip_itself(arm: str) -> None:
    """`y += x` where y is x, since nothing is dropped out in inference: x, which PA remembers, is not written over."""
    model, x = placed(InPlace, arm)
    model.blocks[1] = nn.Dropout(0.5).eval()  # type: ignore[index, operator]
    model.blocks[2] = nn.Identity()  # type: ignore[index, operator]
    with torch.no_grad():
        found = model(x.clone())
    torch.testing.assert_close(found, model(x.clone()).detach(), rtol=1e-12, atol=1e-12)


def moved_by_an_optimizer(model: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(x).square().mean().backward()
    optimizer.step()


def moved_behind_the_version_counter(model: nn.Module, x: Tensor) -> None:
    for layer in laurel_layers(model).values():
        for parameter in layer.parameters():
            parameter.data.mul_(1.7)


def moved_by_loading(model: nn.Module, x: Tensor) -> None:
    model.load_state_dict({name: 0.3 * value for name, value in model.state_dict().items()})


def moved_by_replacing(model: nn.Module, x: Tensor) -> None:
    for layer in laurel_layers(model).values():
        for name, parameter in list(layer.named_parameters(recurse=False)):
            setattr(layer, name, nn.Parameter(-parameter.detach()))


@pytest.mark.parametrize("move", [moved_by_an_optimizer, moved_behind_the_version_counter, moved_by_loading])
@pytest.mark.parametrize("arm", ARMS)
def test_never_stale(arm: str, move: Any) -> None:
    model, x = placed(InPlace, arm)
    with torch.no_grad():
        before = model(x)
    move(model, x)
    with torch.no_grad():
        after = model(x)
    assert not torch.allclose(before, after, atol=1e-6)
    torch.testing.assert_close(after, model(x).detach(), rtol=1e-12, atol=1e-12)


def test_never_stale_where_a_parameter_is_another() -> None:
    model, x = placed(InPlace, "rw+pa")
    with torch.no_grad():
        before = model(x)
        moved_by_replacing(model, x)
        after = model(x)
    assert not torch.allclose(before, after, atol=1e-6)
    torch.testing.assert_close(after, model(x).detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalize", ["2softmax", "softmax", "sigmoid", "none"])
def test_logits_far_apart_neither_overflow_nor_lose_a_b(normalize: Any) -> None:
    layer = drawn(Spec(rw=True, normalize=normalize), (2, D), 1, 0)
    x, f = torch.randn(2, D, dtype=torch.float64), torch.randn(2, D, dtype=torch.float64)
    far = ((1e4, -1e4), (-1e4, 1e4), (50.0, 0.0), (float("nan"), 0.0), (0.0, float("nan")))
    runaway = [(one, other) for one in (float("inf"), -float("inf"), 0.0) for other in (float("inf"), -float("inf"))]
    for logits in (*far, *runaway):
        with torch.no_grad():
            layer.weights.copy_(torch.tensor(logits)[: len(layer.weights)])
            torch.testing.assert_close(layer(x, f), plainly(layer, x, f, 1), equal_nan=True)


# ---------------------------------------------------------------- where the plain formula stands


def test_counts_are_those_of_the_plain_formula() -> None:
    """What watches operators sees the same with and without gradients, products and tensors."""
    model, x = placed(InPlace, "rw+lr@2")
    counts = []
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled), FlopCounterMode(display=False) as counter:
            model(x)
        counts.append(counter.get_flop_counts()["Global"])
    assert counts[0] == counts[1]


def test_transforms_graphs_and_forward_gradients_see_the_formula() -> None:
    model, x = placed(InPlace, "rw+lr+pa@2")
    with torch.no_grad():
        want = model(x)
        many = torch.vmap(model)(torch.stack([x, 2 * x]))
        torch.testing.assert_close(many[0], want)
        torch.testing.assert_close(many[1], model(2 * x))
        graph = make_fx(model)(x)
        torch.testing.assert_close(graph(x), want)
    f = torch.randn(2, D, dtype=torch.float64)
    with torch.no_grad(), forward_ad.dual_level():
        assert not fast.fits(f, f)


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("arm", ARMS)
def test_a_graph_from_before_dispatch_follows_the_weights(arm: str, training: bool, folds: bool) -> None:
    """Its mode stands on a stack of its own, and the tensors are ordinary ones: a number would be kept for ever."""
    model, x = placed(InPlace, arm)
    model = fold(model, x) if folds else model

    def called(x: Tensor, own: dict[str, Tensor]) -> Any:
        return torch.func.functional_call(model, own, (x,))

    own = dict(model.state_dict())
    with torch.set_grad_enabled(training):
        graph = make_fx(called, pre_dispatch=True)(x, own)
        others = {name: 1.3 * value + 0.1 for name, value in own.items()}
        torch.testing.assert_close(graph(x, others), called(x, others), rtol=1e-10, atol=1e-11)


@pytest.mark.filterwarnings("error::torch.jit.TracerWarning")
@pytest.mark.parametrize("training", [False, True])
def test_a_traced_graph_follows_the_weights(training: bool) -> None:
    """`torch.jit.trace` would keep a number for ever, and warns of one that is compared."""
    model, x = placed(OutOfPlace, "rw")
    with torch.set_grad_enabled(training):
        traced = torch.jit.trace(model, (x,))  # type: ignore[no-untyped-call]
        before = traced(x)
        with torch.no_grad():
            for layer in laurel_layers(model).values():
                layer.weights.add_(torch.tensor([1.0, -1.0]))  # type: ignore[operator]
        after = traced(x)
        assert not torch.allclose(before, after)
        torch.testing.assert_close(after, model(x))


def test_a_map_that_somebody_hooked_or_wrapped_is_called() -> None:
    model, x = placed(InPlace, "lr@2")
    calls: list[nn.Module] = []
    layers = list(laurel_layers(model).values())
    layers[0].B.register_forward_hook(lambda module, *_: calls.append(module))  # type: ignore[union-attr]
    layers[1].B.register_forward_pre_hook(lambda module, *_: calls.append(module))  # type: ignore[union-attr]
    inner = layers[2].B
    usual = inner.forward  # type: ignore[union-attr]
    inner.forward = lambda y: (calls.append(inner), usual(y))[1]  # type: ignore[union-attr, arg-type]
    torch.nn.utils.parametrizations.weight_norm(layers[3].B)  # type: ignore[arg-type]
    with torch.no_grad():
        found = model(x)
    assert calls == [layers[0].B, layers[1].B, inner]
    torch.testing.assert_close(found, model(x).detach(), rtol=1e-12, atol=1e-12)


def test_a_map_that_somebody_gave_a_bias() -> None:
    model, x = placed(InPlace, "lr@2")
    layers = list(laurel_layers(model).values())
    layers[0].B.bias = nn.Parameter(torch.ones(D, dtype=x.dtype))  # type: ignore[union-attr]
    layers[1].A[0].bias = nn.Parameter(torch.ones(2, dtype=x.dtype))  # type: ignore[index, union-attr]
    with torch.no_grad():
        found = model(x)
        for layer in layers:  # called as modules
            layer.B.register_forward_hook(lambda *_: None)  # type: ignore[union-attr]
            layer.A[0].register_forward_hook(lambda *_: None)  # type: ignore[index, union-attr]
        torch.testing.assert_close(found, model(x), rtol=1e-12, atol=1e-12)


def test_other_types_beside_each_other_are_summed_plainly() -> None:
    layer = drawn(Spec(rw=True, lr=True, rank=RANK), (2, D), 1, 0, torch.float32)
    x, f = torch.randn(2, D), torch.randn(2, D)
    cases = [
        (x, f.bfloat16()),
        (x[:1], f),
        (torch.nn.Parameter(x), f),
    ]
    for one, other in cases:
        with torch.no_grad():
            assert not fast.fits(one, other)
            torch.testing.assert_close(layer(one, other), layer.requires_grad_()(one, other).detach())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert not fast.fits(x, f)
    assert not fast.fits(x, f)  # with gradients
    with torch.no_grad():
        assert fast.fits(x, f)


@pytest.mark.parametrize("spec", [*SPECS, Spec(rw=True, lr=True, pa=True, rank=RANK)], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_model_without_weights_runs(spec: Spec, dtype: torch.dtype) -> None:
    """On the meta device, which has no autocast to be asked for; in another type than the weights have, too."""
    layer = drawn(spec, *LAYOUTS["tokens"]).to("meta")
    x, f = (torch.empty(LAYOUTS["tokens"][0], device="meta", dtype=dtype) for _ in range(2))
    layer.past = lambda make, call, most: [make([]), x, x][:most]  # type: ignore[method-assign]
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            y = layer.combine(x, f, 1, None, first=True, plain=None, own=False)
        assert (y.device.type, y.shape, y.dtype) == ("meta", x.shape, dtype)


@pytest.mark.parametrize("layout", ["tokens", "image", "large image"])
def test_b_of_zero_hides_no_product_that_is_not_a_number(layout: str) -> None:
    """0 times NaN is NaN: a map that has broken is seen at inference, whatever b is."""
    shape, dim = LAYOUTS[layout]
    layer = drawn(Spec(rw=True, lr=True, rank=RANK, normalize="none"), shape, dim)
    x, f = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    with torch.no_grad():
        layer.weights[1] = 0
        layer.A[0].weight.fill_(torch.nan)  # type: ignore[operator, union-attr]
        assert plainly(layer, x, f, dim).isnan().all()
        assert layer(x, f).isnan().all()
