"""Kinds of models that once were found, counted or replaced wrongly: each with what is right, derived by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

D = 8


@dataclass(frozen=True)
class Kind:
    """A model and what is right.

    Attributes:
        make: builds it; `shape` of its input.
        connections: in all; `projections` of them, None where either kind is right.
        layers: LAuReL layers that stand for them; 0 where none can be replaced.
        reason: words of the reason why none can.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    connections: int
    projections: int | None
    layers: int
    reason: str = ""


KINDS: dict[str, Kind] = {}


def kind(
    shape: tuple[int, ...],
    connections: int,
    projections: int | None = 0,
    layers: int | None = None,
    *,
    reason: str = "",
) -> Callable[[Any], Any]:
    def register(make: Any) -> Any:
        KINDS[make.__name__] = Kind(
            make, shape, connections, projections, connections if layers is None else layers, reason
        )
        return make

    return register


def branch() -> nn.Module:
    return nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 12), nn.GELU(), nn.Linear(12, D))


class Block(nn.Module):
    """x + s f(x); the factor keeps deep stacks from growing."""

    def __init__(self) -> None:
        super().__init__()
        self.f = branch()

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.3 * self.f(x)


class Stack(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


# ---------------------------------------------------------------- deep stacks: shared, alternating, in parallel lists

TOKENS = (1, 8, D)


class Windowed(Block):
    """The layer's number says how many tokens mix."""

    def __init__(self, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        size = 4 if self.layer_idx % 2 else tokens
        parts = x.view(batch * (tokens // size), size, width)
        mixed = torch.softmax(parts @ parts.mT, -1) @ parts
        return x + 0.3 * self.f(mixed.view_as(x))


@kind(TOKENS, 11)
def steered_by_the_number() -> nn.Module:
    return Stack(*(Windowed(number) for number in range(11)))


@kind(TOKENS, 10, layers=1)
def one_module_ten_times() -> nn.Module:
    return Stack(*[Block()] * 10)


@kind(TOKENS, 10, layers=2)
def two_modules_in_turn() -> nn.Module:
    return Stack(*[Block(), Block()] * 5)


@kind(TOKENS, 10, layers=2)
def two_halves() -> nn.Module:
    return Stack(*[Block()] * 5, *[Block()] * 5)


@kind(TOKENS, 10)
def weights_tied_in_pairs() -> nn.Module:
    """Ten modules, five sets of weights: a LAuReL for each module, whose own parameters nobody tied."""
    blocks = [Block() for _ in range(10)]
    for one, other in zip(blocks[::2], blocks[1::2], strict=True):
        other.f[1].weight, other.f[3].weight = one.f[1].weight, one.f[3].weight  # type: ignore[index,union-attr]
    return Stack(*blocks)


@kind(TOKENS, 10)
def the_root_is_the_container() -> nn.Module:
    return nn.Sequential(*(Block() for _ in range(10)))


@kind(TOKENS, 10)
class ParallelLists(nn.Module):
    """Norms and branches stand in two lists; the parent adds."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(10))
        self.branches = nn.ModuleList(nn.Linear(D, D) for _ in range(10))

    def forward(self, x: Tensor) -> Tensor:
        for norm, branch in zip(self.norms, self.branches, strict=True):
            x = x + torch.tanh(branch(norm(x)))
        return x


# ---------------------------------------------------------------- skips within skips, more than one stream

BATCH = (2, 5, D)


class ScaledSkip(Block):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(D))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.f(x)


@kind(BATCH, 4)
class WithinALongSkip(nn.Module):
    """The skips are scaled by parameters, and all of them stand within a long one."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ScaledSkip() for _ in range(3))
        self.out = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        start = x
        for block in self.blocks:
            x = block(x)
        return start + self.out(x)


@kind(BATCH, 5)
class MixedWithTheFirstState(nn.Module):
    """Before each block but the first the stream is mixed with its first state, by learned scalars."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(D, D)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.keep, self.first = nn.Parameter(torch.ones(3)), nn.Parameter(torch.full((3,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        x = start = self.embed(x)
        for number, block in enumerate(self.blocks):
            if number:
                x = self.keep[number] * x + self.first[number] * start
            x = block(x)
        return x


@kind(BATCH, 2)
class LearnedQueries(nn.Module):
    """The first skip is a parameter, one for the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.f, self.g = nn.Parameter(torch.randn(1, 4, D)), branch(), branch()

    def read(self, queries: Tensor, x: Tensor) -> Tensor:
        return torch.softmax(queries @ x.mT, -1) @ x

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(x)
        q = self.queries + self.f(self.read(self.queries, x))
        return q + self.g(self.read(q, x))


@kind(BATCH, 4)
class QueriesWithPositionsAndNormsAfter(LearnedQueries):
    """DETR's decoder: the first cross-attention's skip has seen no input yet, and positions are added to it before.

    Of two layers of self-attention, cross-attention and feed-forward (here without it) all are connections, but the
    first self-attention, which no input reaches. The positions, added in every layer, are no skip: 2 * 2 - 1 and the
    last feed-forward.
    """

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(D, D) for _ in range(8))
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x, positions = torch.tanh(x), self.queries.expand(len(x), -1, -1)
        q = torch.zeros_like(positions)
        for layer in range(2):
            a, b, c, d = self.maps[4 * layer : 4 * layer + 4]
            q = self.norms[2 * layer](q + a(self.read(b(q + positions), q)))
            q = self.norms[2 * layer + 1](q + c(self.read(d(q + positions), x)))
        return q + self.g(q)


@kind(BATCH, 1)
class StraightThrough(nn.Module):
    """x + (codes - x).detach() is no residual connection, the sum after it is one."""

    def __init__(self) -> None:
        super().__init__()
        self.codes, self.f = nn.Embedding(16, D), branch()

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x.flatten(0, 1), self.codes.weight).argmin(-1).view(x.shape[:-1])
        q = x + (self.codes(nearest) - x).detach()
        return q + self.f(q)


@kind(BATCH, 2)
class LooksAtItsData(nn.Module):
    """Run for real, then: the encoder layer's fused path must be off there too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            x = x * 2
        return self.layer(x)


@kind(BATCH, 3)
class Reentrant(Stack):
    """A reentrant checkpoint around each module that adds."""

    def __init__(self) -> None:
        super().__init__(*(Block() for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=True)
        return x


@kind(BATCH, 4)
class SeveralCheckpoints(nn.Module):
    """Around a module, a method, a function of the method, and a sum of the method itself; two of them reentrant."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.f, self.g, self.h = Block(), branch(), branch(), branch()

    def step(self, x: Tensor) -> Tensor:
        return x + self.f(x)

    def forward(self, x: Tensor) -> Tensor:
        def inner(y: Tensor) -> Tensor:
            return y + self.g(y)

        x = checkpoint(self.block, x, use_reentrant=True)
        x = checkpoint(self.step, x, use_reentrant=False)
        x = checkpoint(inner, x, use_reentrant=True)
        return x + checkpoint(self.h, x, use_reentrant=False)


# ---------------------------------------------------------------- found, and told how to write them

CANNOT = {"layers": 0}


class ByLerp(Block):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.lerp(x, self.f(x), 0.5)


class ByStack(Block):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x, self.f(x)]).sum(0)


