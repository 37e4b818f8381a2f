"""Fold what LAuReL has learned into a model's own weights, for inference: what is left are plain sums, or nearly.

At a connection x' = a f + b (x + ...) the number a goes into the last affine map of the branch, b into that of a
projected skip, or stays as the factor of the addition. Where the trace does not prove that nothing else would change,
the connection stays as it is, and the report says why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from laurel_cli.errors import ModelError
from laurel_cli.laurel import keep, rewrite
from laurel_cli.laurel.addition import LearnedSum
from laurel_cli.laurel.build import FAST_PATH, LAYOUT, connect, laurel_layers
from laurel_cli.laurel.fold_check import (
    Agreement,
    agreements,
    comparable,
    expectations,
    in_dtype,
    outputs,
    trials,
    trusted,
)
from laurel_cli.laurel.fold_layer import FoldedSum, Numbers, numbers, scaled
from laurel_cli.laurel.fold_path import Way
from laurel_cli.laurel.fold_plan import Candidate, candidates
from laurel_cli.laurel.layout import Member
from laurel_cli.laurel.within import unfold_training
from laurel_cli.laurel.wrapped import refuse_wrapped
from laurel_cli.models.copies import copied
from laurel_cli.models.inputs import Inputs, as_inputs
from laurel_cli.models.tensors import held

if TYPE_CHECKING:
    import pandas as pd

DISAGREES = "the folded model was seen to compute something else there"
OVERFLOWS = "a weight of its branch's last map, multiplied, is too large for its dtype"
NOT_POSITIVE = "an activation stands between its branch's last map and the sum, and a is not above zero"
AS_IT_WAS = "as it was"


@dataclass(frozen=True)
class FoldedConnection:
    """What became of one learned sum.

    Attributes:
        name: of the connection; `layer` the path of its LAuReL layer; `formula` what stood there.
        branch, skip: names of the parameters into which a and b were multiplied.
        form: what is added now: "f + x", "f + b x", "f + b x + B A x", ...; "as it was" where nothing was folded.
        reason: why a factor was not folded; "" where all were.
    """

    name: str
    layer: str
    formula: str
    branch: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    form: str = AS_IT_WAS
    reason: str = ""


@dataclass(frozen=True)
class FoldReport:
    """What `fold` did, and how far the folded model's outputs were from the original's, as `laurel_folded` of it.

    Attributes:
        connections: in the order of the layers.
        checks: with other coefficients, on the inputs and on changed ones; the last ones with the model's own.
    """

    connections: tuple[FoldedConnection, ...]
    checks: tuple[Agreement, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """A row a connection."""
        from pandas import DataFrame

        return DataFrame([vars(connection) for connection in self.connections])

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html())

    def __str__(self) -> str:
        lines = []
        for one in self.connections:
            into = f", into {', '.join((*one.branch, *one.skip))}" if one.branch or one.skip else ""
            lines.append(f"{one.name}: {one.form}{into}" + f" ({one.reason})" * bool(one.reason))
        return "\n".join(lines)


def fold(model: nn.Module, inputs: Any, *, more_inputs: Iterable[Any] = ()) -> nn.Module:
    """Make a copy of a model in which LAuReL's coefficients are part of the weights, for inference.

    >>> import torch, torchvision
    >>> import laurel_cli as laurel
    >>> x = torch.randn(1, 3, 64, 64)
    >>> model = laurel.apply(torchvision.models.resnet18().eval(), "rw", x)
    >>> with torch.no_grad():
    ...     for parameter in laurel.parameters(model):
    ...         _ = parameter.copy_(torch.tensor([0.2, -0.1]))
    >>> folded = laurel.fold(model, x)
    >>> print(folded.laurel_folded.connections[0].branch, folded.laurel_folded.connections[0].form)
    ('layer1.0.bn2.weight', 'layer1.0.bn2.bias') f + b x
    >>> torch.allclose(folded(x), model(x), rtol=1e-4, atol=1e-5)
    True

    The copy is in eval mode and computes what the model computes, to rounding; this is checked, on the inputs and on
    changed ones, before it is returned. In training mode it computes the same function too, batch statistics included,
    as far as it uses its weights as in eval mode: no further head that reads a branch's last map, and no dropout behind
    that map where the sum has a bias (that of `affine`), which becomes the map's own. But a and b are numbers that no
    longer learn: train the model that it was made of.

    Args:
        model: with LAuReL or a rival in its place, not wrapped; left as it is.
        inputs: what it is called with. Weights that these inputs do not reach are left alone.
        more_inputs: others, for what it computes on other ways (with a cache, with an optional argument, at another
            size). A way on which a branch's last map is used otherwise, and that no inputs take, is not seen.

    Returns:
        The copy; its attribute `laurel_folded`, a `FoldReport`, says of each connection what was folded where, or why
        not. A copy of the model itself where it is folded already.

    Raises:
        ModelError: it has no LAuReL, is wrapped or without weights, or does not run on its inputs.
    """
    refuse_wrapped(model)
    if keep.FOLDED in vars(model):
        return copied(model)
    layers = foldable_layers(model)
    passes = [as_inputs(given, model) for given in (inputs, *more_inputs)]
    expected = [(given, outputs(model, given)) for given in passes]
    if any(getattr(layer, "within", ()) for layer in layers.values()):
        model = unfold_training(copied(model))
    found = candidates(model, passes)
    if not all(comparable(tensors) for _, tensors in expected):
        raise ModelError("A folded model could not be checked.", "This one returns no finite numbers on these inputs.")
    folded = copied(model).eval()
    done = _apply(folded, _trusted(model, found, passes))
    _tidy(folded)
    checks = agreements(expected, copied(folded))
    if not all(check.holds for check in checks):
        worst = max(checks, key=lambda check: check.error / check.allowed)
        raise ModelError(
            "The folded model does not compute what the model computes.",
            f"Its outputs are {worst.error:.2g} apart, relative to the largest; rounding explains {worst.allowed:.2g}.",
        )
    vars(folded)[keep.FOLDED] = FoldReport(tuple(done[layer] for layer in layers), checks)
    return folded


def foldable_layers(model: nn.Module) -> dict[str, LearnedSum]:
    """The layers of a model whose LAuReL can be folded, by their paths.

    Raises:
        ModelError: it has no LAuReL, or no weights.
    """
    layers = laurel_layers(model)
    if not layers:
        raise ModelError("This model has no LAuReL.", "There is nothing to fold.", "Put it there first: apply(...).")
    if any(tensor.is_meta for tensor in held(model)):
        raise ModelError("This model has no weights.", "Its tensors are on the meta device: there is nothing to fold.")
    return layers


def _trusted(model: nn.Module, found: Mapping[str, Candidate], passes: Sequence[Inputs]) -> dict[str, Candidate]:
    """The candidates, with a reason those with which a folded copy was seen to compute something else."""
    foldable = [layer for layer, candidate in found.items() if not candidate.reason]
    kept = trusted(foldable, lambda layers: _agrees(model, found, layers, passes))
    return dict(found) | {layer: replace(found[layer], reason=DISAGREES) for layer in foldable if layer not in kept}


def _agrees(
    model: nn.Module, found: Mapping[str, Candidate], layers: Collection[str], passes: Sequence[Inputs]
) -> bool:
    """Whether a copy with other coefficients, in float64 where it can, computes the same with `layers` folded."""
    for trial in trials(model):
        scratch = trial.begun(model)
        unsettle(laurel_layers(scratch).values())
        given = [in_dtype(inputs, trial.dtype) for inputs in passes]
        try:
            expected = expectations(scratch.to(dtype=trial.dtype), given)
        except Exception:
            if trial.is_last:
                raise
            continue
        _apply(scratch, {layer: candidate for layer, candidate in found.items() if layer in layers})
        _tidy(scratch)
        return all(one.holds for one in agreements(expected, scratch))
    return False


@torch.no_grad()
def unsettle(layers: Iterable[LearnedSum]) -> None:
    """Give coefficients other values, so that a factor that is lost is seen: at their start many are 1 or 0."""
    generator = torch.Generator().manual_seed(0)
    for layer in layers:
        for parameter in layer.parameters():
            noise = torch.randn(parameter.shape, generator=generator).abs()
            if parameter.dim() > 1:
                noise = noise / parameter[0].numel() ** 0.5
            parameter.add_((0.3 * noise).to(parameter))


def _apply(model: nn.Module, found: Mapping[str, Candidate]) -> dict[str, FoldedConnection]:
    """Fold at each candidate, in place; what became of it."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    layers = laurel_layers(model)
    done = {}
    for path, candidate in found.items():
        layer = layers[path]
        entry = FoldedConnection(candidate.name, path, layer.spec.name)
        if candidate.reason or candidate.member is None:
            done[path] = replace(entry, reason=candidate.reason)
            continue
        done[path], made = _fold(layer, candidate, candidate.member, parameters, entry)
        if made is not None:
            _put(model, layer, made)
    connect(laurel_layers(model).values())
    return done


