"""What single operators count as: products, elementwise work, reductions, bytes, and what no rule knows."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from laurel_cli.cost.count import count
from laurel_cli.cost.quick import FakeAnswers
from laurel_cli.models.inputs import Inputs


class Calls(nn.Module):
    """A module from a function, for operators that no module wraps."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


def of(function, *tensors):
    return count(Calls(function).eval(), Inputs(tensors), saved=False)


@pytest.mark.parametrize("mask", [None, "causal", "given"])
def test_attention(mask: str | None) -> None:
    query, key, value = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 16)
    bias = torch.zeros(5, 7) if mask == "given" else None
    cost = of(
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=mask == "causal"),
        query, key, value,
    )  # fmt: skip
    assert cost.macs == 2 * 3 * (5 * 7 * 8 + 5 * 7 * 16)


@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        (lambda a, b: a @ b, [(3, 4), (4, 5)], 60),
        (lambda a, b: a @ b, [(2, 3, 4), (4, 5)], 120),
        (lambda a, b: a @ b, [(3, 4), (4,)], 12),
        (lambda a, b: a @ b, [(4,), (4,)], 4),
        (lambda a, b: torch.einsum("bij,bjk->bik", a, b), [(2, 3, 4), (2, 4, 5)], 120),
        (lambda c, a, b: torch.baddbmm(c, a, b), [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 120),
        (lambda c, a, b: torch.addmv(c, a, b), [(3,), (3, 4), (4,)], 12),
    ],
)
def test_products(function, shapes, macs) -> None:
    assert of(function, *(torch.randn(shape) for shape in shapes)).macs == macs


def test_grouped_products() -> None:
    a, b, ends = torch.randn(6, 8), torch.randn(3, 8, 16), torch.tensor([1, 4, 6], dtype=torch.int32)
    cost = of(lambda a, b: torch._grouped_mm(a.bfloat16(), b.bfloat16(), offs=ends), a, b)
    assert cost.macs == 6 * 8 * 16


def test_batch_norm_has_the_shapes_of_the_real_operator() -> None:
    x, ones = torch.randn(2, 5, 4, 4).to(memory_format=torch.channels_last), torch.ones(5)
    for training in (True, False):

        def call(x, ones, training=training):
            return torch.ops.aten.native_batch_norm(x, ones, ones, ones.clone(), ones.clone(), training, 0.1, 1e-5)

        with FakeTensorMode() as mode:
            fakes = mode.from_tensor(x), mode.from_tensor(ones)
            plain = call(*fakes)
            with FakeAnswers():
                quick = call(*fakes)
        shapes = [[(tuple(t.shape), t.stride(), t.dtype) for t in found] for found in (call(x, ones), plain, quick)]
        assert shapes[0] == shapes[1] == shapes[2]


X = torch.randn(2, 3, 4)


@pytest.mark.parametrize(
    ("function", "operations"),
    [
        (lambda x: x + 1, 24),
        (lambda x: x + x, 24),
        (lambda x: torch.add(x, x, alpha=2), 48),
        (lambda x: torch.sub(x, x, alpha=0.5), 48),
        (lambda x: torch.addcmul(x, x, x), 48),
        (lambda x: torch.addcmul(x, x, x, value=3), 72),
        (lambda x: torch.lerp(x, x, 0.5), 72),
        (lambda x: x * torch.ones(4), 24),
        (lambda x: x.clone().add_(1), 24),
        (lambda x: x.clone().mul_(x), 24),
        (lambda x: functional.gelu(x), 24),
        (lambda x: functional.hardswish(x.clone(), inplace=True), 24),
        (lambda x: functional.silu(x.clone(), inplace=True), 24),
        (lambda x: x.clone().masked_fill_(x > 0, 0.0), 48),
        (lambda x: torch.where(x > 0, x, 0.0), 48),
        (lambda x: x.transpose(1, 2).reshape(-1), 0),
        (lambda x: x.to(torch.float64), 0),
        (lambda x: torch.cat([x, x]), 0),
        (lambda x: x.sum(0), 0),
    ],
)
def test_elementwise(function, operations) -> None:
    cost = of(function, X)
    assert cost.elementwise_flops == operations
    assert cost.flops == 0
    assert cost.uncounted == ()


@pytest.mark.parametrize(
    ("function", "operations"),
    [
        (lambda x: x.sum(0), 24),
        (lambda x: x.softmax(-1), 5 * 24),
        (lambda x: functional.layer_norm(x, (4,)), 6 * 24),
        (lambda x: functional.layer_norm(x, (4,), torch.ones(4), torch.ones(4)), 8 * 24),
        (lambda x: functional.max_pool2d(x[None], 2), 4 * (2 * 1 * 2)),
    ],
)
def test_reductions(function, operations) -> None:
    cost = of(function, X)
    assert (cost.reduction_flops, cost.elementwise_flops, cost.uncounted) == (operations, 0, ())


INDICES = torch.tensor([0, 1])


def test_views_move_nothing() -> None:
    cost = of(lambda x: x.view(6, 4).t()[1:].unsqueeze(0).expand(5, -1, -1).detach(), X)
    assert (cost.kernels, cost.bytes_moved) == (0, 0)


@pytest.mark.parametrize(
    ("function", "moved"),
    [
        (lambda x: x * x, 2 * 96),  # one tensor, read once
        (lambda x: x + x.clone(), 5 * 96),
        (lambda x: x.clone().add_(1), 4 * 96),
        (lambda x: torch.empty_like(x).fill_(1), 96),  # written, never read
        (lambda x: torch.empty_like(x).copy_(x), 2 * 96),
        (lambda x: x[:1].expand(2, 3, 4) + 1, 48 + 96),  # broadcast: as far as it is memory
        (lambda x: x.flatten()[INDICES], 16 + 2 * 8),  # the indices, and what they point at, twice
    ],
)
def test_bytes_moved(function, moved) -> None:
    assert of(function, X).bytes_moved == moved


def test_what_no_rule_knows_is_said() -> None:
    cost = of(lambda x: torch.fft.rfft(x).real.exp() + torch.fft.fft(x).real[..., :3], X)
    assert dict(cost.uncounted) == {"aten._fft_r2c": 2}
    assert 0 < cost.coverage < 1
