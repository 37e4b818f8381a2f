"""Low-rank maps within a model's own maps, for inference: B A x costs no pass of its own over x and f.

Where a projection P makes the skip and nothing else reads it, b x + B A x = ((b I + B A) P) y is made by one map of the
projection's size, and costs nothing. Elsewhere A and B are more channels of the branch's maps: where the branch's last
map makes the branch's result, B is r more inputs of it; where a map of the branch reads the skip itself, as in a
ResNet's bottleneck or in the feed-forward part of a post-norm transformer, A is r more outputs of it. What stands
between never sees these channels. Which maps they are is seen in a forward pass. That nothing else reads what they make
is then tried: with other numbers in A and B, the model must compute what it did.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from laurel_cli.laurel.fast import CONVOLUTIONS, is_bare
from laurel_cli.laurel.fold_check import ModuleCall, calls_of, merged_agrees, trusted
from laurel_cli.laurel.fold_layer import FoldedSum
from laurel_cli.models.inputs import Inputs

PRECISE = (torch.float32, torch.float64)
ALONE = "The last map of a branch ran without its first one, which makes a part of its input."


@dataclass(frozen=True)
class BranchEnds:
    """Paths of maps.

    Attributes:
        total: of a learned sum.
        first: of the map that reads its skip, `last` of the one that makes its branch's result.
    """

    total: str
    first: str
    last: str


@dataclass(frozen=True)
class Projection:
    """Paths of a learned sum, `total`, and of the map that makes its skip."""

    total: str
    map: str


class _InHand(threading.local):
    value: Tensor | None = None


class Hand:
    """Where the first map of a branch leaves what the last one takes, in each thread apart."""

    def __init__(self) -> None:
        self._kept = _InHand()

    def put(self, value: Tensor) -> None:
        """Leave it."""
        self._kept.value = value

    def take(self) -> Tensor:
        """Take it away.

        Raises:
            RuntimeError: there is none.
        """
        value = self._kept.value
        if value is None:
            raise RuntimeError(ALONE)
        self._kept.value = None
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> Hand:
        memo[id(self)] = copied = Hand()
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        return Hand, ()


class First(nn.Module):
    """A map with r more outputs, A x, which it hands on.

    Args:
        own: the map as it was; `down` A. Neither is changed.
        hand: where A x is left.
    """

    def __init__(self, own: Any, down: Any, hand: Hand) -> None:
        super().__init__()
        width, rank = own.weight.shape[0], down.weight.shape[0]
        self.hand, self.own, self.further = hand, (0, width), (width, rank)
        self.dim = _channels(own)
        bias = None if own.bias is None else torch.cat((own.bias, own.bias.new_zeros(rank)))
        self.map = _map(own, torch.cat((own.weight, down.weight)), bias)

    def forward(self, x: Tensor) -> Tensor:
        """What the map made of x."""
        whole: Tensor = self.map(x)
        self.hand.put(whole.narrow(self.dim, *self.further))
        # Not `split`, of whose results none may be changed in place. What follows goes over it several times.
        return whole.narrow(self.dim, *self.own).contiguous()


class Last(nn.Module):
    """A branch's last map with r more inputs, of which it makes B A x.

    Args:
        own: the map as it was; `up` B. Neither is changed.
        hand: where A x lies.
    """

    def __init__(self, own: Any, up: Any, hand: Hand) -> None:
        super().__init__()
        self.hand, self.dim = hand, _channels(own)
        self.map = _map(own, torch.cat((own.weight, up.weight), 1), own.bias)

    def forward(self, inner: Tensor) -> Tensor:
        """What the map made of its input, and B A x."""
        total: Tensor = self.map(torch.cat((inner, self.hand.take()), self.dim))
        return total


def merge_maps(model: nn.Module, inputs: Inputs) -> list[str]:
    """Make A and B part of the model's own maps where that can be, in place; it is for inference from here on.

    Args:
        model: folded, with real weights, in eval mode.
        inputs: what it is called with. A sum that they do not reach stays.

    Returns:
        Paths of the sums, whose A and B are elsewhere now.
    """
    seen = _SeenMaps(model, inputs)
    projections, branches = _projections(seen), _branches(seen)
    del seen  # which holds what every map returned
    done = _tried(model, inputs, projections, _project)
    left = [branch for branch in branches if branch.total not in done]
    return done + _tried(model, inputs, _apart(left), _merge)


def _tried(model: nn.Module, inputs: Inputs, places: Sequence[Any], merge: Callable[..., None]) -> list[str]:
    """Merge in place, but where a copy is seen to compute something else; the sums' paths."""

    def agrees(places: Sequence[Any]) -> bool:
        return merged_agrees(model, inputs, partial(_unsettle, places=places), partial(merge, places=places))

    found = trusted(places, agrees)
    merge(model, found)
    return [place.total for place in found]


