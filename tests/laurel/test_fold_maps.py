"""Low-rank maps within a branch's own maps: equal to the formula, and only where nothing else would change."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import laurel_cli as laurel
from laurel_cli.laurel.fold_layer import FoldedSum
from laurel_cli.laurel.fold_maps import ALONE, First, Last, merge_maps
from laurel_cli.laurel.fold_norms import merge_norms
from laurel_cli.models.inputs import as_inputs

D = 8
SPOILS = ["pre-norm", "read", "twice", "shared", "looked into", "changed", "hooked", "patched"]


class Bottleneck(nn.Module):
    """Three convolutions; `project` makes the skip by another one, before or after them."""

    def __init__(self, project: str = "", bias: bool = True) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(D, 4, 1, bias=bias), nn.Conv2d(4, 4, 3, padding=1)
        self.three, self.project = nn.Conv2d(4, D, 1, bias=bias), project
        self.aside = nn.Conv2d(D, D, 1) if project else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.aside(x) if self.project == "before" else x
        f = self.three(torch.relu_(self.two(torch.relu_(self.one(x)))))
        if self.project == "after":
            y = self.aside(x)
        f += y
        return torch.relu(f)


class FeedForward(nn.Module):
    """As in a post-norm transformer; `spoil` lets something else have a part in it."""

    def __init__(self, spoil: str = "") -> None:
        super().__init__()
        self.one, self.two, self.norm, self.spoil = nn.Linear(D, 16), nn.Linear(16, D), nn.LayerNorm(D), spoil
        if spoil == "shared":
            self.other = nn.Linear(D, 16)
            self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        read = self.norm(x) if self.spoil == "pre-norm" else x
        if self.spoil == "looked into":
            read = read if self.one.weight.shape else x
        f = self.two(torch.nn.functional.gelu(self.one(read)))
        f = f.mul_(f.sigmoid()) if self.spoil == "changed" else f
        y = self.norm(x + f)
        if self.spoil == "read":
            y = y * f
        if self.spoil == "twice":
            y = y * self.one(y).mean()
        return y * self.other(y).mean() if self.spoil == "shared" else y


def folded(model: nn.Module, x: Tensor, arm: str = "rw+lr@2") -> tuple[nn.Module, nn.Module]:
    """A model whose LAuReL has learned something, and its folded copy, in float64."""
    model = laurel.apply(model.double().eval(), arm, x)
    with torch.no_grad():
        for parameter in laurel.parameters(model):
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model, laurel.fold(model, x)


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, D, 5, 6, dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("project", ["", "before", "after"])
def test_a_bottleneck_takes_them(project: str, memory: torch.memory_format, batch: int, bias: bool) -> None:
    x = images(batch).to(memory_format=memory)
    model, done = folded(Bottleneck(project, bias), x)
    expected = model(x)
    one, three = done.one.weight.clone(), done.three.weight.clone()
    projection = copy.deepcopy(done.aside)  # b is in it
    (total,) = (module for module in done.modules() if isinstance(module, FoldedSum))
    down, up, b = total.A[0].weight.clone(), total.B.weight.clone(), float(total.alpha)
    assert merge_maps(done, as_inputs(x, done)) == ["laurel0"]
    torch.testing.assert_close(done(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(done(x.flip(0)), model(x.flip(0)), rtol=1e-12, atol=1e-12)
    tall = torch.randn(D, 40, 6, dtype=torch.float64)  # without a batch: its rows are no channels
    torch.testing.assert_close(done(tall), model(tall), rtol=1e-12, atol=1e-12)
    if project:  # written out: what the projection makes, and B A times it, by one map of its size
        whole = torch.eye(D, dtype=torch.float64) + up.flatten(1) @ down.flatten(1)
        assert (b, total.form, total.within, total.is_plain) == (1, "f + x", False, True)
        torch.testing.assert_close(done.aside.weight[..., 0, 0], whole @ projection.weight[..., 0, 0])
        torch.testing.assert_close(done.aside.bias, whole @ projection.bias)
        assert torch.equal(done.one.weight, one)
        assert torch.equal(done.three.weight, three)
        return
    assert (total.form, total.within) == (f"f + {'b ' if b != 1 else ''}x (B A x in f)", True)
    # Written out: A below the first map's weights; B beside the last one's.
    torch.testing.assert_close(done.one.map.weight, torch.cat((one, down)))
    torch.testing.assert_close(done.three.map.weight, torch.cat((three, up), 1))


class Projected(nn.Module):
    """A skip that a convolution of another size makes; `spoil` lets something else read it, or be it."""

    def __init__(self, spoil: str = "") -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(D, 4, 1), nn.Conv2d(4, D, 3, padding=1, stride=2)
        self.aside, self.spoil = nn.Conv2d(D, D, 3, padding=1, stride=2, groups=2 if spoil == "groups" else 1), spoil
        self.last = nn.Conv2d(D, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        f, y = self.two(torch.relu(self.one(x))), self.aside(x)
        if self.spoil == "behind":
            y = 2 * y
        total = y + f
        if self.spoil == "read":
            total = total * y.sigmoid()
        total = self.last(total)
        if self.spoil == "mask":
            return total, y > 0
        return (total, y.argmax(1)) if self.spoil == "index" else total


def test_a_projection_of_any_kernel_and_stride_takes_them() -> None:
    x = images()
    model, done = folded(Projected(), x)
    assert merge_maps(done, as_inputs(x, done)) == ["laurel0"]
    plain = laurel.remove(copy.deepcopy(model))
    assert sum(p.numel() for p in done.parameters()) == sum(p.numel() for p in plain.parameters())
    torch.testing.assert_close(done(x), model(x), rtol=1e-12, atol=1e-12)


def test_vectors_and_b_that_could_not_be_folded_go_with_them() -> None:
    x = images()
    _, done = folded(Projected(), x, laurel.Spec(rw=True, lr=True, rank=2, vector_weights=True))
    (total,) = (module for module in done.modules() if isinstance(module, FoldedSum))
    total.alpha = torch.rand(D, dtype=torch.float64)
    total._read_numbers()
    expected = done(x)
    assert merge_maps(done, as_inputs(x, done)) == ["laurel0"]
    torch.testing.assert_close(done(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spoil", ["read", "groups", "behind", "bfloat16", "shared", "twice", "mask", "index"])
def test_a_projection_with_more_to_it_stays(spoil: str) -> None:
    x = images()
    _, done = folded(Projected(spoil), x)
    if spoil == "bfloat16":  # what is learned would be rounded away beside what the projection makes
        x, done = x.bfloat16(), done.bfloat16()
    if spoil == "shared":
        done.other = nn.Conv2d(D, D, 3)
        done.other.weight = done.aside.weight
    if spoil == "twice":
        inner = type(done).forward
        done.forward = lambda x: inner(done, x) + done.aside(x).mean()
    expected = done(x)
    assert merge_maps(done, as_inputs(x, done)) == []
    torch.testing.assert_close(done(x), expected, rtol=0, atol=0)


def test_a_post_norm_feed_forward_part_takes_them() -> None:
    x = torch.randn(3, 5, D, dtype=torch.float64)
    model, done = folded(FeedForward(), x)
    assert len(merge_maps(done, as_inputs(x, done))) == 1
    assert isinstance(done.one, First)
    assert isinstance(done.two, Last)
    torch.testing.assert_close(done(x), model(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_would_change_something_else_stays(spoil: str) -> None:
    x = torch.randn(3, 5, D, dtype=torch.float64)
    _, done = folded(FeedForward(spoil), x, "lr@2")  # which leaves f to whoever reads it
    assert any(isinstance(module, FoldedSum) for module in done.modules())
    if spoil == "hooked":
        done.one.register_forward_hook(lambda module, args, output: 2 * output)
    if spoil == "patched":
        done.two.forward = lambda x: nn.Linear.forward(done.two, x) + 1
    expected = done(x)
    assert merge_maps(done, as_inputs(x, done)) == []
    assert torch.equal(done(x), expected)
    assert not any(isinstance(module, First | Last) for module in done.modules())


def test_a_history_keeps_its_maps() -> None:
    x = images()
    _, done = folded(nn.Sequential(Bottleneck(), Bottleneck()), x, "rw+lr+pa@2")
    assert merge_maps(done, as_inputs(x, done)) == []


def test_a_resnet_has_no_map_of_its_own_left() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    plain = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [2, 1, 1, 2], num_classes=10)
    with torch.no_grad():
        for module in plain.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    model, done = folded(plain, x, "rw+lr@4")
    merge_norms(done, as_inputs(x, done))
    assert len(merge_maps(done, as_inputs(x, done))) == 6
    totals = [module for module in done.modules() if isinstance(module, FoldedSum)]
    assert sum(total.is_plain and not total.within for total in totals) == 4  # in the projections of its stages
    assert laurel_error(done(x), model(x)) < 1e-10


def laurel_error(ours: Tensor, expected: Tensor) -> float:
    return float((ours - expected).abs().max() / expected.abs().max())


@pytest.fixture
def pair() -> tuple[nn.Module, nn.Module, Tensor]:
    x = images()
    model, done = folded(nn.Sequential(Bottleneck(), Bottleneck("after")), x)
    assert len(merge_maps(done, as_inputs(x, done))) == 2
    return model, done, x


def test_copies_and_threads_have_their_own(pair: Any) -> None:
    model, done, x = pair
    twin = copy.deepcopy(done)
    assert twin[0].one.hand is twin[0].three.hand is not done[0].one.hand
    found: dict[int, Tensor] = {}

    def run(number: int) -> None:
        with torch.no_grad():
            for _ in range(20):
                found[number] = (done if number % 2 else twin)(x + number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, output in found.items():
        torch.testing.assert_close(output, model(x + number), rtol=1e-12, atol=1e-12)


def test_the_last_map_alone_says_what_it_lacks(pair: Any) -> None:
    _, done, x = pair
    with pytest.raises(RuntimeError, match=ALONE):
        done[0].three(x[:, :4])


def test_it_is_exported(pair: Any) -> None:
    model, done, x = pair
    program = torch.export.export(done, (x,), strict=False).module()
    torch.testing.assert_close(program(x + 1), model(x + 1), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_it_compiles_in_one_graph(pair: Any) -> None:
    model, done, x = pair
    torch._dynamo.reset()
    compiled = torch.compile(done, fullgraph=True)
    with torch.no_grad():
        for given in (x, x + 1):
            torch.testing.assert_close(compiled(given), model(given), rtol=1e-9, atol=1e-9)


def test_it_is_saved_and_opened(pair: Any, tmp_path: Any) -> None:
    model, done, x = pair
    other = copy.deepcopy(done)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    torch.save(done.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt"))
    torch.testing.assert_close(other(x), model(x), rtol=1e-12, atol=1e-12)
