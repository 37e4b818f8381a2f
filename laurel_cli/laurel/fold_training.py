"""Fold RW's a into its branch's last norm or map for training too: it still learns, and no pass over f is its own.

A branch that ends in gamma n + beta (a norm) or in W h + v (a linear map, a convolution) gives a f as
(a gamma) n + (a beta) or (a W) h + (a v). a is then multiplied with a few weights instead of with every element of f,
or is a factor of the product with W (`scaled_map`), and its gradient follows from the weights' own, so that f need not
be kept for the backward pass. Where RW is all there is, b dy is added to the skip's gradient where the branch begins,
see `parted`. Parameters, their names and what the model computes stay as they are. Where `fold`'s trace does not prove
that nothing else would change, or a copy is seen to compute or to learn something else, a stays in the sum.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from laurel_cli.errors import LaurelError, ModelError
from laurel_cli.laurel.addition import LearnedSum
from laurel_cli.laurel.build import laurel_layers
from laurel_cli.laurel.fold import DISAGREES, FoldedConnection, FoldReport, foldable_layers, unsettle
from laurel_cli.laurel.fold_check import SEED, changed, distance, fresh, in_dtype, trials, trusted
from laurel_cli.laurel.fold_path import Way
from laurel_cli.laurel.fold_plan import Candidate, candidates
from laurel_cli.laurel.keep import refuse_folded
from laurel_cli.laurel.layers import LaurelLayer
from laurel_cli.laurel.parted import part
from laurel_cli.laurel.within import Occupant, Scaled, unfold_training
from laurel_cli.laurel.wrapped import refuse_wrapped
from laurel_cli.models.copies import copied
from laurel_cli.models.inputs import Inputs, as_inputs
from laurel_cli.models.preserve import random_states
from laurel_cli.models.run import does_not_run
from laurel_cli.models.tensors import tensors_in

NOT_RW = "it has no a"
NOT_POSITIVE = "an activation stands between its branch's last map and the sum, and a may fall below zero"
READ_ELSEWHERE = "other code than its module's own reads {}"
NOT_A_LEAF = "{} belongs to a module that has others in it, or whose `forward` was replaced"
WITHIN = "a f + b x, a in f"


def fold_training(model: nn.Module, inputs: Any, *, more_inputs: Iterable[Any] = ()) -> FoldReport:
    """Let RW's a be a factor of its branch's last weights, in place: the same function, the same parameters.

    >>> import torch, torchvision
    >>> import laurel_cli as laurel
    >>> x = torch.randn(2, 3, 64, 64)
    >>> model = laurel.apply(torchvision.models.resnet18(), "rw", x)
    >>> print(laurel.fold_training(model, x).connections[0].branch)
    ('layer1.0.bn2.weight', 'layer1.0.bn2.bias')

    What it computes and what its parameters learn is held against the model as it was: in training mode on these
    inputs, in eval mode on changed ones. `unfold_training` takes it back; `fold` and `remove` do that themselves.
    Where another module stands in the place of one that was to multiply its weights with a (a norm was converted, an
    adapter wraps a map), a is a factor of f again; as where the layer, or such a module, is copied alone, as peft does
    for `modules_to_save`, and while such a module, or one that it stands in, has hooks: these see f. `nn.DataParallel`
    copies modules so that a copy would read the first device's a: it fails; DistributedDataParallel works.

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
    layers = foldable_layers(model)
    unfold_training(model)
    passes = [as_inputs(given, model) for given in (inputs, *more_inputs)]
    found = candidates(model, passes)
    reasons = {path: _reason(model, layers[path], one) for path, one in found.items()}
    ways = {path: one.branch for path, one in found.items() if one.branch is not None and not reasons[path]}
    missed = _missed(model, ways, passes)
    reasons |= {path: READ_ELSEWHERE.format(ways.pop(path).names[0]) for path in missed}
    kept = trusted(list(ways), lambda paths: _agrees(model, {path: ways[path] for path in paths}, passes))
    reasons |= {path: DISAGREES for path in ways if path not in kept}
    ways = {path: ways[path] for path in kept}
    _put(model, ways)
    part(model, passes)
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
        if next(module.children(), None) is not None or "forward" in vars(module):
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
        modules = {owner: model.get_submodule(owner) for owner in axes}
        layer.within = tuple(
            Scaled(modules[owner], layer, own, _places(model, path, owner)) for owner, own in axes.items()
        )
        for one in layer.within:
            vars(one.module)["forward"] = one


