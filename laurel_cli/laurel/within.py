"""RW's a within a module that makes the branch: its weights, or its product, have a as a factor, and both learn."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from laurel_cli.laurel import scaled_map
from laurel_cli.laurel.fast import are_all_hooked, is_hooked
from laurel_cli.laurel.history import is_copied_alone
from laurel_cli.laurel.regions import as_at_first, is_recomputed_blindly, open_regions

if TYPE_CHECKING:
    from laurel_cli.laurel.layers import LaurelLayer

Weights = tuple[Tensor, Tensor]  # (a, b) of Eq. 5

PARTLY = (
    "A part of the modules that a of LAuReL was folded into for training was replaced: the branch is neither "
    "multiplied with a nor without it. Call laurel_cli.unfold_training before modules are replaced."
)
REENTRANT = (
    "After laurel_cli.fold_training, activation checkpointing of a sum without its branch needs "
    "checkpoint(..., use_reentrant=False)."
)


def unfold_training(model: nn.Module) -> nn.Module:
    """Let RW's a be a factor of f again, in place; nothing happens where it is.

    >>> import torch, torchvision
    >>> import laurel_cli as laurel
    >>> x = torch.randn(2, 3, 64, 64)
    >>> model = laurel.apply(torchvision.models.resnet18(), "rw", x)
    >>> _ = laurel.fold_training(model, x)
    >>> laurel.unfold_training(model) is model
    True

    Args:
        model: with LAuReL or without.

    Returns:
        `model` itself.
    """
    from laurel_cli.laurel.layers import LaurelLayer  # these import this module
    from laurel_cli.laurel.parted import Reader

    for module in model.modules():
        if isinstance(vars(module).get("forward"), Scaled | Reader):
            del vars(module)["forward"]
        if isinstance(module, LaurelLayer):
            for one in vars(module).pop("within", ()):  # whoever wraps a module's `forward` may still hold it
                one.active = False
            vars(module).pop("a_is_within", None)
            vars(module).pop("reader", None)
    return model


def came_with_a(layer: LaurelLayer) -> tuple[bool, Weights | None]:
    """Whether f was multiplied with a on its way to `layer`, in this call; and that (a, b), where it can be shared.

    Another module may stand in the place of one that was to do it (a norm is converted, an adapter is put on), or the
    branch may end elsewhere in this call: a is a factor of f in the sum then.

    Raises:
        RuntimeError: a part of what f is made of was, and another part was not; or a checkpoint that cannot tell of
            which pass it is a part runs the sum again, without the branch.
    """
    did = [one.did() for one in layer.within]
    if not stands(layer):  # what was called was so before it was replaced
        did = [False] * len(did)
    if any(did) and not all(did):
        raise RuntimeError(PARTLY)
    inside = bool(open_regions())
    if not any(did) and is_recomputed_blindly() and not inside and layer.a_is_within:  # the last time
        raise RuntimeError(REENTRANT)
    if inside:  # what runs this again may run the sum alone
        return as_at_first(layer, all(did)), None
    return all(did), layer.within[0].shared() if all(did) and not torch.compiler.is_compiling() else None


@dataclass(frozen=True)
class Occupant:
    """The module that stood in a place, `holder.name`, when a was folded."""

    holder: nn.Module
    name: str
    module: nn.Module

    def is_as_it_was(self) -> bool:
        """Whether it stands there still, with a's `forward` or its own, and nobody has hooks on it."""
        if self.holder._modules.get(self.name) is not self.module or is_hooked(self.module):
            return False
        return type(vars(self.module).get("forward")) in OURS

    def copy(self, memo: dict[int, Any]) -> Occupant:
        """The same in a copied model, of which `memo` knows the modules."""
        return Occupant(memo.get(id(self.holder), self.holder), self.name, memo.get(id(self.module), self.module))


def stands(layer: LaurelLayer) -> bool:
    """Whether the modules that make f of `layer`, or hand it on, are those that a was folded into, and no hook sees
    what they make. Otherwise a is a factor of f in the sum: whatever adds to f, or looks at it, does so before.
    """
    if are_all_hooked():
        return False
    for one in layer.within:
        for place in one.places:
            if not place.is_as_it_was():
                return False
    return True


