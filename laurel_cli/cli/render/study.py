"""What a person sees of the document of `laurel train-proxy`: the verdicts first, then what they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from laurel_cli import text
from laurel_cli.cli.render.sheet import Column, Sheet, Table

Item = Mapping[str, Any]
ARM = Column("arm", code=True)
NAIVE = "naive+1"


def study_sheet(document: Item) -> Sheet:
    """The facts of the study, verdicts, what they are worth, all trials."""
    arms = document["arms"]
    tables = [
        _verdicts(arms),
        _against_naive(arms),
        _losses(arms),
        _worth(arms),
        _trials(document),
        _left_out(arms),
    ]
    return Sheet(
        facts=_facts(document),
        tables=tuple(table for table in tables if table.rows),
        notes=tuple(document["notes"]),
        warnings=tuple(document["warnings"]),
        command=str(document["command"]),
    )


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
        ("smallest visible effect", _visible_range(arms)),
        ("noise floor", _noise(document["noise_floor"])),
    ]
    if document["looks"]:
        facts.append(
            (
                "looks",
                "at " + ", ".join(str(look["n"]) for look in document["looks"]) + f" blocks, now {document['tried']}",
            )
        )
    return tuple(facts)


def _unit(document: Item) -> str:
    return "in nats a token" if document["task"].get("kind") == "text" else "in nats"


def _visible_range(arms: list[Item]) -> str:
    seen = [arm["smallest_visible"] for arm in arms if arm["kind"] not in ("baseline", "copy")]
    known = [value for value in seen if value is not None and isfinite(value)]
    if not known:
        return text.NOTHING
    low, high = text.figure(min(known)), text.figure(max(known))
    return low if low == high else f"{low} to {high}, by arm"


def _learned(document: Item) -> str:
    if document["learned"] is None:
        return f"not known: {document['learned_reason']}"
    share = document["arms"][0]["mean"] / document["chance_loss"]
    return f"{'yes' if document['learned'] else 'no'}: the baseline's loss is {share:.3f} of chance"


def _noise(floor: Item | None) -> str:
    if floor is None:
        return text.NOTHING
    beside = f"; copy {_difference(floor)}" if floor["arm"] else ""
    return f"standard deviation {text.figure(floor['sd'])}{beside}"


def _verdicts(arms: list[Item]) -> Table:
    judged = [arm for arm in arms if arm["verdict"] is not None]
    rows = tuple((arm["name"], _pairs(arm["difference"]), *[arm["difference"]] * 2, _words(arm)) for arm in judged)
    return Table("Loss against the baseline's", _compared(), rows)


def _against_naive(arms: list[Item]) -> Table:
    compared = [(arm["name"], arm["to_naive"]) for arm in arms if arm["to_naive"]]
    rows = tuple((name, _pairs(item), item, item, _words(item)) for name, item in compared)
    return Table(f"Loss against that of {NAIVE}", _compared(), rows)


def _compared() -> tuple[Column, ...]:
    """Narrow enough for 80 columns."""
    return (
        ARM,
        _right("n", text.count),
        _right("difference", _difference),
        _right("p (Holm)", _p),
        Column("verdict", prose=True),
    )


def _losses(arms: list[Item]) -> Table:
    columns = (
        ARM,
        _right("n", text.count),
        _right("loss", _loss),
        _right("accuracy", lambda share: text.NOTHING if share is None else f"{100 * share:.2f} %"),
        _right("correlation with the baseline", lambda value: text.NOTHING if value is None else f"{value:.2f}"),
    )
    rows = tuple((arm["name"], arm["n"], arm, arm["accuracy"], arm["correlation"]) for arm in arms)
    return Table("Loss at the end, with its 95 % interval", columns, rows)


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


def _trials(document: Item) -> Table:
    seeds = document["study"]["seeds"]
    columns = (ARM, *(_right(f"seed {seed}", _trial) for seed in seeds))
    return Table(
        "All trials: loss at the end", columns, tuple((arm["name"], *arm["trials"]) for arm in document["arms"])
    )


def _left_out(arms: list[Item]) -> Table:
    columns = (ARM, _right("seed", str), Column("status"), Column("reason", prose=True))
    rows = tuple(
        (arm["name"], trial["seed"], trial["status"], trial["reason"])
        for arm in arms
        for trial in arm["trials"]
        if trial["status"] in ("diverged", "failed")
    )
    return Table("Trials that are left out", columns, rows)


def _words(item: Item) -> str:
    """The verdict; with what could have been seen, where nothing was."""
    if item["verdict"] != "not separated":
        return text.words(item["verdict"])
    seen = item["smallest_visible"]
    known = seen is not None and isfinite(seen)
    return f"not separated (smallest visible effect {text.figure(seen) if known else 'unknown'})"


def _right(title: str, read: Any) -> Column:
    return Column(title, read, align="right")


def _loss(arm: Item) -> str:
    middle = text.figure(arm["mean"])
    known = arm["high"] is not None and isfinite(arm["high"])
    return f"{middle} +- {text.figure(arm['high'] - arm['mean'])}" if known else middle


def _difference(item: Item | None) -> str:
    """-0.0316 [-0.0631, -0.0001]"""
    if item is None:
        return text.NOTHING
    ends = text.interval(item["low"], item["high"], signed=True)
    return f"{text.figure(item['mean'], signed=True)} {ends if ends != text.NOTHING else '[unknown]'}"


def _pairs(item: Item | None) -> int:
    return item["n"] if item else 0


def _p(item: Item | None) -> str:
    if item is None:
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


def _trial(trial: Item) -> str:
    return text.figure(trial["loss"]) if trial["status"] == "complete" else str(trial["status"])
