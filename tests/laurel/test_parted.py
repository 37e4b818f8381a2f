"""The skip's gradient added where the branch begins: the same gradients, whoever looks at them, and no b dy made."""

from __future__ import annotations

import copy
import pickle
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock

import laurel_cli as laurel
from laurel_cli.laurel import parted, worth
from laurel_cli.laurel.build import laurel_layers
from laurel_cli.models.inputs import as_inputs
from tests.laurel.test_fold import Block, D, Net, given, learned
from tests.laurel.test_fold_training import alike, passed


@pytest.fixture(autouse=True)
def _however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(worth.TRAINING, "cpu", dict.fromkeys(worth.TRAINING["cpu"], 0))


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every time that a sum asked, whether its skip had been parted."""
    found: list[bool] = []
    own = parted.Reader.part

    def part(reader: parted.Reader, x: Tensor) -> parted.Part | None:
        got = own(reader, x)
        found.append(got is not None)
        return got

    monkeypatch.setattr(parted.Reader, "part", part)
    return found


class Adding(nn.Module):
    """A block of convolutions whose sum overwrites its branch, as a ResNet's does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        out += x
        return F.relu(out)


class Images(nn.Module):
    def __init__(self, block: Callable[[], nn.Module] = Adding, depth: int = 2) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 4, 3), nn.ModuleList(block() for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def both(model: nn.Module, inputs: Tensor, spec: Any = "rw") -> tuple[nn.Module, nn.Module]:
    """A model with LAuReL, and a copy that is folded for training."""
    model = learned(model.double(), spec, inputs)
    folded = copy.deepcopy(model)
    laurel.fold_training(folded, inputs)
    return model, folded


def readers(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(vars(module).get("forward"), parted.Reader)]


def test_which_module_reads_a_skip_first() -> None:
    x = torch.randn(2, 3, 64, 64)
    model = laurel.apply(torchvision.models.resnet18(), "rw", x)
    laurel.fold_training(model, x)
    blocks = ["layer1.0", *(f"layer{stage}.1" for stage in (1, 2, 3, 4))]  # the others' skips are projected
    assert readers(model) == [f"{block}.conv1" for block in blocks]
    assert [path[:8] for path, layer in laurel_layers(model).items() if layer.reader is not None] == blocks
    laurel.unfold_training(model)
    assert readers(model) == []
    assert all(layer.reader is None for layer in laurel_layers(model).values())


@pytest.mark.parametrize("normalize", ["2softmax", "softmax", "sigmoid", "none"])
@pytest.mark.parametrize("make", [(Net, given), (Images, images)], ids=["tokens", "images"])
def test_gradients_are_those_of_the_sum_as_it_was(make: Any, normalize: str, taken: list[bool]) -> None:
    net, inputs = make
    model, folded = both(net(), inputs(), laurel.Spec(rw=True, normalize=normalize))
    alike(folded, model, inputs())
    assert taken.count(True) == 2 * len(folded.blocks)  # in training mode and in eval mode; not without gradients
    assert taken.count(False) == len(folded.blocks)


@pytest.mark.parametrize("spec", ["lr@2", "rw+lr@2", "pa", "rw+lr+pa@2"])
def test_sums_with_more_in_them_are_left(spec: str) -> None:
    model = learned(Net().double(), spec, given())
    laurel.fold_training(model, given())
    assert readers(model) == []


def test_a_resnet(taken: list[bool]) -> None:
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    model, folded = both(torchvision.models.ResNet(BasicBlock, [2, 2, 1, 1], num_classes=5), x)
    alike(folded, model, x, tolerance=1e-9)
    assert taken.count(True) == 2 * 3


def test_the_formula_written_out(taken: list[bool]) -> None:
    """dx = g + b dy, db = <dy, x>, by the graph of the equation itself."""
    _, folded = both(Images(depth=1), images())
    block, x = folded.train().blocks[0], torch.randn(2, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    y = block(x)
    dy = torch.randn_like(y)
    found = torch.autograd.grad(y, [x, block.laurel0.weights], dy)
    logits = block.laurel0.weights.detach().clone().requires_grad_()
    a, b = 2 * torch.softmax(logits, 0)
    f = F.relu(F.batch_norm(block.conv1(x), None, None, block.norm1.weight, block.norm1.bias, True))
    f = F.batch_norm(F.conv2d(f, block.conv2.weight, padding=1), None, None, block.norm2.weight, block.norm2.bias, True)
    expected = torch.autograd.grad(F.relu(a * f + b * x), [x, logits], dy)
    assert taken == [True]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_no_gradient_of_the_sum_s_own_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the sum the same tensor goes on to the branch and to the skip; the branch's gradient is added to."""
    _, folded = both(Images(depth=1), images())
    seen: list[tuple[Any, ...]] = []
    own = parted._Parted.backward

    def backward(ctx: Any, g: Tensor, dv: Tensor) -> Any:
        got = own(ctx, g, dv)
        seen.append((g.data_ptr(), dv.data_ptr(), got[0].data_ptr()))
        return got

    monkeypatch.setattr(parted._Parted, "backward", staticmethod(backward))
    folded(images()).square().sum().backward()
    ((g, dv, dx),) = seen
    assert dx == g != dv


def test_gradients_of_gradients(taken: list[bool]) -> None:
    _, folded = both(Net(1), given())
    x = given()[:1, :2].requires_grad_()
    own = dict(folded.named_parameters())

    def by(value: Tensor, logits: Tensor) -> Tensor:
        changed = own | {"blocks.0.laurel0.weights": logits}
        return torch.func.functional_call(folded.eval(), changed, (value,))

    logits = own["blocks.0.laurel0.weights"].detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(by, (x, logits))
    assert torch.autograd.gradgradcheck(by, (x, logits))
    assert all(taken)


class Watching(Net):
    """A hook within looks at the gradient of every block's input, and doubles that of the second."""

    def forward(self, x: Tensor) -> Tensor:
        x, self.seen = self.first(x), []
        for number, block in enumerate(self.blocks):
            before, x = x, block(x)
            if not x.requires_grad:
                continue
            before.register_hook(self.seen.append)
            if number == 1:
                before.register_hook(lambda gradient: 2 * gradient)
        return self.last(x)


def test_hooks_on_the_stream_see_its_whole_gradient(taken: list[bool]) -> None:
    model, folded = both(Watching(), given())
    alike(folded, model, given())
    assert taken.count(True) == 2 * 3
    for one in (model, folded):
        passed(one.eval(), given())
    assert len(model.seen) == 3
    for ours, theirs in zip(folded.seen, model.seen, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_hooks_on_the_module_that_reads_it_see_its_own_gradient() -> None:
    model, folded = both(Net(), given())
    seen: dict[nn.Module, list[Tensor]] = {}
    for one in (model, folded):
        seen[one] = []
        one.blocks[1].norm.register_full_backward_hook(lambda _, found, __, own=seen[one]: own.append(found[0]))
    alike(folded, model, given())
    for ours, theirs in zip(seen[folded], seen[model], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


class Changing(Adding):
    """Writes to the skip between the branch's beginning and the sum."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm1(self.conv1(x.clone()))
        x = x * 1.5
        first = self.conv2(x)
        x.mul_(0.5)
        out = self.norm2(out + 0 * first.detach())
        out += x
        return F.relu(out)


class Elsewhere(Adding):
    """Hands the sum another tensor of the same numbers than the branch read."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        out += x.view(x.shape) if self.training else x
        return F.relu(out)


@pytest.mark.parametrize("block", [Changing, Elsewhere])
def test_another_skip_than_the_branch_read_is_taken_as_it_is(block: type[nn.Module], taken: list[bool]) -> None:
    model, folded = both(Images(block, 1), images())
    assert readers(folded)
    taken.clear()
    (found, ours), (expected, theirs) = (passed(one.train(), images()) for one in (folded, model))
    assert taken == [False]
    torch.testing.assert_close([found, *ours], [expected, *theirs], rtol=1e-11, atol=1e-12)


class Dropping(Adding):
    """Does without its sum where it is told to."""

    without = False

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.without:
            return F.relu(out) * F.relu(x)
        out += x
        return F.relu(out)


def test_a_block_that_does_without_its_sum() -> None:
    model = learned(Images(Dropping).double(), "rw", images())
    folded = copy.deepcopy(model)
    parted.part(folded, [as_inputs(images(), folded)])  # a stays in the sum: another use of the branch is without it
    assert len(readers(folded)) == 2
    for one in (model, folded):
        one.blocks[1].without = True
    alike(folded, model, images())
    for one in (model, folded):
        one.blocks[0].without, one.blocks[1].without = True, False
    alike(folded, model, images())


class Kept(Images):
    """With checkpoints around blocks, around a branch, or around a sum alone."""

    around, reentrant = "", False

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant) if self.around == "block" else block(x)
        return x


class Parts(Adding):
    around, reentrant = "", False

    def branch(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))

    def total(self, out: Tensor, x: Tensor) -> Tensor:
        return F.relu(out + x)

    def forward(self, x: Tensor) -> Tensor:
        def run(part: Callable[..., Tensor], *given: Tensor) -> Tensor:
            if self.around != part.__name__:
                return part(*given)
            return checkpoint(part, *given, use_reentrant=self.reentrant)

        return run(self.total, run(self.branch, x), x)


@pytest.mark.parametrize("around", ["block", "branch", "total"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_around_a_block_or_a_part_of_it(around: str, reentrant: bool) -> None:
    model = learned(Kept(Parts).double(), "rw", images())
    expected = passed(model.eval(), images())
    folded = copy.deepcopy(model)
    laurel.fold_training(folded, images())
    assert readers(folded)
    for one in (folded, *folded.blocks):
        one.around, one.reentrant = around, reentrant
    if reentrant and around == "total":  # which `fold_training` refuses, with or without a parted skip
        pytest.skip("a sum alone in a reentrant checkpoint is refused")
    folded.zero_grad()
    out = folded.eval()(images())
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(4)).to(out)
    (weights * out.square()).sum().backward()
    torch.testing.assert_close(out, expected[0], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close([p.grad for p in folded.parameters()], expected[1], rtol=1e-10, atol=1e-11)


def test_copies_and_what_is_copied_alone(tmp_path: Any) -> None:
    model, folded = both(Net(), given())
    alike(copy.deepcopy(folded), model, given())
    alike(pickle.loads(pickle.dumps(folded)), model, given())
    torch.save(folded, tmp_path / "model.pt")
    alike(torch.load(tmp_path / "model.pt", weights_only=False), model, given())
    for name in ("norm", "laurel0"):
        one, other = copy.deepcopy(folded), copy.deepcopy(model)
        for both_ in (one, other):
            setattr(both_.blocks[1], name, copy.deepcopy(getattr(both_.blocks[1], name)))
        alike(one, other, given())


def test_a_module_that_several_threads_call() -> None:
    model, folded = both(Net(), given())
    xs = [torch.randn(2, 5 + n, D, dtype=torch.float64) for n in range(4)] * 3
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: torch.autograd.grad(folded.eval()(x).sum(), folded.first.weight)[0], xs))
    for ours, x in zip(found, xs, strict=True):
        torch.testing.assert_close(ours, torch.autograd.grad(model.eval()(x).sum(), model.first.weight)[0])


def test_nothing_is_held_once_the_sum_is_made() -> None:
    _, folded = both(Images(), images())
    seen: list[Any] = []
    folded.blocks[1].conv1.register_forward_pre_hook(lambda _, given: seen.append(weakref.ref(given[0])))
    out = folded(images())
    assert seen[0]() is not None
    del out
    assert seen[0]() is None


class BrokenError(RuntimeError):
    pass


@pytest.mark.parametrize(("make", "inner"), [((Net, given), "up"), ((Images, images), "conv2")])
def test_nothing_is_held_of_a_pass_that_broke_off(make: Any, inner: str) -> None:
    """Whoever tries again with fewer samples, once memory ran out, needs that of the first pass."""
    net, inputs = make
    model, folded = both(net(), inputs())
    seen: list[Any] = []

    def stop(*_: Any) -> None:
        raise BrokenError

    for block in folded.blocks[:2]:  # what the first one read lives as long as the graph
        block.register_forward_pre_hook(lambda _, given: seen.append(weakref.ref(given[0])))
    broken = getattr(folded.blocks[1], inner).register_forward_pre_hook(stop)
    with pytest.raises(BrokenError):
        folded(inputs())
    assert [one() for one in seen] == [None, None]
    broken.remove()
    alike(folded, model, inputs())


def test_a_skip_whose_memory_holds_it_negated() -> None:
    model, folded = both(Images(depth=1), images())
    found = []
    for one in (model, folded):
        x = torch.randn(2, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = one.eval().blocks[0]((1j * x).conj().imag)
        found.append(torch.autograd.grad(y.square().sum(), x)[0])
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-12)


class Frozen(Block):
    """Writes to the skip behind the branch's frozen first map, which does not keep it."""

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1.5
        out = self.down(F.gelu(self.up(x)))
        if self.training:
            x.mul_(0.5)
        return x + out


def test_a_skip_that_is_written_to_and_that_no_module_keeps() -> None:
    model = learned(Net(1, Frozen).double(), "rw", given())
    model.blocks[0].up.requires_grad_(False)
    folded = copy.deepcopy(model)
    parted.part(folded, [as_inputs(given(), folded)])
    assert readers(folded) == ["blocks.0.up"]
    for one in (model, folded):
        one.train()(given()).square().sum().backward()
    for ours, theirs in zip(folded.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-11, atol=1e-12)


def test_a_module_that_reads_other_tensors_too_is_left() -> None:
    class Shared(Net):
        def __init__(self) -> None:
            super().__init__(2)
            self.blocks[1].norm = self.blocks[0].norm

    _, folded = both(Shared(), given())
    assert readers(folded) == []


def test_compiled_exported_and_traced() -> None:
    model, folded = both(Net(2), given())
    compiled = torch.compile(copy.deepcopy(folded).eval(), backend="aot_eager", fullgraph=True)
    x = torch.randn(3, 5, D, dtype=torch.float64)
    torch.testing.assert_close(passed(compiled, x), passed(model.eval(), x), rtol=1e-10, atol=1e-11)
    partly = copy.deepcopy(folded).eval()
    partly.blocks[0].laurel0.compile(backend="aot_eager")  # the module that reads its skip is not
    partly.blocks[1].norm.compile(backend="aot_eager")
    torch.testing.assert_close(passed(partly, x), passed(model, x), rtol=1e-10, atol=1e-11)
    exported = torch.export.export(folded, (x,)).module()
    torch.testing.assert_close(exported(x), model(x), rtol=1e-10, atol=1e-11)
    graph = torch.fx.symbolic_trace(folded.eval())
    torch.testing.assert_close(passed(graph, x), passed(model, x), rtol=1e-10, atol=1e-11)
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        traced = torch.jit.trace(folded, (x,), check_trace=False)
    torch.testing.assert_close(traced(x), model(x), rtol=1e-10, atol=1e-11)


class Seeing(nn.BatchNorm2d):
    """Remembers where in memory its last result lies, without a hook, which would take a out of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        out = nn.BatchNorm2d.forward(self, x)  # no `super()`: what stands for the module calls it too
        self.address = out.data_ptr()
        return out


def test_a_learned_sum_overwrites_its_branch_where_the_sum_that_stood_there_did() -> None:
    """With a in its last weights nothing needs f; with a in the sum its gradient does."""
    model, folded = both(Images(depth=1), images())
    for one, overwritten in ((folded, True), (model, False)):
        norm, layer = one.blocks[0].norm2, one.blocks[0].laurel0
        norm.__class__ = Seeing
        totals: list[int] = []
        layer.register_forward_hook(lambda _, __, out, totals=totals: totals.append(out.data_ptr()))
        one(images())
        assert (totals == [norm.address]) == overwritten


def test_many_gradients_at_once_and_two_backward_passes(taken: list[bool]) -> None:
    model, folded = both(Net(), given())
    rows = torch.eye(3, dtype=torch.float64)
    found = []
    for one in (model, folded):
        out, own = one.eval()(given())[0, 0], list(one.parameters())
        at_once = torch.autograd.grad(out, own, rows, is_grads_batched=True, retain_graph=True)
        each = [torch.autograd.grad(out, own, row, retain_graph=True) for row in rows]
        found.append([*at_once, *(torch.stack(several) for several in zip(*each, strict=True))])
    assert True in taken
    torch.testing.assert_close(found[1], found[0], rtol=1e-11, atol=1e-12)