def _scripted(x: Tensor, y: Tensor) -> Tensor:
    return x + F.dropout(y, 0.0, False)


class ByScript(Block):
    def __init__(self) -> None:
        super().__init__()
        self.add = torch.jit.script(_scripted)

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.f(x))


@kind(BATCH, 2, **CANNOT, reason="lerp")
def interpolated() -> nn.Module:
    return Stack(ByLerp(), ByLerp())


@kind(BATCH, 2, **CANNOT, reason="stack")
def stacked() -> nn.Module:
    return Stack(ByStack(), ByStack())


@kind(BATCH, 2, **CANNOT, reason="TorchScript")
def scripted() -> nn.Module:
    return Stack(ByScript(), ByScript())


# ---------------------------------------------------------------- linear skips

SIGNAL, IMAGE = (2, D, 16), (2, D, 8, 8)


class Shortcut(nn.Module):
    """branch(x) + skip(x), then a ReLU."""

    def __init__(self, branch: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.branch, self.skip = branch, skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.branch(x) + self.skip(x))


def _padded(mode: str) -> nn.Module:
    conv = nn.Conv1d(D, D, 3, padding=1)
    return Shortcut(
        nn.Sequential(conv, nn.ReLU(), nn.Conv1d(D, D, 1)), nn.Conv1d(D, D, 3, padding=1, padding_mode=mode)
    )


@kind(SIGNAL, 1, 1)
def padded_by_reflection() -> nn.Module:
    return _padded("reflect")


