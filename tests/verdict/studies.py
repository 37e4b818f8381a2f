"""Studies made up for tests: trial records with planted effects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

STEPS = 600
SLOPE = 0.4  # nats per unit of log(step): the baseline's curve is loss - SLOPE log(step / STEPS)
ADDED = {"naive+1": 10_000, "rw": 32, "lr@16": 2_000}
LEVEL = 0.05 * 0.9 * 0.8  # of the first look at the arms that were declared first
PLAIN = "better, without controls"


def kind(name: str) -> str:
    if name in ("baseline", "copy"):
        return name
    if name.startswith("baseline:"):
        return "against"
    return "naive" if name.startswith("naive") else "laurel"


def trial(name: str, seed: int, loss: float | None, *, status: str = "complete", **fields: Any) -> dict[str, Any]:
    """One record; `fields` replace its own."""
    added = ADDED.get(name, 0)
    curve = [
        {"step": step, "samples": step * 64, "loss": loss - SLOPE * math.log(step / STEPS), "accuracy": 0.5}
        for step in range(100, STEPS + 1, 100)
        if loss is not None
    ]
    steps = round(0.7 * STEPS) if name == "baseline:steps=0.7" else STEPS
    final = {"step": steps, "loss": loss, "accuracy": 0.7} if status == "complete" else None
    return {
        "schema": "laurel.trial/1",
        "model": {"reference": "proxy-cnn", "source": "built in", "architecture": "aa", "input": "x"},
        "arm": {"name": name, "kind": kind(name), "blocks": 0, "spec": None},
        "seed": seed,
        "status": status,
        "reason": None if status == "complete" else f"{name} {status} at step 7",
        "task": {"name": "digits", "kind": "image", "sha256": "cc", "classes": 10},
        "metric": "loss",
        "chance_loss": math.log(10),
        "final": final,
        "evaluations": curve,
        "parameters": {"total": 100_000 + added, "added": added},
    } | fields


def study(
    effects: Mapping[str, float],
    *,
    seeds: int = 5,
    base: float = 0.8,
    sd: float = 0.01,
    block_sd: float = 0.05,
    start: int = 0,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(definition, trials): every arm is `effects` above the baseline; blocks share a draw, arms add their own."""
    rng = np.random.default_rng(start)
    blocks = rng.normal(base, block_sd, seeds)
    arms = {"baseline": 0.0} | dict(effects)
    trials = [
        trial(name, seed, float(blocks[seed] + effect + rng.normal(0, sd)))
        for name, effect in arms.items()
        for seed in range(seeds)
    ]
    return definition(list(arms), seeds), trials


def controlled(
    effects: Mapping[str, float],
    *,
    wider: float = -0.15,
    half: float = 0.15,
    twice: float = 0.15,
    budget: float = 0.1,
    worth: float | None = None,
    sd: float = 0.008,
    start: int = 0,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(definition, trials) of a study with the usual controls, each so far above the baseline's loss."""
    controls = {
        "baseline:width=1.125": wider,
        "baseline:lr=0.5": half,
        "baseline:lr=2": twice,
        "baseline:steps=0.7": budget,
    }
    defined, trials = study({**effects, **controls}, sd=sd, start=start)
    few = list(controls)[1:]
    positive, *recipe, second = controls
    declared = {
        "arms": [list(effects)],
        "first": 5,
        "most": 0,
        "metric": "loss",
        "worth": worth,
        "controls": {"positive": positive, "recipe": recipe, "budget": second},
        "control_seeds": 3,
    }
    kept = [item for item in trials if item["arm"]["name"] not in few or item["seed"] < 3]
    return defined | {"declared": declared}, kept


def definition(arms: Sequence[str], seeds: int) -> dict[str, Any]:
    return {
        "name": "planted",
        "task": "digits",
        "model": "proxy-cnn",
        "arms": list(arms),
        "seeds": list(range(seeds)),
        "steps": STEPS,
    }


def arm(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return next(item for item in document["arms"] if item["name"] == name)


def losses(trials: Sequence[dict[str, Any]], name: str) -> dict[int, float]:
    return {item["seed"]: item["final"]["loss"] for item in trials if item["arm"]["name"] == name and item["final"]}


def verdicts(said: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["verdict"] for item in said["arms"] if item["role"] == "arm"}


def without(trials: Sequence[dict[str, Any]], *keys: tuple[str, int]) -> list[dict[str, Any]]:
    return [item for item in trials if (item["arm"]["name"], item["seed"]) not in keys]
