"""The quality of a study's arms in a report, its controls, and the gates that a claim has to pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from laurel_cli import text
from laurel_cli.render.page import Block, Column, Prose, Table
from laurel_cli.reports import words
from laurel_cli.reports.quality import CONTROLS
from laurel_cli.verdict.effects import BETTER
from laurel_cli.verdict.findings import GAINS, JUDGED
from laurel_cli.verdict.gates import HALF, by, half_way
from laurel_cli.verdict.paired import CONFIDENCE
from laurel_cli.verdict.remarks import HIDDEN
from laurel_cli.verdict.words import control

Item = Mapping[str, Any]
ARM = Column("arm", code=True)
MOMENTS = 6  # evaluations that are shown at most
ZEROS = 4  # connections that are named at most


def right(title: str, read: Any = text.words) -> Column:
    """A column of figures."""
    return Column(title, read, align="right")


def quality(body: Item) -> list[Block]:
    """The judged arms with their verdicts; below them the controls, which are never ranked."""
    study = body["study"]
    trained = [arm for arm in body["arms"] if arm["role"] is not None]
    judged = [arm for arm in trained if arm["role"] in ("baseline", "arm")]
    strong = frozenset((i, 6) for i, arm in enumerate(judged) if arm["verdict"] == BETTER)
    said = ["Bold: better than the baseline and than every control of its recipe."] if strong else []
    said.append(f"Gains are of the {study['metric']}; above zero is better.")
    if any(arm["within"] for arm in judged) and study["metric"] == "loss":
        said.append(
            "Within ... of the baseline is the difference of the losses, below zero is better; all of these hold "
            "together with 95 % or more."
        )
    verdict = "verdict" if study["shown"] == study["metric"] else f"verdict by {study['metric']}"
    blocks: list[Block] = [_table("Quality", judged, study, strong, verdict)]
    beside = [arm for arm in trained if arm["role"] in ("copy", *CONTROLS)]
    blocks.append(Prose(" ".join(said)))
    if beside:
        blocks.append(_table("Controls", beside, study, frozenset(), "what it is"))
        blocks.append(Prose("Controls are tested alone, outside of the family, and are never ranked among the arms."))
    return blocks


def _table(title: str, arms: Sequence[Item], study: Item, strong: frozenset[tuple[int, int]], last: str) -> Table:
    shown = study["shown"]
    columns = (
        ARM,
        right(f"{shown}{' %' if shown == 'accuracy' else ''}, 95 % interval"),
        right("trials"),
        right(f"gain over the baseline, {words.UNITS[study['metric']]}"),
        right("level", words.level),
        right("p (Holm)" if last.startswith("verdict") else "p", words.short_p),
        Column(last, prose=True),
    )
    rows = []
    for arm in arms:
        figure = words.quality(arm["quality"], shown) if arm["quality"] else _state(arm)
        # A gain of which nothing may be claimed is not printed: of an unstable arm, or before the first look.
        gain = (arm["gain"] if arm["role"] != "arm" or arm["verdict"] in JUDGED else None) or {}
        row = (arm["name"], figure, words.trials(arm["trials"]), words.gain(gain or None, study["metric"]))
        rows.append((*row, gain.get("level"), gain.get("p_holm"), _words(arm)))
    return Table(title, columns, tuple(rows), strong)


def _state(arm: Item) -> str:
    """In the place of a figure that no trial gave."""
    states = arm["trials"]
    return "DIVERGED" if states["diverged"] else "FAILED" if states["failed"] else "NO TRIAL"


def _words(arm: Item) -> str:
    if arm["role"] in CONTROLS:
        return f"{_ROLES[arm['role']]}: {control(arm['name'])}"
    said = arm["words"] or arm["verdict"]
    return f"{said} ({'; '.join(arm['reasons'])})" if arm["reasons"] else said


_ROLES = {"positive": "positive control", "recipe": "control of the recipe", "budget": "second budget"}


def gates(body: Item) -> list[Block]:
    """What must hold before anything is claimed, what stands beside a gain, and the gain on the way."""
    facts = Table("Gates", (Column("gate"), Column("what was found", prose=True)), _gates(body))
    return [facts, *_on_the_way(body)]


def _gates(body: Item) -> tuple[tuple[str, str], ...]:
    study, metric = body["study"], body["study"]["metric"]
    learned = {True: "yes", False: "no", None: "not known"}[study["learned"]]
    facts = [("the baseline has learned", f"{learned}: {study['learned_reason']}")]
    facts.append(("positive control", _positive(study)))
    facts.append(("the baseline's late fall", _late_fall(body)))
    facts.append(("controls of the recipe", _recipe(study)))
    if study["start"] is not None:
        facts.append(("branches at the start", _start(study["start"])))
    facts.append(("look", _look(study)))
    worth = study["declared"]["worth"]
    if worth is not None:
        known = [f"{arm['name']}: {arm['worth']}" for arm in body["arms"] if arm["worth"]]
        facts.append((f"a gain of {words.size(worth, metric)}", "; ".join(known) or "no arm"))
    return tuple(facts)


def _positive(study: Item) -> str:
    found = study["positive_control"]
    if found is None:
        return "none was run: whether the study could have seen a gain is not known"
    state = {True: "separated from the baseline", False: "not separated: the study cannot tell", None: "has no figure"}
    ratio = study["declared"]["controls"].get("positive_flops_ratio")
    price = f" ({ratio:.2f} times the FLOPs)" if ratio is not None else ""
    said = f"{control(found['arm'])}{price}: {state[found['separated']]}"
    return said if found["gain"] is None else f"{said} ({words.gain_at(found['gain'], study['metric'])})"


def _late_fall(body: Item) -> str:
    study, metric = body["study"], body["study"]["metric"]
    fall = study["late_fall"]
    if fall is None:
        return "not known: no evaluation before the end"
    ends = {"gain": fall["mean"], "low": fall["low"], "high": fall["high"], "level": CONFIDENCE}
    said = f"{words.gain_at(ends, metric)} over the last {100 * fall['share_of_run']:.0f} % of its steps"
    gains = [arm["gain"]["gain"] for arm in body["arms"] if arm["verdict"] in GAINS and arm["role"] == "arm"]
    if gains:
        said += f", beside a largest gain of {words.size(max(gains), metric)}"
    return said


def _recipe(study: Item) -> str:
    names = study["declared"]["controls"]["recipe"]
    return ", ".join(map(control, names)) if names else "none was run: a gain may be one of the recipe"


def _start(start: Item) -> str:
    zero = start["zero"]
    if zero:
        more = f" and {len(zero) - ZEROS} more" if len(zero) > ZEROS else ""
        return f"{len(zero)} of {start['connections']} start at zero: {', '.join(zero[:ZEROS])}{more}"
    if start["smallest"] is None:
        return f"of {start['connections']} nothing can be told"
    nearly = ", some nearly so" if start["smallest"] < HIDDEN else ""
    return f"|f| / |x| from {start['smallest']:.3g} to {start['largest']:.3g}; none starts at zero{nearly}"


def _look(study: Item) -> str:
    look = study["look"]
    if look is None:
        return f"none yet: {study['blocks']} blocks are complete"
    later = [str(item["n"]) for item in study["declared"]["looks"] if item["n"] > look["n"]]
    said = f"at {look['n']} of {study['blocks']} blocks, which may spend {100 * look['alpha']:.2g} % of the 5 %"
    return f"{said}; the next one at {later[0]}" if later else said


def _on_the_way(body: Item) -> list[Block]:
    """The gain at each evaluation with its trend."""
    metric = body["study"]["metric"]
    arms = [arm for arm in body["arms"] if arm["verdict"] in JUDGED and arm["gains"]]
    steps = sorted({moment["step"] for arm in arms for moment in arm["gains"]})
    if len(steps) < 2:
        return []
    shown = spread(steps, MOMENTS)
    columns = (ARM, *(right(f"step {step:,}") for step in shown), Column("trend"))
    rows = []
    for arm in arms:
        at = {moment["step"]: moment for moment in arm["gains"]}
        rows.append((arm["name"], *(words.gain(at.get(step), metric) for step in shown), arm["trend"]))
    title = f"Gain over the baseline at each evaluation, {words.UNITS[metric]}"
    note = (
        "Each with the 95 % interval of that evaluation alone. Trend: whether the gain at the end is smaller or larger "
        f"than {half_way(steps)}, by a paired test at 5 % for each arm."
    )
    return [Table(title, columns, tuple(rows)), Prose(note)]


def spread(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of some evaluations: the first, the one that a trend is held against and the end among them."""
    if len(steps) <= most:
        return list(steps)
    last = len(steps) - 1
    chosen = {steps[round(i * last / (most - 2))] for i in range(most - 1)}
    return sorted(chosen | {early for early in [by(steps, HALF)] if early is not None})
