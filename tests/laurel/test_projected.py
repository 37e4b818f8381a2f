"""Inputs that are multiplied with the maps of all their readers at once: the same sums, and never another's maps."""

from __future__ import annotations

import copy
import io
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import laurel_cli as laurel
from laurel_cli.laurel import projected, worth
from laurel_cli.laurel.layers import LaurelLayer
from laurel_cli.laurel.projected import Projected


class Block(nn.Module):
    def __init__(self, norm: nn.Module, mixed: nn.Module) -> None:
        super().__init__()
        self.norm, self.mixed, self.skipped = norm, mixed, False

    def forward(self, x):
        if self.skipped:
            return x
        return x + self.mixed(self.norm(x))


class Stream(nn.Module):
    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.checkpointed, self.frozen = False, 0

    def forward(self, x):
        for number, block in enumerate(self.blocks):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= self.frozen):
                x = checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        return x


def tokens(width: int = 12) -> nn.Module:
    return Stream([Block(nn.LayerNorm(width), nn.Linear(width, width)) for _ in range(5)])


def images(width: int = 12) -> nn.Module:
    return Stream([Block(nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1)) for _ in range(5)])


CASES = {
    "tokens": (tokens, (2, 7, 12), torch.contiguous_format),
    "images": (images, (3, 12, 5, 4), torch.contiguous_format),
    "one image": (images, (1, 12, 5, 4), torch.contiguous_format),
    "channels last": (images, (3, 12, 5, 4), torch.channels_last),
}
FORMS = ("lr+pa@3", "rw+lr+pa@3", "rw+lr+pa@3 of 2")


@pytest.fixture(autouse=True)
def at_every_size(monkeypatch):
    for table in (worth.INFERENCE, worth.TRAINING):
        monkeypatch.setitem(table, "cpu", dict.fromkeys(table["cpu"], 0))


def placed(build, x: torch.Tensor, arm: str = "rw+lr+pa@3") -> nn.Module:
    """A model in float64 with LAuReL away from its start."""
    torch.manual_seed(0)
    name, _, lags = arm.partition(" of ")
    spec = replace(laurel.Spec.parse(name), lags=int(lags or 3))
    model = laurel.apply(build().double().eval(), spec, x)
    with torch.no_grad():
        for parameter in laurel.parameters(model):
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def given(shape, layout=torch.contiguous_format) -> torch.Tensor:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=layout) if len(shape) == 4 else x


def alone(monkeypatch) -> None:
    """Every connection multiplies what it reads by itself."""
    monkeypatch.setattr(projected, "projected", lambda x, *_, **__: x)


