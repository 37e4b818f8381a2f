"""What a model at its default size must show, without memory for its weights: that it is built, found and counted."""

from __future__ import annotations

import resource
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from laurel_cli.analysis import Analysis, analyze
from laurel_cli.arms import parse_arms
from laurel_cli.errors import LaurelError
from laurel_cli.models import LoadedModel, load
from tests.zoo.check import LAGS, RANK, VARIANTS, closed_form
from tests.zoo.full_values import VALUES

ARMS = ",".join(f"{variant}@{RANK}" if "lr" in variant else variant for variant in VARIANTS)


@dataclass
class FullResult:
    """One model: a line of the results file. `status` is "passed", "none" (no residual connection) or "failed".

    Attributes:
        name: its reference; `kind` is what it is.
        given: values of its configuration that transformers itself lacks, see full_values.py.
        problems: why it failed; of one without a connection, what the tool says of it.
        added: parameters that each variant adds, as counted; `naive` those of one more block, None without.
        notes, warnings: what the tool says beside its figures.
        uncounted: operators that no rule knows.
        seconds, peak_bytes: of the whole process so far, imports included in its first model.
    """

    name: str
    kind: str = ""
    status: str = "failed"
    given: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    source: str = ""
    inputs: str = ""
    model: str = ""
    parameters: int = 0
    macs: int = 0
    connections: int = 0
    projection: int = 0
    refused: int = 0
    added: dict[str, int] = field(default_factory=dict)
    naive: int | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_bytes: int = 0


def full_check(name: str, kind: str = "") -> dict[str, Any]:
    """The record of one model; never raises for what the model or the tool does."""
    started = time.monotonic()
    result = FullResult(name, kind)
    try:
        result.given = VALUES.get(name.removeprefix("hf:"), {})
        loaded = load(name, model_args=result.given)
        result.source, result.inputs = loaded.source, loaded.input_description
        result.model = type(loaded.module).__name__
        result.parameters = sum(parameter.numel() for parameter in loaded.module.parameters())
        found = analyze(loaded, parse_arms(f"baseline,naive+1,{ARMS}", lags=LAGS), check=False)
        _fill(result, loaded, found)
    except LaurelError as error:
        result.problems.append(str(error))
        if "residual connection" in error.what and error.exit_code == 3:
            result.status = "none"
    except Exception as error:  # noqa: BLE001 - every failure is a line of the report
        first_line = (str(error).strip().splitlines() or [""])[0][:300]
        result.problems.append(f"{type(error).__name__}: {first_line}")
    else:
        result.status = "failed" if result.problems else "passed"
    result.seconds = round(time.monotonic() - started, 1)
    result.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return asdict(result)


def _fill(result: FullResult, loaded: LoadedModel, found: Analysis) -> None:
    connections = found.residual.connections
    result.connections, result.refused = len(connections), len(found.residual.refused)
    result.projection = sum(connection.kind == "projection" for connection in connections)
    result.macs = found.baseline.macs
    result.notes, result.warnings = [*loaded.notes, *found.baseline.notes], list(found.warnings)
    result.uncounted = [name for name, _ in found.baseline.uncounted]
    if found.baseline.parameters != result.parameters:
        result.problems.append(f"{found.baseline.parameters} parameters counted, the model has {result.parameters}")
    ordinary = any("ordinary" in warning or "scalars" in warning for warning in found.warnings)
    for one in found.arms:
        added = None if one.cost is None else one.cost.parameters - found.baseline.parameters
        if one.arm.kind.is_scaling:
            result.naive = added
        elif one.arm.spec is not None and added is not None:
            variant = one.arm.spec.variant  # type: ignore[attr-defined]
            result.added[variant] = added
            formula = closed_form(variant, list(connections))
            if added != formula and not ordinary:
                result.problems.append(f"{variant}: {added} parameters added, {formula} by the formula")
