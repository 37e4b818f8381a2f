"""What the records of a study establish: one judgement, which every command renders and none repeats.

Every arm is compared with the baseline, with the controls, with `naive+1` and with every other arm, in the blocks of
the last look that its family has reached. An arm is better where it beats the baseline and every control of the recipe:
one of which the recipe is changed and nothing learned, among them every arm that is the baseline with another rate or
start. To an arm with settings, the baseline with the same ones is a control too. Nothing is claimed where the baseline
has not learned, where the positive control is not separated from it, or of an arm of which a trial diverged or failed:
to leave such trials out of the means would favour it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean

from laurel_cli.verdict import gates, paired, saved
from laurel_cli.verdict.controls import beaten, is_no_better, positive_is_separated
from laurel_cli.verdict.declared import Declared
from laurel_cli.verdict.effects import BETTER, Effect, Scores, effect, effects
from laurel_cli.verdict.findings import (
    CANNOT_TELL,
    FAILED,
    GAINS,
    JUDGED,
    NAIVE,
    NOT_WORTH,
    REPAIRS,
    UNCONTROLLED,
    UNSTABLE,
    WITHHELD,
    WORTH,
    Finding,
    Judgement,
)
from laurel_cli.verdict.paired import InterimLook
from laurel_cli.verdict.saved import Saved
from laurel_cli.verdict.trials import (
    BASELINE,
    COPY,
    STEPS,
    ArmTrials,
    StudyTrials,
    alike,
    is_recipe,
    scores,
)


def judge(study: StudyTrials, declared: Declared) -> Judgement:
    """Judge a study by the metric that it declared."""
    metric = declared.metric
    sign = 1.0 if metric == "accuracy" else -1.0
    base = study.baseline
    families = [[arm for name in family if (arm := study.arm(name))] for family in declared.families]
    reached = [_reached(study, declared, number, members) for number, members in enumerate(families)]
    look, blocks = reached[0] if reached else (None, 0)
    learned, why = gates.learned(study)
    positive = positive_is_separated(study, declared, sign)
    withheld = _withheld(declared, study, look, blocks, learned, why)
    found: dict[str, Finding] = {}
    looked: dict[str, tuple[int, int]] = {}
    for arm in study.arms:
        role = _role(arm, declared)
        if role != "arm":
            found[arm.name] = _beside(arm, base, role, metric, sign)
    for number, (members, (its_look, its_blocks)) in enumerate(zip(families, reached, strict=True)):
        its_reason = withheld or _withheld(declared, study, its_look, its_blocks, learned, why, number)
        alpha = (its_look or next(declared.looks(number))).alpha
        most = its_look.n if its_look else None
        looked |= {arm.name: (number, its_look.n) for arm in members if its_look}
        for item in _family(members, base, study, declared, most, alpha, sign, its_reason, positive):
            found[item.name] = item
    findings = tuple(found[arm.name] for arm in study.arms)
    judgement = Judgement(
        declared,
        study,
        metric,
        sign,
        findings,
        look,
        blocks,
        withheld,
        learned,
        why,
        positive,
        gates.late_fall(base, base.first_seeds(look.n if look else None), metric, sign),
        _orders([item for item in findings if item.name in looked], looked, base, declared, sign),
    )
    return _with_savings(judgement)


def _role(arm: ArmTrials, declared: Declared) -> str:
    if arm.kind in (BASELINE, COPY):
        return arm.kind
    controls = declared.controls
    if arm.name == controls.positive:
        return "positive"
    if arm.name == controls.budget:
        return "budget"
    return "recipe" if arm.name in controls.recipe else "arm"


def _shares_seeds(members: Sequence[ArmTrials], base: ArmTrials) -> bool:
    return all(set(arm.trials) & set(base.trials) for arm in members if arm.trials)


def _reached(
    study: StudyTrials, declared: Declared, family: int, members: Sequence[ArmTrials]
) -> tuple[InterimLook | None, int]:
    """(the last look, blocks); arms that share no seed with the baseline have the trials of the fewest as blocks."""
    base = study.baseline
    if base.trials and not _shares_seeds(members, base):
        blocks = min((len(arm.trials) for arm in (base, *members)), default=0)
    else:
        blocks = study.tried([base.name, *(arm.name for arm in members)])
    return declared.look(blocks, family), blocks


def _withheld(
    declared: Declared,
    study: StudyTrials,
    look: InterimLook | None,
    blocks: int,
    learned: bool | None,
    why: str,
    family: int = 0,
) -> str:
    if learned is None:
        return f"whether the proxy has learned cannot be said: {why}"
    if not learned:
        return f"the proxy has not learned: {why}"
    if look is None:
        first = declared.next_look(blocks, family).n
        return f"{blocks} block{'s are' if blocks != 1 else ' is'} complete, the first look is at {first}"
    state = _state(study.baseline, look.n)
    return f"the baseline is {state}" if state else ""


def _state(arm: ArmTrials, blocks: int | None) -> str:
    """`unstable: 2 of 5 diverged`, `failed: 1 of 5`; "" where every trial came to its end."""
    states = arm.states(blocks)
    total = sum(states.values())
    if states["diverged"]:
        return f"{UNSTABLE}: {states['diverged']} of {total} diverged"
    return f"{FAILED}: {states['failed']} of {total} failed" if states["failed"] else ""


def _beside(arm: ArmTrials, base: ArmTrials, role: str, metric: str, sign: float) -> Finding:
    """The baseline, its copy, a control: compared alone, outside of the families."""
    own, other = scores(arm, metric, sign), scores(base, metric, sign)
    gain = effect(own, other) if role != BASELINE and own and other else None
    return Finding(arm, role, own, gain)


def _family(
    members: Sequence[ArmTrials],
    base: ArmTrials,
    study: StudyTrials,
    declared: Declared,
    most: int | None,
    alpha: float,
    sign: float,
    withheld: str,
    positive: bool | None,
) -> list[Finding]:
    metric = declared.metric
    own = {arm.name: scores(arm, metric, sign, most) for arm in members}
    other = scores(base, metric, sign, most)
    states = {arm.name: _state(arm, most) for arm in members}
    # An arm that lost trials counts in every family, as p = 1: what is left of it must not ease the others' levels.
    tested = {name: {} if states[name] else values for name, values in own.items()}
    gains = effects([(tested[arm.name], other) for arm in members], alpha)
    recipe = [arm for name in declared.controls.recipe if (arm := study.arm(name))]
    recipe += [arm for arm in study.arms if is_recipe(arm.name) and arm not in recipe]
    known = {arm.name: is_no_better(arm, base, recipe, most, metric, sign) for arm in recipe}
    over = {control.name: _over(control, members, tested, most, metric, sign, alpha) for control in recipe}
    plain = {arm.name: twin for arm in members if (twin := study.arm(alike(arm.name)))}
    twins = list({twin.name: twin for twin in plain.values()}.values())
    known |= {twin.name: is_no_better(twin, base, twins, most, metric, sign) for twin in twins if twin not in recipe}
    # One family over all such baselines, of as many comparisons as arms have settings: one may be added later.
    pairs = [(tested[name], scores(twin, metric, sign, most)) for name, twin in plain.items()]
    beside = effects(pairs, alpha, sum(bool(alike(arm.name)) for arm in members))
    for (name, twin), over_twin in zip(plain.items(), beside, strict=True):
        over.setdefault(twin.name, {})[name] = over_twin
    naive = study.arm(NAIVE)
    rivals = [arm for arm in members if arm is not naive]
    against = scores(naive, metric, sign, most) if naive else {}
    to_naive = dict(
        zip(
            (arm.name for arm in rivals),
            effects([(tested[arm.name], against) for arm in rivals], alpha) if naive else [None] * len(rivals),
            strict=True,
        )
    )
    found = []
    for i, arm in enumerate(members):
        state = states[arm.name]
        gain = gains[i]
        if state and own[arm.name] and other:
            gain = effect(own[arm.name], other, 1 - alpha / len(members))
        over_controls = {name: figures[arm.name] for name, figures in over.items() if arm.name in figures}
        won = {name: beaten(known[name], over_controls[name]) for name in over_controls}
        excluded = _excluded(own[arm.name], other, alpha / len(members))
        needed = [name for name in (*(one.name for one in recipe), alike(arm.name)) if name not in ("", arm.name)]
        verdict, reason = _verdict(gain, won, declared, needed, state, withheld, positive)
        found.append(
            Finding(
                arm,
                "arm",
                own[arm.name],
                gain,
                over_controls,
                won,
                to_naive.get(arm.name) if not state and naive and not _state(naive, most) else None,
                1 - alpha / len(members),
                excluded,
                _visible(gain, alpha / len(members)),
                gates.moments(arm, base, arm.first_seeds(most), metric, sign),
                gates.trend(arm, base, arm.first_seeds(most), metric, sign),
                verdict,
                reason,
                _worth(declared.worth, excluded, verdict),
            )
        )
    return found


def _over(
    control: ArmTrials,
    members: Sequence[ArmTrials],
    tested: Mapping[str, Scores],
    most: int | None,
    metric: str,
    sign: float,
    alpha: float,
) -> dict[str, Effect | None]:
    """Gains over a control, by arm: a family of their own."""
    other = scores(control, metric, sign, most)
    rivals = [arm.name for arm in members if arm is not control]
    return dict(zip(rivals, effects([(tested[name], other) for name in rivals], alpha), strict=True))


def _verdict(
    gain: Effect | None,
    won: Mapping[str, bool | None],
    declared: Declared,
    needed: Sequence[str],
    state: str,
    withheld: str,
    positive: bool | None,
) -> tuple[str, str]:
    if state:
        word, _, rest = state.partition(": ")
        return word, rest
    if withheld:
        return WITHHELD, withheld
    if gain is None:
        return WITHHELD, "it has no trial"
    if positive is False:
        return CANNOT_TELL, "the positive control is not separated from the baseline"
    if gain.verdict != BETTER:
        return gain.verdict, ""
    short = [name for name, better in won.items() if better is False]
    if short:
        return REPAIRS, ", ".join(short)
    if not declared.controls.recipe:
        return UNCONTROLLED, "no control of the recipe was run"
    if declared.controls.positive and positive is None:
        return UNCONTROLLED, "the positive control has no figure"
    missing = [name for name in dict.fromkeys(needed) if won.get(name) is None]
    if missing:
        return UNCONTROLLED, f"{', '.join(missing)} {'has' if len(missing) == 1 else 'have'} no figure"
    return BETTER, ""


def _excluded(own: Scores, other: Scores, alpha: float) -> tuple[float, float] | None:
    """Two one-sided bounds of level 1 - alpha / 2: both hold at once with 1 - alpha."""
    if not own or not other:
        return None
    found = effect(own, other, 1 - alpha)
    return (found.low, found.high) if math.isfinite(found.low) else None


def _visible(gain: Effect | None, alpha: float) -> tuple[float, float, float] | None:
    if gain is None or not gain.paired or gain.n < 2 or not gain.sd > 0:
        return None
    size = paired.smallest_visible(gain.sd, gain.n, alpha)
    low, high = (size * end / gain.sd for end in paired.deviation_ends(gain.sd, gain.n))
    return size, low, high


def _worth(worth: float | None, excluded: tuple[float, float] | None, verdict: str) -> str | None:
    """Both ends hold for all arms together, so that neither answer needs another correction."""
    if worth is None:
        return None
    if excluded is None or verdict not in JUDGED:
        return CANNOT_TELL
    if excluded[1] < worth:
        return NOT_WORTH
    return WORTH if excluded[0] >= worth and verdict == BETTER else CANNOT_TELL


def _orders(
    arms: Sequence[Finding], looked: Mapping[str, tuple[int, int]], base: ArmTrials, declared: Declared, sign: float
) -> dict[tuple[str, str], Effect]:
    """Every two arms that may be judged, both ways round: over the baseline, over naive+1 and over the baseline with
    the same settings, each a family of its own, and the others.

    Two of the others are compared in the later of their families, at the last look that both have reached: the arms
    that were there before spend nothing anew when some are added. All pairs of that family count, judged or not.

    Args:
        looked: by arm, the number of its family and the blocks of its look.
    """
    stable = {item.name: item for item in arms if item.verdict in JUDGED and item.scores}
    found = {(name, base.name): item.gain for name, item in stable.items() if item.gain is not None}
    found |= {(name, NAIVE): item.to_naive for name, item in stable.items() if item.to_naive is not None}
    for name, item in stable.items():
        other = alike(name)
        if other in stable and (over := item.over.get(other)) is not None:
            found[name, other] = over
    others = combinations([item.name for item in arms if item.name != NAIVE], 2)
    pairs = [(a, b) for a, b in others if a != alike(b) and b != alike(a)]
    counts = Counter(max(looked[name][0] for name in pair) for pair in pairs)
    groups: dict[tuple[int, int], list[tuple[str, str]]] = {}
    for pair in pairs:
        if stable.keys() >= {*pair}:
            family, blocks = max(looked[name][0] for name in pair), min(looked[name][1] for name in pair)
            groups.setdefault((family, blocks), []).append(pair)
    for (family, blocks), members in groups.items():
        look = declared.look(blocks, family)
        assert look is not None
        own = {name: scores(stable[name].arm, declared.metric, sign, look.n) for pair in members for name in pair}
        compared = effects([(own[a], own[b]) for a, b in members], look.alpha, counts[family])
        found |= {pair: over for pair, over in zip(members, compared, strict=True) if over is not None}
    return found | {(b, a): over.reversed() for (a, b), over in found.items()}


def _with_savings(judgement: Judgement) -> Judgement:
    """Steps saved of arms that are better; shares of naive scaling's gain where that gain is established. Neither of an
    arm with another number of steps, whose gain is theirs too."""
    base = judgement.study.baseline
    other = scores(base, judgement.metric, judgement.sign)
    naive = judgement.naive
    findings = []
    for item in judgement.findings:
        share = steps = None
        if item.role == "arm" and item.gain is not None and item.verdict in JUDGED:
            if naive is not None and item.name != NAIVE and STEPS not in item.name:
                share = saved.share_of_naive(item.scores, naive.scores, other, judgement.share_confidence(item))
            steps = _steps_saved(judgement, item) if item.verdict in GAINS else None
        findings.append(replace(item, share_of_naive=share, steps_saved=steps))
    return replace(judgement, findings=tuple(findings))


def _steps_saved(judgement: Judgement, item: Finding) -> Saved | None:
    name = judgement.declared.controls.budget
    budget = judgement.study.arm(name) if name else None
    base = judgement.study.baseline
    if budget is None or item.gain is None or STEPS in item.name or _state(budget, None):
        return None
    fewer, full = (scores(arm, judgement.metric, judgement.sign) for arm in (budget, base))
    common = [seed for seed in item.scores if seed in fewer and seed in full]
    steps = [_last_step(arm) for arm in (base, budget)]
    if len(common) < 2 or steps[0] is None or steps[1] is None or not 0 < steps[1] < steps[0]:
        return None
    gains = [item.scores[seed] - full[seed] for seed in common]
    falls = [full[seed] - fewer[seed] for seed in common]
    return saved.steps_saved(gains, falls, steps[0], steps[1], item.gain.confidence)


def _last_step(arm: ArmTrials) -> int | None:
    steps = [trial["final"]["step"] for trial in arm.trials.values() if trial.get("final")]
    return int(fmean(steps)) if steps else None
