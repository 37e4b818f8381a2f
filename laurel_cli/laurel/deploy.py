"""A folded model as one file that PyTorch opens by itself: no source of the model, and no laurel."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from laurel_cli.errors import ModelError
from laurel_cli.laurel.fold import AS_IT_WAS, FoldReport, fold
from laurel_cli.laurel.fold_check import distance, outputs
from laurel_cli.laurel.fold_maps import merge_maps
from laurel_cli.laurel.fold_norms import merge_norms
from laurel_cli.models.guard import said
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.tensors import tensors_in
from laurel_cli.records.files import replacing

PROGRAM = "model.pt2"


@dataclass(frozen=True)
class Deployed:
    """What `deploy` wrote.

    Attributes:
        connections: that are learned, and `folded` of how many a or b, where they have these, is in the weights now.
        plain: how many are the ordinary sum again.
        sums: what is added now, "f + b x" and the like, and at how many connections.
        norms: batch norms that are part of a convolution now.
        left: those that stayed as they were, each with the reason.
        dtype: of the weights.
        difference: largest difference of an output over its largest value, of the file as PyTorch opens it from the
            model, on the example inputs.
        batch: how many samples the file takes, 0 for any.
    """

    connections: int
    folded: int
    plain: int
    sums: dict[str, int]
    norms: int
    left: tuple[str, ...]
    dtype: str
    difference: float
    batch: int


class _Tensors(nn.Module):
    """A model that returns its tensors alone, so that who opens the file needs no class of the model's.

    Its arguments have names of their own: of two within **kwargs that have one size, the file could not check it.
    """

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.model = model
        names = [Parameter(f"args_{i}", Parameter.POSITIONAL_OR_KEYWORD) for i in range(len(inputs.args))]
        names += [Parameter(name, Parameter.KEYWORD_ONLY) for name in inputs.kwargs]

        def forward(*args: Any, **kwargs: Any) -> Tensor | tuple[Tensor, ...]:
            found = tuple(tensors_in(self.model(*args, **kwargs)))
            return found[0] if len(found) == 1 else found

        forward.__signature__ = Signature(names)  # type: ignore[attr-defined]
        self.forward = forward


def merge(model: nn.Module, inputs: Inputs) -> tuple[int, Counter[str]]:
    """Merge batch norms into convolutions, and low-rank maps into a model's own maps, in place.

    Args:
        model: as `fold` made it, or without LAuReL, in eval mode; it is for inference from here on.
        inputs: what it is called with.

    Returns:
        How many norms are gone, and at how many connections what is added then.
    """
    report = vars(model).get("laurel_folded")
    norms = merge_norms(model, inputs)
    if not isinstance(report, FoldReport):
        return norms, Counter()
    forms = {path: model.get_submodule(path).form for path in merge_maps(model, inputs)}
    return norms, Counter(str(forms.get(one.layer, one.form)) for one in report.connections)


def deploy(model: nn.Module, inputs: Inputs, folder: Path) -> Deployed:
    """Fold a model's LAuReL into its weights and write it as an exported program, `model.pt2`.

    Batch norms and low-rank maps are merged into the model's own maps, unless rounding then moves the outputs further
    than folding alone may. `torch.export.load(folder / "model.pt2").module()` opens it, called as the model is; it
    returns the model's tensors, one or a tuple.

    Args:
        model: with LAuReL or a rival, on the CPU; left as it was.
        inputs: what it is called with, two samples or more where the file is to take any number.
        folder: there already.

    Raises:
        ModelError: it has no LAuReL, cannot be folded or exported, or what was written computes something else.
        ResourceError: the file cannot be written.
    """
    path, expected = folder / PROGRAM, outputs(model, inputs)
    for merging in (True, False):
        folded = fold(model, inputs)
        report: FoldReport = folded.laurel_folded  # type: ignore[assignment]
        sums, norms = Counter(one.form for one in report.connections), 0
        if merging:
            norms, sums = merge(folded, inputs)
        written = io.BytesIO()
        torch.export.save(_exported(_Tensors(folded, inputs).eval(), inputs), written)
        opened = torch.export.load(io.BytesIO(written.getbuffer())).module()
        difference = distance(expected, _called(opened, inputs))
        allowed = max(check.allowed for check in report.checks)
        if difference <= allowed:
            break
    else:
        raise ModelError(
            f"{path} would not compute what the model computes.",
            f"Its outputs are {difference:.2g} apart, relative to the largest.",
            "torch.export takes the way that the example inputs take: give those that the model will get.",
        )
    with replacing(path, force=True) as file:
        file.write(written.getbuffer())
    left = [one for one in report.connections if one.form == AS_IT_WAS]
    return Deployed(
        connections=len(report.connections),
        folded=sum(bool(one.branch or one.skip) for one in report.connections),
        plain=sums["f + x"],
        sums=dict(sums),
        norms=norms,
        left=tuple(f"{one.name}: {one.reason}" for one in left),
        dtype=next(str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.is_floating_point()),
        difference=difference,
        batch=_batch(opened, model, inputs, allowed),
    )


def _exported(model: nn.Module, inputs: Inputs) -> torch.export.ExportedProgram:
    """The program, free in the first dimension of every input where the model allows it."""
    given = (model, inputs.args, dict(inputs.kwargs))
    sizes = torch.export.ShapesCollection()
    for tensor in tensors_in((inputs.args, inputs.kwargs)):
        if tensor.dim():
            sizes[tensor] = {0: torch.export.Dim.AUTO}
    try:
        with torch.no_grad():
            return torch.export.export(*given, dynamic_shapes=sizes.dynamic_shapes(*given), strict=False)
    except Exception:  # noqa: BLE001 - a size that the model fixes is refused in several ways: so all are fixed
        pass
    try:
        with torch.no_grad():
            return torch.export.export(*given, strict=False)
    except Exception as error:
        raise ModelError("The folded model cannot be exported.", said(error)) from error


@torch.no_grad()
def _called(opened: nn.Module, inputs: Inputs) -> list[Tensor]:
    """What an exported program returns; it has no mode to be put into."""
    return [tensor for tensor in tensors_in(inputs.call(opened)) if tensor.is_floating_point()]


def _batch(opened: nn.Module, model: nn.Module, inputs: Inputs, allowed: float) -> int:
    """How many samples the file takes: 0 where it computes what the model does for one, and for one more than the
    example has."""
    batch = next((t.shape[0] for t in tensors_in((inputs.args, inputs.kwargs)) if t.dim()), 1)

    def with_samples(number: int) -> Inputs:
        def change(tensor: Tensor) -> Tensor:
            if not tensor.dim() or tensor.shape[0] != batch:
                return tensor
            return tensor[:number] if number < batch else torch.cat([tensor, tensor[: number - batch]])

        return Inputs(*tree_map_only(Tensor, change, (inputs.args, inputs.kwargs)))

    for number in (1, batch + 1):
        other = with_samples(number)
        try:
            alike = distance(outputs(model, other), _called(opened, other)) <= allowed
        except Exception:  # noqa: BLE001 - the program refuses other sizes in several ways; so may the model
            alike = False
        if not alike:
            return batch
    return 0
