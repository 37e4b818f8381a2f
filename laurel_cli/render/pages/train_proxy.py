"""What a person sees of the document of `laurel train-proxy`: the verdicts first, then what they rest on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from laurel_cli import text
from laurel_cli.render.page import Column, Page, Table, answer
from laurel_cli.render.pages.flat import flat
from laurel_cli.render.pages.report_quality import spread
from laurel_cli.verdict import words
from laurel_cli.verdict.findings import CANNOT_TELL, GAINS, JUDGED, NAIVE
from laurel_cli.verdict.trials import alike

Item = Mapping[str, Any]
ARM = Column("arm", code=True)
SEEDS = 5  # columns of a table of trials
MOMENTS = 4  # evaluations that are shown at most
PARTS = {
    "difference": ("mean", "low", "high", "p", "n", "confidence"),
    "to_naive": ("mean", "low", "high", "p", "n", "confidence", "smallest_visible", "verdict"),
    "steps_saved": ("mean", "low", "high"),
    "parameters_saved": ("mean", "low", "high", "at_least"),
    "parameters": ("total", "added"),
}


def page(document: Item) -> Page:
    """The facts of the study, verdicts, controls, what they are worth, all trials."""
    arms = document["arms"]
    tables = [
        _verdicts(arms),
        _controls(document),
        _against_controls(arms),
        _against_alike(arms),
        _against_naive(arms),
        _gains(document),
        _losses(arms),
        _worth(arms),
        *_trials(document),
        _left_out(arms),
    ]
    return answer(
        f"Study {text.words(document['study']['name'])}: what is separated from the baseline",
        document,
        rows=_rows(document),
        facts=_facts(document),
        tables=[table for table in tables if table.rows],
        notes=document["notes"],
    )


def _rows(document: Item) -> list[dict[str, Any]]:
    said = {"model": document["model"].get("reference"), "task": document["task"].get("name")}
    said |= {"metric": document["metric"], "learned": document["learned"], "status": document["status"]}
    return [said | flat(arm, PARTS) for arm in document["arms"]]


def _facts(document: Item) -> tuple[tuple[str, str], ...]:
    study, arms = document["study"], document["arms"]
    total = sum(len(arm["trials"]) for arm in arms)
    done = total - sum(trial["status"] == "missing" for arm in arms for trial in arm["trials"])
    facts = [
        ("study", text.words(study["name"])),
        ("task", text.words(document["task"].get("name"))),
        ("model", text.words(document["model"].get("reference"))),
        ("metric", f"{document['metric']} {_unit(document)}, lower is better"),
        ("steps", text.count(study["steps"])),
        ("blocks", f"{document['n']} (seeds for which the baseline is complete)"),
        ("trials", f"{done} of {total}" + (" (partial)" if document["status"] == "partial" else "")),
        ("learned", _learned(document)),
        ("positive control", _positive(document["positive_control"])),
        ("fall at the end", _late_fall(document["late_fall"])),
        ("start", _start(document["start"])),
        ("smallest visible effect", _visible_range(arms)),
        ("noise floor", _noise(document["noise_floor"])),
        ("looks", _looks(document)),
    ]
    worth = document["declared"]["worth"]
    return (*facts, ("worth having", text.figure(worth))) if worth is not None else tuple(facts)


def _unit(document: Item) -> str:
    return "in nats a token" if document["task"].get("kind") == "text" else "in nats"


def _positive(found: Item | None) -> str:
    if found is None:
        return "none"
    said = {True: "separated", False: "NOT separated: the study cannot tell", None: "no figure yet"}[found["separated"]]
    return f"{words.control(found['arm'])}: {said} ({_difference(found['difference'])})"


def _late_fall(fall: Item | None) -> str:
    if fall is None:
        return text.NOTHING
    ends = text.interval(fall["low"], fall["high"])
    over = f"over the last {100 * fall['share_of_run']:.0f} % of the baseline's steps"
    return f"{text.figure(fall['mean'])} {ends} {over}"


def _start(start: Item | None) -> str:
    """How large the branches are beside the skip before the first step."""
    if start is None:
        return text.NOTHING
    zero = len(start["zero"])
    named = f"; {zero} of {start['connections']} branches are zero" if zero else ""
    ends = " to ".join(text.figure(start[end]) for end in ("smallest", "largest"))
    return f"|f| / |x| is {ends} at {start['connections']} connections{named}"


def _looks(document: Item) -> str:
    look = document["look"]
    planned = ", ".join(str(item["n"]) for item in document["declared"]["looks"])
    now = f"this one at {look['n']}" if look else f"none yet, with {document['blocks']}"
    return f"at {planned} blocks, and so on doubled; {now}"


def _visible_range(arms: list[Item]) -> str:
    """Over the arms, and over what is known of their spread."""
    known = [arm["smallest_visible"] for arm in arms if arm["smallest_visible"]]
    if not known:
        return text.NOTHING
    low, high = min(item["low"] for item in known), max(item["high"] for item in known)
    middle = sorted(item["value"] for item in known)[len(known) // 2]
    return f"about {text.figure(middle)}, between {text.figure(low)} and {text.figure(high)}"


def _learned(document: Item) -> str:
    said = {True: "yes", False: "no", None: "not known"}[document["learned"]]
    return f"{said}: {document['learned_reason']}"


def _noise(floor: Item | None) -> str:
    if floor is None:
        return text.NOTHING
    beside = f"; copy {_difference(floor)}" if floor["arm"] else ""
    return f"standard deviation {text.figure(floor['sd'])}{beside}"


def _verdicts(arms: list[Item]) -> Table:
    judged = [arm for arm in arms if arm["role"] == "arm"]
    rows = tuple((arm["name"], *[arm["difference"]] * 3, _words(arm)) for arm in judged)
    return Table("Loss against the baseline's", _compared(), rows)


def _controls(document: Item) -> Table:
    """The baseline again, with something changed and nothing learned: each is tested alone."""
    roles = {"positive": "positive control", "recipe": "to be beaten", "budget": "second budget", "copy": "noise floor"}
    shown = [arm for arm in document["arms"] if arm["role"] in roles]
    columns = (ARM, _right("n", text.count), _right("difference", _difference), _right("level", _level), Column("is"))
    rows = tuple(
        (arm["name"], _pairs(arm["difference"]), arm["difference"], arm["difference"], roles[arm["role"]])
        for arm in shown
    )
    return Table("The controls against the baseline, each alone", columns, rows)


def _against_controls(arms: list[Item]) -> Table:
    """Where an arm is better than the baseline: whether it beats the controls too."""
    rows = tuple(
        (arm["name"], item["control"], item["difference"], item["difference"], _BEATEN[item["beaten"]])
        for arm in arms
        if arm["verdict"] in GAINS
        for item in arm["controls"]
        if item["control"] != alike(arm["name"])
    )
    columns = (ARM, Column("control", code=True), _right("difference", _difference), _right("level", _level))
    return Table("Loss of better arms against the controls", (*columns, Column("beaten")), rows)


_BEATEN = {True: "yes", False: "no", None: "not known"}


def _against_alike(arms: list[Item]) -> Table:
    """What an arm with settings adds to them: against the baseline with the same ones."""
    rows = tuple(
        (arm["name"], item["control"], *[item["difference"]] * 3, (item["difference"] or {}).get("verdict", "withheld"))
        for arm in arms
        for item in arm["controls"]
        if item["control"] == alike(arm["name"])
    )
    arm, *rest = _compared()
    return Table(
        "Loss against that of the baseline with the same settings", (arm, Column("over", code=True), *rest), rows
    )


def _against_naive(arms: list[Item]) -> Table:
    compared = [(arm["name"], arm["to_naive"]) for arm in arms if arm["to_naive"]]
    rows = tuple((name, item, item, item, item.get("verdict", "withheld")) for name, item in compared)
    return Table(f"Loss against that of {NAIVE}", _compared(), rows)


def _compared() -> tuple[Column, ...]:
    """Narrow enough for 80 columns."""
    return (
        ARM,
        _right("difference", _difference),
        _right("level", _level),
        _right("p (Holm)", _p),
        Column("verdict", prose=True),
    )


def _gains(document: Item) -> Table:
    """The gain at each evaluation: a head start fades."""
    judged = [arm for arm in document["arms"] if arm["verdict"] in JUDGED and arm["gains"]]
    steps = sorted({moment["step"] for arm in judged for moment in arm["gains"]})
    shown = spread(steps, MOMENTS)
    columns = (ARM, *(_right(f"step {step:,}", _moment) for step in shown), Column("trend"))
    rows = tuple(
        (arm["name"], *(next((m for m in arm["gains"] if m["step"] == step), None) for step in shown), arm["trend"])
        for arm in judged
    )
    return Table("Gain over the baseline at each evaluation, above zero is better", columns, rows)


def _moment(moment: Item | None) -> str:
    return text.NOTHING if moment is None else text.figure(moment["gain"], signed=True)


def _losses(arms: list[Item]) -> Table:
    columns: list[tuple[Column, str | None]] = [
        (ARM, "name"),
        (_right("n", text.count), "n"),
        (_right("loss", _loss), None),
        (_right("bits per byte", _loss), "bits_per_byte"),
        (_right("accuracy", _accuracy), None),
        (_right("correlation", lambda value: text.NOTHING if value is None else f"{value:.2f}"), "correlation"),
    ]
    if not any(arm["bits_per_byte"] for arm in arms):  # of images
        del columns[3]
    rows = tuple(tuple(arm if key is None else arm[key] for _, key in columns) for arm in arms)
    title = "Loss at the end (95 % interval), and correlation with the baseline's"
    return Table(title, tuple(column for column, _ in columns), rows)


def _worth(arms: list[Item]) -> Table:
    columns = (
        ARM,
        _right("parameters", text.count),
        _right("added", text.count),
        _right("steps saved", lambda item: _saved(item, 1)),
        _right("parameters saved", lambda item: _saved(item, 0)),
    )
    parameters = [arm["parameters"] or {} for arm in arms]
    rows = tuple(
        (arm["name"], counted.get("total"), counted.get("added"), arm["steps_saved"], arm["parameters_saved"])
        for arm, counted in zip(arms, parameters, strict=True)
    )
    return Table("What it costs, and what it saves at equal loss", columns, rows)


def _trials(document: Item) -> Iterator[Table]:
    """All of them; a narrow table for every few seeds."""
    seeds = document["study"]["seeds"]
    for first in range(0, len(seeds), SEEDS):
        part = seeds[first : first + SEEDS]
        columns = (ARM, *(_right(f"seed {seed}", _trial) for seed in part))
        rows = tuple(
            (arm["name"], *(next((t for t in arm["trials"] if t["seed"] == seed), None) for seed in part))
            for arm in document["arms"]
        )
        yield Table("All trials: loss at the end" if not first else "All trials, continued", columns, rows)


def _left_out(arms: list[Item]) -> Table:
    columns = (ARM, _right("seed", str), Column("status"), Column("reason", prose=True))
    rows = tuple(
        (arm["name"], trial["seed"], trial["status"], trial["reason"])
        for arm in arms
        for trial in arm["trials"]
        if trial["status"] in ("diverged", "failed")
    )
    return Table("Trials that are left out", columns, rows)


def _words(arm: Item) -> str:
    """The verdict, and whether the gain is worth having, where that was asked."""
    worth = {None: "", CANNOT_TELL: "; whether it is worth it cannot be told"}.get(arm["worth"], f"; {arm['worth']}")
    return text.words(arm["words"]) + worth


def _level(item: Item | None) -> str:
    return text.NOTHING if item is None else f"{100 * item['confidence']:.4g} %"


def _right(title: str, read: Any) -> Column:
    return Column(title, read, align="right")


def _loss(arm: Item | None) -> str:
    """Of an arm, or of its loss in bits."""
    if arm is None or arm["mean"] is None:
        return text.NOTHING
    middle = text.figure(arm["mean"])
    known = arm["high"] is not None and isfinite(arm["high"])
    return f"{middle} +- {text.figure(arm['high'] - arm['mean'])}" if known else f"{middle} {text.UNKNOWN_INTERVAL}"


def _accuracy(arm: Item) -> str:
    middle, high = arm["accuracy"], arm.get("accuracy_high")
    if middle is None:
        return text.NOTHING
    if high is None or not isfinite(high):
        return f"{100 * middle:.2f} % {text.UNKNOWN_INTERVAL}"
    return f"{text.plus_minus(100 * middle, 100 * (high - middle))} %"


def _difference(item: Item | None) -> str:
    """-0.0316 [-0.0631, -0.0001]"""
    if item is None:
        return text.NOTHING
    ends = text.interval(item["low"], item["high"], signed=True)
    return f"{text.figure(item['mean'], signed=True)} {ends if ends != text.NOTHING else text.UNKNOWN_INTERVAL}"


def _pairs(item: Item | None) -> int:
    return item["n"] if item else 0


def _p(item: Item | None) -> str:
    if item is None or item["p"] is None:
        return text.NOTHING
    return "< 0.0001" if item["p"] < 0.0001 else f"{item['p']:.4f}"


def _saved(item: Item | None, decimals: int) -> str:
    """A mean with its ends: 35.2 [10.1, 61.0]; whole parameters."""
    if item is None:
        return text.NOTHING
    low, high = (text.NOTHING if not _known(item[key]) else f"{item[key]:,.{decimals}f}" for key in ("low", "high"))
    least = "at least " if item.get("at_least") else ""
    return f"{least}{item['mean']:,.{decimals}f} [{low}, {high if _known(item['high']) else 'more'}]"


def _known(value: float | None) -> bool:
    return value is not None and isfinite(value)


def _trial(trial: Item | None) -> str:
    if trial is None:  # controls of the recipe have fewer blocks
        return text.NOTHING
    return text.figure(trial["loss"]) if trial["status"] == "complete" else str(trial["status"])
