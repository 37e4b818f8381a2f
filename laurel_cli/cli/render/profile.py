"""What a person sees of the document of `laurel profile`: the ratios first, then what they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli import text
from laurel_cli.cli.render.sheet import Column, Sheet, Table

Item = Mapping[str, Any]
ARM = Column("arm", code=True)


def profile_sheet(document: Item) -> Sheet:
    """The facts of the run, ratios to the baseline, times, memory."""
    arms = document["arms"]
    return Sheet(
        facts=_facts(document),
        tables=(_ratios(arms), _times(arms, document["unit"]), _memory(arms)),
        notes=tuple(document.get("notes", ())),
        warnings=tuple(document.get("warnings", ())),
        command=str(document.get("command", "")),
    )


def _facts(document: Item) -> tuple[tuple[str, str], ...]:
    model, device, protocol = document["model"], document["device"], document["protocol"]
    traits = [document["mode"], document["dtype"], "compiled" if document["compile"] else "eager"]
    traits += ["channels last"] if document["channels_last"] else []
    known = [str(device["gpu"])] if device.get("gpu") else []
    known += [f"{device['threads']} threads"] if device.get("threads") else []
    name = " ".join([str(device["name"]), *(f"({item})" for item in known)])
    processes = f"{protocol['processes']} process{'es' * (protocol['processes'] != 1)}"
    counts = f"{processes}, {protocol['placements']} placements, {protocol['rounds']} rounds"
    floor = document.get("noise_floor")
    return (
        ("model", str(model["reference"])),
        ("source", str(model["source"])),
        ("input", str(model["input"])),
        ("timed", ", ".join(traits)),
        ("device", name),
        ("samples", counts + (" (interrupted)" if document.get("status") == "partial" else "")),
        ("noise floor", "-" if floor is None else f"the baseline's copy: {_interval(floor)}"),
    )


def _ratios(arms: list[Item]) -> Table:
    rows = tuple(
        (arm["name"], arm["ratio"]["median"], arm["ratio"], arm["ratio"]["verdict"]) for arm in arms if arm["ratio"]
    )
    columns = (ARM, _right("ratio", _figure), _right("95 % interval", _ends), Column("verdict"))
    return Table("Time of a call, as a ratio to the baseline's", columns, rows)


def _times(arms: list[Item], unit: str) -> Table:
    columns = (
        ARM,
        _right("ms", _milliseconds),
        _right("95 % interval", lambda item: f"[{_milliseconds(item['low'])}, {_milliseconds(item['high'])}]"),
        _right(f"{unit} a second", text.amount),
        _right("first call", lambda seconds: f"{seconds:.2f} s"),
    )
    rows = tuple(
        (
            arm["name"],
            arm["milliseconds"]["median"],
            arm["milliseconds"],
            round(arm["throughput"], 2),
            arm["first_call_seconds"],
        )
        for arm in arms
    )
    return Table("Time", columns, rows)


def _memory(arms: list[Item]) -> Table:
    base = next((arm["peak_bytes"] for arm in arms if arm["peak_bytes"] is not None), None)
    columns = [ARM, _right("peak", text.size), _right("added", text.size), _right("weights and state", text.size)]
    predicted = any(arm.get("predicted_bytes") is not None for arm in arms)
    columns += [_right("peak by counting", text.size)] if predicted else []
    rows = tuple(
        (
            arm["name"],
            arm["peak_bytes"],
            None if arm["peak_bytes"] is None or base is None else arm["peak_bytes"] - base,
            arm["static_bytes"],
            *([arm["predicted_bytes"]] if predicted else []),
        )
        for arm in arms
    )
    return Table("Memory", tuple(columns), rows)


def _right(title: str, read: Any) -> Column:
    return Column(title, read, align="right")


def _figure(value: float | None) -> str:
    return text.NOTHING if value is None else f"{value:.4f}"


def _ends(item: Item) -> str:
    low, high = item["low"], item["high"]
    return text.NOTHING if not low or not high or high == float("inf") else f"[{low:.4f}, {high:.4f}]"


def _interval(item: Item) -> str:
    return f"{_figure(item['median'])} {_ends(item)}, {item['verdict']}"


def _milliseconds(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else f"{value:,.0f}"
