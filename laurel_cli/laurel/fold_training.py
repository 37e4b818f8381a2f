"""Fold RW's a into its branch's last norm or map for training too: it still learns, and no pass over f is its own.

A branch that ends in gamma n + beta (a norm) or in W h + v (a linear map, a convolution) gives a f as
(a gamma) n + (a beta) or (a W) h + (a v). a is then multiplied with a few weights instead of with every element of f,
and its gradient is the weights' own, so that f need not be kept for the backward pass. Parameters, their names and what
the model computes stay as they are. Where `fold`'s trace does not prove that nothing else would change, or a copy is
seen to compute or to learn something else, a stays in the sum.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from laurel_cli.errors import ModelError
from laurel_cli.laurel.addition import LearnedSum
from laurel_cli.laurel.build import laurel_layers
from laurel_cli.laurel.fold import DISAGREES, LARGEST, FoldedConnection, FoldReport, unsettle
from laurel_cli.laurel.fold_check import LEAST, SEED, changed, distance, in_dtype
from laurel_cli.laurel.fold_path import HOOKS, Way
from laurel_cli.laurel.fold_plan import Candidate, candidates
from laurel_cli.laurel.keep import refuse_folded
from laurel_cli.laurel.layers import LaurelLayer
from laurel_cli.laurel.within import Scaled, unfold_training
from laurel_cli.laurel.wrapped import refuse_wrapped
from laurel_cli.models.copies import copied
from laurel_cli.models.inputs import Inputs, as_inputs
from laurel_cli.models.preserve import random_states
from laurel_cli.models.tensors import held, tensors_in

NOT_RW = "it has no a"
NOT_POSITIVE = "an activation stands between its branch's last map and the sum, and a may fall below zero"
NOT_A_LEAF = "{} is read by a module that has others in it, or whose calls are somebody else's"
WITHIN = "a f + b x, a in f"


def fold_training(model: nn.Module, inputs: Any, *, more_inputs: Iterable[Any] = ()) -> FoldReport:
    """Let RW's a be a factor of its branch's last weights, in place: the same function, the same parameters.

    >>> import torch, torchvision
    >>> import laurel_cli as laurel
    >>> x = torch.randn(2, 3, 64, 64)
    >>> model = laurel.apply(torchvision.models.resnet18(), "rw", x)
    >>> print(laurel.fold_training(model, x).connections[0].branch)
    ('layer1.0.bn2.weight', 'layer1.0.bn2.bias')

    What it computes and what its parameters learn is held against the model as it was, in training mode and in eval
    mode, on these inputs and on changed ones. `unfold_training` takes it back; `fold` and `remove` do that themselves.
    What puts other modules in the place of the branch's maps, as peft does, comes first: a would miss what is put there
    later.

    Args:
        model: with LAuReL in its place, not wrapped, its coefficients learning.
        inputs: what it is called with. Sums that they do not reach are left as they are.
        more_inputs: others, for what it computes on other ways, as for `fold`.

    Returns:
        For every connection, the parameters that a is multiplied with when they are used, or why it is not.

    Raises:
        ModelError: the model has no LAuReL, is wrapped, folded for inference or without weights, or does not run.
    """
    refuse_wrapped(model)
    refuse_folded(model)
    layers = laurel_layers(model)
    if not layers:
        raise ModelError("This model has no LAuReL.", "There is nothing to fold.", "Put it there first: apply(...).")
    if any(tensor.is_meta for tensor in held(model)):
        raise ModelError("This model has no weights.", "Its tensors are on the meta device: there is nothing to fold.")
    unfold_training(model)
    passes = [as_inputs(given, model) for given in (inputs, *more_inputs)]
    found = candidates(model, passes)
    reasons = {path: _reason(model, layers[path], one) for path, one in found.items()}
    ways = {path: one.branch for path, one in found.items() if one.branch is not None and not reasons[path]}
    for path in _differing(model, ways, passes):
        reasons[path] = DISAGREES
        del ways[path]
    _put(model, ways)
    done = []
    for path, layer in layers.items():
        entry = FoldedConnection(found[path].name, path, layer.spec.name, reason=reasons[path])
        done.append(replace(entry, branch=ways[path].names, form=WITHIN) if path in ways else entry)
    return FoldReport(tuple(done))


def _reason(model: nn.Module, layer: LearnedSum, found: Candidate) -> str:
    """Why a stays in the sum; "" where it can go."""
    way = found.branch
    if not isinstance(layer, LaurelLayer) or not layer.spec.rw:
        return NOT_RW
    if found.reason or way is None:
        return found.reason or found.branch_reason
    if way.positive and layer.spec.normalize == "none":
        return NOT_POSITIVE
    for name in way.names:
        module = model.get_submodule(name.rpartition(".")[0])
        hooked = any(getattr(module, hooks, None) for hooks in HOOKS)
        if next(module.children(), None) is not None or hooked or "forward" in vars(module):
            return NOT_A_LEAF.format(name)
    return ""


def _put(model: nn.Module, ways: Mapping[str, Way]) -> None:
    """Fold at these layers, in place."""
    layers = laurel_layers(model)
    for path, way in ways.items():
        layer: Any = layers[path]
        axes: dict[str, dict[str, int | None]] = defaultdict(dict)
        for target in way.targets:
            owner, _, name = target.name.rpartition(".")
            axes[owner][name] = target.axis
        for owner, own in axes.items():
            module = model.get_submodule(owner)
            vars(module)["forward"] = Scaled(module, layer, own)
        layer.a_is_within = True


def _differing(model: nn.Module, ways: Mapping[str, Way], passes: Sequence[Inputs]) -> list[str]:
    """The layers with which a folded copy was seen to compute or to learn something else."""
    if not ways or _agrees(model, ways, passes):
        return []
    wrong = [path for path, way in ways.items() if not _agrees(model, {path: way}, passes)]
    left = {path: way for path, way in ways.items() if path not in wrong}
    return list(ways) if left and not _agrees(model, left, passes) else wrong


def _agrees(model: nn.Module, ways: Mapping[str, Way], passes: Sequence[Inputs]) -> bool:
    """Whether a copy with other coefficients, in float64 where it can, computes and learns the same folded there."""
    for exact in (True, False):
        if exact and sum(parameter.numel() for parameter in model.parameters()) > LARGEST:
            continue
        scratch = copied(model)
        unsettle(laurel_layers(scratch).values())
        scratch = scratch.double() if exact else scratch
        given = [in_dtype(one, torch.float64) if exact else one for one in passes]
        given += [changed(one) for one in given]
        folded = copied(scratch)
        _put(folded, ways)
        dtype = torch.float64 if exact else next(p.dtype for p in scratch.parameters() if p.is_floating_point())
        try:
            before = [list(_learned(scratch, one)) for one in given]
        except Exception:
            if exact:  # its code asks for a dtype
                continue
            raise
        after = [list(_learned(folded, one)) for one in given]
        # The gradients of a sum of many outputs: rounding of many terms, and the same terms in another order.
        allowed = LEAST**2 * torch.finfo(dtype).eps
        return all(
            distance(one, other) <= allowed
            for pair in zip(before, after, strict=True)
            for one, other in zip(*pair, strict=True)
        )
    return False


def _learned(model: nn.Module, given: Inputs) -> Iterator[list[Tensor]]:
    """Outputs and gradients in training mode and in eval mode; what its buffers hold afterwards."""
    named = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for training in (True, False):
        with random_states(), torch.enable_grad():
            torch.manual_seed(SEED)
            found = [one for one in tensors_in(given.call(model.train(training))) if one.is_floating_point()]
            generator = torch.Generator().manual_seed(SEED)
            total = torch.stack([(one * torch.randn(one.shape, generator=generator).to(one)).sum() for one in found])
            gradients = torch.autograd.grad(total.sum(), named, allow_unused=True)
        yield [one.detach() for one in found]
        # In one tensor: a gradient that is zero but for rounding is held against the others' size.
        yield [torch.cat([one.flatten() for one in gradients if one is not None])] if gradients else []
    yield [buffer.detach().clone() for buffer in model.buffers() if buffer.is_floating_point()]
