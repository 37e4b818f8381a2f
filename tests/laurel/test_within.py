"""RW's a in a branch's last weights, while other code wraps, replaces or checkpoints the modules that it lies in."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import laurel_cli as laurel
from laurel_cli.laurel.build import laurel_layers
from laurel_cli.laurel.layers import LaurelLayer
from laurel_cli.laurel.within import Scaled
from tests.laurel.test_fold import Block, D, Net, given, learned


def folded(spec: str = "rw+lr@2") -> tuple[nn.Module, nn.Module]:
    """A model, and a copy whose a lies in the branches' last maps."""
    model = learned(Net().double(), spec, given())
    other = copy.deepcopy(model)
    assert all(one.branch for one in laurel.fold_training(other, given()).connections)
    return model, other


def test_modules_whose_forward_accelerate_wraps_afterwards() -> None:
    hooks = pytest.importorskip("accelerate.hooks", reason="accelerate is not installed")
    model, other = folded()
    hooks.add_hook_to_module(other.blocks[0].down, hooks.ModelHook())
    x = torch.randn(3, 5, D, dtype=torch.float64)
    expected = model(x)
    torch.testing.assert_close(other(x), expected)
    torch.testing.assert_close(laurel.fold(other, given())(x), expected)
    again = copy.deepcopy(other)
    laurel.fold_training(again, given())
    torch.testing.assert_close(again(x), expected)
    torch.testing.assert_close(laurel.unfold_training(other)(x), expected)


def test_modules_whose_forward_is_wrapped_by_a_function() -> None:
    """A function is not copied with its module: a copy calls the first one's weights, without a."""
    model, other = folded()
    forward = other.blocks[0].down.forward
    other.blocks[0].down.forward = lambda x: forward(x)
    x = torch.randn(3, 5, D, dtype=torch.float64)
    expected = model(x)
    torch.testing.assert_close(other(x), expected)
    torch.testing.assert_close(laurel.fold(other, given())(x), expected)
    torch.testing.assert_close(laurel.unfold_training(other)(x), expected)
    torch.testing.assert_close(laurel.remove(other)(x), laurel.remove(model)(x))


def test_norms_that_are_converted_leave_a_in_the_sum() -> None:
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    model = learned(torchvision.models.resnet18(num_classes=5).double(), "rw", x)
    laurel.fold_training(model, x)
    expected = model.eval()(x)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules())
    torch.testing.assert_close(converted.eval()(x), expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(laurel.fold(converted, x)(x), expected, rtol=1e-8, atol=1e-8)


def test_a_map_that_is_replaced_by_another() -> None:
    model, other = folded()
    for one in (model, other):
        one.blocks[1].down = copy.deepcopy(model.blocks[0].down)
    x = torch.randn(3, 5, D, dtype=torch.float64)
    torch.testing.assert_close(other(x), model(x))


def test_where_a_part_is_replaced_it_says_so() -> None:
    _, other = folded("rw")
    layer, down = other.blocks[0].laurel0, other.blocks[0].down
    assert isinstance(layer, LaurelLayer)
    layer.within = (*layer.within, Scaled(copy.deepcopy(down), layer, {"weight": None}))
    with pytest.raises(RuntimeError, match=r"A part of the modules.*unfold_training"):
        other(given())


def test_a_bias_that_is_taken_away() -> None:
    model, other = folded()
    for one in (model, other):
        one.blocks[0].down.bias = None
    torch.testing.assert_close(other(given()), model(given()))


class Checkpointed(nn.Module):
    """A branch that is run again for the backward pass, without the sum after it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.block, x, use_reentrant=False)


class Checkpointing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            Checkpointed(nn.Sequential(nn.LayerNorm(D), nn.Linear(D, D), nn.GELU(), nn.Linear(D, D))) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        for branch in self.branches:
            x = x + branch(x)
        return x


def test_branches_that_are_run_again_for_the_backward_pass() -> None:
    model = learned(Checkpointing().double(), "rw", given())
    other = copy.deepcopy(model)
    assert all(one.branch for one in laurel.fold_training(other, given()).connections)
    for _ in range(2):  # the second pass begins after a branch was run alone
        for one in (model, other):
            one.zero_grad()
            one.train()(given()).square().sum().backward()
        for (name, one), (_, its) in zip(other.named_parameters(), model.named_parameters(), strict=True):
            torch.testing.assert_close(one.grad, its.grad, msg=name)
        torch.testing.assert_close(other.eval()(given()), model.eval()(given()))


class Writing(Net):
    """Writes into what it is called with."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(0.5))


@pytest.mark.parametrize("fold", [laurel.fold, laurel.fold_training])
def test_a_model_that_writes_into_its_inputs_is_given_copies(fold: Callable[[nn.Module, Tensor], object]) -> None:
    model, x = learned(Writing().double(), "rw", given()), given()
    expected = model(given())
    done = fold(model, x)
    torch.testing.assert_close(x, given())
    after = done if isinstance(done, nn.Module) else model
    torch.testing.assert_close(after(given()), expected)


class Sparse(Net):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, D, sparse=True)

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(self.table(ids))


