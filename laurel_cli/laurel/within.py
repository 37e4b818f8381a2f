"""RW's a within a module that makes the branch: its weights, or its product, have a as a factor, and both learn."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from laurel_cli.laurel import scaled_map
from laurel_cli.laurel.fast import HOOKS
from laurel_cli.laurel.history import is_copied_alone
from laurel_cli.laurel.regions import as_at_first, is_recomputed, is_recomputed_blindly, open_regions

if TYPE_CHECKING:
    from laurel_cli.laurel.layers import LaurelLayer

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
    from laurel_cli.laurel.layers import LaurelLayer  # which imports this module

    for module in model.modules():
        if isinstance(vars(module).get("forward"), Scaled):
            del vars(module)["forward"]
        if isinstance(module, LaurelLayer):
            for one in vars(module).pop("within", ()):  # whoever wraps a module's `forward` may still hold it
                one.active = False
            vars(module).pop("a_is_within", None)
    return model


def came_with_a(layer: LaurelLayer) -> bool:
    """Whether f was multiplied with a on its way to `layer`, in this call.

    Another module may stand in the place of one that was to do it (a norm is converted, an adapter is put on), or the
    branch may end elsewhere in this call: a is a factor of f in the sum then.

    Raises:
        RuntimeError: a part of what f is made of was, and another part was not; or a checkpoint that cannot tell of
            which pass it is a part runs the sum again, without the branch.
    """
    did = [one.did() for one in layer.within]
    if any(did) and not all(did):
        raise RuntimeError(PARTLY)
    if not any(did) and is_recomputed_blindly() and not open_regions() and layer.a_is_within:  # the last time
        raise RuntimeError(REENTRANT)
    return as_at_first(layer, all(did))


class Scaled:
    """Stands for a module's `forward`: the same, with some of its parameters multiplied with a layer's a.

    The layer asks by `did` whether it was, and applies a itself otherwise. Where it is no longer `active` it changes
    nothing: as soon as an adapter, say, copies the layer or the module alone, to stand beside the first one, a is a
    factor of f in the sum again, whichever of the two is called. So it is while somebody has hooks on a module that
    makes f or hands it on: they see f, and what they make of it is multiplied with a.

    Args:
        module: a norm, a linear map or a convolution.
        layer: whose a it is.
        axes: names of the module's parameters, each with the axis along which a vector a lies, None for a number.
        passing: the modules whose calls make f or hand it on, this one among them.
    """

    passing: tuple[nn.Module, ...] = ()

    def __init__(
        self,
        module: nn.Module,
        layer: LaurelLayer,
        axes: Mapping[str, int | None],
        passing: Sequence[nn.Module] = (),
    ) -> None:
        self.module, self.layer, self.axes, self.passing = module, layer, dict(axes), tuple(passing)
        self.active, self._marks = True, _CalledHere()

    def did(self) -> bool:
        """Whether this thread called it since it asked last."""
        mark = self._marks.mine
        called, mark.called = mark.called, False
        return called

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module makes of its arguments."""
        if not self.active or as_at_first(self, self._is_seen()):
            return type(self.module).forward(self.module, *args, **kwargs)
        if not is_recomputed():  # of a sum that is recomputed too it is known, and no other is to hear of it
            self._marks.mine.called = True
        a, _ = self.layer.residual_weights()
        alone = len(args) == 1 and not kwargs
        if alone and scaled_map.fits(self.module, args[0], a) and self._is_whole():
            return scaled_map.scaled(self.module, args[0], a)
        own = {name: _scaled(getattr(self.module, name), a, axis) for name, axis in self.axes.items()}
        return type(self.module).forward(_With(self.module, own), *args, **kwargs)

    def _is_seen(self) -> bool:
        """Whether a hook would see a f."""
        for module in self.passing:
            own = vars(module)
            for hooks in HOOKS:
                if own[hooks]:
                    return True
        return False

    def _is_whole(self) -> bool:
        """Whether all that the module adds up is multiplied."""
        return self.axes.keys() >= {name for name, _ in self.module.named_parameters(recurse=False)}

    def __deepcopy__(self, memo: dict[int, Any]) -> Scaled:
        memo[id(self)] = copied = Scaled(self.module, self.layer, self.axes)
        if is_copied_alone(memo):
            copied.active = False
            copied.module = memo.get(id(self.module), self.module)
            copied.passing = tuple(memo.get(id(one), one) for one in self.passing)
            if id(self.layer) in memo:  # its copy may be called instead, with an a of its own
                self.active = False
            return copied
        copied.active = self.active
        copied.module, copied.layer = copy.deepcopy(self.module, memo), copy.deepcopy(self.layer, memo)
        copied.passing = tuple(copy.deepcopy(one, memo) for one in self.passing)
        return copied


class _Called:
    called = False


class _CalledHere(threading.local):
    """One for every thread: a server runs one model in several."""

    def __init__(self) -> None:
        self.mine = _Called()

    def __reduce__(
        self,
    ) -> tuple[type[_CalledHere], tuple[()]]:  # a copy begins with none; the threads are no part of it
        return _CalledHere, ()


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
