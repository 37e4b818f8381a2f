"""What a report shows of the quality of a study's arms. What is established of it is the judgement's alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from laurel_cli.arms import Arm
from laurel_cli.errors import UsageError
from laurel_cli.reports.studies import METRICS, Trials
from laurel_cli.verdict.effects import BETTER
from laurel_cli.verdict.findings import JUDGED, REPAIRS, Finding, Judgement

RANKED = ("baseline", "arm")
CONTROLS = ("positive", "recipe", "budget")
"""Roles of arms that the others are held against."""


@dataclass(frozen=True)
class Quality:
    """Figures of one metric beside the judgement, which is that of the metric that was declared.

    Attributes:
        shown: the metric of `values`, "loss" or "accuracy".
        values: final figures by arm and seed, of the complete trials.
    """

    trials: Trials
    shown: str
    values: Mapping[Arm, Mapping[int, float]]

    @property
    def judgement(self) -> Judgement:
        """Of the study."""
        return self.trials.judgement

    @property
    def findings(self) -> Mapping[Arm, Finding]:
        """Of every arm, in the order of tables."""
        return self.trials.findings

    @property
    def drawn(self) -> tuple[Arm, ...]:
        """The arms that stand against a cost: the baseline, what is judged, and the positive control beside them."""
        roles = (*RANKED, "positive")
        return tuple(arm for arm, finding in self.findings.items() if finding.role in roles and arm in self.values)

    def known(self, arm: Arm) -> bool:
        """Whether the study says anything of an arm's quality."""
        found = self.judgement
        finding = self.findings[arm]
        if finding.role == "baseline":
            return not found.withheld and not found.cannot_tell
        return finding.role == "arm" and finding.verdict in JUDGED

    def better(self, a: Arm, b: Arm) -> bool:
        """Whether a is established to be better than b: an arm that only repairs the recipe is better than nobody."""
        over = self.judgement.orders.get((self.findings[a].name, self.findings[b].name))
        return over is not None and over.verdict == BETTER and self.findings[a].verdict != REPAIRS


def quality(trials: Trials, metric: str | None = None) -> Quality:
    """The figures of a study's arms.

    Args:
        metric: None for the one that the study declared.

    Raises:
        UsageError: no complete trial has that metric.
    """
    shown = metric or trials.judgement.metric
    values = trials.values(shown)
    complete = any(finding.arm.states()["complete"] for finding in trials.findings.values())
    if metric is not None and complete and not values:
        other = next(name for name in METRICS if name != metric)
        raise UsageError(
            f"`quality={metric!r}` was not measured in the study {trials.name!r}.", hint=f"Try `quality={other!r}`."
        )
    return Quality(trials, shown, values)
