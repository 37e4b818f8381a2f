"""What a person sees of the document of `laurel reproduce`: a paper's figures beside those of this run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from laurel_cli import text
from laurel_cli.render.page import Code, Column, Notes, Page, Prose, Table, answer
from laurel_cli.reports import words

Item = Mapping[str, Any]
CONTROLS = ("positive", "recipe", "budget")
STATES = ("complete", "diverged", "failed")
MODELS = {"counted": "analyze", "timed": "profile", "trained": "train-proxy"}


def page(document: Item) -> Page:
    """Facts, then a table each of parameters, quality and time; how it was made; what does not add up."""
    facts = [("experiment", f"{document['experiment']}: {document['title']}"), ("source", document["source"])]
    facts += [("scale", " ".join(part for part in (f"{document['scale']}.", document["note"]) if part))]
    facts += [("folder", document["folder"])]
    if document["timed_before"]:
        same = "by the same command, versions, code, device and files of the model; --again times anew"
        facts += [("times", f"taken over: of {document['timed_before']}, {same}")]
    tables = [table for table in (_parameters(document), _quality(document), _time(document)) if table is not None]
    made = answer(document["title"], document, rows=_rows(document), facts=facts, tables=tables)
    said = [item for item in (document["unwritten"], *document["notes"]) if item]
    blocks = [block for block in made.blocks if not (isinstance(block, Notes) and block.on_stderr)]
    blocks += [Notes("The paper's figures", tuple(said))] if said else []
    blocks += [Prose("Made by:"), Code(tuple(document["commands"]))]
    if document["cluster"]:
        blocks += [Prose("The same study on other machines:"), Code(tuple(document["cluster"]))]
    blocks += [block for block in made.blocks if isinstance(block, Notes) and block.on_stderr]
    return replace(made, blocks=tuple(blocks), is_titled=True)


def _parameters(document: Item) -> Table | None:
    found = [arm for arm in document["arms"] if arm["added_percent"] is not None]
    if not found:
        return None
    of_counts = any(_of(arm, "percent_of_counts") for arm in found)
    columns: list[tuple[Column, Callable[[Item], Any]]] = [
        (Column("arm", code=True), lambda arm: arm["arm"]),
        (Column("parameters", text.count, "right"), lambda arm: arm["parameters"]),
        (Column("added", text.count, "right"), lambda arm: arm["added_parameters"]),
        (Column("added %", text.percent, "right"), lambda arm: arm["added_percent"]),
        (
            Column(f"paper: added %{' (by its counts)' if of_counts else ''}", _printed_percent, "right"),
            lambda arm: _of(arm, "added_percent"),
        ),
    ]
    if document["papers_model"] and any(_of(arm, "parameters") is not None for arm in found):
        columns.append((Column("paper: parameters", text.amount, "right"), lambda arm: _of(arm, "parameters")))
    if document["unwritten"]:
        named = Column("with what it does not mention", text.amount, "right")
        columns.append((named, lambda arm: arm["with_unwritten"]))
    rows = tuple(tuple(value(arm) for _, value in columns) for arm in found)
    return Table(_titled("Parameters", document, "analyze"), tuple(column for column, _ in columns), rows)


def _quality(document: Item) -> Table | None:
    metric, paper = document["metric"], document["printed_quality"]
    if metric is None:
        return None
    trained = [arm for arm in document["arms"] if arm["role"] is not None]
    accurate = "accuracy" in (metric, paper) and any(arm["accuracy"] is not None for arm in trained)
    columns = (
        Column("arm", code=True),
        Column("loss", align="right"),
        *([Column("accuracy %", align="right")] if accurate else []),
        Column("trials", align="right"),
        Column(f"gain, {words.UNITS[metric]}", align="right"),
        Column("level", words.level, "right"),
        Column("in words", prose=True),
        Column(f"paper: {paper}{' %' if paper == 'accuracy' else ''}", align="right"),
        Column(f"paper: gain, {words.UNITS[paper]}", align="right"),
    )
    rows = []
    for arm in trained:
        gain = {"gain": arm["gain"], "low": arm["gain_low"], "high": arm["gain_high"]}
        over = text.NOTHING if arm["gain"] is None else words.gain(gain, metric)
        own = [_figure(arm["quality"], "loss"), *([_figure(arm["accuracy"], "accuracy")] if accurate else [])]
        printed = [_of(arm, "quality"), _of(arm, "gain") if arm["arm"] != "baseline" else None]
        shown = (words.trials(arm["trials"]), over, arm["gain_level"], _said(arm))
        rows.append((arm["arm"], *own, *shown, *(_figure(value, paper) for value in printed)))
    return Table(_titled("Quality", document, "train-proxy"), columns, tuple(rows))


def _time(document: Item) -> Table | None:
    found = [arm for arm in document["arms"] if arm["ratio"] is not None]
    if not found:
        return None
    what = "a training step" if document["mode"] == "train" else "a forward pass"
    columns = (
        Column("arm", code=True),
        Column(f"time of {what}, of the baseline's", words.ratio, "right"),
        Column("verdict"),
        Column("paper: step", _times, "right"),
        Column("peak memory, of the baseline's", _times, "right"),
        Column("paper: memory", _times, "right"),
    )
    rows = []
    for arm in found:
        memory = (arm["memory_ratio"], _of(arm, "memory_ratio"))
        rows.append((arm["arm"], arm["ratio"], arm["ratio"]["verdict"], _of(arm, "step_ratio"), *memory))
    return Table(_titled("Time and memory", document, "profile"), columns, tuple(rows))


def _rows(document: Item) -> list[dict[str, Any]]:
    """An arm a row: what is ours, and the paper's beside it."""
    found = []
    for arm in document["arms"]:
        ratio = arm["ratio"] or {}
        own = {key: value for key, value in arm.items() if key not in ("paper", "ratio", "trials")}
        own |= {f"{how}_model": _model(document, command).get("reference") for how, command in MODELS.items()}
        own |= {f"trials_{state}": (arm["trials"] or {}).get(state) for state in STATES}
        timed = {f"ratio_{key}": ratio.get(key) for key in ("median", "low", "high", "verdict")}
        keys = ("parameters", "added_percent", "quality", "gain", "step_ratio", "memory_ratio")
        found.append(own | timed | {f"paper_{key}": _of(arm, key) for key in keys})
    return found


def _titled(title: str, document: Item, command: str) -> str:
    """With the model that the command was given, and its input: each may have another one."""
    model = _model(document, command)
    said = [f"{model['reference']} ({model['options']})" if model["options"] else str(model["reference"])]
    if command == "train-proxy" and model["parameters"] is not None:
        said.append(f"{text.count(model['parameters'])} parameters")
    said += [model["input"]] if model["input"] else []
    return f"{title}: {', '.join(said)}"


def _model(document: Item, command: str) -> Item:
    found: Item = document["models"].get(command, {})
    return found


def _figure(value: float | None, metric: str) -> str:
    """Nats, or percent."""
    return text.NOTHING if value is None else f"{100 * value:.2f}" if metric == "accuracy" else f"{value:.4f}"


def _said(arm: Item) -> str:
    return str(arm["words"] or (f"control ({arm['role']})" if arm["role"] in CONTROLS else arm["role"]))


def _of(arm: Item, key: str) -> Any:
    return (arm["paper"] or {}).get(key)


def _times(value: float | None) -> str:
    return text.NOTHING if value is None else f"{value:.3f}"


def _printed_percent(value: float | None) -> str:
    """As few digits as a printed figure supports."""
    return text.NOTHING if value is None else text.percent(float(f"{value:.3g}"))
