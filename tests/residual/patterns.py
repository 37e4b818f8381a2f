"""Hand-made small modules, one for each way to write a residual connection or something that only looks like one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

D = 8
TOKENS = (2, 5, D)
IMAGE = (2, D, 6, 6)


@dataclass(frozen=True)
class Pattern:
    """A module, what to call it with, and its connections as "name kind", e.g. "layer.0:1 identity"."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    expected: tuple[str, ...]
    applies: bool
    exact: bool
    layers: int

    @property
    def name(self) -> str:
        return self.make.__name__


PATTERNS: list[Pattern] = []


def tokens() -> tuple[Tensor, ...]:
    return (_stream(0, TOKENS),)


def two_sequences() -> tuple[Tensor, ...]:
    return _stream(0, TOKENS), _stream(1, (2, 7, D))


def image() -> tuple[Tensor, ...]:
    return (_stream(0, IMAGE),)


def ids() -> tuple[Tensor, ...]:
    return (torch.arange(10).reshape(2, 5),)


def _stream(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def has(
    *expected: str,
    inputs: Callable[[], tuple[Any, ...]] = tokens,
    applies: bool = True,
    exact: bool = True,
    layers: int | None = None,
) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Register a module class as a pattern.

    Args:
        expected: its connections.
        inputs: makes what it is called with.
        applies: false where the additions are found but cannot be rewritten.
        exact: false where RW at the start equals the baseline to rounding only: another order of three terms, or
            the fused multiply-add of `addcmul` taken apart.
        layers: LAuReL layers, where a module that is called again shares its own.
    """

    def register(made: type[nn.Module]) -> type[nn.Module]:
        PATTERNS.append(Pattern(made, inputs, expected, applies, exact, layers or len(expected)))
        return made

    return register


def mlp(width: int = D) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


def conv(width: int = D) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))


class Attention(nn.Module):
    """Self-attention or, with a second sequence, cross-attention."""

    def __init__(self, width: int = D, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        memory = x if memory is None else memory

        def split(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.q(x)), split(self.k(memory)), split(self.v(memory))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).flatten(2))


class Two(nn.Module):
    """Two branches, an attention and an MLP, and their norms."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.attn, self.mlp = Attention(), mlp()


# ---------------------------------------------------------------- where the norm stands


@has("(root):0 identity", "(root):1 identity")
class PreNorm(Two):
    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@has("(root):0 identity", "(root):1 identity")
class PostNorm(Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attn(x))
        return self.norm2(x + self.mlp(x))


@has("(root):0 identity", "(root):1 identity")
class SandwichNorm(Two):
    def __init__(self) -> None:
        super().__init__()
        self.norm3, self.norm4 = nn.LayerNorm(D), nn.LayerNorm(D)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm3(self.attn(self.norm1(x)))
        return x + self.norm4(self.mlp(self.norm2(x)))


@has("(root):0 identity", "(root):1 identity")
class BranchFirst(Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.attn(self.norm1(x)) + x
        return self.mlp(self.norm2(x)) + x


@has("(root):0 identity", "(root):1 identity")
class KeptInAVariable(Two):
    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        x = self.norm1(x)
        x = self.attn(x)
        x = shortcut + x
        shortcut = x
        x = self.norm2(x)
        x = self.mlp(x)
        return shortcut + x


@has("blocks.0:0 identity", "blocks.0:1 identity", "blocks.1:0 identity", "blocks.1:1 identity")
class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(PreNorm(), PreNorm())

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


# ---------------------------------------------------------------- parallel branches, in every order of the sum


@has("(root):0 identity", exact=False)
class SkipThenBranches(Two):
    def forward(self, x: Tensor) -> Tensor:
        return (x + self.attn(self.norm1(x))) + self.mlp(self.norm1(x))


@has("(root):0 identity", exact=False)
class BranchesAroundTheSkip(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.attn(self.norm1(x)) + (x + self.mlp(self.norm1(x)))


@has("(root):0 identity")
class BranchesThenSkip(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.attn(self.norm1(x)) + self.mlp(self.norm1(x)) + x


@has("(root):0 identity")
class SkipAndTheSumOfBranches(Two):
    def forward(self, x: Tensor) -> Tensor:
        return x + (self.attn(self.norm1(x)) + self.mlp(self.norm1(x)))


@has("(root):0 identity", exact=False)
class ParallelInStatements(Two):
    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        a = self.attn(h)
        b = self.mlp(h)
        y = x + a
        y = y + b
        return y  # noqa: RET504


@has("(root):0 identity")
class ParallelInPlace(Two):
    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        y = self.attn(h)
        y += self.mlp(h)
        y += x
        return y


@has("(root):0 identity")
class ParallelBranchesFirstInStatements(Two):
    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        y = self.mlp(h) + self.attn(h)
        return y + x


@has("(root):0 identity")
class ParallelOwnNorms(Two):
    """GPT-NeoX: each branch has a norm of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm2(x)) + self.attn(self.norm1(x)) + x


@has("(root):0 identity", exact=False)
class ThreeBranches(Two):
    def __init__(self) -> None:
        super().__init__()
        self.third = mlp()

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        return x + self.attn(h) + self.mlp(h) + self.third(h)


@has("(root):0 identity", exact=False)
class ThreeBranchesSkipInTheMiddle(Two):
    def __init__(self) -> None:
        super().__init__()
        self.third = mlp()

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        return self.attn(h) + self.mlp(h) + x + self.third(h)


@has("(root):0 identity", inputs=image)
class ParallelConvolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(), conv()

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x) + x


@has("(root):0 identity", inputs=image, exact=False)
class LinearBranchBesideANonlinearOne(nn.Module):
    """One of the two branches is a single convolution: still one sum with one skip."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(D, D, 3, padding=1), conv()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.a(x) + self.b(x)


# ---------------------------------------------------------------- projection shortcuts


class BasicBlock(nn.Module):
    def __init__(self, inside: int = D, outside: int = 2 * D, stride: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)

    def shortcut(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return F.relu(y)


@has("(root):0 projection", inputs=image)
class ConvShortcut(BasicBlock):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(D, 2 * D, 1, 2, bias=False), nn.BatchNorm2d(2 * D))

    def shortcut(self, x: Tensor) -> Tensor:
        return self.down(x)


@has("(root):0 projection", inputs=image)
class PoolAndConvShortcut(BasicBlock):
    """ResNet-D."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(D, 2 * D, 1, bias=False), nn.BatchNorm2d(2 * D))

    def shortcut(self, x: Tensor) -> Tensor:
        return self.down(x)


@has("(root):0 identity", inputs=image)
class OptionAShortcut(BasicBlock):
    """The CIFAR ResNet without parameters: every other pixel, and zeros for the new channels."""

    def shortcut(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, D // 2, D // 2))


@has("(root):0 projection", inputs=image)
class PooledShortcut(nn.Module):
    """Pooling alone makes room for a smaller image."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(D, D, 3, 2, 1), nn.ReLU(), nn.Conv2d(D, D, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x) + F.avg_pool2d(x, 2)


@has("(root):0 projection")
class LinearShortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Linear(D, 12), nn.ReLU(), nn.Linear(12, 12))
        self.down = nn.Linear(D, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x) + self.down(x)


@has("(root):0 identity", inputs=image)
class PreActivation(nn.Module):
    """ResNet v2: norm and activation come before the convolutions, nothing after the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(D)
        self.conv1, self.conv2 = nn.Conv2d(D, D, 3, padding=1), nn.Conv2d(D, D, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(self.bn(x)))))


# ---------------------------------------------------------------- scaled branches, dropped branches


@has("(root):0 identity")
class ScaledBranch(Two):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.17 * self.mlp(x)


@has("(root):0 identity")
class ScaledSum(Two):
    def forward(self, x: Tensor) -> Tensor:
        return (x + self.mlp(self.norm1(x))) * 0.5**0.5


@has("(root):0 identity")
class ScaledSkip(Two):
    """DeepNorm: a constant before the skip."""

    def forward(self, x: Tensor) -> Tensor:
        return self.norm1(x * 1.3 + self.mlp(x))


@has("(root):0 identity")
class LayerScale(Two):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((D,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.mlp(self.norm1(x))


@has("(root):0 identity")
class ReZero(Two):
    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.alpha * self.mlp(x)


@has("(root):0 identity", exact=False)
class Addcmul(Two):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((D,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(x, self.mlp(self.norm1(x)), self.gamma)


@has("(root):0 identity", exact=False)
class AddcmulGammaFirstWithValue(Two):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((D,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x.addcmul(self.gamma, self.mlp(self.norm1(x)), value=0.5)


class DropPath(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) > 0.5
        return x * keep / 0.5


@has("(root):0 identity", "(root):1 identity")
class StochasticDepth(Two):
    def __init__(self) -> None:
        super().__init__()
        self.drop = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attn(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


@has("(root):0 identity")
class BranchDropout(Two):
    def forward(self, x: Tensor) -> Tensor:
        return x + F.dropout(self.mlp(self.norm1(x)), 0.1, self.training)


# ---------------------------------------------------------------- other ways to write the addition


@has("(root):0 identity")
class TorchAdd(Two):
    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.mlp(self.norm1(x)))


@has("(root):0 identity")
class TorchAddAlpha(Two):
    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.mlp(self.norm1(x)), alpha=0.25)


@has("(root):0 identity")
class TorchAddKeywords(Two):
    def forward(self, x: Tensor) -> Tensor:
        return torch.add(input=self.mlp(self.norm1(x)), other=x)


@has("(root):0 identity")
class MethodAdd(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm1(x)).add(x)


@has("(root):0 identity")
class AugmentedAdd(Two):
    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm1(x))
        y += x
        return y


@has("(root):0 identity")
class AugmentedSkip(Two):
    def forward(self, x: Tensor) -> Tensor:
        x = x * 1.0
        x += self.mlp(self.norm1(x))
        return x


@has("(root):0 identity")
class MethodInPlace(Two):
    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm1(x))
        y.add_(x)
        return y


@has("(root):0 identity")
class MethodInPlaceInAnExpression(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.mlp(self.norm1(x)).add_(x))


@has("(root):0 identity", applies=False)
class InPlaceResultUnderTwoNames(Two):
    """The sum is written into `y` and read from there, not from the expression."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm1(x))
        z = y.add_(x)
        return self.norm2(y) * z


@has("(root):0 identity", applies=False)
class InPlaceIntoAnAlias(Two):
    """Both names of the tensor see the sum."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm1(x))
        alias = y
        y += x
        return self.norm2(alias) * y


@has("(root):0 identity")
class IntoAnAttribute(Two):
    def forward(self, x: Tensor) -> Tensor:
        state = {"x": self.mlp(self.norm1(x))}
        state["x"] += x
        return state["x"]


@has("(root):0 identity")
class BuiltinSum(Two):
    """sum([...]) adds from C; the expression is a call, not a +."""

    def forward(self, x: Tensor) -> Tensor:
        return sum([x, self.mlp(self.norm1(x))])


@has("(root):0 identity")
class OperatorAdd(Two):
    def forward(self, x: Tensor) -> Tensor:
        import operator

        return operator.add(x, self.mlp(self.norm1(x)))


@has("(root):0 identity", "(root):1 identity")
class TwoOnALine(Two):
    def forward(self, x: Tensor) -> Tensor:
        return (h := x + self.attn(self.norm1(x))) + self.mlp(self.norm2(h))


@has("(root):0 identity", "(root):1 identity")
class OverSeveralLines(Two):
    def forward(self, x: Tensor) -> Tensor:
        x = (
            x
            + self.attn(
                self.norm1(x),
            )
        )  # fmt: skip
        return (
            self.mlp(self.norm2(x))
            # a comment in between: größer
            + x
        )


@has("(root):0 identity", "(root):1 identity")
class WideCharacters(Two):
    def forward(self, x: Tensor) -> Tensor:
        größe = "größer als ∞"; x = x + self.attn(self.norm1(x)); return (x + self.mlp(self.norm2(x))) * bool(größe)  # fmt: skip  # noqa: E501, E702


@has("(root):0 identity", "(root):1 identity")
class InBothArmsOfAnIf(Two):
    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.attn, self.mlp):
            if layer is self.attn:  # noqa: SIM108
                x = x + layer(self.norm1(x))
            else:
                x = x + layer(self.norm2(x))
        return x


# ---------------------------------------------------------------- where the addition stands


def residual_add(x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
    """One deep."""
    return x + scale * y


def dropout_add(y: Tensor, residual: Tensor, probability: float, training: bool) -> Tensor:
    y = F.dropout(y, probability, training)
    return residual_add(residual, y, scale=1.0)


def logged(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Tensor:
        return function(*args, **kwargs)

    return inner


@logged
def decorated_add(x: Tensor, y: Tensor) -> Tensor:
    return x + y


@has("(root):0 identity")
class Helper(Two):
    def forward(self, x: Tensor) -> Tensor:
        return residual_add(x, self.mlp(self.norm1(x)))


@has("(root):0 identity", "(root):1 identity")
class HelperTwiceTwoDeep(Two):
    def forward(self, x: Tensor) -> Tensor:
        x = dropout_add(self.attn(self.norm1(x)), x, 0.1, self.training)
        return dropout_add(self.mlp(self.norm2(x)), residual=x, probability=0.1, training=self.training)


@has("(root):0 identity")
class HelperDecorated(Two):
    def forward(self, x: Tensor) -> Tensor:
        return decorated_add(x, self.mlp(self.norm1(x)))


@has("(root):0 identity", "(root):1 identity")
class DecoratedForward(Two):
    @logged
    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@has("(root):0 identity", "(root):1 identity")
class ForwardDecoratedTwice(Two):
    @logged
    @logged
    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@has("(root):0 identity", "(root):1 identity")
class InOtherMethods(Two):
    def _attend(self, x: Tensor) -> Tensor:
        return x + self.attn(self.norm1(x))

    def __feed(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm2(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.__feed(self._attend(x))


@has("(root):0 identity", "(root):1 identity")
class StaticHelper(Two):
    @staticmethod
    def join(x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def forward(self, x: Tensor) -> Tensor:
        x = self.join(x, self.attn(self.norm1(x)))
        return self.join(x, self.mlp(self.norm2(x)))


@has("(root):0 identity", "(root):1 identity")
class OneMethodCalledTwice(Two):
    """Two connections through one method of the owner, which is one expression."""

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def forward(self, x: Tensor) -> Tensor:
        x = self.join(x, self.attn(self.norm1(x)))
        return self.join(x, self.mlp(self.norm2(x)))


@has("(root):0 identity", "(root):1 identity")
class Closure(Two):
    """Swin v2 and ConvNeXt in torchvision write the sum in a function of the forward."""

    def forward(self, x: Tensor) -> Tensor:
        def attend(y: Tensor) -> Tensor:
            return y + self.attn(self.norm1(y))

        def feed(y: Tensor) -> Tensor:
            return y + self.mlp(self.norm2(y))

        return feed(attend(x))


@has("(root):0 identity")
class Lambda(Two):
    def forward(self, x: Tensor) -> Tensor:
        add = lambda a, b: a + b  # noqa: E731
        return add(x, self.mlp(self.norm1(x)))


@has(*(f"(root):{i} identity" for i in range(6)))
class LoopInTheParent(nn.Module):
    """lucidrains: the layers are pairs and the parent adds."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleList([Attention(), mlp()]) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for attn, feed in self.layers:
            x = attn(x) + x
            x = feed(x) + x
        return x


@has(*(f"(root):{i} identity" for i in range(3)))
class LoopThroughAHelper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(mlp() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for feed in self.layers:
            x = residual_add(x, feed(x))
        return x


def run_all(layers: nn.ModuleList, x: Tensor) -> Tensor:
    for layer in layers:
        x = x + layer(x)
    return x


@has(*(f"(root):{i} identity" for i in range(3)))
class LoopInsideAHelper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(mlp() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return run_all(self.layers, x)


@has(*(f"(root):{i} identity" for i in range(2)))
class LoopWithAnOddTurn(nn.Module):
    """The first turn of the loop adds an embedding, which is no residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 5, D))
        self.layers = nn.ModuleList(mlp() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in (lambda _: self.position.expand(2, 5, D), *self.layers):
            x = x + layer(x)
        return x


@has("blocks.1:0 identity", "blocks.1:1 identity", "blocks.1:2 identity")
class DenseSums(nn.Module):
    """A child reads the sums of the loop in which it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.LayerNorm(D), LoopThroughAHelper()])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x


@has("body.0:0 identity", "body.1:0 identity")
class ResidualSequential(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Residual(nn.LayerNorm(D), mlp()), Residual(nn.LayerNorm(D), mlp()))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class FnResidual(nn.Module):
    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        return self.fn(x, *args) + x


@has("0:0 identity", "1:0 identity", "2:0 identity")
class SequentialRoot(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(FnResidual(mlp()), FnResidual(Attention()), FnResidual(mlp()))


@has("inner:0 identity", "inner:1 identity", "(root):0 identity")
class Nested(Two):
    """A residual stack inside the branch of a larger residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = PreNorm()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(self.norm1(x))


@has("(root):0 identity", "(root):1 identity")
class NestedHelperCalls(Two):
    def forward(self, x: Tensor) -> Tensor:
        return residual_add(h := residual_add(x, self.attn(self.norm1(x))), self.mlp(self.norm2(h)))


@has("(root):0 identity", "(root):1 identity")
class FairseqResidualConnection(Two):
    """A method that adds, called by the forward for each branch: two branches, two LAuReLs."""

    def residual_connection(self, x: Tensor, residual: Tensor) -> Tensor:
        return residual + x

    def forward(self, x: Tensor) -> Tensor:
        residual = x
        x = self.residual_connection(self.attn(self.norm1(x)), residual)
        residual = x
        return self.residual_connection(self.mlp(self.norm2(x)), residual)


@has(*(f"(root):{i} identity" for i in range(3)))
class MethodInALoop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(mlp() for _ in range(3))

    def step(self, x: Tensor, layer: nn.Module) -> Tensor:
        return x + layer(x)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.step(x, layer)
        return x


@has(*(f"(root):{i} identity" for i in range(3)))
class Recursion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(mlp() for _ in range(3))

    def run(self, x: Tensor, depth: int) -> Tensor:
        return x if depth == 3 else self.run(x + self.layers[depth](x), depth + 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, 0)


@has(*(f"(root):{i} identity" for i in range(3)))
class Reduce(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(mlp() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return functools.reduce(lambda y, layer: y + layer(y), self.layers, x)


@has(*(f"(root):{i} identity" for i in range(2)))
class Comprehension(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(mlp() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x + layer(x) for layer in self.layers])


@has("(root):0 identity")
class ConditionalExpression(Two):
    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm1(x))
        return x + y if y.shape == x.shape else y


@has("(root):0 identity", "(root):1 identity")
class Match(Two):
    def forward(self, x: Tensor) -> Tensor:
        for kind in ("attention", "feed"):
            match kind:
                case "attention":
                    x = x + self.attn(self.norm1(x))
                case _:
                    x += self.mlp(self.norm2(x))
        return x * 1.0


@has("(root):0 identity", "(root):1 identity")
class Nonlocal(Two):
    """A closure that assigns to a name of the forward."""

    def forward(self, x: Tensor) -> Tensor:
        def attend() -> None:
            nonlocal x
            x = x + self.attn(self.norm1(x))

        attend()
        x = x + self.mlp(self.norm2(x))
        return x


class _Base(Two):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm1(x))


@has("(root):0 identity")
class Inherited(_Base):
    """The forward is the parent class's."""


@has("(root):0 identity")
class OverriddenAndCalled(_Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(super().forward(x))


@has("body:0 identity", "body:1 identity", applies=False)
class RunsItsChildren(nn.Module):
    """The owner runs whatever its children are: LAuReL's layers cannot stand beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = _Children()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class _Children(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = mlp(), mlp()

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = x + child(x)
        return x


@has(*(f"blocks.{i // 2}:{i % 2} identity" for i in range(8)), inputs=two_sequences, layers=4)
class TwoStreamsThroughTheSameBlocks(nn.Module):
    """Two views go through the same blocks, block by block."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Base() for _ in range(4))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        for block in self.blocks:
            x, y = block(x), block(y)
        return torch.cat((x, y), 1)


@has("(root):0 identity", "(root):1 identity")
class ParametrizedOwner(Two):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((D,), 0.1))
        torch.nn.utils.parametrize.register_parametrization(self, "gamma", nn.Softplus())

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.gamma * self.attn(self.norm1(x))
        return x + self.gamma * self.mlp(self.norm2(x))


@has("(root):0 identity", "(root):1 identity")
class WithAnAttributeOfThatName(Two):
    """The owner has a `laurel0` of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.laurel0 = 0.7

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.laurel0 * self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@has("(root):0 identity")
class TwoArgumentSuper(_Base):
    def forward(self, x: Tensor, scale: float = 1.0, *, bias: float = 0.0) -> Tensor:
        super(_Base, self).train(self.training)
        return x + scale * self.mlp(self.norm1(x)) + bias


@has("(root):0 identity")
class GlobalsAndDefaults(Two):
    __slots__ = ()

    def forward(self, x: Tensor, width: int = D, *, ending: str = "") -> Tensor:
        """A docstring.

        Of several lines.
        """
        global PATTERNS
        assert width == D
        assert not ending
        assert PATTERNS
        return x + self.mlp(self.norm1(x))


# ---------------------------------------------------------------- weights shared across depth


@has(*(f"block:{i} identity" for i in range(8)), layers=2)
class SharedAcrossDepth(nn.Module):
    """ALBERT: one block, four times."""

    def __init__(self) -> None:
        super().__init__()
        self.block = PreNorm()

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(4):
            x = self.block(x)
        return x


@has(*(f"block:{i} identity" for i in range(4)), layers=2)
class SharedBetweenSequences(nn.Module):
    """A siamese network: one block for two inputs, whose streams are two."""

    def __init__(self) -> None:
        super().__init__()
        self.block = PreNorm()

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.block(x), self.block(x * 2)
        return left * right


# ---------------------------------------------------------------- several streams


class DecoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(D), nn.LayerNorm(D), nn.LayerNorm(D)
        self.attn, self.cross, self.mlp = Attention(), Attention(), mlp()

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        x = x + self.cross(self.norm2(x), memory)
        return x + self.mlp(self.norm3(x))


@has(
    *(f"encoder.{i}:{j} identity" for i in range(2) for j in range(2)),
    *(f"decoder.{i}:{j} identity" for i in range(2) for j in range(3)),
    inputs=two_sequences,
)
class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(PreNorm() for _ in range(2))
        self.decoder = nn.ModuleList(DecoderLayer() for _ in range(2))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        for layer in self.encoder:
            source = layer(source)
        for layer in self.decoder:
            target = layer(target, source)
        return target


@has("(root):0 identity", "(root):1 identity")
class ClassToken(Two):
    """CaiT's last layers: only the class token, a slice of the stream, gets residual connections."""

    def forward(self, x: Tensor) -> Tensor:
        token = x[:, :1]
        token = token + self.attn(self.norm1(token), self.norm1(x))
        return token + self.mlp(self.norm2(token))


@has("(root):0 identity", "(root):1 identity")
class ClassTokenParameter(Two):
    """The class token is a parameter to which the stream is added by attention."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, D, generator=torch.Generator().manual_seed(3)))

    def forward(self, x: Tensor) -> Tensor:
        token = self.token.expand(x.shape[0], -1, -1)
        token = token + self.attn(self.norm1(token), x)
        return token + self.mlp(self.norm2(token))


@has("(root):0 identity", "(root):1 identity", inputs=image)
class Windows(Two):
    """Swin: the branch works on rolled windows and gives them back."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        y = torch.roll(self.norm1(x), (-1, -1), (1, 2))
        y = y.view(b, h // 3, 3, w // 3, 3, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 9, c)
        y = self.attn(y)
        y = y.view(b, h // 3, w // 3, 3, 3, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        x = x + torch.roll(y, (1, 1), (1, 2))
        return x + self.mlp(self.norm2(x))


@has("token:0 identity", "channel:0 identity")
class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.channel = _Mix(5, True), _Mix(D, False)

    def forward(self, x: Tensor) -> Tensor:
        return self.channel(self.token(x))


class _Mix(nn.Module):
    def __init__(self, width: int, across: bool) -> None:
        super().__init__()
        self.norm, self.mlp, self.across = nn.LayerNorm(D), mlp(width), across

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + (self.mlp(y.transpose(1, 2)).transpose(1, 2) if self.across else self.mlp(y))


@has("(root):0 identity", "(root):1 identity")
class FourierMixing(Two):
    """FNet: the mixing has no parameters and is a residual branch all the same."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + torch.fft.fft2(x).real)
        return self.norm2(x + self.mlp(x))


@has("(root):0 identity", "(root):1 identity")
class MixtureOfExperts(Two):
    """The weighted experts are summed and are no residual connections; the sum joins the stream once."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(D, 3)
        self.experts = nn.ModuleList(mlp() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        h = self.norm2(x)
        weights = self.router(h).softmax(-1)
        y = weights[..., :1] * self.experts[0](h)
        for i in (1, 2):
            y = y + weights[..., i : i + 1] * self.experts[i](h)
        return x + y


@has("(root):0 identity", inputs=image)
class SqueezeExcite(nn.Module):
    """The gate multiplies; only the outer sum is a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.f = conv()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(D, 4, 1), nn.ReLU(), nn.Conv2d(4, D, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.f(x)
        return x + y * self.gate(y).sigmoid()


@has("(root):0 identity")
class RelativeBias(Two):
    """A bias is added to the attention scores: a parameter, no residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 5, 5))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.attn.q(x), self.attn.k(x), self.attn.v(x)
        scores = q @ k.transpose(1, 2) + self.bias
        scores = scores + torch.full_like(scores, -1e4).triu(1)
        return x + self.attn.out(scores.softmax(-1) @ v)


@has("(root):0 identity")
class AttentionMask(Two):
    def forward(self, x: Tensor) -> Tensor:
        mask = torch.full((5, 5), float("-inf")).triu(1)
        mask = mask + (x[:, :, 0] < -1e9).to(x.dtype)[:, None, None, :] * -1e4
        return x + self.attn(x, mask=mask)


@has("(root):0 identity", inputs=ids)
class EmbeddedPositions(Two):
    """Embeddings of tokens and of computed positions are added: no residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(10, D), nn.Embedding(5, D)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        x = x + self.embed(tokens.flip(1))
        return x + self.mlp(self.norm1(x))


@has("(root):0 identity", inputs=ids)
class PositionsFromInput(Two):
    """Positions counted from the tokens (RoBERTa), segments too."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(10, D), nn.Embedding(12, D)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = tokens.ne(1).int()
        positions = torch.cumsum(mask, dim=1) * mask + 1
        x = self.norm2(self.embed(tokens) + self.position(positions.long()))
        return x + self.mlp(self.norm1(x))


@has("(root):0 identity")
class PositionParameter(Two):
    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 5, D))

    def forward(self, x: Tensor) -> Tensor:
        x = self.mlp(x) + self.position
        return x + self.attn(x)


@has("(root):0 identity")
class PositionParameterOfFullShape(Two):
    """A parameter of the stream's own shape."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(TOKENS))

    def forward(self, x: Tensor) -> Tensor:
        x = self.mlp(x) + self.position
        return x + self.attn(x)


# ---------------------------------------------------------------- what only looks like a residual connection


@has()
class TanhGelu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        x = 0.5 * x * (1.0 + torch.tanh(0.79788 * (x + 0.044715 * torch.pow(x, 3.0))))
        return self.down(x)


@has("(root):0 identity")
class Rotary(nn.Module):
    """q cos + rotate(q) sin within the attention."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(D, D) for _ in range(4))
        self.register_buffer("angle", torch.arange(5.0)[:, None] * torch.ones(D))

    def rotate(self, x: Tensor) -> Tensor:
        half = torch.cat((-x[..., D // 2 :], x[..., : D // 2]), -1)
        return x * self.angle.cos() + half * self.angle.sin()

    def forward(self, x: Tensor) -> Tensor:
        y = F.scaled_dot_product_attention(self.rotate(self.q(x)), self.rotate(self.k(x)), self.v(x))
        return x + self.out(y)


@has()
class Lora(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base, self.down, self.up = nn.Linear(D, D), nn.Linear(D, 2), nn.Linear(2, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 0.5 * self.up(self.down(x))


@has("(root):0 identity")
class LoraInsideABranch(Two):
    def __init__(self) -> None:
        super().__init__()
        self.lora = Lora()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.lora(self.norm1(x)))


@has()
class GruGate(nn.Module):
    """x g + (1 - g) f: a learned mean, no skip that is free of the branch's factor."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = mlp(), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.g(x).sigmoid()
        return x * gate + (1 - gate) * self.f(x)


@has()
class SumOfExperts(nn.Module):
    """No skip at all: two experts and their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.g = mlp(), mlp(), nn.Linear(D, 2)

    def forward(self, x: Tensor) -> Tensor:
        g = self.g(x).softmax(-1)
        return g[..., :1] * self.a(x) + g[..., 1:] * self.b(x)


@has()
class SumOfBranches(nn.Module):
    """Two non-linear branches without a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = mlp(), mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x)


@has("(root):0 identity", inputs=image)
class Res2Net(nn.Module):
    """Each part of the channels gets the part before added; only the outer sum is a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside = nn.Conv2d(D, D, 1), nn.Conv2d(D, D, 1)
        self.convs = nn.ModuleList(nn.Conv2d(D // 4, D // 4, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(F.relu(self.inside(x)), D // 4, 1)
        outs = []
        y = parts[0]
        for i, layer in enumerate(self.convs):
            y = parts[i] if i == 0 else y + parts[i]
            y = F.relu(layer(y))
            outs.append(y)
        outs.append(parts[3])
        return F.relu(x + self.outside(torch.cat(outs, 1)))


@has(inputs=image)
class RepVgg(nn.Module):
    """Linear branches that fuse into one convolution at inference: no skip past anything non-linear."""

    def __init__(self) -> None:
        super().__init__()
        self.three, self.one = nn.Conv2d(D, D, 3, padding=1), nn.Conv2d(D, D, 1)
        self.bn3, self.bn1, self.identity = nn.BatchNorm2d(D), nn.BatchNorm2d(D), nn.BatchNorm2d(D)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn3(self.three(x)) + self.bn1(self.one(x)) + self.identity(x))


@has("(root):0 projection", inputs=image)
class FeaturePyramid(nn.Module):
    """A lateral map beside the way down and up again: a linear skip past a non-linear branch, as in a U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = conv(), nn.Sequential(nn.Conv2d(D, D, 3, 2, 1), nn.ReLU())
        self.lateral, self.top = nn.Conv2d(D, D, 1), nn.Conv2d(D, D, 1)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.stem(x)
        deep = self.down(shallow)
        return F.relu(self.lateral(shallow) + F.interpolate(self.top(deep), scale_factor=2.0))


@has("(root):0 identity")
class StateSpaceScan(nn.Module):
    """y = C h + D u inside the branch: D's skip is no residual connection of the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside, self.bc = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, 2 * D)
        self.decay, self.skip = nn.Parameter(torch.zeros(D)), nn.Parameter(torch.ones(D))

    def forward(self, x: Tensor) -> Tensor:
        u = F.silu(self.inside(x))
        b, c = self.bc(u).chunk(2, -1)
        state, outs = torch.zeros_like(u[:, 0]), []
        for t in range(u.shape[1]):
            state = torch.exp(-F.softplus(self.decay)) * state + b[:, t] * u[:, t]
            outs.append((c[:, t] * state) + self.skip * u[:, t])
        return x + self.outside(torch.stack(outs, 1))


@has()
class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x + 1)


@has()
class Normalisation(nn.Module):
    """A norm written out: (x - mean) / (var + eps) * w + b."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias, self.f = nn.Parameter(torch.ones(D)), nn.Parameter(torch.zeros(D)), mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = self.f(x)
        x = (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True) + 1e-5)
        return x * self.weight + self.bias


@has("(root):0 identity")
class BiasAddedLater(Two):
    """A bias as wide as the channels is broadcast, no residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(D))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.mlp(self.norm1(x)) + self.bias)