def test_a_table_whose_gradient_is_sparse() -> None:
    ids = torch.arange(10).view(2, 5)
    model = laurel.apply(Sparse().double().eval(), "rw", ids)
    assert all(one.branch for one in laurel.fold_training(model, ids).connections)


class Meeting(nn.Module):
    """Both threads come here between the map that holds a and the sum, once there is a barrier."""

    barrier: threading.Barrier | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.barrier is not None:
            self.barrier.wait(20)
        return x


class Waiting(Block):
    def __init__(self) -> None:
        super().__init__()
        self.drop = Meeting()


def test_threads_that_run_one_model_do_not_hear_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    model = learned(Net(block=Waiting).double(), "rw+lr@2", given())
    other = copy.deepcopy(model)
    assert all(one.branch for one in laurel.fold_training(other, given()).connections)
    inputs = [torch.randn(3, 5, D, dtype=torch.float64) for _ in range(4)]
    expected = [model(x) for x in inputs]
    monkeypatch.setattr(Meeting, "barrier", threading.Barrier(2))

    def run(two: list[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return [other(x) for x in two]

    with ThreadPoolExecutor(2) as threads:
        found = [y for some in threads.map(run, (inputs[:2], inputs[2:])) for y in some]
    for y, its in zip(found, expected, strict=True):
        torch.testing.assert_close(y, its)
    assert all(layer.a_is_within for layer in laurel_layers(other).values())


@pytest.mark.parametrize("name", ["laurel0", "down", "both"])
def test_parts_that_are_copied_alone_and_stand_in_the_place_of_the_first_ones(name: str) -> None:
    """As an adapter does, which trains the copy: a is a factor of f once, whichever of the two is called."""
    model, other = folded()
    x = torch.randn(3, 5, D, dtype=torch.float64)
    for block in (model.blocks[1], other.blocks[1]):
        for part in ("laurel0", "down") if name == "both" else (name,):
            first = getattr(block, part)
            setattr(block, part, copy.deepcopy(first))
            block.add_module(f"first_{part}", first)
            with torch.no_grad():
                for number, parameter in enumerate(getattr(block, part).parameters()):
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    expected = model(x)
    torch.testing.assert_close(other(x), expected)
    for one in (model, other):
        one.zero_grad()
        one(x).square().sum().backward()
    theirs = dict(model.named_parameters())
    for path, parameter in other.named_parameters():
        if parameter.grad is not None or theirs[path].grad is not None:
            torch.testing.assert_close(parameter.grad, theirs[path].grad, msg=path)
    torch.testing.assert_close(copy.deepcopy(other)(x), expected)
    for block in (model.blocks[1], other.blocks[1]):  # the adapter is switched off
        for part in ("laurel0", "down") if name == "both" else (name,):
            setattr(block, part, getattr(block, f"first_{part}"))
    torch.testing.assert_close(other(x), model(x))
    torch.testing.assert_close(laurel.unfold_training(other)(x), model(x))


def test_a_copied_model_is_folded_still() -> None:
    """Alone within a module without LAuReL, too."""
    _, other = folded()
    for one in (
        copy.deepcopy(other),
        copy.deepcopy(nn.Sequential(nn.Identity(), other))[1],
        copy.deepcopy(other.blocks),
    ):
        assert all(part.active for layer in laurel_layers(one).values() for part in layer.within)
    assert all(part.active for layer in laurel_layers(other).values() for part in layer.within)


class Tail(nn.Module):
    """The branch runs once; the sum and what follows it are run again for the backward pass."""

    reentrant, nested = False, False

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.after = nn.Sequential(nn.Linear(D, D), nn.GELU(), nn.Linear(D, D)), nn.Linear(D, D)

    def tail(self, x: Tensor, f: Tensor) -> Tensor:
        return torch.tanh(self.after(x + f))

    def inner(self, x: Tensor, f: Tensor) -> Tensor:
        return checkpoint(self.tail, x, f, use_reentrant=False) if self.nested else self.tail(x, f)

    def forward(self, x: Tensor) -> Tensor:
        f = self.branch(x)
        return checkpoint(self.inner, x, f, use_reentrant=self.reentrant) if self.training else self.tail(x, f)


@pytest.mark.parametrize("nested", [False, True])
def test_sums_that_are_run_again_without_their_branches(nested: bool) -> None:
    model = learned(nn.Sequential(Tail(), Tail()).double(), "rw", given())
    other = copy.deepcopy(model)
    assert all(one.branch for one in laurel.fold_training(other, given()).connections)
    for part in other.modules():
        part.nested = nested
    for _ in range(2):
        for one in (model, other):
            one.zero_grad()
            one.train()(given()).square().sum().backward()
        for (name, one), (_, its) in zip(other.named_parameters(), model.named_parameters(), strict=True):
            torch.testing.assert_close(one.grad, its.grad, msg=name)
        torch.testing.assert_close(other.eval()(given()), model.eval()(given()))


def test_a_reentrant_checkpoint_that_cannot_know_is_refused_in_words() -> None:
    other = learned(nn.Sequential(Tail(), Tail()).double(), "rw", given())
    assert all(one.branch for one in laurel.fold_training(other, given()).connections)
    for part in other.modules():
        part.reentrant = True
    x = given().requires_grad_()
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        other.train()(x).square().sum().backward()


@pytest.mark.parametrize("stack", [Net, Checkpointing])
def test_hooks_see_the_branch_as_it_was(stack: type[nn.Module]) -> None:
    """Put on afterwards, on the last map or on what holds it; what they make of f is multiplied with a as well."""
    model = learned(stack().double(), "rw", given())
    other = copy.deepcopy(model)
    assert all(one.branch for one in laurel.fold_training(other, given()).connections)
    name = next(n for n, m in other.named_modules() if "forward" in vars(m))
    x = torch.randn(3, 5, D, dtype=torch.float64, requires_grad=True)
    paths = [name, *([name.rpartition(".")[0]] if stack is Checkpointing else [])]
    for path in paths:
        seen: list[list[Tensor]] = [[], []]
        for one, kept in zip((model, other), seen, strict=True):
            hooked = one.get_submodule(path)
            hooks = [
                hooked.register_forward_hook(lambda *call, kept=kept: kept.append(call[-1])),
                hooked.register_full_backward_hook(lambda *call, kept=kept: kept.append(call[-1][0])),
                hooked.register_forward_hook(lambda *call: call[-1] + 1),
            ]
            total = one(x)
            total.sin().sum().backward()
            kept += [total, *(p.grad for p in one.parameters() if p.grad is not None)]
            one.zero_grad()
            for hook in hooks:
                hook.remove()
        assert len(seen[0]) == len(seen[1])
        for theirs, ours in zip(*seen, strict=True):
            torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(other(x), model(x))
    assert all(layer.a_is_within for layer in laurel_layers(other).values())


def test_a_hook_that_is_gone_when_the_branch_is_run_again() -> None:
    model = learned(Checkpointing().double(), "rw", given())
    other = copy.deepcopy(model)
    laurel.fold_training(other, given())
    name = next(n for n, m in other.named_modules() if "forward" in vars(m))
    hook = other.get_submodule(name).register_forward_hook(lambda *call: None)
    total = other(given())
    hook.remove()
    ours = torch.autograd.grad(total.sin().sum(), list(other.parameters()))
    theirs = torch.autograd.grad(model(given()).sin().sum(), list(model.parameters()))
    for one, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, expected)


class Adapter(nn.Module):
    """What peft's LoRA and others do: the module, and something that is added to what it makes."""

    def __init__(self, base: nn.Module, hidden: bool) -> None:
        super().__init__()
        self.more = nn.Linear(2 * D, D, bias=False, dtype=torch.float64)
        nn.init.constant_(self.more.weight, 0.1)
        self.kept = [base] if hidden else nn.ModuleList([base])

    def forward(self, x: Tensor) -> Tensor:
        return self.kept[0](x) + self.more(x)


def adapted(block: nn.Module, how: str) -> None:
    if how == "forward":
        forward = block.down.forward
        block.down.forward = lambda x: forward(x) + 0.1 * x.sum(-1, keepdim=True)
    else:
        block.down = Adapter(block.down, hidden=how == "hidden")


@pytest.mark.parametrize("how", ["module", "hidden", "forward"])
def test_what_an_adapter_adds_to_a_map_is_multiplied_with_a(how: str) -> None:
    model, other = folded()
    for one in (model, other):
        adapted(one.blocks[1], how)
    found = [torch.autograd.grad(one(given()).sin().sum(), list(one.parameters())) for one in (model, other)]
    torch.testing.assert_close(other(given()), model(given()))
    for its, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, its)