class Scaled:
    """Stands for a module's `forward`: the same, with some of its parameters multiplied with a layer's a.

    The layer asks by `did` whether it was, and applies a itself otherwise. Where it is no longer `active` it changes
    nothing: as soon as an adapter, say, copies the layer or the module alone, to stand beside the first one, a is a
    factor of f in the sum again, whichever of the two is called. So it is while another module stands in one of the
    `places`, or a hook is on one there.

    Args:
        module: a norm, a linear map or a convolution.
        layer: whose a it is.
        axes: names of the module's parameters, each with the axis along which a vector a lies, None for a number.
        places: of the modules whose calls make f or hand it on, this one among them.
    """

    def __init__(
        self,
        module: nn.Module,
        layer: LaurelLayer,
        axes: Mapping[str, int | None],
        places: Sequence[Occupant] = (),
    ) -> None:
        self.module, self.layer, self.axes, self.places = module, layer, dict(axes), tuple(places)
        self.active, self._marks = True, Here(_Called)

    def did(self) -> bool:
        """Whether this thread called it since it asked last."""
        mark = self._marks.mine
        called, mark.called = mark.called, False
        return called

    def shared(self) -> Weights | None:
        """(a, b) of this thread's last call, once; None where the sum is to make its own."""
        mark = self._marks.mine
        both, mark.both = mark.both, None
        return both

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module makes of its arguments."""
        traced = any(isinstance(one, Proxy) for one in (*args, *kwargs.values()))  # a graph of fx would set no mark
        if not self.active or traced or not as_at_first(self, stands(self.layer)):
            return type(self.module).forward(self.module, *args, **kwargs)
        regions, reader = open_regions(), self.layer.reader
        both = None if reader is None or regions or torch.compiler.is_compiling() else reader.weights()
        a, b = self.layer.residual_weights() if both is None else both
        if all(region.recomputation is None for region in regions):
            # Of a sum that is recomputed too it is known, and no other is to hear of it.
            self._marks.mine.called = True
        if not torch.compiler.is_compiling():
            # A checkpoint runs the branch without gradients, or again, where the sum is not within it.
            alike = not regions and torch.is_grad_enabled() and not is_recomputed_blindly()
            self._marks.mine.both = (a, b) if alike else None
        alone = len(args) == 1 and not kwargs
        if alone and scaled_map.fits(self.module, args[0], a) and self._is_whole():
            return scaled_map.scaled(self.module, args[0], a)
        own = {name: _scaled(getattr(self.module, name), a, axis) for name, axis in self.axes.items()}
        return type(self.module).forward(_With(self.module, own), *args, **kwargs)

    def _is_whole(self) -> bool:
        """Whether all that the module adds up is multiplied."""
        return self.axes.keys() >= {name for name, _ in self.module.named_parameters(recurse=False)}

    def __deepcopy__(self, memo: dict[int, Any]) -> Scaled:
        memo[id(self)] = copied = Scaled(self.module, self.layer, self.axes)
        if is_copied_alone(memo):
            copied.active = False
            copied.module = memo.get(id(self.module), self.module)
            copied.places = tuple(one.copy(memo) for one in self.places)
            if id(self.layer) in memo:  # its copy may be called instead, with an a of its own
                self.active = False
            return copied
        copied.active = self.active
        copied.module, copied.layer = copy.deepcopy(self.module, memo), copy.deepcopy(self.layer, memo)
        copy.deepcopy([(place.holder, place.module) for place in self.places], memo)
        copied.places = tuple(one.copy(memo) for one in self.places)
        return copied


OURS = (type(None), Scaled)  # what a module's own `forward` may be; whatever else it is may add to f


class _Called:
    called = False
    both: Weights | None = None


class Here(threading.local):
    """What `make` makes, one for every thread: a server runs one model in several."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self.mine = make, make()

    def __reduce__(self) -> tuple[type[Here], tuple[Any]]:  # a copy begins anew; the threads are no part of it
        return Here, (self._make,)


class _With:
    """A module as its own `forward` sees it, with other tensors in the place of some of its parameters."""

    def __init__(self, module: nn.Module, own: Mapping[str, Tensor | None]) -> None:
        for name, value in {**own, "_module": module}.items():  # in a form that torch 2.9 compiles too
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_module"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._module, name, value)


def _scaled(weight: Tensor | None, a: Tensor, axis: int | None) -> Tensor | None:
    """a times a weight, in the weight's own type; None, as a bias that is there no more, stays None."""
    if weight is None:
        return None
    a = a.to(weight.dtype)
    if a.dim() and axis is not None:
        a = a.view([-1 if dim == axis else 1 for dim in range(weight.dim())])
    return weight * a
