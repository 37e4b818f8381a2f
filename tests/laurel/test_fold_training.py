"""RW's a folded into a branch's last weights in training: the same function, the same learning, less that is kept."""

from __future__ import annotations

import copy
import pickle
from math import prod

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock

import laurel_cli as laurel
from laurel_cli.cost.count import kept_for_backward
from laurel_cli.errors import ModelError
from laurel_cli.laurel import worth
from laurel_cli.laurel.fold import FoldReport
from laurel_cli.laurel.fold_training import DISAGREES, NOT_A_LEAF, NOT_POSITIVE, NOT_RW, READ_ELSEWHERE, WITHIN
from laurel_cli.models.inputs import as_inputs
from tests.laurel.test_fold import D, Net, given, learned

SPECS = ("rw", "rw+lr@2", "rw+pa", "rw+lr+pa@2")


def passed(model: nn.Module, *inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Output and all gradients of a loss that no symmetry makes zero; the same dropout every time."""
    torch.manual_seed(3)
    out = model(*inputs)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(4)).to(out)
    gradients = torch.autograd.grad((weights * out.square()).sum(), list(model.parameters()), allow_unused=True)
    return out.detach(), [torch.zeros(()) if one is None else one for one in gradients]


def alike(folded: nn.Module, model: nn.Module, *inputs: Tensor, tolerance: float = 1e-11) -> None:
    for training in (True, False):
        (found, ours), (expected, theirs) = (passed(one.train(training), *inputs) for one in (folded, model))
        assert (found - expected).abs().max() <= tolerance * expected.abs().max()
        size = max(float(one.abs().max()) for one in theirs)
        assert all((a - b).abs().max() <= tolerance * size for a, b in zip(ours, theirs, strict=True))
    with torch.no_grad():
        found, expected = folded.eval()(*inputs), model.eval()(*inputs)
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


def kept(model: nn.Module, x: Tensor) -> int:
    """Bytes for the backward pass."""
    found = kept_for_backward(model, as_inputs(x, model))
    assert found is not None
    return found


def both(model: nn.Module, inputs: Tensor) -> tuple[nn.Module, FoldReport]:
    """A copy that is folded, and the report."""
    folded = copy.deepcopy(model)
    return folded, laurel.fold_training(folded, inputs)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("rows", [5, 40_000], ids=["plain formula", "one node of the graph"])
def test_it_computes_and_learns_what_it_did(spec: str, rows: int) -> None:
    model = learned(Net().double(), spec, given())
    folded, report = both(model, given())
    assert [one.form for one in report.connections] == [WITHIN] * 3
    assert [one.branch for one in report.connections] == [
        (f"blocks.{n}.down.weight", f"blocks.{n}.down.bias") for n in range(3)
    ]
    alike(folded, model, torch.randn(2, rows, D, dtype=torch.float64), tolerance=1e-10)


@pytest.mark.parametrize("normalize", ["2softmax", "softmax", "sigmoid", "none"])
@pytest.mark.parametrize("vector_weights", [False, True])
def test_every_kind_of_weights(normalize: str, vector_weights: bool) -> None:
    spec = laurel.Spec(rw=True, vector_weights=vector_weights, normalize=normalize)
    model = learned(Net().double(), spec, given())
    folded, report = both(model, given())
    assert all(one.form == WITHIN for one in report.connections)
    alike(folded, model, given())


def test_the_formula_written_out() -> None:
    """One block, a and b off their start: gradients of a and of W by hand, through f = W h + v."""
    model = learned(Net(1).double(), "rw", given())
    laurel.fold_training(model, given())
    block = model.eval().blocks[0]
    x = given()
    out, gradients = passed(model, x)
    names = [name for name, _ in model.named_parameters()]
    theirs = dict(zip(names, gradients, strict=True))
    own = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    a, b = 2 * torch.softmax(own["blocks.0.laurel0.weights"], 0)
    stream = x @ own["first.weight"].T + own["first.bias"]
    hidden = F.layer_norm(stream, (D,), own["blocks.0.norm.weight"], own["blocks.0.norm.bias"], block.norm.eps)
    hidden = F.gelu(hidden @ own["blocks.0.up.weight"].T + own["blocks.0.up.bias"])
    branch = hidden @ own["blocks.0.down.weight"].T + own["blocks.0.down.bias"]
    expected = (a * branch + b * stream) @ own["last.weight"].T + own["last.bias"]
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(4)).to(out)
    by_hand = torch.autograd.grad((weights * expected.square()).sum(), list(own.values()))
    torch.testing.assert_close(out, expected.detach(), rtol=1e-12, atol=1e-12)
    for name, gradient in zip(own, by_hand, strict=True):
        torch.testing.assert_close(theirs[name], gradient, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("spec", ["rw", "rw+lr@4"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_resnet_whose_branches_end_in_batch_norms(spec: str, layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64).to(memory_format=layout)
    plain = torchvision.models.ResNet(BasicBlock, [2, 1, 1, 1], num_classes=5)  # skips as they are, and projected ones
    model = learned(plain.double().to(memory_format=layout), spec, x)
    folded, report = both(model, x)
    assert {one.branch[0].rpartition(".")[0][-3:] for one in report.connections} == {"bn2"}
    alike(folded, model, x, tolerance=1e-9)
    for (name, one), other in zip(folded.named_buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9, msg=name)  # running statistics, counts of batches


def test_training_goes_the_same_way() -> None:
    model = learned(Net().double(), "rw+lr@2", given())
    folded, _ = both(model, given())
    for one in (model, folded):
        optimiser = torch.optim.AdamW(one.train().parameters(), lr=0.01)
        for step in range(10):
            torch.manual_seed(step)
            optimiser.zero_grad()
            one(torch.randn(4, 5, D, dtype=torch.float64)).square().mean().backward()
            optimiser.step()
    for (name, one), other in zip(folded.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9, msg=name)


def test_the_branch_is_not_kept_for_the_backward_pass() -> None:
    """Folded it keeps gamma times a for every f, which the model without LAuReL has as a parameter; and of x what no
    convolution keeps, the results of the three projections."""
    x = torch.randn(2, 3, 64, 64)
    plain = torchvision.models.resnet18()
    model = laurel.apply(copy.deepcopy(plain), "rw", x)
    folded, _ = both(model, x)
    branches = [(2, c, 16 // s, 16 // s) for c, s in ((64, 1), (128, 2), (256, 4), (512, 8)) for _ in range(2)]
    gamma = sum(4 * c for _, c, *_ in branches)
    numbers = 512  # bytes of a, b and what they are made of
    assert kept(model, x) - kept(folded, x) == pytest.approx(
        sum(4 * prod(one) for one in branches) - gamma, abs=numbers
    )
    projected = sum(4 * prod(one) for one in branches[2::2])
    assert kept(folded, x) - kept(plain, x) == pytest.approx(projected + gamma, abs=numbers)


def test_nothing_of_the_model_changes_but_who_multiplies(tmp_path) -> None:
    model = learned(Net().double(), "rw+lr@2", given())
    folded, _ = both(model, given())
    assert list(folded.state_dict()) == list(model.state_dict())
    assert [name for name, _ in folded.named_modules()] == [name for name, _ in model.named_modules()]
    laurel.save(folded, tmp_path / "kept")
    for again in (
        copy.deepcopy(folded),
        pickle.loads(pickle.dumps(folded)),
        laurel.restore(Net().double(), tmp_path / "kept"),
        laurel.unfold_training(copy.deepcopy(folded)),
    ):
        alike(again, model, given())
    with torch.no_grad():  # a copy has an a of its own
        own = copy.deepcopy(folded)
        own.blocks[0].laurel0.weights.add_(torch.tensor([1.0, 0.0]))
    alike(folded, model, given())
    model.load_state_dict(own.state_dict())
    alike(own, model, given())  # and reads it in each call


def test_it_is_taken_away_and_folded_for_inference_as_any() -> None:
    model = learned(Net().double(), "rw", given())
    folded, _ = both(model, given())
    expected, found = (laurel.fold(one.eval(), given()) for one in (model, folded))
    torch.testing.assert_close(found(given()), expected(given()), rtol=1e-12, atol=1e-12)
    assert [one.branch for one in found.laurel_folded.connections] == [
        one.branch for one in expected.laurel_folded.connections
    ]
    plain = Net().double().eval()
    plain.load_state_dict(laurel.remove(folded).state_dict())
    torch.testing.assert_close(folded(given()), plain(given()), rtol=0, atol=0)
    assert not any("forward" in vars(module) for module in folded.modules())


def test_compiled_and_under_autocast_and_with_checkpoints() -> None:
    model = learned(Net(2), "rw+lr@2", given().float())
    folded, _ = both(model, given().float())
    compiled = torch.compile(copy.deepcopy(folded).eval(), backend="aot_eager", fullgraph=True)
    x = torch.randn(3, 5, D)
    torch.testing.assert_close(passed(compiled, x), passed(model.eval(), x), rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(folded.eval()(x), model(x), rtol=0.1, atol=0.1)
    again = copy.deepcopy(folded)
    first, block = again.blocks
    again.forward = lambda x: again.last(checkpoint(block, first(again.first(x)), use_reentrant=False))
    torch.testing.assert_close(passed(again, x), passed(model, x), rtol=1e-4, atol=1e-4)
    exported = torch.export.export(folded, (x,)).module()
    torch.testing.assert_close(exported(x), model(x), rtol=1e-4, atol=1e-4)


class Particular(nn.Linear):
    """A map whose code is not run on what stands in its place."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class OrderedNet(Net):
    """A model that refuses what is not in order, as changed inputs are not."""

    def forward(self, x: Tensor) -> Tensor:
        if not bool((x[..., 1:] >= x[..., :-1]).all()):
            raise ValueError("not in order")
        return super().forward(x)


def test_what_does_not_run_is_left_as_it_is() -> None:
    model = Net(1)
    model.blocks[0].down = Particular(2 * D, D)
    model = learned(model.double(), "rw", given())
    folded, report = both(model, given())
    assert [one.reason for one in report.connections] == [DISAGREES]
    alike(folded, model, given())
    x = given().sort(-1).values
    model = learned(OrderedNet(1).double(), "rw", x)
    folded, report = both(model, x)
    assert [one.form for one in report.connections] == [WITHIN]
    alike(folded, model, x)


class Rectified(nn.Module):
    """A branch that ends in an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.map(x))


@pytest.mark.parametrize(("normalize", "reason"), [("2softmax", ""), ("none", NOT_POSITIVE)])
def test_an_activation_lets_a_through_that_cannot_fall_below_zero(normalize: str, reason: str) -> None:
    model = learned(Net(2, Rectified).double(), laurel.Spec(rw=True, normalize=normalize), given())
    folded, report = both(model, given())
    assert {one.reason for one in report.connections} == {reason}
    alike(folded, model, given())


def test_where_a_stays_and_why() -> None:
    model = torchvision.models.VisionTransformer(32, 16, 1, 2, 32, 64)
    x = torch.randn(2, 3, 32, 32)
    first, second = laurel.fold_training(laurel.apply(model, "rw", x), x).connections
    name = "encoder.layers.encoder_layer_0.self_attention.out_proj.weight"
    assert first.reason == READ_ELSEWHERE.format(name)  # torch's attention reads its last map's weights itself
    assert second.form == WITHIN

    report = laurel.fold_training(learned(Net().double(), "lr@2", given()), given())
    assert {one.reason for one in report.connections} == {NOT_RW}

    model = learned(Net().double(), "rw", given())
    model.blocks[0].down.register_forward_hook(lambda *_: None)
    prune.l1_unstructured(model.blocks[1].down, "weight", 0.5)
    folded = model.blocks[2].down
    reasons = [one.reason for one in laurel.fold_training(model, given()).connections]
    assert "hook" in reasons[0] or reasons[0] == NOT_A_LEAF.format("blocks.0.down.weight")
    assert "computed" in reasons[1]
    assert reasons[2] == ""
    assert "forward" in vars(folded)

    with pytest.raises(ModelError, match="does not run"):  # a batch norm of one value a channel cannot train
        laurel.fold_training(laurel.apply(torchvision.models.resnet18().eval(), "rw", x[:1]), x[:1])
    with pytest.raises(ModelError, match="no LAuReL"):
        laurel.fold_training(Net(), given().float())
    with pytest.raises(ModelError, match="folded"):
        laurel.fold_training(laurel.fold(learned(Net().double(), "rw", given()), given()), given())


@pytest.mark.slow
def test_in_a_deep_model_whose_norms_make_rounding_grow_a_is_folded_everywhere():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    model = laurel.apply(torchvision.models.resnet50().eval(), "rw+lr@16", x)
    report = laurel.fold_training(model, x)
    assert [one.form for one in report.connections] == [WITHIN] * 16
    # And keeps what a training step of the model without LAuReL does, but for n, the weights as they are used, and the
    # skips that a projection makes, which nothing else keeps.
    one = torch.randn(1, 3, 224, 224)
    widths = [3 * [256], 4 * [512], 6 * [1024], 3 * [2048]]
    places = (56**2, 28**2, 14**2, 7**2)
    narrow = sum(16 * area * len(some) for some, area in zip(widths, places, strict=True))
    used = sum(sum(some) for some in widths)  # a gamma of each last norm
    projected = sum(some[0] * area for some, area in zip(widths, places, strict=True))
    plain = kept(torchvision.models.resnet50().train(), one)
    assert plain / 2**20 == pytest.approx(82.132, abs=1e-3)
    assert kept(model.train(), one) - plain == pytest.approx(4 * (narrow + used + projected), rel=1e-3)
    assert kept(model, one) / 2**20 == pytest.approx(88.78, abs=0.01)


@pytest.mark.parametrize("spec", ["rw+lr@2", "rw+pa", "rw+lr+pa@2"])
def test_where_no_sum_is_one_node_of_the_graph_each_keeps_one_tensor_more(spec: str, monkeypatch) -> None:
    """As where sums are small, or on other devices: g beside x and f."""
    x = torch.randn(2, 20_000, D)
    model = laurel.apply(Net().train(), spec, x)
    at_once = kept(model, x)
    monkeypatch.setitem(worth.TRAINING, "cpu", dict.fromkeys(worth.TRAINING["cpu"], worth.NEVER))
    assert kept(model, x) - at_once == pytest.approx(3 * x.numel() * 4, rel=0.01)
