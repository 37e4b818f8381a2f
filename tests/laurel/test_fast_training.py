"""The learned sum as one node of the graph: values and gradients by the formula, what it keeps, where it is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.utils.prune
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from laurel_cli import apply
from laurel_cli.laurel import fast, fast_training, worth
from laurel_cli.laurel.build import laurel_layers
from laurel_cli.laurel.layers import LaurelLayer
from laurel_cli.laurel.spec import Spec
from tests.laurel.sums import LAGS, LAYOUTS, OTHER_RANKS, RANK, D, drawn

SPECS = [
    Spec(rw=True),
    Spec(rw=True, normalize="sigmoid"),
    Spec(rw=True, normalize="none"),
    Spec(lr=True, rank=RANK),
    Spec(rw=True, lr=True, rank=RANK),
    Spec(pa=True),
    Spec(rw=True, pa=True),
    Spec(pa=True, history="shared", rank=RANK),
    Spec(rw=True, lr=True, pa=True, rank=RANK),
    Spec(rw=True, lr=True, pa=True, rank=RANK, history="identity"),
]
FEW = {"few tokens": ((2, 2, D), 2), "few pixels": ((2, D, 2, 2), 1)}  # differences ask for a pass an element


def called(layer: LaurelLayer, x: Tensor, f: Tensor, *past: Tensor, first: bool = True) -> Tensor:
    """The layer's sum where `past` is what it remembers."""
    layer.past = lambda make, call, most: [make([]), *past][:most]  # type: ignore[method-assign]
    return layer.combine(x, f, 1, None, first=first, plain=None, own=False)


def plainly(layer: LaurelLayer, dim: int, x: Tensor, f: Tensor, *past: Tensor) -> Tensor:
    """a f + b g by Eqs. 3 to 6, the channels last."""
    spec = layer.spec
    x, f, *past = (tensor.movedim(dim, -1) for tensor in (x, f, *past))  # type: ignore[assignment]

    def mapped(lag: int, y: Tensor) -> Tensor:
        A = layer.A[lag].weight.flatten(1)  # type: ignore[operator]
        return y @ A.T @ layer.B.weight.flatten(1)[:, lag * RANK : (lag + 1) * RANK].T

    g = x
    if spec.lr and spec.history_map in ("none", "identity"):
        g = g + mapped(0, x)
    for j, earlier in enumerate((x, *past) if spec.pa else ()):
        kind = spec.history_map
        h = earlier if kind == "identity" else mapped(0 if kind == "shared" else j, earlier)
        g = g + layer.c[j] * h
    a, b = layer.residual_weights() if spec.rw else (1.0, 1.0)
    return (a * f + b * g).movedim(-1, dim)


def tensors(spec: Spec, layout: str, memory: torch.memory_format = torch.contiguous_format) -> list[Tensor]:
    """x, f and the earlier inputs, leaves of a graph."""
    shape, _ = (LAYOUTS | FEW)[layout]
    count = 2 + (LAGS - 1 if spec.pa else 0)
    made = (torch.randn(shape, dtype=torch.float64).to(memory_format=memory) for _ in range(count))
    return [one.requires_grad_() for one in made]


@pytest.fixture(autouse=True)
def _however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(worth.TRAINING, "cpu", dict.fromkeys(worth.TRAINING["cpu"], 0))


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry for every sum that was made as one node."""
    made: list[Any] = []
    usual = fast_training.summed
    monkeypatch.setattr(fast_training, "summed", lambda *given: (made.append(given), usual(*given))[1])
    return made


@pytest.mark.parametrize("at_hand", [("cpu",), ()], ids=["numbers", "tensors"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_values_and_gradients_are_the_formula_s(
    spec: Spec, layout: str, at_hand: tuple[str, ...], sums: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coefficients as numbers, as on the CPU, and as tensors, as on an accelerator."""
    monkeypatch.setattr(fast, "AT_HAND", at_hand)
    shape, dim = LAYOUTS[layout]
    for memory in (torch.contiguous_format, torch.channels_last)[: 2 if len(shape) == 4 else 1]:
        for first in (True, False):
            layer, given = drawn(spec, *LAYOUTS[layout]), tensors(spec, layout, memory)
            wanted = [*given, *layer.parameters()]
            dy = torch.randn(shape, dtype=torch.float64)
            found, want = called(layer, *given, first=first), plainly(layer, dim, *given)
            torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)
            for ours, theirs in zip(
                torch.autograd.grad(found, wanted, dy), torch.autograd.grad(want, wanted, dy), strict=True
            ):
                assert ours.shape == theirs.shape
                torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    assert sums