def learned(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Its output, and the gradients of x and of every parameter; none for those that get none."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = model(x)
    weights = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
    asked = [x, *model.parameters()]
    found = torch.autograd.grad((y * weights).sum(), asked, allow_unused=True)
    return [y, *(torch.zeros_like(like) if one is None else one for like, one in zip(asked, found, strict=True))]


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


def learns_as_each_by_itself(model: nn.Module, x: torch.Tensor, monkeypatch) -> None:
    ours = learned(model, x)
    alone(monkeypatch)
    same(ours, learned(model, x))


@pytest.fixture
def used(monkeypatch) -> list[int]:
    """How many products each connection took from others' hands, or its own, in the order of the calls."""
    counts: list[int] = []
    real = projected.products

    def counted(layer, entries):
        found = real(layer, entries)
        counts.append(sum(one is not None for one in found))
        return found

    monkeypatch.setattr(projected, "products", counted)
    return counts


@pytest.mark.parametrize("arm", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_it_computes_and_learns_what_each_by_itself_does(case, arm, used, monkeypatch):
    build, shape, layout = CASES[case]
    x = given(shape, layout)
    model = placed(build, x, arm).to(memory_format=layout) if len(shape) == 4 else placed(build, x, arm)
    used.clear()
    with torch.no_grad():
        y = model(x)
    k = 2 if arm.endswith("of 2") else 3
    # The last connection has nobody to stack with.
    assert used == [min(k, place + 1) - (place == 4) for place in range(5)]
    used.clear()
    ours = learned(model, x)
    assert sum(used) > 0 or case == "channels last"
    alone(monkeypatch)
    with torch.no_grad():
        torch.testing.assert_close(y, model(x), rtol=1e-10, atol=1e-11)
    same(ours, learned(model, x))


def test_second_derivatives():
    x = given((1, 3, 4))
    model = placed(lambda: tokens(4), x, "rw+lr+pa@2")
    assert torch.autograd.gradgradcheck(model, x.requires_grad_())


def test_it_computes_the_equation():
    """Eq. 6 written out: b (x_i + B [c_0 A_0 x_i; c_1 A_1 x_{i-1}; ...]) + a f."""
    x = given((2, 7, 12))
    model = placed(tokens, x)
    with torch.no_grad():
        found = model(x)
        stream = [x]
        for block in model.blocks:
            layer = block.laurel0
            a, b = 2 * torch.softmax(layer.weights, 0)
            read = stream[: len(layer.A)]
            narrow = [c * (one @ down.weight.T) for c, one, down in zip(layer.c, read, layer.A, strict=False)]
            narrow += [torch.zeros(2, 7, 3).double()] * (len(layer.A) - len(narrow))
            g = stream[0] + torch.cat(narrow, -1) @ layer.B.weight.T
            stream.insert(0, a * block.mixed(block.norm(stream[0])) + b * g)
    torch.testing.assert_close(found, stream[0], rtol=1e-10, atol=1e-11)


def test_a_map_that_is_hooked_is_called(used):
    x = given((2, 7, 12))
    model = placed(tokens, x)
    seen = []
    model.blocks[3].laurel0.A[1].register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        model(x)
    assert seen == [1]
    assert used[3] < 3


def test_a_hook_that_changes_what_a_map_makes_is_heard():
    x = given((2, 7, 12))
    model = placed(tokens, x)
    with torch.no_grad():
        before = model(x)
        model.blocks[3].laurel0.A[1].register_forward_hook(lambda _, __, made: 2 * made)
        assert not torch.allclose(model(x), before)


def test_a_map_that_is_made_of_others_when_it_is_used(monkeypatch):
    x = given((2, 7, 12))
    model = placed(tokens, x)
    parametrizations.weight_norm(model.blocks[2].laurel0.A[1])
    learns_as_each_by_itself(model, x, monkeypatch)


def test_a_map_that_is_another_by_now(monkeypatch):
    """As an adapter's copy of a layer is, which keeps the first one, that the history knows."""
    x = given((2, 7, 12))
    model = placed(tokens, x)
    first = model.blocks[2].laurel0
    model.blocks[2].laurel0 = copy.deepcopy(first)
    with torch.no_grad():
        model.blocks[2].laurel0.A[1].weight.mul_(3)
    assert first in first.schedule.calls[0][0].readers(1)
    learns_as_each_by_itself(model, x, monkeypatch)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("written", ["map", "input"])
def test_what_is_written_to_between_two_connections(written, mode, used, monkeypatch):
    """By a hook of a block between: the products that were made before are of what is there no more."""
    x = given((2, 7, 12))
    model = placed(tokens, x)
    streams = []
    model.blocks[1].register_forward_pre_hook(lambda _, inputs: streams.append(inputs[0]))

    def write(*_) -> None:
        (model.blocks[3].laurel0.A[2].weight if written == "map" else streams[-1]).mul_(3)

    model.blocks[2].register_forward_hook(write)
    start = copy.deepcopy(model.state_dict())
    with mode():
        found = model(x)
        assert used[3] < 3 or mode is torch.inference_mode
        model.load_state_dict(start)
        alone(monkeypatch)
        torch.testing.assert_close(found, model(x), rtol=1e-10, atol=1e-11)


def test_a_map_that_is_hooked_in_a_copy_with_the_same_weight(monkeypatch):
    x = given((2, 7, 12))
    model = placed(tokens, x)
    first = model.blocks[2].laurel0
    model.blocks[2].laurel0 = second = copy.deepcopy(first)
    second.A[1].weight = first.A[1].weight
    second.A[1].register_forward_hook(lambda _, __, made: 2 * made)
    learns_as_each_by_itself(model, x, monkeypatch)


def test_a_copy_reads_its_own_maps(used, monkeypatch):
    x = given((2, 7, 12))
    model = placed(tokens, x)
    other = copy.deepcopy(model)
    with torch.no_grad():
        before = model(x)
        for parameter in laurel.parameters(other):
            parameter.mul_(1.5)
        assert torch.equal(model(x), before)
        used.clear()
        found = other(x)
    assert used == [1, 2, 3, 3, 2]
    alone(monkeypatch)
    with torch.no_grad():
        torch.testing.assert_close(found, other(x), rtol=1e-10, atol=1e-11)


def test_a_pickled_model_does_the_same(used):
    x = given((2, 7, 12))
    model = placed(tokens, x)
    again = pickle.loads(pickle.dumps(model))
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    third = torch.load(saved, weights_only=False)
    with torch.no_grad():
        expected = model(x)
        used.clear()
        assert torch.equal(again(x), expected)
        assert torch.equal(third(x), expected)
    assert used == [1, 2, 3, 3, 2] * 2


def test_weights_that_are_given_for_one_call(monkeypatch):
    x = given((2, 7, 12))
    model = placed(tokens, x)
    doubled = {name: 2 * one for name, one in model.named_parameters()}
    with torch.no_grad():
        ours = torch.func.functional_call(model, doubled, (x,))
        alone(monkeypatch)
        theirs = torch.func.functional_call(model, doubled, (x,))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


class Scores(nn.Module):
    """Its second sum is one of attention scores, as wide as the stream: it has no channels, and no map reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))

    def forward(self, x):
        x = x + self.maps[0](x)
        scores = self.maps[1](x) @ self.maps[2](x).transpose(1, 2)
        return scores + self.maps[3](scores)


class Turned(nn.Module):
    """Its second sum has its channels where the first one has places, of which there are as many."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))

    def forward(self, x):
        x = (x + self.maps[0](x)).transpose(2, 3)
        return x + self.maps[1](x.transpose(2, 3)).transpose(2, 3)


def as_alone(model, x, monkeypatch):
    """It computes and learns what it does where each sum multiplies what it reads by itself."""
    with torch.no_grad():
        y = model(x)
    ours = learned(model, x)
    alone(monkeypatch)
    with torch.no_grad():
        torch.testing.assert_close(y, model(x), rtol=1e-10, atol=1e-11)
    same(ours, learned(model, x))


@pytest.mark.parametrize(("build", "shape"), [(Scores, (2, 6, 6)), (Turned, (2, 3, 6, 6))])
def test_sums_of_one_stream_that_do_not_read_it_alike(build, shape, monkeypatch):
    x = given(shape)
    model = placed(build, x)
    layers = [module for module in model.modules() if isinstance(module, LaurelLayer)]
    assert len({layer.schedule.calls[0][0] for layer in layers}) == 1
    assert len({(hasattr(layer, "A"), layer._channel_last) for layer in layers}) == 2
    as_alone(model, x, monkeypatch)


def test_blocks_that_are_left_out_in_a_call(monkeypatch):
    x = given((2, 7, 12))
    model = placed(tokens, x)
    model.blocks[1].skipped = model.blocks[2].skipped = True
    as_alone(model, x, monkeypatch)


@pytest.mark.parametrize("case", ["tokens", "images"])
@pytest.mark.parametrize("least", [0, worth.NEVER], ids=["stacked", "each by itself"])
def test_the_maps_of_a_block_that_did_not_run_have_no_gradient(case, least, monkeypatch):
    """Nor does an optimizer move or decay them, whether inputs are multiplied at once or not."""
    build, shape, _ = CASES[case]
    x = given(shape)
    model = placed(build, x)
    monkeypatch.setitem(worth.TRAINING["cpu"], worth.PROJECTED, least)
    for number, block in enumerate(model.blocks):
        block.skipped = number in (1, 3)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    before = copy.deepcopy(model.state_dict())
    model(x).square().sum().backward()
    optimiser.step()
    for number, block in enumerate(model.blocks):
        for lag, down in enumerate(block.laurel0.A):
            # The five blocks are three now: the last one reads its own input and two before it.
            runs = number in (0, 2, 4) and lag <= (0, 2, 4).index(number)
            assert (down.weight.grad is not None) == runs
            moved = not torch.equal(down.weight, before[f"blocks.{number}.laurel0.A.{lag}.weight"])
            assert moved == runs


@pytest.mark.parametrize("frozen", ["some maps", "all maps", "input"])
def test_only_what_learns_has_gradients(frozen, monkeypatch):
    x = given((2, 7, 12))
    model = placed(tokens, x)
    for number, block in enumerate(model.blocks):
        block.laurel0.A.requires_grad_(frozen == "input" or (frozen == "some maps" and number != 2))
    if frozen == "input":
        model.blocks[0].requires_grad_(False)

    def gradients():
        model.zero_grad()
        model(x).square().sum().backward()
        return [None if p.grad is None else p.grad.clone() for p in model.parameters()]

    ours = gradients()
    alone(monkeypatch)
    for one, other in zip(ours, gradients(), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


def test_no_map_whose_weight_is_gathered_for_its_own_block_is_stacked(used, tmp_path):
    """FSDP2 on one process: a block's weights are plain tensors from its first pass on, where nothing shards them."""
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    x = given((2, 7, 12))
    model = placed(tokens, x)
    expected = learned(model, x)
    assert sum(used) > 0
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        mesh = dist.init_device_mesh("cpu", (1,))
        for block in model.blocks:
            fully_shard(block, mesh=mesh, reshard_after_forward=False)
        fully_shard(model, mesh=mesh)
        for block in model.blocks:
            block.set_reshard_after_backward(False)
        for _ in range(2):  # the second time all weights are plain from the beginning
            used.clear()
            y = model(x)
            weights = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
            (y * weights).sum().backward()
            assert not any(used)
        for block in model.blocks:
            block.reshard()
        for p, theirs in zip(model.parameters(), expected[2:], strict=True):
            torch.testing.assert_close(p.grad.full_tensor(), 2 * theirs, rtol=1e-10, atol=1e-11)
    finally:
        dist.destroy_process_group()


def test_where_the_first_blocks_are_run_without_gradients_the_later_maps_still_learn(monkeypatch):
    x = given((2, 7, 12))
    model = placed(tokens, x)
    model.frozen = 2
    ours = learned(model, x)
    lag = dict(model.named_parameters())["blocks.2.laurel0.A.1.weight"]
    place = 1 + [parameter is lag for parameter in model.parameters()].index(True)
    assert ours[place].abs().max() > 0
    alone(monkeypatch)
    same(ours, learned(model, x))


def test_within_checkpoints(monkeypatch):
    x = given((2, 7, 12))
    model = placed(tokens, x)
    plain = learned(model, x)
    model.checkpointed = True
    ours = learned(model, x)
    same(ours, plain)
    alone(monkeypatch)
    same(ours, learned(model, x))


def test_two_calls_are_equal_to_the_last_bit():
    x = given((2, 7, 12))
    model = placed(tokens, x)
    first, second = learned(model, x), learned(model, x)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_folded_sums_hand_on_too(used):
    x = given((2, 7, 12))
    model = placed(tokens, x)
    with torch.no_grad():
        expected = model(x)
        folded = laurel.fold(model, x)
        used.clear()
        torch.testing.assert_close(folded(x), expected, rtol=1e-10, atol=1e-11)
    assert used == [1, 2, 3, 3, 2]


def test_where_somebody_counts_each_map_is_called():
    x = given((2, 7, 12))
    model = placed(tokens, x)
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    maps = 2 * 14 * 12 * 3 * (1 + 2 + 3 * 3)  # A of the connections that have 1, 2, 3, 3, 3 inputs
    up = sum(2 * 14 * 12 * 3 * len(block.laurel0.A) for block in model.blocks)
    assert counter.get_total_flops() == maps + up + 5 * 2 * 14 * 12 * 12


def test_small_sums_are_left_alone(monkeypatch):
    monkeypatch.setitem(worth.INFERENCE["cpu"], worth.PROJECTED, 169)
    x = given((2, 7, 12))  # 168 elements
    model = placed(tokens, x)
    made = []
    real = projected.fast.narrow_at_once
    monkeypatch.setattr(projected.fast, "narrow_at_once", lambda *words: made.append(1) or real(*words))
    with torch.no_grad():
        model(x)
        assert not made
        monkeypatch.setitem(worth.INFERENCE["cpu"], worth.PROJECTED, 168)
        model(x)
    assert len(made) == 4


def test_a_model_s_memory_is_freed_at_once():
    """The history holds its layers weakly: no circle that only the garbage collector would find."""
    import gc
    import weakref

    x = given((2, 7, 12))
    model = placed(tokens, x)
    layer = model.blocks[0].laurel0
    history = layer.schedule.calls[0][0]
    assert history.readers(0) == [block.laurel0 for block in model.blocks[:3]]
    gone = weakref.ref(layer)
    gc.disable()
    try:
        model.blocks[0].laurel0 = nn.Identity()
        del layer
        assert gone() is None
    finally:
        gc.enable()
    assert history.readers(0) == []


def test_what_is_handed_on_is_the_products_of_each_reader():
    x = given((2, 7, 12))
    model = placed(tokens, x)
    layers = [block.laurel0 for block in model.blocks]
    with torch.no_grad():
        entry = projected.projected(x, layers[1].schedule.calls[0], last=True)
        assert isinstance(entry, Projected)
        for lag, product in enumerate(entry.products):
            torch.testing.assert_close(product, x @ layers[1 + lag].A[lag].weight.T, rtol=1e-12, atol=1e-12)