def _places(model: nn.Module, layer: str, owner: str) -> list[Occupant]:
    """Of the modules that may hand on what `owner` makes to the sum of `layer`: those that it stands in, up to the one
    that both stand in, and what beside these has no weights, such as dropout.
    """
    names = owner.split(".")
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(names, layer.split("."), strict=False)))
    holders = [(model.get_submodule(".".join(names[:depth])), names[depth]) for depth in range(common, len(names))]
    return [
        Occupant(holder, name, child)
        for holder, inner in holders
        for name, child in holder.named_children()
        if name == inner or next(child.parameters(), None) is None
    ]


def _missed(model: nn.Module, ways: Mapping[str, Way], passes: Sequence[Inputs]) -> list[str]:
    """Where f would come without a, since its last map is not called: none where a copy does not run.

    As in torch's attention. One call of all finds them, where to try each alone takes as many as there are sums.
    """
    folded, missed = copied(model), []
    _put(folded, ways)
    layers = laurel_layers(folded)
    for training in (True, False):
        for given in passes:
            try:
                with random_states(), torch.no_grad():
                    fresh(given).call(folded.train(training))
            except Exception:  # noqa: BLE001 - the trial of the whole says what is wrong, or of each alone
                return []
            missed += [path for path in ways if not vars(layers[path]).get("a_is_within", True)]
    return list(dict.fromkeys(missed))


def _agrees(model: nn.Module, ways: Mapping[str, Way], passes: Sequence[Inputs]) -> bool:
    """Whether a copy with other coefficients, in float64 where it can, computes and learns the same folded there."""
    for trial in trials(model):
        scratch = trial.begun(model)
        unsettle(laurel_layers(scratch).values())
        scratch = scratch.to(dtype=trial.dtype)
        given = [in_dtype(one, trial.dtype) for one in passes]
        folded = copied(scratch)
        _put(folded, ways)
        own = next(p.dtype for p in scratch.parameters() if p.is_floating_point())
        try:
            before = [(one, True, _learned(copied(scratch), one, training=True)) for one in given]
            before += [_changed(scratch, one) for one in given]
        except LaurelError:
            raise
        except Exception as error:
            if trial.is_last:
                raise does_not_run(error) from error
            continue
        after = []
        for one, training, _ in before:
            other = copied(folded)
            try:
                after.append(_learned(other, one, training=training))
            except Exception:  # noqa: BLE001 - a module's code looks into what it is called with, in whatever way
                return False
            layers = laurel_layers(other)
            if not all(vars(layers[path]).get("a_is_within", True) for path in ways):  # its weights are read elsewhere
                return False
        # Rounding grows on its way through norms of a batch, by 7,000 times in a ResNet-50: what a factor that is lost
        # or counted twice does is far above.
        allowed = torch.finfo(own).eps ** 0.5
        return all(
            distance(one, other) <= allowed
            for (_, _, expected), found in zip(before, after, strict=True)
            for one, other in zip(expected, found, strict=True)
        )
    return False


def _changed(model: nn.Module, given: Inputs) -> tuple[Inputs, bool, list[list[Tensor]]]:
    """In eval mode on changed inputs, or on these where it does not run on them: its code may ask for an order."""
    other = changed(given)
    try:
        return other, False, _learned(copied(model), other, training=False)
    except Exception:  # noqa: BLE001 - in whatever way it does not run
        return given, False, _learned(copied(model), given, training=False)


def _learned(model: nn.Module, given: Inputs, *, training: bool) -> list[list[Tensor]]:
    """Its outputs, its gradients, and what its buffers hold afterwards."""
    named = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with random_states(), torch.enable_grad():
        torch.manual_seed(SEED)
        found = [one for one in tensors_in(fresh(given).call(model.train(training))) if one.is_floating_point()]
        if not found or not any(one.requires_grad for one in found):
            raise ModelError("A folded model could not be checked.", "Nothing that this one returns has a gradient.")
        generator = torch.Generator().manual_seed(SEED)
        total = torch.stack([(one * torch.randn(one.shape, generator=generator).to(one)).sum().cpu() for one in found])
        for parameter in named:
            parameter.grad = None
        total.sum().backward()  # not `autograd.grad`, which reentrant checkpoints refuse
    every = [parameter.grad for parameter in named]
    gradients = [one.to_dense() if one.is_sparse else one for one in every if one is not None]
    outputs = [one.detach() for one in found]
    # In one tensor: a gradient that is zero but for rounding is held against the others' size.
    flat = [torch.cat([one.flatten().cpu() for one in gradients])] if gradients else []
    return [outputs, flat, [buffer.detach().clone() for buffer in model.buffers() if buffer.is_floating_point()]]
