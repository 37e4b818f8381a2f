"""The controls of a study: what an arm must beat besides the baseline, and what shows that the study can see at all."""

from __future__ import annotations

from collections.abc import Sequence

from laurel_cli.verdict.declared import Declared
from laurel_cli.verdict.effects import BETTER, WORSE, Effect, effect, effects
from laurel_cli.verdict.trials import ArmTrials, StudyTrials, scores


def positive_is_separated(study: StudyTrials, declared: Declared, sign: float) -> bool | None:
    """Whether the positive control is better than the baseline, by one test at 5 %; None where it has no figure."""
    name = declared.controls.positive
    arm = study.arm(name) if name else None
    own, base = (scores(one, declared.metric, sign) if one else {} for one in (arm, study.baseline))
    if not own or not base:
        return None
    return effect(own, base).verdict == BETTER


def is_no_better(
    control: ArmTrials,
    base: ArmTrials,
    all_of_them: Sequence[ArmTrials],
    blocks: int | None,
    metric: str,
    sign: float,
) -> bool | None:
    """Whether a control's recipe is established to be worse than the baseline's; None where nothing is known of it.

    The controls are a family of their own. One that diverged is no better recipe, whatever its other trials say.
    """
    states = control.states(blocks)
    if states["diverged"]:
        return True
    other = scores(base, metric, sign, blocks)
    if not scores(control, metric, sign, blocks) or states["failed"]:
        return None
    found = effects([(scores(arm, metric, sign, blocks), other) for arm in all_of_them])
    own = found[list(all_of_them).index(control)]
    return own is not None and own.verdict == WORSE


def beaten(no_better: bool | None, over: Effect | None) -> bool | None:
    """Whether a control is known to be worse than an arm: worse than the baseline, which the arm beats, or directly."""
    if no_better is None:
        return None
    return no_better or (over is not None and over.verdict == BETTER)
