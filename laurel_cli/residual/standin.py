"""A stand-in for a layer: no parameters, no work, the outputs of an equal layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

CALL = "_laurel_call"
STANDS_FOR = "_laurel_stands_for"


def remember(layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
    """Forward hook: keep the forms of the last call's inputs and outputs, no tensors."""
    layer.__dict__[CALL] = (tree_map(_form, (args, kwargs)), tree_map(_form, output))


def stand_in(layer: nn.Module, equal: nn.Module) -> nn.Module:
    """A module of the class of `layer` and with its plain attributes, that answers as `equal` did (see `remember`)."""
    cls = type(layer)
    metaclass: Any = type(cls)
    made: nn.Module = object.__new__(metaclass(cls.__name__, (cls,), {"forward": _answer, "__getattr__": _ask}))
    nn.Module.__init__(made)
    made.__dict__.update({name: value for name, value in vars(layer).items() if name not in vars(made)})
    made.__dict__[STANDS_FOR] = equal
    made.training = layer.training
    return made


def _ask(self: nn.Module, name: str) -> Any:
    """Submodules and parameters are those of the layer that it stands for."""
    return getattr(self.__dict__[STANDS_FOR], name)


def _answer(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    inputs, outputs = self.__dict__[STANDS_FOR].__dict__[CALL]
    if not _same(tree_map(_form, (args, kwargs)), inputs):
        raise ValueError("layers of one stack are not called alike")
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]

    def answer(form: Any) -> Any:
        if not isinstance(form, _Form):
            return form
        like = next((tensor for tensor in given if _form(tensor) == form), None)
        if like is not None:  # the stream goes through: the same tensor, by an operator that costs nothing
            return like.view_as(like)
        return torch.empty(form.shape, dtype=form.dtype, device=form.device)

    return tree_map(answer, outputs)


class _Form(tuple[Any, ...]):
    """Shape, dtype and device of a tensor; no pytree of its own."""

    __slots__ = ()
    shape = property(lambda self: self[0])
    dtype = property(lambda self: self[1])
    device = property(lambda self: self[2])


def _form(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _Form((tuple(value.shape), value.dtype, value.device))
    return value


def _same(first: Any, second: Any) -> bool:
    """Equal structures of forms; other values must be equal where they are plain."""
    ours, our_tree = tree_flatten(first)
    theirs, their_tree = tree_flatten(second)
    if our_tree != their_tree:
        return False
    return all(
        a == b if isinstance(a, _Form | bool | int | float | str | None) else type(a) is type(b)
        for a, b in zip(ours, theirs, strict=True)
    )
