"""What a person sees of the document of `laurel profile`: the ratios first, then what they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli import text
from laurel_cli.devices import is_host
from laurel_cli.render.page import Column, Page, Table, answer
from laurel_cli.render.pages.flat import flat
from laurel_cli.reports.join import device_name
from laurel_cli.reports.words import short_p

Item = Mapping[str, Any]
COPY, NAIVE = "copy", "naive+1"
ARM = Column("arm", code=True)
RATIO = ("median", "low", "high", "confidence", "p", "p_holm", "verdict")
PARTS = {"ratio": RATIO, "to_naive": RATIO}


def page(document: Item) -> Page:
    """The facts of the run, ratios to the baseline and to naive scaling, times, memory."""
    arms, model = document["arms"], document["model"]["reference"]
    tables = [_ratios(arms, "ratio", "the baseline")]
    tables += [_ratios(arms, "to_naive", NAIVE)] if any(arm["to_naive"] for arm in arms) else []
    folded = document.get("folded")
    last = _folded(folded) if folded else ()
    said = {"model": model, "device": document["device"]["name"], "mode": document["mode"]}
    return answer(
        f"{model}: time and memory of each arm",
        document,
        rows=[said | flat(arm, PARTS) for arm in arms] + [said | flat(arm, PARTS) for arm in _shown(folded)],
        facts=_facts(document),
        tables=(*tables, _times(arms, document["unit"]), _memory(arms), *last),
        notes=(*_levels(document), *document.get("notes", ())),
    )


def _facts(document: Item) -> tuple[tuple[str, str], ...]:
    model, protocol = document["model"], document["protocol"]
    traits = [document["mode"], document["dtype"], "compiled" if document["compile"] else "eager"]
    traits += ["channels last"] if document["channels_last"] else []
    words = (("processes", "process"), ("placements", "placement"), ("rounds", "round"))
    counts = ", ".join(_counted(protocol[key], word) for key, word in words)
    floor = document.get("noise_floor")
    return (
        ("model", str(model["reference"])),
        ("source", str(model["source"])),
        ("input", str(model["input"])),
        ("timed", ", ".join(traits)),
        ("device", device_name(document)),
        *_memory_use(document),
        ("samples", counts + (" (interrupted)" if document.get("status") == "partial" else "")),
        ("noise floor", "-" if floor is None else f"the baseline's copy: {_interval(floor)}"),
    )


def _memory_use(document: Item) -> tuple[tuple[str, str], ...]:
    """Of the CPU: how workers held their memory, and how much of the arms' time that cost."""
    if not is_host(document["device"]["name"]):
        return ()
    allocator = document["allocator"]
    faults = [arm["page_faults"] for arm in document["arms"] if arm["page_faults"] is not None]
    shares = [100 * arm["system_share"] for arm in document["arms"] if arm["system_share"] is not None]
    found = []
    if faults and shares:
        found = [f"{_range(faults)} page faults a call", f"{_range(shares)} % system time"]
    own = ", ".join(f"{name}={value}" for name, value in allocator.get("variables", {}).items())
    known = {"keep": "freed memory is kept (glibc)", "own": f"as {own} says"}
    said = known.get(allocator["name"], "as the system sets it")
    return (("allocator", "; ".join([said, ", ".join(found)] if found else [said])),)


def _range(values: list[float]) -> str:
    """`0 to 3`, `0.02 to 12`: nothing that is not zero is shown as zero."""
    ends = [f"{value:,.0f}" if value >= 10 else f"{value:.2g}" for value in (min(values), max(values))]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _levels(document: Item) -> tuple[str, ...]:
    family = [arm for arm in document["arms"] if arm["ratio"] and arm["name"] != COPY]
    if len(family) < 2:
        return ()
    alpha = document["protocol"]["alpha"]
    return (
        f"levels and p-values are corrected for the number of arms (Holm), in each table of ratios apart: the chance "
        f"that a table holds a wrong verdict is at most {100 * alpha:g} %. The copy, a control, stands apart",
    )


def _ratios(arms: list[Item], key: str, base: str) -> Table:
    columns = (
        ARM,
        _right("ratio", _figure),
        _right("interval", _ends),
        _right("level", _level),
        _right("p (Holm)", _p),
        Column("verdict"),
    )
    rows = tuple(
        (arm["name"], found["median"], found, found["confidence"], found, found["verdict"])
        for arm in arms
        if (found := arm[key])
    )
    return Table(f"Time of a call against {base}, as a ratio", columns, rows)


def _folded(folded: Item) -> tuple[Table, ...]:
    """The arms as they would be deployed, against the baseline folded alike; what became of them."""
    arms, base = folded["arms"], folded["baseline"]
    columns = (
        ARM,
        _right("ms", _milliseconds),
        _right("norms merged", str),
        Column("sums"),
        _right("difference", lambda value: f"{value:.1e}"),
    )
    rows = tuple(
        (
            arm["name"],
            arm["milliseconds"]["median"],
            f"{arm['merged']} of {arm['norms']}",
            ", ".join(f"{count} {form}" for form, count in arm["sums"].items()) or text.NOTHING,
            arm["difference"],
        )
        for arm in arms
    )
    moved = Table("What was folded, and how far outputs moved", columns, rows)
    return (_ratios(arms, "ratio", f"the {base}"), moved, _memory(arms, "Memory, folded"))


def _shown(folded: Item | None) -> list[Item]:
    """Rows of the folded arms for tables that hold all; they have no ratio to naive scaling."""
    if folded is None:
        return []
    keys = ("norms", "merged", "sums", "difference", "allowed")
    return [
        {key: value for key, value in arm.items() if key not in keys} | {"to_naive": None} for arm in folded["arms"]
    ]


def _times(arms: list[Item], unit: str) -> Table:
    columns = (
        ARM,
        _right("ms", _milliseconds),
        _right("95 % interval", _millisecond_ends),
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


def _memory(arms: list[Item], title: str = "Memory") -> Table:
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
    return Table(title, tuple(columns), rows)


def _right(title: str, read: Any) -> Column:
    return Column(title, read, align="right")


def _figure(value: float | None) -> str:
    return text.NOTHING if value is None else f"{value:.4f}"


def _ends(item: Item) -> str:
    low, high = item["low"], item["high"]
    return text.NOTHING if low is None or high is None else f"[{low:.4f}, {high:.4f}]"


def _millisecond_ends(item: Item) -> str:
    low, high = item["low"], item["high"]
    return text.NOTHING if low is None or high is None else f"[{_milliseconds(low)}, {_milliseconds(high)}]"


def _p(item: Item) -> str:
    """Nothing where the spread is not known."""
    return text.NOTHING if item["low"] is None else short_p(item["p_holm"])


def _counted(number: int, word: str) -> str:
    plural = f"{word}es" if word.endswith("s") else f"{word}s"
    return f"{number:,} {word if number == 1 else plural}"


def _level(value: float) -> str:
    """`95 %`, `99.17 %`."""
    return f"{100 * value:.4g} %"


def _interval(item: Item) -> str:
    return f"{_figure(item['median'])} {_ends(item)}, {item['verdict']}"


def _milliseconds(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else f"{value:,.0f}"
