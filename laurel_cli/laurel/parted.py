"""The skip's gradient, added where the branch begins: no b dy of its own is made for autograd to add up.

x is read twice: by the map or norm M with which the branch begins, and by the sum. Its gradient is what M gives plus
b dy. Where the sum returns b dy, that is written, and read again when autograd adds the two. Here x is parted before M
reads it: in x_1 for M, and in v for the sum, which stands for b x without ever being made. The sum then gives dy for v
as it is, and the node that parted x adds, in one pass and in the memory of M's gradient g:

    dx = g + b dy    db = <dy, x>

M's `forward` is replaced for it, as `within` does, on the model's own object x: a sum takes v only where the skip that
it was called with is that very object, unchanged since. Whatever else happens between, the sum is made as before.
"""

from __future__ import annotations

import copy
import weakref
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from laurel_cli.laurel import fast, fast_training, worth
from laurel_cli.laurel.build import laurel_layers
from laurel_cli.laurel.fold_check import fresh
from laurel_cli.laurel.history import is_copied_alone
from laurel_cli.laurel.regions import is_recomputed_blindly, open_regions
from laurel_cli.laurel.within import Here
from laurel_cli.models.copies import copied
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.preserve import random_states

# Whose gradient is a new tensor that nobody else holds, so that it can be added to.
NORMS = (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
READERS = (*fast.MAPS, *NORMS)


@dataclass(frozen=True)
class Part:
    """What a sum takes for its skip.

    Attributes:
        x: the skip, as long as somebody else holds it; `version` and `node` what it was when it was parted.
        v: stands for b x in the graph; its numbers are those of x, of which it is no view, since that would hold x.
        both: (a, b) of Eq. 5, of which the sum reads b without its gradient: that goes through v.
        of: the version of what they are made of.
    """

    x: weakref.ref[Tensor]
    version: int
    node: Any
    v: Tensor
    both: tuple[Tensor, Tensor]
    of: int


class _Last:
    """What was parted last, for as long as its skip lives: of a pass that broke off nothing is held."""

    part: Part | None = None

    def keep(self, x: Tensor, v: Tensor, both: tuple[Tensor, Tensor], of: int) -> None:
        """Remember it; see `Part`."""

        def forget(gone: weakref.ref[Tensor]) -> None:
            if self.part is not None and self.part.x is gone:
                self.part = None

        self.part = Part(weakref.ref(x, forget), x._version, x.grad_fn, v, both, of)


class Reader:
    """Stands for the `forward` of the module with which a branch begins: the same, of an x that is parted.

    Args:
        module: of one of the types in `READERS`.
        layer: the sum that ends the branch, for which `parts` holds.
    """

    def __init__(self, module: nn.Module, layer: Any) -> None:
        self.module, self.layer, self._here = module, layer, Here(_Last)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module makes of its arguments."""
        if not torch.compiler.is_compiling():
            self._here.mine.part = None
            if len(args) == 1 and not kwargs and _fits(args[0]):
                args = (self._parted(args[0]),)
        return type(self.module).forward(self.module, *args, **kwargs)

    def _parted(self, x: Tensor) -> Tensor:
        """x for the branch; what is the sum's is remembered."""
        a, b = self.layer.residual_weights()
        if type(b) is not Tensor or b.device != x.device:
            return x
        of_branch, v = _Parted.apply(x, b.to(x.dtype))
        self._here.mine.keep(x, v, (a, b), self.layer.weights._version)
        return of_branch

    def weights(self) -> tuple[Tensor, Tensor] | None:
        """(a, b) of the skip that this thread parted last, for the branch that it is the beginning of."""
        part = self._here.mine.part
        return part.both if part is not None and part.of == self.layer.weights._version else None

    def part(self, x: Tensor) -> Part | None:
        """What this thread parted last, if that is x as it is now; it is given once."""
        last = self._here.mine
        part, last.part = last.part, None
        if part is None or part.x() is not x or part.version != x._version or part.node is not x.grad_fn:
            return None
        return None if open_regions() else part

    def __deepcopy__(self, memo: dict[int, Any]) -> Reader:
        memo[id(self)] = copied = Reader(self.module, self.layer)
        if is_copied_alone(memo):  # one of the two: what the copy parts no sum asks for, or its sum finds nothing
            copied.module, copied.layer = (memo.get(id(one), one) for one in (self.module, self.layer))
        else:
            copied.module, copied.layer = copy.deepcopy(self.module, memo), copy.deepcopy(self.layer, memo)
        return copied


def part(model: nn.Module, passes: Iterable[Inputs]) -> None:
    """Part the skips of a model's sums where their branches begin, in place.

    Args:
        model: with LAuReL, whose a may lie in its branches.
        passes: what it is called with, to see which module reads a skip before its sum does.
    """
    layers = laurel_layers(model)
    for path, name in _readers(model, passes).items():
        module, layer = model.get_submodule(name), layers[path]
        vars(module)["forward"] = vars(layer)["reader"] = Reader(module, layer)


def _readers(model: nn.Module, passes: Iterable[Inputs]) -> dict[str, str]:
    """For a layer's path, that of the first module that reads its skip, each module for one layer.

    One that reads other tensors too is left: it would part them for nobody.
    """
    if not any(map(parts, laurel_layers(model).values())):
        return {}
    scratch = copied(model)
    read: list[tuple[str, Any]] = []  # in the order of the calls; their inputs live, so that none takes another's place
    found: dict[str, str] = {}
    calls: Counter[str] = Counter()  # of each module; less those whose input a sum took for its skip

    def look(path: str, layer: Any, left: Any, right: Any, sign: int = 1, flip: bool = False, *_: Any) -> None:
        skip = left if (layer.skip == 0) != flip else right
        names = [name for name, x in read if x is skip]
        free = [name for name in names if found.get(path) == name or name not in found.values()]
        if free and found.setdefault(path, free[0]) in names:
            calls[found[path]] -= 1

    for name, module in scratch.named_modules():
        if _may_read(module):
            module.register_forward_pre_hook(lambda _, given, name=name: read.append((name, *given[:1])))
    for path, layer in laurel_layers(scratch).items():
        if parts(layer):
            layer.register_forward_pre_hook(lambda layer, given, path=path: look(path, layer, *given))
    for given in passes:
        read.clear()
        with random_states(), torch.no_grad():
            fresh(given).call(scratch)
        calls.update(name for name, _ in read)
    return {path: name for path, name in found.items() if calls[name] == 0}


def _may_read(module: nn.Module) -> bool:
    return type(module) in READERS and "forward" not in vars(module)


def parts(layer: Any) -> bool:
    """Whether a layer's sum is a f + b x, a and b two numbers."""
    return layer.spec.rw and worth.kind(layer.spec) == worth.NUMBERS and not layer.spec.vector_weights


def _fits(x: Any) -> bool:
    """Whether x can be parted here: in eager mode, where it learns, and no checkpoint is open or runs this again, since
    it may hold only the module, or only the sum.
    """
    if type(x) is not Tensor or not x.requires_grad or x.is_neg() or torch._C._len_torch_dispatch_stack() > 0:
        return False
    usual = worth.pays(x, worth.NUMBERS) and fast_training.fits(x)
    return usual and not open_regions() and not is_recomputed_blindly()


class _Parted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        of_branch = x.view_as(x)
        v = x.new_empty(0).set_(x.untyped_storage(), x.storage_offset(), x.shape, x.stride())
        # Kept is what is made here: it knows of a change of x as x does, and does not hold x.
        ctx.save_for_backward(of_branch if ctx.needs_input_grad[1] else None, b)
        ctx.set_materialize_grads(False)
        return of_branch, v

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, dv: Tensor | None) -> Any:
        if dv is None:  # no sum took it: x may have been written to since
            return g, None
        x, b = ctx.saved_tensors
        db = fast_training.inner(dv, x).view_as(b) if ctx.needs_input_grad[1] else None
        weight = fast_training.at_hand(b)
        if g is None:
            return dv * weight, db
        return g + dv * weight if torch.is_grad_enabled() else fast.plus(g, dv, weight), db
