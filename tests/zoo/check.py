"""What one model of the zoo must show: its connections, and LAuReL in their place in every variant.

The closed forms and the expected counts stand here and in `expected.py`, written apart from the code under test.
"""

from __future__ import annotations

import copy
import gc
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from laurel_cli.laurel.apply import apply_laurel, laurel_layers
from laurel_cli.models.inputs import Inputs
from laurel_cli.residual import find_connections
from laurel_cli.residual.find import Connection, ResidualMap
from tests.zoo.case import Case, DoesNotRunError, first_that_runs
from tests.zoo.expected import COUNTS, NONE

VARIANTS = ("rw", "lr", "pa", "rw+lr", "rw+lr+pa")
RANK, LAGS = 4, 3
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}  # of the outputs, relative to their largest number
SHARED_FROM = 5_000_000  # parameters from which the model's own are frozen, and shared between its copies
STEPS = 2


@dataclass
class VariantResult:
    """One variant on one model.

    Attributes:
        difference: largest one of any output to the baseline's, relative to that output's largest number.
        bitwise: whether all outputs are the same to the last bit.
        added, formula: parameters counted, and by the closed form.
        problems: in words; empty where all is well.
    """

    difference: float = float("nan")
    bitwise: bool = False
    added: int = -1
    formula: int = -1
    problems: list[str] = field(default_factory=list)


@dataclass
class Result:
    """One model: a line of the results file. `status` is "passed" or "failed"."""

    name: str
    status: str = "failed"
    problems: list[str] = field(default_factory=list)
    parameters: int = 0
    inputs: str = ""
    connections: int = 0
    identity: int = 0
    projection: int = 0
    streams: int = 0
    blocks: int = 0
    refused: int = 0
    expected: int | None = None
    dtype: str = "float64"
    variants: dict[str, VariantResult] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def check(case: Case) -> Result:
    """Everything that the sweep asks of one model; never raises for what the model or the tool does."""
    started = time.monotonic()
    result = Result(case.name, expected=0 if case.name in NONE else COUNTS.get(case.name))
    result.notes += [case.note] if case.note else []
    try:
        _check(case, result)
    except DoesNotRunError as error:
        result.problems.append(f"the sweep cannot run it: {error}")
    except Exception as error:  # noqa: BLE001 - every failure is a line of the report
        result.problems.append(_in_words(error))
    result.problems += [f"{name}: {text}" for name, one in result.variants.items() for text in one.problems]
    result.status = "failed" if result.problems else "passed"
    result.seconds = round(time.monotonic() - started, 1)
    gc.collect()
    return result


def _check(case: Case, result: Result) -> None:
    model, inputs = first_that_runs(case)
    model = unsettle(model).eval()
    model, inputs = _in_double(model, inputs, result)
    result.parameters = sum(parameter.numel() for parameter in model.parameters())
    result.inputs = _describe(inputs)
    residual = find_connections(model, inputs)
    _count(residual, result)
    if not residual.connections:
        if case.name not in NONE:
            result.problems.append("no residual connection was found, and the architecture is not known to have none")
        return
    if result.expected is not None and result.connections != result.expected:
        result.problems.append(f"{result.connections} connections, {result.expected} by architecture")
    if result.parameters >= SHARED_FROM:
        model.requires_grad_(False)
        result.notes.append("the model's own parameters are frozen and shared between the copies")
    baseline = _outputs(model, inputs)
    if any(bool(torch.isnan(tensor).any()) for tensor in baseline):
        result.problems.append("the baseline's own outputs are not numbers")
    for variant in VARIANTS:
        result.variants[variant] = one = VariantResult()
        try:
            _check_variant(model, inputs, residual, variant, baseline, result.dtype, one)
        except Exception as error:  # noqa: BLE001 - the other variants are still to be seen
            one.problems.append(_in_words(error))


def _count(residual: ResidualMap, result: Result) -> None:
    kinds = [connection.kind for connection in residual.connections]
    result.connections, result.identity = len(kinds), kinds.count("identity")
    result.projection = kinds.count("projection")
    result.streams = len({connection.stream for connection in residual.connections})
    result.blocks = len(residual.blocks)
    result.refused = len(residual.refused)


