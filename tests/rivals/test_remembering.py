"""Rivals that put a state in the place of a running sum: how they start in models that people use, what they hold."""

import copy
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from laurel_cli.analysis import analyze
from laurel_cli.errors import ModelError
from laurel_cli.laurel.apply import apply_laurel, laurel_layers
from laurel_cli.models import load
from laurel_cli.rivals import RIVALS
from laurel_cli.rivals.running import RunningSum
from tests.rivals.small import small

D, N = 8, 4
NAMES = [name for name, rival in RIVALS.items() if issubclass(rival, RunningSum)]
every = pytest.mark.parametrize("name", NAMES)


class Block(nn.Module):
    """Pre-norm; `wait` is where a test comes between."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.f = nn.Sequential(nn.Linear(D, 2 * D), nn.GELU(), nn.Linear(2 * D, D))
        self.wait = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(self.wait(self.norm(x)))


class Stack(nn.Module):
    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.norm, self.checkpointed = nn.LayerNorm(D), False

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        return self.norm(x)


def stack(name: str, depth: int = 3, *, move: bool = True) -> tuple[Stack, Tensor]:
    """A stack with the arm in place, whose coefficients are away from their start, and an input."""
    torch.manual_seed(0)
    model, x = Stack(depth).double(), torch.randn(2, N, D, dtype=torch.float64)
    apply_laurel(model, name, x)
    with torch.no_grad():
        for parameter in own(model) if move else ():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model, x


def own(model: nn.Module) -> Iterator[nn.Parameter]:
    return (parameter for layer in laurel_layers(model).values() for parameter in layer.parameters())


# ---------------------------------------------------------------- the start, in models that people use

SMALL = small(layers=3)


def answer(model: nn.Module, inputs: Any) -> Tensor:
    """Of one pass, with the same random numbers for dropout."""
    torch.manual_seed(3)
    with torch.no_grad():
        found = model(*inputs.args, **inputs.kwargs)
    return found if isinstance(found, Tensor) else found.logits


def without_epsilons(model: nn.Module) -> nn.Module:
    """With norms that take a scale away whole: fresh embeddings are so small that their epsilons are seen."""
    for module in model.modules():
        for epsilon in ("eps", "variance_epsilon"):
            if hasattr(module, epsilon):
                setattr(module, epsilon, 1e-30)
    return model


@pytest.mark.slow
@every
@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_it_starts_as_it_says(name: str, kind: str, training: bool) -> None:
    reference, options = SMALL[kind]
    loaded = load(reference, **options)
    torch.manual_seed(0)
    model = without_epsilons(loaded.build()).train(training)
    before = answer(model, loaded.inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply_laurel(model, name, loaded.inputs)
    after = answer(model, loaded.inputs)
    assert len(laurel_layers(model)) == 6
    starts = RIVALS[name].starts
    assert torch.equal(after, before) == (starts == "exact")
    # "Near" is the mixing of streams, 2 % a connection; "to scale" leaves rounding.
    close = {"exact": 0.0, "near": 5e-2, "to scale": 1e-4}[starts] * float(before.abs().max())
    assert float((after - before).abs().max()) <= close


@every
def test_behind_activations_it_is_refused(name: str) -> None:
    loaded = load("torchvision:resnet18", image_size=32)
    model = loaded.build()
    with pytest.raises(ModelError, match=r"no running sum of branches|no stream of residual connections is a running"):
        apply_laurel(model, name, loaded.inputs)
    assert not laurel_layers(model)


class Projected(nn.Module):
    """Two blocks, a projection of the skip, two more."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.fourth = (Block() for _ in range(4))
        self.skip, self.branch = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x))
        x = self.skip(x) + self.branch(torch.tanh(x))
        return self.fourth(self.third(x))


@every
def test_a_projection_begins_another_stream_or_is_left_out(name: str) -> None:
    """What was remembered before a projection is not read behind it."""
    torch.manual_seed(0)
    model, x = Projected().double(), torch.randn(2, N, D, dtype=torch.float64)
    before = model(x)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        try:
            apply_laurel(model, name, x)
        except ModelError as error:
            assert "running sum" in str(error)  # noqa: PT017 - both are right: none is placed, or each by itself
            assert torch.equal(model(x), before)
            return
    if RIVALS[name].starts == "exact":
        assert torch.equal(model(x), before)