class _SeenMaps:
    """What a forward pass shows of a model's sums with low-rank maps and of its own maps."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        self.sums: dict[str, Any] = {name: one for name, one in model.named_modules() if _has_maps(one)}
        within = tuple(f"{name}." for name in self.sums)
        self.maps: dict[str, Any] = {
            name: one for name, one in model.named_modules() if _is_map(one) and not name.startswith(within)
        }
        self._shared = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
        self.calls = calls_of({**self.sums, **self.maps}, model, inputs)
        self._count = Counter(call.name for call in self.calls)

    def operands(self) -> Iterator[tuple[int, str, Any, Any]]:
        """Of each call of a sum that adds: its place among all calls, the sum's name, the skip and the branch."""
        for place, call in enumerate(self.calls):
            if call.name in self.sums:
                given: list[Any] = [*call.args, *(None, None, 1, False)[len(call.args) :]]
                left, right, sign, flip = given[:4]
                first = (self.sums[call.name].skip == 0) != flip
                if sign > 0:
                    yield place, call.name, *((left, right) if first else (right, left))

    def ran(self, before: int) -> list[ModuleCall]:
        """The calls of maps, up to a place among all calls."""
        return [one for one in self.calls[:before] if one.name in self.maps]

    def is_usual(self, total: str, *names: str) -> bool:
        """Whether a sum and maps are of one kind, called once each, and share no weights with anybody."""
        modules = [self.sums[total], *(self.maps[name] for name in names)]
        alone = all(self._shared[id(parameter)] == 1 for module in modules for parameter in module.parameters())
        alike = all(type(self.maps[name]) is type(self.sums[total].B) for name in names)
        return alike and alone and all(self._count[name] == 1 for name in (total, *names))


def _projections(seen: _SeenMaps) -> list[Projection]:
    """Sums whose skip one map makes, of weights in which what is learned would not be rounded away."""
    found = []
    for place, total, x, _ in seen.operands():
        makers = [one.name for one in seen.ran(place) if one.output is x]
        precise = all(seen.maps[name].weight.dtype in PRECISE for name in makers)
        if len(makers) == 1 and precise and seen.is_usual(total, *makers):
            found.append(Projection(total, makers[0]))
    return found


def _branches(seen: _SeenMaps) -> list[BranchEnds]:
    """Sums with maps whose branch begins with a map of the very skip and ends with one."""
    found = []
    for place, total, x, f in seen.operands():
        ran = seen.ran(place)
        lasts = [(j, one.name) for j, one in enumerate(ran) if one.output is f and _is_pointwise(seen.maps[one.name])]
        if len(lasts) != 1:
            continue
        ((end, last),) = lasts
        firsts = [one.name for one in ran[:end] if one.args and one.args[0] is x and _is_pointwise(seen.maps[one.name])]
        if firsts and seen.is_usual(total, firsts[0], last):
            found.append(BranchEnds(total, firsts[0], last))
    return found


def _apart(branches: Sequence[BranchEnds]) -> list[BranchEnds]:
    """Those whose maps are the ends of no other branch."""
    used = Counter(one for branch in branches for one in (branch.first, branch.last))
    return [branch for branch in branches if used[branch.first] == used[branch.last] == 1]


def _channels(module: Any) -> int:
    """The dimension of the channels, from the end: images may come without a batch."""
    return -1 - len(module.kernel_size) if isinstance(module, CONVOLUTIONS) else -1


def _has_maps(module: nn.Module) -> bool:
    """Whether it is a folded sum with one pair of low-rank maps of the skip."""
    if not isinstance(module, FoldedSum) or module.history != "none" or "B" not in module._modules or module._moved:
        return False
    return all(_is_pointwise(one) for one in (module.A[0], module.B))


def _is_map(module: Any) -> bool:
    """Whether it is a linear layer or a convolution of all channels, and no class that does more."""
    if not is_bare(module) or any(type(parameter) is not nn.Parameter for parameter in module.parameters()):
        return False
    return type(module) is nn.Linear or (module.groups == 1 and module.padding_mode == "zeros")


def _is_pointwise(module: Any) -> bool:
    """Whether it is such a map of the channels at each place."""
    if not _is_map(module):
        return False
    one = {(1,) * len(module.kernel_size)} if type(module) in CONVOLUTIONS else set()
    return type(module) is nn.Linear or ({module.kernel_size, module.stride} == one and not any(module.padding))


@torch.no_grad()
def _unsettle(model: nn.Module, places: Sequence[BranchEnds | Projection]) -> None:
    """Maps that are not zero: a B that is would hide what becomes of A x."""
    generator = torch.Generator().manual_seed(0)
    for place in places:
        for parameter in model.get_submodule(place.total).parameters():
            noise = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
            parameter.add_(0.3 * noise.to(parameter))


@torch.no_grad()
def _project(model: nn.Module, places: Sequence[Projection]) -> None:
    for place in places:
        total: Any = model.get_submodule(place.total)
        own: Any = model.get_submodule(place.map)
        b = total.alpha.double().expand(total.width)
        whole = torch.diag(b) + total.B.weight.flatten(1).double() @ total.A[0].weight.flatten(1).double()
        own.weight.copy_((whole @ own.weight.flatten(1).double()).view(own.weight.shape))
        if own.bias is not None:
            own.bias.copy_(whole @ own.bias.double())
        total.without_maps()


@torch.no_grad()
def _merge(model: nn.Module, places: Sequence[BranchEnds]) -> None:
    for branch in places:
        total: Any = model.get_submodule(branch.total)
        hand = Hand()
        first = First(model.get_submodule(branch.first), total.A[0], hand)
        last = Last(model.get_submodule(branch.last), total.B, hand)
        for path, made in ((branch.first, first), (branch.last, last)):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, made.train(total.training))
        del total.A, total.B
        total.within = True


def _map(like: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A map of the kind of `like` with this weight and bias."""
    outputs_, inputs_ = weight.shape[:2]
    options: dict[str, Any] = {"bias": bias is not None, "device": weight.device, "dtype": weight.dtype}
    if isinstance(like, nn.Linear):
        made: Any = skip_init(nn.Linear, inputs_, outputs_, **options)
    else:
        given = (like.kernel_size, like.stride, like.padding, like.dilation)
        made = skip_init(type(like), inputs_, outputs_, *given, **options)
    made.weight = nn.Parameter(weight, requires_grad=like.weight.requires_grad)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=like.weight.requires_grad)
    return made