def _fold(
    layer: LearnedSum,
    candidate: Candidate,
    member: Member,
    parameters: Mapping[str, nn.Parameter],
    entry: FoldedConnection,
) -> tuple[FoldedConnection, FoldedSum | None]:
    """One connection: its factors go into `parameters`, and what is left of its layer is a `FoldedSum`."""
    found: Numbers = numbers(layer)
    a, b, bias = found.a, found.b, found.bias
    branch, skip = candidate.branch, candidate.skip
    if not bool((a == 1).all()):
        if branch is None:
            return replace(entry, reason=candidate.branch_reason), None
        if not _multiplied(parameters, branch, a):
            return replace(entry, reason=OVERFLOWS if bool((a > 0).all()) else NOT_POSITIVE), None
        entry = replace(entry, branch=branch.names)
    if branch is not None and branch.bias is not None and branch.bias.axis is not None and bool(bias.any()):
        own = parameters[branch.bias.name]
        with torch.no_grad():
            own.copy_((own.detach().cpu().double() + bias).to(own.dtype))
        entry = replace(entry, branch=branch.names)
        bias = torch.zeros_like(bias)
    if skip is not None and not bool((b == 1).all()) and _multiplied(parameters, skip, b):
        entry = replace(entry, skip=skip.names)
        b = torch.ones_like(b)
    made = FoldedSum(layer, member, b, bias)
    return replace(entry, form=made.form), made