@every
def test_from_its_start_everything_learns(name: str) -> None:
    """In three steps: weights behind a scale of zero move as soon as the scale has; streams do not stay copies."""
    model, x = stack(name, move=False)
    target = torch.randn_like(x)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(3):
        optimiser.zero_grad()
        F.mse_loss(model(x), target).backward()
        optimiser.step()
    unmoved = {key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert not unmoved
    if name in ("ihc", "mhc"):  # a row for each stream: equal ones would have equal gradients, but for rounding
        rows = next(iter(laurel_layers(model).values())).post.grad
        assert float((rows[0] - rows[1]).abs().max()) > 1e-9 * float(rows.abs().max())


# ---------------------------------------------------------------- what is held, and what it costs


def remembered(layer: nn.Module) -> list[Tensor]:
    history, _ = layer.schedule.calls[0]
    return [leaf for leaf in tree_leaves(history.now().inputs) if isinstance(leaf, Tensor)]


@pytest.mark.parametrize("name", [*NAMES, "dense", "attnres-block@2", "ihc@2", "altup@3"])
@pytest.mark.parametrize("depth", [1, 4])
def test_the_history_is_as_large_as_it_says(name: str, depth: int) -> None:
    """Measured in the middle of a pass, beyond what the connection is given; scales, one number a position, are not
    counted."""
    torch.manual_seed(0)
    model, x = Stack(depth), torch.randn(2, N, D)
    figures = analyze(model, name, x, check=False).arm(name)
    apply_laurel(model, name, x)
    held = []

    def measure(layer: nn.Module, operands: tuple[Tensor, ...]) -> None:
        given = {operand.data_ptr() for operand in operands}
        whole = {t.data_ptr(): t.numel() * t.element_size() for t in remembered(layer) if t.numel() >= x.numel()}
        held.append(sum(size for place, size in whole.items() if place not in given))

    for layer in laurel_layers(model).values():
        layer.register_forward_pre_hook(measure)
    model(x)
    assert len(held) == depth
    assert figures.history_bytes == max(held)
    assert not remembered(layer)  # nothing outlives the pass


PRODUCTS = {"ihc": 8 * 4, "ihc@2": 4 * 2, "hc": 4 * 6, "mhc": 24 * 4}  # multiply-adds for each element of a sum


@pytest.mark.parametrize("name", [*NAMES, "ihc@2"])
def test_products_are_as_many_as_pytorch_counts(name: str) -> None:
    def counted(model: nn.Module) -> int:
        with FlopCounterMode(display=False) as counter:
            model(x)
        return counter.get_total_flops()

    torch.manual_seed(0)
    model, x = Stack(), torch.randn(2, N, D)
    before, said = counted(model), analyze(model, name, x, check=False).arm(name)
    added = counted(apply_laurel(model, name, x)) - before
    by_hand = PRODUCTS.get(name, 0) * 3 - (4 if name == "hc" else 0)  # the last of a stream reads no mixture
    assert added == 2 * by_hand * x.numel()
    assert said.added_flops == added


# ---------------------------------------------------------------- nothing leaks


class StoppedError(Exception):
    pass


@every
@pytest.mark.parametrize("stop", [0, 1, 2])
def test_a_pass_that_raised_leaves_nothing(name: str, stop: int) -> None:
    model, x = stack(name)
    expected = model(x)

    def raises(*_: Any) -> None:
        raise StoppedError

    hook = model.blocks[stop].wait.register_forward_hook(raises)
    with pytest.raises(StoppedError):
        model(100 * x)
    hook.remove()
    assert torch.equal(model(x), expected)
    torch.testing.assert_close(model(x[:1, :2]), expected[:1, :2])  # nor does a larger batch


class Waits(nn.Module):
    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self.barrier = barrier

    def forward(self, x: Tensor) -> Tensor:
        self.barrier.wait(60)
        return x


@every
def test_threads_that_meet_in_every_block_do_not_see_each_other(name: str) -> None:
    model, x = stack(name)
    batches = [x, 3 * x, x - 1]
    with torch.no_grad():
        expected = [model(batch) for batch in batches]
    barrier = threading.Barrier(len(batches))
    for block in model.blocks:
        block.wait = Waits(barrier)
    with ThreadPoolExecutor(len(batches)) as pool:
        found = list(pool.map(torch.no_grad()(model), batches))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@every
def test_in_training_in_evaluation_and_recomputed_it_is_the_same(name: str) -> None:
    model, x = stack(name)
    other = copy.deepcopy(model).eval()
    other.checkpointed = True
    other.load_state_dict(model.state_dict())
    model.train()
    for _ in range(2):  # nothing of the first pass is in the second
        for one in (model, other):
            one.zero_grad()
            one(x).square().sum().backward()
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)