@pytest.mark.parametrize("made_as", OTHER_RANKS)
@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_other_numbers_of_dimensions_than_it_was_made_for(spec: Spec, made_as: str) -> None:
    made_for, shape, dim = OTHER_RANKS[made_as]
    layer = drawn(spec, *LAYOUTS[made_for])
    count = 2 + (LAGS - 1 if spec.pa else 0)
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(count)]
    found, want = called(layer, *given), plainly(layer, dim, *given)
    torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)
    wanted, dy = [*given, *layer.parameters()], torch.randn(shape, dtype=torch.float64)
    both = (torch.autograd.grad(one, wanted, dy) for one in (found, want))
    for ours, theirs in zip(*both, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_and_b_of_many_elements_in_float32(channels_last: bool) -> None:
    """Sums of millions of positive terms, as after a ReLU: exact to what float32 can say, whatever adds them up."""
    layer = drawn(Spec(rw=True, normalize="none"), *LAYOUTS["image"], dtype=torch.float32)
    memory = torch.channels_last if channels_last else torch.contiguous_format
    x, f, dy = (torch.rand(5, D, 400, 500).to(memory_format=memory) for _ in range(3))
    called(layer, x, f).backward(dy)
    found = layer.weights.grad
    assert found is not None
    want = torch.stack([(dy.double() * one.double()).sum() for one in (f, x)])
    torch.testing.assert_close(found.double(), want, rtol=3e-6, atol=0)


@pytest.mark.parametrize("layout", FEW)
@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_gradients_and_those_of_gradients_against_differences(spec: Spec, layout: str) -> None:
    layer, given = drawn(spec, *FEW[layout]), tensors(spec, layout)
    names = [name for name, _ in layer.named_parameters()]

    def of(*values: Tensor) -> Tensor:
        own, operands = values[: len(names)], values[len(names) :]
        run = lambda *ops: called(layer, *ops)  # noqa: E731
        return run_with(layer, dict(zip(names, own, strict=True)), run, operands)

    values = (*(p.detach().clone().requires_grad_() for p in layer.parameters()), *given)
    assert torch.autograd.gradcheck(of, values)
    assert torch.autograd.gradgradcheck(of, values)


def run_with(layer: nn.Module, own: dict[str, Tensor], run: Any, operands: Any) -> Tensor:
    """`run(*operands)` while the layer's parameters are other tensors, as plain attributes."""
    before = dict(layer.named_parameters())
    homes = {name: layer.get_submodule(name.rpartition(".")[0]) for name in own}
    try:
        for name, value in own.items():
            short = name.rpartition(".")[2]
            del homes[name]._parameters[short]
            setattr(homes[name], short, value)
        return run(*operands)  # type: ignore[no-any-return]
    finally:
        for name, parameter in before.items():
            short = name.rpartition(".")[2]
            delattr(homes[name], short)
            homes[name].register_parameter(short, parameter)


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_only_what_is_wanted_has_gradients(spec: Spec) -> None:
    for frozen in ("weights", "B", "A", "c", "x", "f", "past"):
        layer, given = drawn(spec, *LAYOUTS["image"]), tensors(spec, "image")
        for name, parameter in layer.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))
        for tensor in {"x": given[:1], "f": given[1:2], "past": given[2:]}.get(frozen, []):
            tensor.requires_grad_(False)
        wanted = [one for one in (*given, *layer.parameters()) if one.requires_grad]
        dy = torch.randn_like(given[0])
        found = torch.autograd.grad(called(layer, *given), wanted, dy)
        want = torch.autograd.grad(plainly(layer, 1, *given), wanted, dy)
        for ours, theirs in zip(found, want, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        (Spec(rw=True), "xf"),
        (Spec(lr=True, rank=RANK), "xn"),  # x by A
        (Spec(rw=True, lr=True, rank=RANK), "xfn"),
        (Spec(pa=True), "xpp"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("layout", ["tokens", "image"])
def test_what_is_kept(spec: Spec, kept: str, layout: str) -> None:
    """x and earlier inputs, f where a learns, and n: no tensor of the sum's size beyond those that were there."""
    layer, given = drawn(spec, *LAYOUTS[layout]), tensors(spec, layout)
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = called(layer, *given)
    own = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    there = {one.untyped_storage().data_ptr(): name for name, one in zip("xfpp", given, strict=False)}
    names = [there.get(key, "n") for key, one in saved.items() if key not in own and one.numel() > D]
    assert sorted(names) == sorted(kept)
    assert y.requires_grad


# What learns, and what its gradients have in them; "xf" are the operands, from whose gradients nothing is kept.
FROZEN = [
    (Spec(rw=True), (), ""),
    (Spec(rw=True), ("weights",), "xf"),
    (Spec(lr=True, rank=RANK), (), ""),
    (Spec(lr=True, rank=RANK), ("A",), "x"),
    (Spec(lr=True, rank=RANK), ("B",), "xn"),  # x for the gradient of that gradient, through A x
    (Spec(rw=True, lr=True, rank=RANK), (), ""),
    (Spec(rw=True, lr=True, rank=RANK), ("A",), "x"),
    (Spec(rw=True, lr=True, rank=RANK), ("weights",), "xfn"),
    (Spec(pa=True), (), ""),
    (Spec(pa=True), ("c",), "xpp"),
    (Spec(rw=True, lr=True, pa=True, rank=RANK, history="identity"), ("A",), "x"),
    (Spec(rw=True, lr=True, pa=True, rank=RANK, history="identity"), ("c",), "xpp"),
    (Spec(rw=True, lr=True, pa=True, rank=RANK, history="identity"), ("weights",), "xfnpp"),
]


@pytest.mark.parametrize("layout", ["tokens", "image"])
@pytest.mark.parametrize(("spec", "learning", "kept"), FROZEN, ids=repr)
def test_what_is_frozen_keeps_nothing(spec: Spec, learning: tuple[str, ...], kept: str, layout: str) -> None:
    layer, given = drawn(spec, *LAYOUTS[layout]), tensors(spec, layout)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(name.startswith(learning) if learning else False)
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = called(layer, *given)
    own = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    there = {one.untyped_storage().data_ptr(): name for name, one in zip("xfpp", given, strict=False)}
    names = [there.get(key, "n") for key, one in saved.items() if key not in own and one.numel() > D]
    assert sorted(names) == sorted(kept)
    wanted = [*given, *(p for p in layer.parameters() if p.requires_grad)]
    want, dy = plainly(layer, LAYOUTS[layout][1], *given), torch.randn_like(y, requires_grad=True)
    ours, theirs = (torch.autograd.grad(one, wanted, dy, create_graph=True) for one in (y, want))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
    both = (sum((one * one).sum() for one in found) for found in (ours, theirs))
    again = [torch.autograd.grad(one, [dy, *wanted], allow_unused=True) for one in both]  # type: ignore[arg-type]
    for one, other in zip(*again, strict=True):
        zero = torch.zeros(())
        torch.testing.assert_close(one if one is not None else zero, other if other is not None else zero)


def test_kept_bytes_on_fake_tensors_are_those_of_real_ones() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    layer, given = drawn(Spec(rw=True, lr=True, rank=RANK), *LAYOUTS["image"]), tensors(Spec(rw=True), "image")

    def kept(*operands: Tensor) -> int:
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = called(layer, *operands)
        assert y.grad_fn is not None
        return sum(storages.values())

    real = kept(*given)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert kept(*(mode.from_tensor(one) for one in given)) == real


def test_counts_are_those_of_the_plain_formula() -> None:
    model, x = stack("rw+lr@2")
    with FlopCounterMode(display=False) as counter:
        model(x)
    found = counter.get_flop_counts()["Global"]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    assert counter.get_flop_counts()["Global"] == found
    assert sum(found.values()) == 4 * (2 * 10 * D * D + 2 * 2 * 10 * D * 2)  # a linear map, A and B, ten places each


# ---------------------------------------------------------------- whole models


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(D, D, bias=False), nn.Tanh()) for _ in range(4))
        self.kept: bool | None = None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + (block(x) if self.kept is None else checkpoint(block, x, use_reentrant=False))
        return x


