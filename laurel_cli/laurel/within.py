"""RW's a within a module that makes the branch: its weights are multiplied with a in use, and both of them learn."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from laurel_cli.laurel.layers import LaurelLayer


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
    for module in model.modules():
        if isinstance(vars(module).get("forward"), Scaled):
            del vars(module)["forward"]
        if isinstance(module, LaurelLayer):
            for one in module.within:  # whoever wraps a module's `forward` may still hold it
                one.active = False
            module.within = ()
            vars(module).pop("a_is_within", None)
    return model


class Scaled:
    """Stands for a module's `forward`: the same, with some of its parameters multiplied with a layer's a.

    The layer asks by `did` whether it was, and applies a itself otherwise. Where it is no longer `active` it changes
    nothing.

    Args:
        module: a norm, a linear map or a convolution.
        layer: whose a it is.
        axes: names of the module's parameters, each with the axis along which a vector a lies, None for a number.
    """

    def __init__(self, module: nn.Module, layer: LaurelLayer, axes: Mapping[str, int | None]) -> None:
        self.module, self.layer, self.axes = module, layer, dict(axes)
        self.active, self._marks = True, _CalledHere()

    def did(self) -> bool:
        """Whether this thread called it since it asked last."""
        mark = self._marks.mine
        called, mark.called = mark.called, False
        return called

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module makes of its arguments."""
        if not self.active:
            return type(self.module).forward(self.module, *args, **kwargs)
        self._marks.mine.called = True
        a, _ = self.layer.residual_weights()
        own = {name: _scaled(getattr(self.module, name), a, axis) for name, axis in self.axes.items()}
        return type(self.module).forward(_With(self.module, own), *args, **kwargs)


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
