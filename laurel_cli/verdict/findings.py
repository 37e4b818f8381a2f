"""What a judgement consists of: its words, the finding on one arm, and all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from laurel_cli.verdict import gates, paired
from laurel_cli.verdict.declared import Declared
from laurel_cli.verdict.effects import BETTER, NOT_SEPARATED, WORSE, Effect, Scores
from laurel_cli.verdict.gates import Moment
from laurel_cli.verdict.paired import InterimLook, MeanInterval
from laurel_cli.verdict.saved import Saved
from laurel_cli.verdict.trials import ArmTrials, StudyTrials

NAIVE = "naive+1"
REPAIRS = "better than the baseline, not than a control"
UNCONTROLLED = "better, without controls"
UNSTABLE, FAILED = "unstable", "failed"
CANNOT_TELL, WITHHELD = "cannot tell", "withheld"
WORTH, NOT_WORTH = "worth it", "not worth it"
GAINS = (BETTER, REPAIRS, UNCONTROLLED)
"""Verdicts that say an arm is better than the baseline."""
CLAIMS = (*GAINS, WORSE)
"""Verdicts that say anything of an arm's quality."""
JUDGED = (*CLAIMS, NOT_SEPARATED)
"""Verdicts of arms of which figures may be shown: no trial is missing from them, and the study can see."""


@dataclass(frozen=True)
class Finding:
    """What is established of one arm.

    Attributes:
        arm: its trials; `role` "baseline", "copy", "arm", "positive", "recipe" or "budget" (the controls).
        scores: by seed, higher is better, in the blocks of the look.
        gain: over the baseline; None where no block is shared. For controls and copies alone, outside of the families.
        over: gains over the controls of the recipe, by name; `beaten` whether each is known to be no better recipe.
        to_naive: gain over `naive+1`, a family of its own.
        level: at which `excluded` holds, so that those of all arms of the family hold together.
        excluded: (low, high) between which the gain over the baseline lies.
        visible: smallest gain that such a study finds four times in five: estimate, and the ends of its 95 % interval.
        moments, trend: the gain at each evaluation, and whether it lasts.
        verdict: one of this module's words; "" for the baseline and for controls. `reason` says why, in words.
        worth: whether it has the gain that was declared to be worth having; None where none was.
    """

    arm: ArmTrials
    role: str
    scores: Scores
    gain: Effect | None = None
    over: Mapping[str, Effect | None] = field(default_factory=dict)
    beaten: Mapping[str, bool | None] = field(default_factory=dict)
    to_naive: Effect | None = None
    level: float = 0.95
    excluded: tuple[float, float] | None = None
    visible: tuple[float, float, float] | None = None
    moments: tuple[Moment, ...] = ()
    trend: str = gates.UNKNOWN
    verdict: str = ""
    reason: str = ""
    worth: str | None = None
    steps_saved: Saved | None = None
    share_of_naive: MeanInterval | None = None

    @property
    def name(self) -> str:
        """Of the arm."""
        return self.arm.name


@dataclass(frozen=True)
class Judgement:
    """What the study establishes.

    Attributes:
        declared, study: what it rests on.
        metric: what is judged; `sign` 1 where higher is better.
        findings: of every arm, the baseline first.
        look: the last look at the first family, None before the first; `blocks` how many it has reached.
        withheld: why nothing is claimed of the first family; "" where claims may be made.
        learned, learned_reason: of the baseline.
        positive: whether the positive control is better than the baseline; None where there is none, or no figure.
        late_fall: the baseline's gain over the last part of its run, and the share of the run that this is.
        orders: gains of one arm over another by their names: `naive+1` and the others are families of their own.
    """

    declared: Declared
    study: StudyTrials
    metric: str
    sign: float
    findings: tuple[Finding, ...]
    look: InterimLook | None
    blocks: int
    withheld: str
    learned: bool | None
    learned_reason: str
    positive: bool | None
    late_fall: tuple[MeanInterval, float] | None
    orders: Mapping[tuple[str, str], Effect]

    def finding(self, name: str) -> Finding:
        """By the arm's name."""
        return next(found for found in self.findings if found.name == name)

    @property
    def judged(self) -> tuple[Finding, ...]:
        """The arms of the families."""
        return tuple(found for found in self.findings if found.role == "arm")

    @property
    def cannot_tell(self) -> bool:
        """Whether the positive control failed: the study could not have seen what is looked for."""
        return not self.withheld and self.positive is False

    @property
    def naive(self) -> Finding | None:
        """`naive+1`, where it is established to be better than the baseline: what equal quality is measured by.

        As the positive control it is judged as that, by one test alone.
        """
        found = next((item for item in self.findings if item.name == NAIVE), None)
        if found is not None and found.role == "positive":
            return found if self.positive and not self.withheld else None
        return found if found is not None and found.verdict in GAINS else None

    def share_confidence(self, item: Finding) -> float:
        """The level of an arm's share of the gain of `naive+1`: that of the arm's gain, or of naive's if it is lower.

        At that level the share leaves out zero exactly where the arm is separated from the baseline, and has ends
        wherever both are separated from it.
        """
        own, naive = item.gain, self.naive.gain if self.naive else None
        if own is None or naive is None:
            return paired.CONFIDENCE
        return own.confidence if own.verdict == NOT_SEPARATED else min(own.confidence, naive.confidence)
