"""Ways in which people write x + f(x). Every block has its branch as `f`, so that each can be computed by hand."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

D = 6


def branch() -> nn.Module:
    return nn.Sequential(nn.Linear(D, 9), nn.Tanh(), nn.Linear(9, D))


class Block(nn.Module):
    """The plainest one."""

    def __init__(self) -> None:
        super().__init__()
        self.f = branch()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


class Chain(nn.Module):
    """Blocks one after the other."""

    def __init__(self, make: Callable[[], nn.Module], depth: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(D, D)
        self.blocks = nn.ModuleList(make() for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x


def given() -> Tensor:
    return torch.randn(2, 4, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


WAYS: dict[str, Callable[[], nn.Module]] = {}


def way(make: Any) -> Any:
    WAYS[make.__name__] = make
    return make


# ---------------------------------------------------------------- who adds


@way
class HeldLambda(Block):
    def __init__(self) -> None:
        super().__init__()
        self.add = lambda left, right: left + right

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.f(x))


@way
class LambdaWithTheModule(Block):
    """The lambda knows the module by its closure."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = lambda x: x + self.f(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.whole(x)


@way
class ClosureOverTheBranch(Block):
    """The lambda knows the branch alone."""

    def __init__(self) -> None:
        super().__init__()
        f = self.f
        self.whole = lambda x: x + f(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.whole(x)


def scaled_sum(left: Tensor, right: Tensor, *, scale: float) -> Tensor:
    return left + right * scale


@way
class HeldPartial(Block):
    def __init__(self) -> None:
        super().__init__()
        self.add = functools.partial(scaled_sum, scale=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.f(x))


global_partial = functools.partial(scaled_sum, scale=1.0)


@way
class GlobalPartial(Block):
    def forward(self, x: Tensor) -> Tensor:
        return global_partial(x, self.f(x))


@way
class Property(Block):
    """The getter adds."""

    held: Tensor

    @property
    def total(self) -> Tensor:
        return self.held + self.f(self.held)

    def forward(self, x: Tensor) -> Tensor:
        self.held = x
        return self.total


@way
class ClassMethod(Block):
    @classmethod
    def add(cls, left: Tensor, right: Tensor) -> Tensor:
        return left + right

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.f(x))


@way
class StaticMethod(Block):
    @staticmethod
    def add(left: Tensor, right: Tensor) -> Tensor:
        return left + right

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.f(x))


def plus(left: Tensor, right: Tensor) -> Tensor:
    return left + right


def plus_swapped(left: Tensor, right: Tensor) -> Tensor:
    return right + left


@way
class FromTable(Block):
    """The function is known when it runs."""

    TABLE = {"plain": plus, "swapped": plus_swapped}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.kind = "swapped"

    def forward(self, x: Tensor) -> Tensor:
        return self.TABLE[self.kind](x, self.f(x))


@way
class Chosen(Block):
    def forward(self, x: Tensor) -> Tensor:
        join = plus if x.shape[-1] == D else plus_swapped
        return join(x, self.f(x))


class Adder:
    """A callable object, no module."""

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


@way
class CallableObject(Block):
    def __init__(self) -> None:
        super().__init__()
        self.add = Adder()

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.f(x))


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@traced
def decorated_sum(left: Tensor, right: Tensor) -> Tensor:
    return left + right


@way
class DecoratedFunction(Block):
    def forward(self, x: Tensor) -> Tensor:
        return decorated_sum(x, self.f(x))


@way
class DecoratedMethod(Block):
    @traced
    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


# ---------------------------------------------------------------- how the method is reached


@way
class BoundAttribute(Block):
    def __init__(self) -> None:
        super().__init__()
        self.forward = self.run  # type: ignore[method-assign]

    def run(self, x: Tensor) -> Tensor:
        return x + self.f(x)


@way
class BoundInList(Block):
    def __init__(self) -> None:
        super().__init__()
        self.steps = [self.run]

    def run(self, x: Tensor) -> Tensor:
        return x + self.f(x)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


@way
class Alias(Block):
    """One function under two names."""

    def run(self, x: Tensor) -> Tensor:
        return x + self.f(x)

    forward = run


@way
def patched() -> nn.Module:
    block = Block()

    def forward(self: Any, x: Tensor) -> Tensor:
        return x + self.f(x) * 1.0

    block.forward = forward.__get__(block)  # type: ignore[method-assign]
    return block


