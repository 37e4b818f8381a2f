"""What every arm of a model costs, exactly: the work behind `laurel analyze`.

Connections are found, each arm is built and counted, and what a LAuReL adds is also computed from the equations.
Count and equation must agree at every connection, or nothing is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from laurel_cli.analysis_document import Figures, arm_document
from laurel_cli.arms import Arm, Site, build, parse_arms
from laurel_cli.arms.naive import add_blocks
from laurel_cli.cost.count import Cost, count, kept_for_backward
from laurel_cli.equations import agree_at_connections, agree_in_total
from laurel_cli.errors import LaurelError, ModelError
from laurel_cli.laurel import closed_form
from laurel_cli.laurel.apply import place
from laurel_cli.laurel.formula import Formula
from laurel_cli.laurel.paper import Published, published
from laurel_cli.laurel.plan import plan
from laurel_cli.laurel.spec import Spec
from laurel_cli.models.copies import copied
from laurel_cli.models.fingerprint import architecture
from laurel_cli.models.loaded import LoadedModel
from laurel_cli.residual.depth import multiplicities, shortened, stood_for
from laurel_cli.residual.find import ResidualMap
from laurel_cli.residual.survey import KEPT, Survey, survey
from laurel_cli.results import ResultOfArms

if TYPE_CHECKING:
    from torch import nn

    from laurel_cli.cost.checks import Check

SCHEMA = "laurel.analyze/1"
ARMS = "naive+1,rw,lr,pa,rw+lr,rw+lr+pa"
LARGEST_CHECKED = 2 * 1024**3  # bytes of parameters for which other counters get a real model


@dataclass(frozen=True)
class ArmResult:
    """One arm: its cost, and what it adds to the baseline; `note` says why there is none, `where` at which connection
    how many parameters stand."""

    arm: Arm
    cost: Cost | None
    history_bytes: int = 0
    where: tuple[tuple[str, int], ...] = ()
    checks: tuple[Check, ...] = ()
    paper: Published | None = None
    note: str = ""


@dataclass(frozen=True)
class Analysis(ResultOfArms[Figures]):
    """The answer of `analyze`; in a notebook a table.

    Attributes:
        loaded: the model; `residual` its map.
        baseline: what it costs; `arms` what each arm costs.
        command: the command line, "" from Python.
        warnings: what the user must know.
        architecture: hash of the model's structure.
    """

    loaded: LoadedModel
    residual: ResidualMap
    baseline: Cost
    arms: tuple[ArmResult, ...]
    command: str
    warnings: tuple[str, ...]
    architecture: str = ""

    def record(self) -> dict[str, Any]:
        """The document, and at which connection each arm's parameters stand, for the disk."""
        return self.document() | {"where": self.where()}

    def where(self) -> dict[str, list[dict[str, Any]]]:
        """At which connection how many of each arm's parameters stand, by the arm's name."""
        return {
            result.arm.name: [{"connection": name, "parameters": number} for name, number in result.where]
            for result in self.arms
            if result.where
        }

    def figures(self) -> list[Figures]:
        """What every arm costs, in their order."""
        return [
            Figures(**{key: arm.get(key) for key in Figures.__dataclass_fields__}) for arm in self.document()["arms"]
        ]

    def document(self) -> dict[str, Any]:
        """The JSON document, schema "laurel.analyze/1"."""
        model, residual = self.loaded, self.residual
        naive = next((r.cost for r in self.arms if r.arm.kind.is_scaling and r.cost is not None), None)
        return {
            "schema": SCHEMA,
            "command": self.command,
            "model": {
                "reference": model.reference,
                "source": model.source,
                "architecture": self.architecture,
                "parameters": self.baseline.parameters,
                "trainable_parameters": self.baseline.trainable_parameters,
                "input": model.input_description,
                "blocks": len(residual.blocks),
                "notes": [*model.notes, *self.baseline.notes],
            },
            "connections": [
                {
                    "name": connection.name,
                    "kind": connection.kind,
                    "width": connection.width,
                    "shape": list(connection.shape),
                    "stream": connection.stream,
                    "block": connection.block,
                }
                for connection in residual.connections
            ],
            "refused": [{"name": entry.name, "reason": entry.reason} for entry in residual.refused],
            "arms": [arm_document(result, self.baseline, naive) for result in self.arms],
            "warnings": list(self.warnings),
        }


