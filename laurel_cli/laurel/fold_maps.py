"""Low-rank maps as more channels of a branch's own maps, for inference: B A x costs no pass of its own over x and f.

Where the branch's last map makes the branch's result, B is r more inputs of it. Where a map of the branch reads the
skip itself, as in a ResNet's bottleneck or in the feed-forward part of a post-norm transformer, A is r more outputs of
it; where a projection makes the skip, A times the projection is. What stands between never sees these channels. Which
maps they are is seen in a forward pass. That nothing else reads what they make is then tried: with other numbers in A
and B, the model must compute what it did.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
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

ALONE = "The last map of a branch ran without its first one, which makes a part of its input."


@dataclass(frozen=True)
class BranchEnds:
    """Paths of maps.

    Attributes:
        total: of a learned sum; `last` of the map that makes its branch's result.
        first: of the one that A goes into: it reads the skip, or what makes the skip reads, or makes it.
        projection: of what makes the skip; "" where `first` reads the skip.
    """

    total: str
    first: str
    last: str
    projection: str


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
        projection: makes x of what `own` reads; None where `own` reads x.
        hand: where A x is left.
    """

    def __init__(self, own: Any, down: Any, projection: Any, hand: Hand) -> None:
        super().__init__()
        width, rank = own.weight.shape[0], down.weight.shape[0]
        self.hand, self.own, self.further = hand, (0, width), (width, rank)
        self.dim = _channels(own)
        further, offset, bias = down.weight, None, own.bias
        if projection is not None:
            maps, weight = down.weight.flatten(1).double(), projection.weight
            further = (maps @ weight.flatten(1).double()).view(rank, *weight.shape[1:]).to(weight.dtype)
            offset = None if projection.bias is None else (maps @ projection.bias.double()).to(weight.dtype)
        if bias is not None or offset is not None:
            bias = own.weight.new_zeros(width) if bias is None else bias
            bias = torch.cat((bias, bias.new_zeros(rank) if offset is None else offset))
        self.map = _map(own, torch.cat((own.weight, further)), bias)

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
    """Make A and B channels of the branch's maps where that can be, in place; the model is for inference from here on.

    Args:
        model: folded, with real weights, in eval mode.
        inputs: what it is called with. A sum that they do not reach stays.

    Returns:
        Paths of the sums, whose A and B are elsewhere now.
    """

    def agrees(branches: Sequence[BranchEnds]) -> bool:
        return merged_agrees(model, inputs, partial(_unsettle, branches=branches), partial(_merge, branches=branches))

    found = trusted(_branches(model, inputs), agrees)
    _merge(model, found)
    return [branch.total for branch in found]


def _branches(model: nn.Module, inputs: Inputs) -> list[BranchEnds]:
    """Sums with maps whose branch begins with a map of the very skip and ends with one; each is called once."""
    sums = {name: module for name, module in model.named_modules() if _has_maps(module)}
    within = tuple(f"{name}." for name in sums)
    maps = {name: one for name, one in model.named_modules() if _is_map(one) and not name.startswith(within)}
    shared = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    calls = calls_of({**sums, **maps}, model, inputs)
    count = Counter(call.name for call in calls)
    found = []
    for i, call in enumerate(calls):
        if call.name not in sums:
            continue
        name, total = call.name, sums[call.name]
        given: list[Any] = [*call.args, *(None, None, 1, False)[len(call.args) :]]
        left, right, sign, flip = given[:4]
        x, f = (left, right) if (total.skip == 0) != flip else (right, left)
        ran = [one for one in calls[:i] if one.name in maps]
        lasts = [(j, one.name) for j, one in enumerate(ran) if one.output is f and _is_pointwise(maps[one.name])]
        if sign < 0 or len(lasts) != 1:
            continue
        ((place, last),) = lasts
        first = _first(maps, [one for one in calls if one.name in maps], place, x)
        if first is None or last in first:
            continue
        branch = BranchEnds(name, first[0], last, first[1])
        own = [model.get_submodule(one) for one in (branch.first, branch.last)]
        alike = type(own[0]) is type(own[1]) is type(total.A[0])
        alone = all(shared[id(parameter)] == 1 for module in (*own, total) for parameter in module.parameters())
        if alike and alone and all(count[one] == 1 for one in (name, branch.first, last)):
            found.append(branch)
    used = Counter(one for branch in found for one in (branch.first, branch.last))
    return [branch for branch in found if used[branch.first] == used[branch.last] == 1]


def _first(maps: Mapping[str, Any], ran: Sequence[ModuleCall], place: int, x: Any) -> tuple[str, str] | None:
    """Where A can go, among what ran before `place`, and the projection that it is multiplied with, "" for none."""
    earlier = [one for one in ran[:place] if one.args]
    for one in earlier:
        if one.args[0] is x and _is_pointwise(maps[one.name]):
            return one.name, ""
    for made in ran:
        for one in earlier if made.output is x and made.args else ():
            if one.args[0] is made.args[0] and _geometry(maps[one.name]) == _geometry(maps[made.name]):
                return one.name, made.name
    return None


def _channels(module: Any) -> int:
    """The dimension of the channels, from the end: images may come without a batch."""
    return -1 - len(module.kernel_size) if isinstance(module, CONVOLUTIONS) else -1


def _geometry(module: Any) -> tuple[Any, ...]:
    """Equal for maps that read the same places."""
    if isinstance(module, nn.Linear):
        return (nn.Linear,)
    return type(module), module.kernel_size, module.stride, module.padding, module.dilation


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
def _unsettle(model: nn.Module, branches: Sequence[BranchEnds]) -> None:
    """Maps that are not zero: a B that is would hide what becomes of A x."""
    generator = torch.Generator().manual_seed(0)
    for branch in branches:
        for parameter in model.get_submodule(branch.total).parameters():
            noise = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
            parameter.add_(0.3 * noise.to(parameter))


@torch.no_grad()
def _merge(model: nn.Module, branches: Sequence[BranchEnds]) -> None:
    for branch in branches:
        total: Any = model.get_submodule(branch.total)
        hand = Hand()
        projection = model.get_submodule(branch.projection) if branch.projection else None
        first = First(model.get_submodule(branch.first), total.A[0], projection, hand)
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
