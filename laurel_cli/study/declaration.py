"""What a study declares before its first trial: families of arms, looks, what is worth having, controls. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from laurel_cli.proxy.contenders import Contender
from laurel_cli.proxy.defaults import CONTROL_SEEDS
from laurel_cli.verdict.declared import Controls

RECIPE_CONTROLS = ("baseline:lr=0.5", "baseline:lr=2")
BUDGET = "baseline:steps=0.7"
NO_CONTROLS = Controls()


@dataclass(frozen=True)
class Declaration:
    """What is fixed when a study begins, but for families, which are added to.

    Attributes:
        arms: families in the order of their declaration; no baseline, copy or control is in them.
        first: blocks at the first look, 0 before the study begins.
        most: blocks at the last look of a study that adds seeds until its arms are separated, else 0.
        worth: the gain that would be worth having, in the unit of `metric`; None where none was named.
        control_seeds: blocks of the controls that are `short`.
    """

    arms: tuple[tuple[str, ...], ...] = ()
    first: int = 0
    most: int = 0
    metric: str = "loss"
    worth: float | None = None
    controls: Controls = NO_CONTROLS
    control_seeds: int = CONTROL_SEEDS

    def begun(self, first: int) -> Declaration:
        """With the blocks that the study began with: no control has more, and what ends there has no later look."""
        seeds = min(self.control_seeds, first) if self.controls.short else 0
        return replace(self, first=first, most=self.most if self.most > first else 0, control_seeds=seeds)

    def adding(self, contenders: Sequence[Contender]) -> Declaration:
        """With a further family: those of the arms that are in none, nor the baseline, its copy or a control."""
        known = {name for family in self.arms for name in family} | set(self.controls.names)
        new = tuple(one.name for one in contenders if not one.kind.is_baseline and one.name not in known)
        return replace(self, arms=(*self.arms, new)) if new else self

    def keys(self, names: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, int]]:
        """(arm, seed) of every trial, block by block."""
        for number, seed in enumerate(seeds):
            for name in names:
                if number < self.control_seeds or name not in self.controls.short:
                    yield name, seed

    def fixed(self) -> dict[str, Any]:
        """What may not change once the study has begun, as JSON values."""
        plain = self.plain()
        ratio = {"positive_flops_ratio"}
        controls = {key: value for key, value in plain["controls"].items() if key not in ratio}
        return {key: plain[key] for key in ("most", "metric", "worth", "control_seeds")} | {"controls": controls}

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        controls = self.controls
        return {
            "arms": [list(family) for family in self.arms],
            "first": self.first,
            "most": self.most,
            "metric": self.metric,
            "worth": self.worth,
            "controls": {
                "positive": controls.positive,
                "recipe": list(controls.recipe),
                "budget": controls.budget,
                "positive_flops_ratio": controls.positive_flops_ratio,
            },
            "control_seeds": self.control_seeds,
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Declaration:
        """The declaration that `plain` gave."""
        return cls(
            arms=tuple(tuple(family) for family in plain["arms"]),
            first=plain["first"],
            most=plain["most"],
            metric=plain["metric"],
            worth=plain["worth"],
            controls=Controls.of(plain["controls"]),
            control_seeds=plain["control_seeds"],
        )