def stack(arm: str) -> tuple[Stack, Tensor]:
    torch.manual_seed(3)
    x = torch.randn(2, 5, D, dtype=torch.float64)
    model = apply(Stack().double(), arm, x)
    with torch.no_grad():
        for layer in laurel_layers(model).values():
            for parameter in layer.parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))
    return model, x


ARMS = ["rw", "lr@2", "pa", "rw+lr@2", "rw+lr+pa@2", "rw+pa"]


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    model(x).square().sum().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("arm", ARMS)
def test_a_model_learns_as_by_the_plain_formula(arm: str, sums: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = stack(arm)
    found = gradients(model, x)
    assert len(sums) == 4
    monkeypatch.setattr(fast_training, "fits", lambda *_, **__: False)
    want = gradients(model, x)
    assert len(sums) == 4
    for ours, theirs in zip(found, want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("arm", ARMS)
def test_many_gradients_at_once(arm: str) -> None:
    """The backward pass under `vmap`, as `jacobian(vectorize=True)` has it."""
    model, x = stack(arm)
    few, own = model(x).flatten()[:5], list(model.parameters())
    rows = torch.eye(5, dtype=x.dtype)
    found = torch.autograd.grad(few, own, rows, is_grads_batched=True, retain_graph=True)
    want = [torch.autograd.grad(few, own, row, retain_graph=True) for row in rows]
    for number, ours in enumerate(found):
        torch.testing.assert_close(ours, torch.stack([each[number] for each in want]), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("arm", ARMS)
def test_a_graph_of_a_step_follows_the_weights(arm: str) -> None:
    """`make_fx`, of real tensors, would keep a number that the backward pass reads for ever."""
    model, x = stack(arm)

    def step(own: dict[str, Tensor], x: Tensor) -> tuple[Tensor, ...]:
        y = torch.func.functional_call(model, own, (x,))
        return torch.autograd.grad(y.square().sum(), list(own.values()))

    own = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    graph = make_fx(step)(own, x)
    moved = {name: (0.7 * p).detach().requires_grad_() for name, p in own.items()}
    for ours, theirs in zip(graph(moved, x), step(moved, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("arm", ARMS)
def test_a_whole_stack_that_is_recomputed(arm: str) -> None:
    model, x = stack(arm)
    want = gradients(model, x)
    model.zero_grad()
    given = x.clone().requires_grad_()
    checkpoint(model, given, use_reentrant=False).square().sum().backward()
    for ours, theirs in zip([p.grad for p in model.parameters() if p.grad is not None], want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_where_it_is_not(sums: list[Any]) -> None:
    """Vectors of weights, maps that somebody hooked, other types, autocast, transforms, a compiler: the formula."""
    model, x = stack("rw+lr@2")
    next(iter(laurel_layers(model).values())).B.register_forward_hook(lambda *_: None)  # type: ignore[union-attr]
    model(x)
    assert len(sums) == 3
    with torch.autocast("cpu", torch.bfloat16):
        model.float()(x.float())
    vectors = drawn(Spec(rw=True, vector_weights=True), *LAYOUTS["tokens"])
    called(vectors, *tensors(Spec(rw=True), "tokens"))
    assert len(sums) == 3
    model.double()
    own = {name: p.detach() for name, p in model.named_parameters()}

    def loss(own: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, own, (x,)).square().sum()

    ours = torch.func.grad(loss)(own, x)
    torch.func.jvp(lambda x: loss(own, x), (x,), (x,))
    assert len(sums) == 3
    for name, p in model.named_parameters():
        torch.testing.assert_close(ours[name], torch.autograd.grad(loss(dict(model.named_parameters()), x), p)[0])


def test_hooks_of_the_maps_and_of_all_modules_are_called(sums: list[Any]) -> None:
    model, x = stack("rw+lr@2")
    heard: list[nn.Module] = []
    first, second, *_ = (layer.B for layer in laurel_layers(model).values())
    first.register_full_backward_hook(lambda module, *_: heard.append(module))  # type: ignore[union-attr]
    second.register_full_backward_pre_hook(lambda module, *_: heard.append(module))  # type: ignore[union-attr]
    model(x).sum().backward()
    assert heard == [second, first]
    assert len(sums) == 2
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: heard.append(module))
    try:
        for enabled in (True, False):
            heard.clear()
            with torch.set_grad_enabled(enabled):
                model(x)
            assert {id(layer.B) for layer in laurel_layers(model).values()} <= set(map(id, heard))
    finally:
        handle.remove()
    assert len(sums) == 2


@pytest.mark.parametrize("spoil", ["a hook", "pruned"])
def test_gradients_under_a_counter_are_those_of_hooked_maps(spoil: str) -> None:
    """What a forward hook makes of B's result, and the weight that one makes before it, are differentiated."""
    model, x = stack("rw+lr@2")
    for layer in laurel_layers(model).values():
        if spoil == "pruned":
            torch.nn.utils.prune.l1_unstructured(layer.B, "weight", 0.5)  # type: ignore[no-untyped-call]
        else:
            layer.B.register_forward_hook(lambda _, __, out: 2 * out)  # type: ignore[union-attr]
    want = gradients(model, x)
    with FlopCounterMode(display=False):
        found = gradients(model, x)
    for ours, theirs in zip(found, want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_small_sums_stay_plain(sums: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {
        "rw": "numbers",
        "lr@2": "maps",
        "pa": "history",
        "rw+lr@2": "weighted maps",
        "rw+lr+pa@2": "maps of history",
    }
    for arm, kind in kinds.items():
        model, x = stack(arm)
        for least, made in ((x.numel(), 4), (x.numel() + 1, 0)):
            others = dict.fromkeys(worth.TRAINING["cpu"], x.numel() + 1)
            monkeypatch.setitem(worth.TRAINING, "cpu", others | {kind: least})
            sums.clear()
            model(x)
            assert len(sums) == made


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains(dtype: torch.dtype, sums: list[Any]) -> None:
    model, x = stack("rw+lr+pa@2")
    want = gradients(model, x)
    found = gradients(model.to(dtype), x.to(dtype))
    assert len(sums) == 8
    for ours, theirs in zip(found, want, strict=True):
        assert (ours.double() - theirs).norm() < 0.1 * theirs.norm() + 1e-3


@pytest.mark.parametrize("layout", ["tokens", "large image"])
def test_b_of_zero_hides_no_product_that_is_not_a_number(layout: str) -> None:
    spec = Spec(rw=True, lr=True, rank=RANK, normalize="none")
    shape, dim = LAYOUTS[layout]
    layer = drawn(spec, shape, dim)
    with torch.no_grad():
        layer.weights[1] = 0
        layer.A[0].weight.fill_(torch.nan)  # type: ignore[operator, union-attr]
    x, f = tensors(spec, layout)
    assert plainly(layer, dim, x, f).isnan().all()
    assert called(layer, x, f).isnan().all()