def analyze(
    model: LoadedModel | nn.Module | str,
    arms: str | Sequence[Arm | Formula | str] = ARMS,
    inputs: Any = None,
    *,
    check: bool = True,
    command: str = "",
    on_progress: Callable[[str], None] = lambda _: None,
) -> Analysis:
    """Count every arm of a model, exactly: parameters, FLOPs, elementwise work, bytes.

    >>> import laurel_cli as laurel
    >>> laurel.analyze("resnet18", "rw,rw+lr@4", check=False).arm("rw").added_parameters
    16

    Args:
        model: a module, which is left as it is; a reference such as "resnet50", "timm:NAME" or "file.py:factory"; or
            what `load` gives.
        arms: what to compare with the baseline: names as `laurel arms` lists them, separated by commas or in a list, in
            which a `Spec` or an `Arm` may stand too.
        inputs: what a module is called with: a tensor, a tuple, a dict or `Inputs`.
        check: count again with fvcore and thop, where the model fits into memory.
        command: the command line, for the record.
        on_progress: told what is being done.

    Raises:
        ModelError: the model does not run, has no residual connection, or none that can be replaced.
        UsageError: an arm or a reference that means nothing.
        TypeError: a module without inputs.
        LaurelError: an equation and a count disagree: a bug of ours.
    """
    loaded, chosen = _loaded(model, inputs), parse_arms(arms)
    on_progress("finding residual connections")
    identity = architecture(loaded.module)
    counter, baseline = _opened(loaded, chosen, on_progress)
    found = counter.found
    if not found.whole.connections:
        raise found.whole.nothing_found(loaded.reference)
    warnings = list(found.whole.warnings)
    results = []
    for arm in chosen:
        on_progress(f"counting {arm.name}")
        results.append(counter.count(arm, baseline, warnings))
    if check:
        on_progress("checking with fvcore and thop")
        results = _checked(loaded, found, results, warnings, on_progress)
        baseline = next((r.cost for r in results if r.arm.kind.is_baseline and r.cost is not None), baseline)
    said = tuple(dict.fromkeys(warnings))
    return Analysis(loaded, found.whole, baseline, tuple(results), command, said, identity)


def _loaded(model: LoadedModel | nn.Module | str, inputs: Any) -> LoadedModel:
    from laurel_cli.models.load import load
    from laurel_cli.models.own import of_module, with_inputs

    if not isinstance(model, LoadedModel | str):
        if inputs is None:
            raise TypeError("analyze needs the inputs that a module is called with.")
        return of_module(model, inputs)
    found = load(model) if isinstance(model, str) else model
    return found if inputs is None else with_inputs(found, inputs)


def _opened(loaded: LoadedModel, arms: Sequence[Arm], on_progress: Callable[[str], None]) -> tuple[_Counter, Cost]:
    """A counter for the model, and the baseline's cost; of a real model where one without data does not do."""
    lags = [arm.spec.lags for arm in arms if arm.spec is not None and arm.spec.reads_history]
    # The last layer that is kept stands for those left out, so it must see its whole history already.
    kept = None if None in lags else max([KEPT, *(k + 1 for k in lags if k is not None)])
    try:
        return _first_count(loaded, loaded.module, kept, on_progress)
    except ModelError:
        if not loaded.on_meta or _size(loaded.module) > LARGEST_CHECKED:
            raise
    return _first_count(loaded, loaded.build(), kept, on_progress)


def _first_count(
    loaded: LoadedModel, model: nn.Module, kept: int | None, on_progress: Callable[[str], None]
) -> tuple[_Counter, Cost]:
    found = survey(model, loaded.inputs, kept=kept)
    with shortened(model, list(found.stacks)):
        short = copied(model) if found.stacks else model
    counter = _Counter(loaded, found, short, model)
    on_progress("counting baseline")
    baseline = counter.whole_baseline()
    kept_by_all = kept_for_backward(model, loaded.inputs) if found.stacks and kept is not None else None
    if kept_by_all != baseline.saved_activation_bytes and kept_by_all is not None:
        # Layers that work alike in eval mode may keep more or less for the backward pass: by their number they are
        # checkpointed, run without gradients or drop something. Then none stands for another.
        return _first_count(loaded, model, None, on_progress)
    return counter, baseline