@kind(SIGNAL, 1, 1)
def padded_by_replication() -> nn.Module:
    return _padded("replicate")


@kind(SIGNAL, 1, 1)
def padded_in_a_circle() -> nn.Module:
    return _padded("circular")


class Resized(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.pre, self.up = nn.Sequential(nn.Conv1d(D, D, 1), nn.ReLU()), nn.ConvTranspose1d(D, D, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.pre(x)) + F.interpolate(x, scale_factor=2, mode=self.mode)


@kind(SIGNAL, 1, 1)
def resized_to_the_nearest() -> nn.Module:
    return Resized("nearest-exact")


@kind(SIGNAL, 1, 1)
def resized_linearly() -> nn.Module:
    return Resized("linear")


@kind(IMAGE, 1, 1)
class TwoHalvesSideBySide(nn.Module):
    """Strided convolutions of the image and of the image moved by a pixel make the skip."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(D, D, 3, 1, 1), nn.ReLU(), nn.Conv2d(D, D, 3, 2, 1))
        self.a, self.b = nn.Conv2d(D, 4, 1, 2, bias=False), nn.Conv2d(D, 4, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(D)

    def forward(self, x: Tensor) -> Tensor:
        moved = F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
        return torch.relu(self.branch(x) + self.norm(torch.cat([self.a(x), self.b(moved)], 1)))


@kind(IMAGE, 1, 1)
class Unshuffled(nn.Module):
    """A linear branch beside a skip without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(D, 4, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.pixel_unshuffle(x, 2).unflatten(1, (-1, 2)).mean(2)
        return torch.relu(F.pixel_unshuffle(self.conv(x), 2) + skip)


@kind(IMAGE, 1, None)
class RepeatedChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(D, 16, 3, 1, 1), nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)) + x.repeat(1, 2, 1, 1))


class SpectrallyPooled(nn.Module):
    """The skip keeps the low frequencies of the image."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x)[..., [0, 1, -2, -1], :3], s=(4, 4))


class Warped(nn.Module):
    """The skip is sampled on a grid that does not depend on it."""

    def forward(self, x: Tensor) -> Tensor:
        turn = torch.tensor([[[0.8, 0.6, 0.0], [-0.6, 0.8, 0.0]]], dtype=x.dtype).expand(len(x), 2, 3)
        return F.grid_sample(x, F.affine_grid(turn, (len(x), D, 4, 4), align_corners=False), align_corners=False)


def _strided() -> nn.Module:
    return nn.Sequential(nn.Conv2d(D, D, 3, 2, 1), nn.ReLU(), nn.Conv2d(D, D, 3, 1, 1))


@kind(IMAGE, 1, 1)
def pooled_by_frequency() -> nn.Module:
    return Shortcut(_strided(), SpectrallyPooled())


@kind(IMAGE, 1, 1)
def sampled_on_a_grid() -> nn.Module:
    return Shortcut(_strided(), Warped())


class SampledWhereItSays(nn.Module):
    """Where the image is sampled follows from the image: not linear."""

    def forward(self, x: Tensor) -> Tensor:
        grid = F.interpolate(x[:, :2], scale_factor=0.5).permute(0, 2, 3, 1)
        return F.grid_sample(torch.ones_like(x), grid, align_corners=False)


def sampled_where_it_says() -> nn.Module:
    return Shortcut(_strided(), SampledWhereItSays())


# ---------------------------------------------------------------- a step towards f(x)


class StepByAlpha(Block):
    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.f(x) - x, alpha=0.5)


class StepByFactor(Block):
    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.full((D,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(x, self.f(x) - x, self.step)


@kind(BATCH, 4)
def steps_by_one_operator() -> nn.Module:
    """x + s (f(x) - x) takes a part of the skip away again, no straight-through estimator all of it."""
    return Stack(StepByAlpha(), StepByFactor(), StepByAlpha(), StepByFactor())


# ---------------------------------------------------------------- complex numbers


class Rotates(Block):
    def forward(self, z: Tensor) -> Tensor:
        return z + torch.complex(self.f(z.real), self.f(z.imag))


@kind(BATCH, 2, **CANNOT, reason="complex")
class ComplexStream(Stack):
    def __init__(self) -> None:
        super().__init__(Rotates(), Rotates())

    def forward(self, x: Tensor) -> Tensor:
        return torch.view_as_real(super().forward(torch.complex(x, 0.5 * x)))
