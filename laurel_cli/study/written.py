"""A study as settings: what to ask for so that the same study is made again, every default written out."""

from __future__ import annotations

from typing import Any

from laurel_cli.errors import UsageError
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.study.folder import Study
from laurel_cli.study.plan import StudyPlan

OF_TASK = ("image_size", "seq_len", "tokenizer", "tokens", "train_limit", "evaluation_limit")
OF_RECIPE = (
    *("steps", "batch", "accumulate", "optimizer", "lr", "warmup", "weight_decay", "laurel_lr", "clip", "dtype"),
    *("evaluations", "flip", "channels_last", "compile", "device", "threads", "world", "parallel"),
)
LEFT_OUT = (
    "Not in it, since the study is the same without: where it and its data lie (study, data-root), how its trials run "
    "(resume, processes, executor and what goes with it), and what may change meanwhile (allow-...)."
)
"""What a file of settings does not say, in words; arm files are named by whoever writes it."""


def of_plan(plan: StudyPlan) -> dict[str, Any]:
    """Fields of `TrainSettings` that ask for a plan."""
    return _of_recipe(plan.recipe) | {
        "arms": plan.arms,
        "against": plan.against,
        "seeds": plan.seeds,
        "first_seed": plan.first_seed,
        "controls": plan.controls,
        "positive_control": plan.positive,
        "control_seeds": plan.control_seeds,
        "steps_saved": plan.steps_saved,
        "worth": plan.worth,
        "lr_search": plan.rates,
        "until_separated": plan.most_seeds,
        "keep_weights": plan.keep,
    }


def of_study(study: Study) -> dict[str, Any]:
    """Fields of `TrainSettings` that ask for a study that is on disk.

    Raises:
        UsageError: it searched its learning rates, among how many is not written down; it is a size of a ladder with
            muP's rates; or its seeds have gaps.
    """
    declared, controls = study.declared, study.declared.controls
    if study.rates:
        why = "It searched the learning rate of every arm, and does not say among how many."
        raise UsageError("The study cannot be written as settings.", why, "Write its command down with `lr_search`.")
    if study.recipe.model.mup_base is not None:
        why = f"Its rates and starts are muP's, carried from width {study.recipe.model.mup_base} of a ladder."
        raise UsageError("The study cannot be written as settings.", why, "Write its ladder's command down.")
    if study.seeds != tuple(range(study.seeds[0], study.seeds[0] + len(study.seeds))):
        raise UsageError("The study cannot be written as settings.", f"Its seeds have gaps: {study.seeds}.")
    return (
        _of_recipe(study.recipe)
        | {
            "arms": ",".join(name for name in study.arms if name not in controls.names),
            "against": study.against,
            "seeds": len(study.seeds),
            "first_seed": study.seeds[0],
            "controls": bool(controls.names),
            "positive_control": controls.positive,
            "steps_saved": not controls.names or controls.budget is not None,
            "worth": declared.worth,
            "until_separated": declared.most,
        }
        | ({"control_seeds": declared.control_seeds} if declared.control_seeds else {})
    )


def _of_teacher(recipe: Recipe) -> dict[str, Any]:
    taught = recipe.distillation
    if taught is None:
        return {}
    return {
        "teacher": taught.teacher.reference,
        "teacher_args": dict(taught.teacher.args) or None,
        "teacher_weights": taught.teacher.weights,
        "temperature": taught.temperature,
        "teacher_share": taught.share,
    }


def _of_recipe(recipe: Recipe) -> dict[str, Any]:
    model, task, spec = recipe.model, recipe.task, dict(recipe.spec)
    if "lags" in spec and spec["lags"] is None:
        spec["lags"] = "all"
    return {
        "model": model.reference,
        "model_args": dict(model.args) or None,
        "layers": model.layers,
        "width": model.width,
        "stem": model.stem,
        "weights": model.weights or None,
        **_of_teacher(recipe),
        "task": task.reference,
        **{name: getattr(task, name) for name in OF_TASK},
        **{name: getattr(recipe, name) for name in OF_RECIPE},
        **spec,
    }
