"""Studies made up from a known truth, for the rates of wrong claims: records as trials leave them, without training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

STEPS = 600
CONTROLS = {
    "positive": "baseline:width=1.125",
    "recipe": ["baseline:lr=0.5", "baseline:lr=2"],
    "budget": "baseline:steps=0.7",
}
NO_CONTROLS: dict[str, Any] = {"positive": None, "recipe": [], "budget": None}


@dataclass(frozen=True)
class Truth:
    """What is true of a made-up study, in standard deviations of a paired difference where nothing else is said.

    Attributes:
        effects: by arm, the loss beyond the baseline's.
        controls: effects of the controls by name; {} for a study without controls.
        block: standard deviation of what all arms of a block share.
        tails: degrees of freedom of a t distribution, scaled to the same standard deviation; 0 for normal noise.
        diverge: share of the worst runs of an arm that diverge, by arm.
    """

    effects: Mapping[str, float]
    controls: Mapping[str, float] = field(default_factory=dict)
    block: float = 3.0
    tails: int = 0
    diverge: Mapping[str, float] = field(default_factory=dict)


def usual_controls(wider: float = -6.0, half: float = 4.0, twice: float = 4.0) -> dict[str, float]:
    """A wider baseline that helps, and two rates that do not; the second budget costs 4."""
    return dict(zip([CONTROLS["positive"], *CONTROLS["recipe"]], (wider, half, twice), strict=True)) | {
        CONTROLS["budget"]: 4.0
    }


def declaration(
    arms: Sequence[Sequence[str]], first: int, most: int = 0, worth: float | None = None, *, controls: bool
):
    """What such a study declares."""
    return {
        "arms": [list(family) for family in arms],
        "first": first,
        "most": most,
        "metric": "loss",
        "worth": worth,
        "controls": CONTROLS if controls else NO_CONTROLS,
        "control_seeds": 3,
    }


def definition(declared: Mapping[str, Any], seeds: int) -> dict[str, Any]:
    """`study.json`, as far as a judgement reads it."""
    arms = ["baseline", *(name for family in declared["arms"] for name in family)]
    return {"name": "simulated", "arms": arms, "seeds": list(range(seeds)), "steps": STEPS, "declared": dict(declared)}


def trials(truth: Truth, seeds: int, draw: np.random.Generator, unit: float = 0.02) -> list[dict[str, Any]]:
    """Records of every arm with every seed (recipe controls and the second budget with three).

    A paired difference has the standard deviation `unit`: each run has its own noise of unit / sqrt(2).
    """
    shared = 1.0 + unit * truth.block * draw.standard_normal(seeds)
    found = []
    for name, effect in {"baseline": 0.0, **truth.effects, **truth.controls}.items():
        few = name in CONTROLS["recipe"] or name == CONTROLS["budget"]
        own = _noise(truth.tails, min(seeds, 3) if few else seeds, draw)
        limit = np.quantile(_noise(truth.tails, 4000, draw), 1 - truth.diverge[name]) if name in truth.diverge else None
        for seed, noise in enumerate(own):
            loss = shared[seed] + unit * (effect + noise / math.sqrt(2))
            found.append(record(name, seed, None if limit is not None and noise > limit else float(loss)))
    return found


def _noise(tails: int, count: int, draw: np.random.Generator) -> np.ndarray:
    if not tails:
        return draw.standard_normal(count)
    return draw.standard_t(tails, count) * math.sqrt((tails - 2) / tails)


def record(name: str, seed: int, loss: float | None) -> dict[str, Any]:
    """One trial; without a loss it has diverged."""
    steps = round(STEPS * 0.7) if name == CONTROLS["budget"] else STEPS
    kind = "baseline" if name == "baseline" else "naive" if name.startswith("naive") else "laurel"
    return {
        "model": {"reference": "m", "architecture": "aa"},
        "arm": {"name": name, "kind": "against" if ":" in name else kind},
        "seed": seed,
        "status": "complete" if loss is not None else "diverged",
        "task": {"name": "t", "sha256": "bb", "kind": "image", "classes": 10},
        "metric": "loss",
        "chance_loss": math.log(10),
        "final": None if loss is None else {"step": steps, "loss": loss},
        "evaluations": [],
        "parameters": {"total": 1000, "added": 40 if kind == "naive" else 10},
    }