def _check_variant(
    model: nn.Module,
    inputs: Inputs,
    residual: ResidualMap,
    variant: str,
    baseline: list[Tensor],
    dtype: str,
    one: VariantResult,
) -> None:
    patched = _copy(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        apply_laurel(patched, f"{variant}@{RANK}" if "lr" in variant else variant, inputs, residual_map=residual)
    said = [str(item.message) for item in caught]
    left = [text for text in said if "an ordinary residual connection" in text]
    one.problems += [f"not all of {len(residual.connections)} can be replaced: {text}" for text in left]
    _check_parameters(model, patched, residual, variant, not left, one)
    _compare(baseline, _outputs(patched, inputs), TOLERANCE[dtype], one)
    one.problems += _train(patched, inputs)


def _check_parameters(
    model: nn.Module, patched: nn.Module, residual: ResidualMap, variant: str, whole: bool, one: VariantResult
) -> None:
    """`whole`: LAuReL stands at every connection, so that its parameters are those of the closed form."""
    one.added = sum(p.numel() for p in patched.parameters()) - sum(p.numel() for p in model.parameters())
    one.formula = closed_form(variant, residual.connections)
    if whole and one.added != one.formula:
        one.problems.append(f"{one.added} parameters added, {one.formula} by the formula")
    missing = [name for name in model.state_dict() if name not in patched.state_dict()]
    if missing:
        one.problems.append(f"{len(missing)} names are gone from state_dict, {missing[0]} first")
    foreign = [n for n in patched.state_dict() if n not in model.state_dict() and "laurel" not in n]
    if foreign:
        one.problems.append(f"{len(foreign)} names in state_dict are neither the model's nor LAuReL's: {foreign[0]}")


def closed_form(variant: str, connections: Sequence[Connection]) -> int:
    """Parameters that a variant adds, written out from the paper's formulas, connection by connection.

    A layer that is called again (weights shared across depth) has one LAuReL for all of its calls; so have turns of a
    loop whose branches read the same weights.
    """
    layers: dict[object, tuple[int, int]] = {}
    for connection in connections:
        site = connection.sites[-1]
        key = (site.owner, site.place, connection.weights or site.turn)
        lags = min(LAGS, connection.position + 1)
        layers[key] = (connection.width, max(lags, layers.get(key, (0, 0))[1]))
    total = 0
    for D, lags in layers.values():
        total += {
            "rw": 2,
            "lr": 2 * RANK * D,
            "pa": lags,
            "rw+lr": 2 * RANK * D + 2,
            "rw+lr+pa": 2 * RANK * D * lags + lags + 2,
        }[variant]
    return total


def _compare(baseline: list[Tensor], outputs: list[Tensor], tolerance: float, one: VariantResult) -> None:
    if [tensor.shape for tensor in baseline] != [tensor.shape for tensor in outputs]:
        one.problems.append("the outputs have other shapes than the baseline's")
        return
    one.bitwise = all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(baseline, outputs, strict=True))
    one.difference = max(map(_difference, baseline, outputs), default=0.0)
    if not one.difference <= tolerance:
        one.problems.append(f"outputs differ from the baseline's by {one.difference:.1e}")


def _difference(expected: Tensor, got: Tensor) -> float:
    """The largest absolute difference over the largest absolute number; infinite where one alone is finite."""
    finite = torch.isfinite(expected)
    if not torch.equal(finite, torch.isfinite(got)):
        return float("inf")
    a, b = expected[finite].double(), got[finite].double()
    if not a.numel():
        return 0.0
    return ((a - b).abs().max() / a.abs().max().clamp_min(1e-30)).item()