@way
def wrapped_from_outside() -> nn.Module:
    """As hooks that replace forward do: the old one is held by a closure."""
    block = Block()
    old = block.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        return old(*args, **kwargs)

    block.forward = forward  # type: ignore[method-assign]
    return block


@way
def hooked_by_partial() -> nn.Module:
    """As accelerate does: forward is a partial, the old one an attribute."""
    block: Any = Block()
    block._old_forward = block.forward

    def forward(module: Any, *args: Any) -> Any:
        return module._old_forward(*args)

    block.forward = functools.update_wrapper(functools.partial(forward, block), block._old_forward)
    return block


@way
def in_a_function() -> nn.Module:
    class Local(Block):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.f(x)

    return Local()


# ---------------------------------------------------------------- what is written


@way
class Difference(Block):
    SIGN = -1

    def forward(self, x: Tensor) -> Tensor:
        return x - self.f(x)


@way
class DifferenceInPlace(Block):
    SIGN = -1

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1.0
        x -= self.f(x)
        return x


@way
class SubtractFunction(Block):
    SIGN = -1

    def forward(self, x: Tensor) -> Tensor:
        return torch.sub(x, self.f(x))


@way
class Folded(Block):
    def forward(self, x: Tensor) -> Tensor:
        return sum([x, self.f(x)])  # type: ignore[return-value]


@way
class FoldedFrom(Block):
    def forward(self, x: Tensor) -> Tensor:
        return sum((self.f(x) for _ in range(1)), x)


@way
class Reduced(Block):
    def forward(self, x: Tensor) -> Tensor:
        return functools.reduce(operator.add, (x, self.f(x)))


@way
class InAComprehension(Block):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part + self.f(part) for part in x.split(2, 1)], 1)


@way
class InAComprehensionWithoutTheModule(Block):
    def forward(self, x: Tensor) -> Tensor:
        f = self.f
        return torch.cat([part + f(part) for part in x.split(2, 1)], 1)


@way
class ComprehensionOfMethods(Block):
    def one(self, part: Tensor) -> Tensor:
        return part + self.f(part)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(part) for part in x.split(2, 1)], 1)


@way
class Generator(Block):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(list(part + self.f(part) for part in x.split(2, 1)), 1)  # noqa: C400


@way
class LambdaInTheMethod(Block):
    def forward(self, x: Tensor) -> Tensor:
        add = lambda left, right: left + right  # noqa: E731
        return add(x, self.f(x))


@way
class BroadcastBranch(Block):
    """The branch is one vector for all tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x.mean(1, keepdim=True))

    def by_hand(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return b * x + a * self.f(x.mean(1, keepdim=True))


@way
class ByRawDunder(Block):
    def forward(self, x: Tensor) -> Tensor:
        return x.__add__(self.f(x))


@way
class PrivateName(Block):
    """Names of the class are mangled; the helper stands in the method."""

    def __init__(self) -> None:
        super().__init__()
        self.__scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        def add(left: Tensor, right: Tensor) -> Tensor:
            return left + right * self.__scale

        return F.relu(x) - F.relu(-x) if self.__scale == 0 else add(x, self.f(x))


@way
class NamesItself(Block):
    """Its own class is a global that the method reads; private names are mangled all the same."""

    SCALE = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.__shift = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return x + NamesItself.SCALE * (self.f(x) + self.__shift)


# ---------------------------------------------------------------- functions of PyTorch and Python, by other names


@way
class HeldOperator(Block):
    def __init__(self) -> None:
        super().__init__()
        self.join = operator.add

    def forward(self, x: Tensor) -> Tensor:
        return self.join(x, self.f(x))


@way
class OperatorFromTable(Block):
    JOIN = {"add": torch.add, "multiply": torch.mul}  # noqa: RUF012

    def forward(self, x: Tensor) -> Tensor:
        return self.JOIN["add"](x, self.f(x))


@way
class OperatorAsArgument(Block):
    def forward(self, x: Tensor, join: Callable[[Tensor, Tensor], Tensor] = torch.Tensor.add) -> Tensor:
        return join(x, self.f(x))


less = operator.sub


@way
class OperatorByAnotherName(Block):
    SIGN = -1

    def forward(self, x: Tensor) -> Tensor:
        return less(x, self.f(x))