@dataclass(frozen=True)
class _Counter:
    """Counts arms of one model: on a short copy whose last kept layers stand for those left out."""

    loaded: LoadedModel
    found: Survey
    short: nn.Module
    model: nn.Module

    @property
    def multiplicity(self) -> dict[str, int]:
        return multiplicities(self.found.stacks)

    def count(self, arm: Arm, baseline: Cost, warnings: list[str]) -> ArmResult:
        if arm.spec is not None:
            try:
                return self._placed(arm, arm.spec, baseline, warnings)
            except ModelError as error:
                if not arm.kind.optional:
                    raise
                warnings.append(f"{arm.name} is left out: {error}")
                return ArmResult(arm, None, note=str(error))
        if arm.kind.is_scaling:
            return self._scaled(arm, baseline, warnings)
        return self._result(arm, baseline, baseline)  # the baseline's own model

    def _scaled(self, arm: Arm, baseline: Cost, warnings: list[str]) -> ArmResult:
        failure = None
        for model, residual in ((self.short, self.found.short), (self.model, self.found.whole)):
            try:
                deeper = copied(model)
                new = add_blocks(deeper, residual, self.loaded.inputs, arm.blocks)
                if model is self.short and any(
                    path.startswith(f"{many}.") for path in new for many in self.multiplicity
                ):
                    continue  # within a layer that stands for several it would be counted as often
                return self._result(arm, self._cost(deeper, stands_for=model is self.short), baseline)
            except ModelError as error:  # of the short copy: its stand-ins are not called alike any more
                failure = error
        warnings.append(f"{arm.name} is left out: {failure}")
        return ArmResult(arm, None, note=str(failure))

    def whole_baseline(self) -> Cost:
        """The baseline's cost; its parameters are counted on the whole model."""
        cost = self._cost(self.short)
        whole = sum(p.numel() for p in self.model.parameters())
        if cost.parameters != whole:
            raise LaurelError(f"The short copy stands for {cost.parameters} parameters, the model has {whole}.")
        return cost

    def _cost(self, model: nn.Module, watch: Sequence[str] = (), *, stands_for: bool = True) -> Cost:
        return count(
            model,
            self.loaded.inputs,
            multiplicity=self.multiplicity if stands_for else None,
            watch=watch,
            real=self.found.real,
        )

    def _placed(self, arm: Arm, spec: Formula, baseline: Cost, warnings: list[str]) -> ArmResult:
        model = copied(self.short)
        placed = place(model, spec, self.found.short, self.loaded.inputs)
        names = {id(module): name for name, module in model.named_modules()}
        paths = {id(layer): names[id(layer)] for _, layer in placed.layers}
        cost = self._cost(model, tuple(paths.values()))
        agree_at_connections(spec, placed, paths, cost)
        left_out = {connection.name for connection, _ in placed.skipped}
        stands = [c for c in self.found.whole.connections if stood_for(c.name, self.found.stacks) not in left_out]
        whole = plan(stands, spec)
        agree_in_total(spec, whole, cost, baseline)
        warnings.extend(placed.warnings)
        warnings.extend(spec.remarks(whole))
        where = tuple((p.connection.name, p.spec.parameters(p.connection.width, p.lags)) for p in whole)
        result = self._result(arm, cost, baseline, closed_form.history_bytes(whole), spec.note)
        # A layer that several calls share stands at more than one connection: then there is no such list.
        return (
            replace(result, where=where)
            if sum(n for _, n in where) == cost.parameters - baseline.parameters
            else result
        )

    def _result(self, arm: Arm, cost: Cost, baseline: Cost, history: int = 0, note: str = "") -> ArmResult:
        name = type(self.model).__name__
        if self.loaded.reference.removeprefix("shape:") == "paper-c4":
            name = "paper-c4"
        paper = published(name, baseline.parameters, arm.name) if _is_as_printed(arm.spec) else None
        return ArmResult(arm, cost, history, paper=paper, note=note)


def _is_as_printed(spec: Formula | None) -> bool:
    """Whether a formula's name says all of it but where it stands: the paper prints no other one's parameters."""
    if not isinstance(spec, Spec):
        return True
    return replace(spec, per="connection").plain.form == Spec.parse(spec.name).plain.form


def _checked(
    loaded: LoadedModel,
    found: Survey,
    results: Sequence[ArmResult],
    warnings: list[str],
    on_progress: Callable[[str], None],
) -> list[ArmResult]:
    """The results with what fvcore and thop say of the same arms, built for real.

    Where layers stood for others, every layer is counted before another counter is said to differ; what that count
    says is what holds.
    """
    from laurel_cli.cost.checks import COUNTERS, Check, check

    if _size(loaded.module) > LARGEST_CHECKED:
        note = "not run: the model does not fit into the memory set aside for checks"
        skipped = tuple(Check(name, None, None, agrees=False, note=note) for name in COUNTERS)
        return [replace(result, checks=skipped) for result in results]
    real = loaded.build() if loaded.on_meta else loaded.module
    checked = []
    for result in results:
        if result.cost is None:
            checked.append(result)
            continue
        on_progress(f"checking {result.arm.name}")
        model, cost = copied(real), result.cost
        build(result.arm, Site(model, found.whole, loaded.inputs))
        if found.stacks and _figures(cost) != _figures(count(model, loaded.inputs, saved=False, real=found.real)):
            cost = count(model, loaded.inputs, real=found.real)
            warnings.append(
                f"{result.arm.name} is counted layer by layer, since its layers are less alike than they look"
            )
        checked.append(replace(result, cost=cost, checks=check(model, loaded.inputs, cost)))
    return checked


def _figures(cost: Cost) -> tuple[int, ...]:
    operations = cost.flops, cost.elementwise_flops, cost.reduction_flops
    return cost.parameters, *operations, cost.bytes_moved, cost.kernels


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