def test_a_map_that_is_called_without_its_sum_and_then_replaced() -> None:
    model, other = folded()
    other.blocks[1].down(torch.randn(3, 2 * D, dtype=torch.float64))
    for one in (model, other):
        one.blocks[1].down = copy.deepcopy(model.blocks[0].down)
    torch.testing.assert_close(other(given()), model(given()))


class Squashing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


def test_what_comes_to_stand_between_a_map_and_its_sum() -> None:
    model, other = folded()
    for one in (model, other):
        one.blocks[1].drop = Squashing()
    torch.testing.assert_close(other(given()), model(given()))


def test_hooks_of_all_modules_see_the_branch_as_it_was() -> None:
    model, other = folded()
    seen: list[list[Tensor]] = [[], []]
    for one, kept in zip((model, other), seen, strict=True):
        hook = nn.modules.module.register_module_forward_hook(lambda *call, kept=kept: kept.append(call[-1]))
        one(given())
        hook.remove()
    for its, ours in zip(*seen, strict=True):
        torch.testing.assert_close(ours, its)
    torch.testing.assert_close(other(given()), model(given()))


class Parts(nn.Module):
    """A branch whose last weights lie in two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.one(x) + self.two(x))


def test_of_several_modules_that_hold_a_one_has_a_hook() -> None:
    model = learned(nn.Sequential(Parts(), Parts()).double(), "rw", given())
    other = copy.deepcopy(model)
    assert all(len(one.branch) == 4 for one in laurel.fold_training(other, given()).connections)
    for one in (model, other):
        one[0].two.register_forward_hook(lambda module, given, made: made + 1)
    torch.testing.assert_close(other(given()), model(given()))


class Norm(nn.Module):
    """Written by hand: a tracer walks through it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(D)), nn.Parameter(torch.zeros(D))

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True) + 1e-5) * self.weight + self.bias


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.norm = nn.Linear(D, D), Norm()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.down(x))


def test_a_graph_of_fx_has_a_once() -> None:
    model = learned(nn.Sequential(Normed(), Normed()).double(), "rw", given())
    other = copy.deepcopy(model)
    assert all(one.branch for one in laurel.fold_training(other, given()).connections)
    for graph in (torch.fx.symbolic_trace(other), other):
        torch.testing.assert_close(graph(given()), model(given()))


class Reentrant(Checkpointed):
    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.block, x, use_reentrant=True)


def test_branches_of_reentrant_checkpoints_are_folded() -> None:
    model = Checkpointing().double()
    for number, branch in enumerate(model.branches):
        model.branches[number] = Reentrant(branch.block)
    model = learned(nn.Sequential(nn.Linear(D, D), model).double(), "rw", given())
    other = copy.deepcopy(model)
    assert all(one.branch for one in laurel.fold_training(other, given()).connections)
    for one in (model, other):
        one.train()(given()).square().sum().backward()
    for (name, one), (_, its) in zip(other.named_parameters(), model.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, its.grad, msg=name)