@torch.no_grad()
def _multiplied(parameters: Mapping[str, nn.Parameter], way: Way, factor: Tensor) -> bool:
    """Multiply all parameters of a way, or none: where the way asks for a positive factor, or one would overflow."""
    if way.positive and not bool((factor > 0).all()):
        return False
    before = {name: parameters[name].detach().clone() for name in way.names}
    done = all(scaled(parameters[target.name], factor, target.axis) for target in way.targets)
    for name, value in () if done else before.items():
        parameters[name].copy_(value)
    return done


def _put(model: nn.Module, layer: LearnedSum, made: FoldedSum) -> None:
    """Let `made` stand wherever `layer` stands."""
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if child is layer:
                module._modules[name] = made
        for name, value in vars(module).items():
            if value is layer:
                vars(module)[name] = made


def _tidy(model: nn.Module) -> None:
    """Take away what does nothing any more: sums that are plain stand in the source as they were."""
    layers = laurel_layers(model).values()
    if all(isinstance(layer, FoldedSum) and layer.is_plain for layer in layers):
        keep.remove(model)
        return
    modules = list(model.modules())
    gone: set[int] = set()
    for module in modules:
        kind: Any = type(module)
        made: Any = rewrite.made_class(kind)
        if made is None or kind is not made:
            continue
        left = [edit for edit in made.laurel_edits if edit.kind != "sum" or not _is_plain(module, edit.attribute)]
        gone |= {id(getattr(module, edit.attribute)) for edit in made.laurel_edits if edit not in left}
        if len(left) == len(made.laurel_edits):
            continue
        saves = callable(getattr(made.laurel_base, "save_pretrained", None))  # which a folded model refuses
        base = made.laurel_base
        module.__class__ = rewrite.rewritten_class(base, rewrite.Edits(left)) if left or saves else base
    for module in modules:
        vars(module).pop(LAYOUT, None)
        for store in (module._modules, vars(module)):
            for name in [name for name, value in store.items() if id(value) in gone]:
                del store[name]
        if FAST_PATH in vars(module) and not laurel_layers(module):
            module.activation_relu_or_gelu = vars(module).pop(FAST_PATH)


def _is_plain(module: nn.Module, attribute: str) -> bool:
    layer = getattr(module, attribute)
    return isinstance(layer, FoldedSum) and layer.is_plain
