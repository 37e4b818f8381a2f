"""What a trial leaves behind: the content of its record, schema "laurel.trial/1"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from laurel_cli import arms
from laurel_cli.proxy.contenders import Contender

if TYPE_CHECKING:
    from torch import nn

    from laurel_cli.models.loaded import LoadedModel
    from laurel_cli.proxy.start import Start
    from laurel_cli.proxy.trial import State
    from laurel_cli.study.folder import Study
    from laurel_cli.tasks import Task

SCHEMA = "laurel.trial/1"


def outcome(
    study: Study,
    contender: Contender,
    seed: int,
    task: Task,
    begun: Start,
    state: State,
    *,
    baseline: LoadedModel,
    seeds: dict[str, int],
    coefficients: list[dict[str, Any]],
    command: str,
    code: Mapping[str, str],
    place: Mapping[str, Any],
) -> dict[str, Any]:
    """Of a trial that came to its end, or diverged.

    Args:
        study, contender, seed: which trial.
        task: its data; `begun` where it started, `state` where it ended.
        baseline: the study's own model, on the meta device where that is possible.
        seeds: of the model, the data and the evaluation.
        coefficients: what LAuReL learned.
        command: that ran it; `code` what it ran, measured by the process that trained.
        place: the host, as digits that do not say its name, and the number of the attempt.
    """
    from laurel_cli.models.fingerprint import architecture

    diverged = state.diverged is not None
    total, usual = (_counted(model) for model in (begun.model, baseline.module))
    return _identity(study, contender, seed, command, code, place) | {
        "model": {
            "reference": baseline.reference,
            "source": baseline.source,
            "architecture": architecture(baseline.module),
            "input": baseline.input_description,
        },
        "arm_model": {"source": begun.source, "recipe": contender.recipe(study.recipe).plain()["model"]},
        "status": "diverged" if diverged else "complete",
        "reason": f"the loss was no longer finite by step {state.diverged}" if diverged else None,
        "task": {
            "name": task.name,
            "kind": task.kind,
            "sha256": task.sha256,
            "classes": task.classes,
            "train_examples": len(task.train),
            "evaluation_examples": len(task.evaluation),
            "unit": task.unit,
            "provenance": dict(task.provenance),
        },
        "metric": "loss",
        "chance_loss": task.chance_loss,
        "final": None if diverged else {key: state.evaluations[-1][key] for key in ("step", "loss", "accuracy")},
        "curve": state.curve,
        "evaluations": state.evaluations,
        "parameters": {"total": total, "added": total - usual},
        "coefficients": coefficients,
        "seconds": state.seconds,
        "seeds": seeds,
        **({} if begun.growth is None else {"growth": begun.growth.plain()}),
        **({"warnings": list(begun.warnings)} if begun.warnings else {}),
        "hashes": {"data": task.sha256, "code": code.get("code"), "start": begun.sha256},
    }


def failure(
    study: Study,
    contender: Contender,
    seed: int,
    reason: str,
    *,
    command: str,
    code: Mapping[str, str],
    place: Mapping[str, Any],
) -> dict[str, Any]:
    """Of a trial that crashed, hung or was killed."""
    return _identity(study, contender, seed, command, code, place) | {
        "status": "failed",
        "reason": reason,
        "metric": "loss",
        "final": None,
        "curve": [],
        "evaluations": [],
    }


def _counted(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _identity(
    study: Study, contender: Contender, seed: int, command: str, code: Mapping[str, str], place: Mapping[str, Any]
) -> dict[str, Any]:
    others = sorted(name for name in study.code.keys() | code.keys() if study.code.get(name) != code.get(name))
    changed = {name: {"study": study.code.get(name), "here": code.get(name)} for name in others}
    return {
        "schema": SCHEMA,
        "command": command,
        "study": {"name": study.name, "sha256": study.sha256, "definition": study.definition()},
        "arm": {
            **arms.write(contender.recorded),
            "lr_factor": contender.lr,
            "width_factor": contender.width,
            "steps_factor": contender.steps,
            "init": contender.init or None,
            **({"train": contender.train} if contender.train else {}),
            **({"grow": contender.grow} if contender.grow else {}),
            **({"starts": contender.arm.starts} if contender.arm.starts != "exact" else {}),
        },
        "seed": seed,
        "versions": dict(code),
        "place": dict(place),
        **({"versions_changed": changed} if changed else {}),
    }