def _train(model: nn.Module, inputs: Inputs) -> list[str]:
    """Up to two SGD steps in training mode, in which every entry of LAuReL's must get a gradient."""
    model.train()
    torch.manual_seed(0)
    ours = {f"{path}.{name}": p for path, layer in laurel_layers(model).items() for name, p in layer.named_parameters()}
    reached = {name: torch.zeros(_entries(name, p).shape, dtype=torch.bool) for name, p in ours.items()}
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for _ in range(STEPS):
        model.zero_grad(set_to_none=True)
        _loss(inputs.call(model)).backward()
        for name, parameter in ours.items():
            if parameter.grad is None:
                continue
            if not torch.isfinite(parameter.grad).all():
                return [f"the gradient of {name} is not finite"]
            reached[name] |= _entries(name, parameter.grad) != 0
        if all(entries.all() for entries in reached.values()):
            return []
        _step(trainable)
    never = [name for name, entries in reached.items() if not entries.any()]
    if never:
        return [f"no gradient reaches {len(never)} of {len(ours)} parameters, {never[0]} first"]
    partly = [name for name, entries in reached.items() if not entries.all()]
    return [f"some entries of {len(partly)} parameters have no gradient, {partly[0]} first"] if partly else []


def _entries(name: str, tensor: Tensor) -> Tensor:
    """One number for every part that can be dead by itself: rows of A, columns of B, entries of the others."""
    sums = tensor.detach().abs()
    if ".A." in name:
        return sums.flatten(1).sum(1)
    if name.endswith(".B.weight"):
        return sums.flatten(2).sum(-1).sum(0) if sums.dim() > 2 else sums.sum(0)
    return sums


def _loss(outputs: Any) -> Tensor:
    """Squares of the distances to fixed random numbers: unlike plain squares, no norm holds them constant."""
    generator = torch.Generator().manual_seed(2)
    total = torch.zeros((), dtype=torch.float64)
    for tensor in tensors(outputs):
        if tensor.requires_grad:
            known = torch.where(torch.isfinite(tensor), tensor, torch.zeros_like(tensor)).double()
            total = total + (known - torch.randn(tensor.shape, generator=generator)).square().mean()
    return total


@torch.no_grad()
def _step(parameters: list[nn.Parameter]) -> None:
    """SGD with the whole gradient scaled to a length of 0.01."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    length = torch.stack([gradient.double().norm() for gradient in gradients]).norm().item()
    for parameter in parameters:
        if parameter.grad is not None and length > 0:
            parameter.add_(parameter.grad, alpha=-0.01 / length)


@torch.no_grad()
def _outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    torch.manual_seed(0)
    return [tensor.clone() for tensor in tensors(inputs.call(model.eval()))]


def tensors(value: Any) -> Iterator[Tensor]:
    """All floating-point tensors in what a model returns."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from tensors(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from tensors(entry)
    elif is_dataclass(value):
        yield from tensors(vars(value))


@torch.no_grad()
def unsettle(model: nn.Module) -> nn.Module:
    """Move every parameter that starts constant (zero heads, layer scale, norms): nothing may be hidden by a zero."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.numel() and bool((parameter == parameter.flatten()[0]).all()):
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter.dtype), alpha=0.1)
    return model


def _copy(model: nn.Module) -> nn.Module:
    """A deep copy; parameters that are frozen are shared."""
    return copy.deepcopy(model, {id(p): p for p in model.parameters() if not p.requires_grad})


def _in_double(model: nn.Module, inputs: Inputs, result: Result) -> tuple[nn.Module, Inputs]:
    """Both in float64; in float32 where the model itself knows no other."""
    model.double()
    try:
        if all(bool(torch.isfinite(tensor).any()) for tensor in _outputs(model, _double(inputs))):
            return model, _double(inputs)
        reason = "its outputs are not finite"
    except Exception as error:  # noqa: BLE001 - some constants fit no other dtype
        reason = _in_words(error)
    result.dtype = "float32"
    result.notes.append(f"in float32, since the model itself fails in float64 ({reason})")
    return model.float(), inputs


def _double(inputs: Inputs) -> Inputs:
    def double(tensor: Tensor) -> Tensor:
        return tensor.double() if tensor.is_floating_point() else tensor

    return Inputs(*tree_map_only(Tensor, double, (inputs.args, inputs.kwargs)))


def _describe(inputs: Inputs) -> str:
    named = [*((f"{n}", value) for n, value in enumerate(inputs.args)), *inputs.kwargs.items()]
    return ", ".join(f"{name} {list(value.shape)}" for name, value in named if isinstance(value, Tensor))


def _in_words(error: BaseException) -> str:
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line}"


def as_record(result: Result) -> dict[str, Any]:
    """The result as plain data."""
    return asdict(result)