@every
def test_under_autocast_it_has_the_type_of_the_sum_that_was_there(name: str) -> None:
    torch.manual_seed(0)
    model, x = Stack(), torch.randn(2, N, D)
    with torch.autocast("cpu", torch.bfloat16):
        plain = model(x).detach()
        after = apply_laurel(model, name, x)(x)
        after.square().sum().backward()
    assert after.dtype == plain.dtype
    # bfloat16 keeps 8 bits.
    assert torch.allclose(after.detach(), plain, rtol=0, atol=5e-2 * float(plain.abs().max()))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


class Stages(nn.Module):
    """Three streams of other widths, one after the other in one method."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for width in (8, 12, 16):
            blocks += [nn.Linear(blocks[-1].out if blocks else 8, width), *(Added(width) for _ in range(3))]
        self.features = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


class Added(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.out, self.branch = width, nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


@pytest.mark.parametrize("arm", ["pa", "lr+pa@2"])
def test_no_stream_is_held_while_the_next_one_runs(arm: str) -> None:
    """Where one method runs several, the figure is still the largest of one: what came to its end is let go."""
    torch.manual_seed(0)
    model, x = Stages(), torch.randn(2, 5, 8)
    figures = analyze(model, arm, x, check=False).arm(arm)
    apply_laurel(model, arm, x)
    layers = list(laurel_layers(model).values())
    held = []

    def measure(*_: object) -> None:
        every = {leaf.data_ptr(): leaf.numel() * leaf.element_size() for one in layers for leaf in remembered(one)}
        held.append(sum(every.values()))

    for layer in layers:
        layer.register_forward_pre_hook(measure)
    model.features[-1].register_forward_hook(measure)
    with torch.no_grad():
        model(x)
    assert len(layers) == 9
    assert held[-1] == 0
    assert max(held) == figures.history_bytes == 2 * 2 * 5 * 16 * 4


class Both(nn.Module):
    """A block of two streams that take turns, each of which reads the other; the text's ends a block earlier."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.image, self.text, self.of_text, self.last = nn.Linear(8, 8), nn.Linear(8, 6), nn.Linear(6, 8), last

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        image = image + self.image(image) * self.of_text(text).mean(1, keepdim=True)
        if not self.last:
            text = text + self.text(image).mean(1, keepdim=True)
        return image, text


class TwoStreams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Both(number == 5) for number in range(6))
        self.first = nn.Linear(8, 6)

    def forward(self, image: Tensor) -> Tensor:
        text = self.first(image[:, :3])
        for block in self.blocks:
            image, text = block(image, text)
        return torch.cat((image.mean(1), text.mean(1)), 1)


@pytest.mark.parametrize("arm", ["pa", "dense", "x0"])
def test_streams_that_take_turns_are_held_together(arm: str) -> None:
    """What lives at each connection, by the tensors that the histories hold, of which none is the current input."""
    torch.manual_seed(0)
    model, x = TwoStreams(), torch.randn(2, 9, 8)
    figures = analyze(model, arm, x, check=False).arm(arm)
    apply_laurel(model, arm, x)
    layers = list(laurel_layers(model).values())
    assert len({layer.schedule.calls[0][0] for layer in layers}) == 2
    held = []

    def measure(layer: nn.Module, operands: tuple[Tensor, ...]) -> None:
        given = {operand.data_ptr() for operand in operands}
        every = {leaf.data_ptr(): leaf.numel() * leaf.element_size() for one in layers for leaf in remembered(one)}
        held.append(sum(size for place, size in every.items() if place not in given))

    for layer in layers:
        layer.register_forward_pre_hook(measure)
    with torch.no_grad():
        model(x)
    image, text = 2 * 9 * 8 * 4, 2 * 3 * 6 * 4
    if arm == "pa":
        assert max(held) == 2 * image + 2 * text
    assert figures.history_bytes == max(held)
