"""Which figures there are, what each is made from, and what it shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from laurel_cli.reports import words
from laurel_cli.reports.frontier import CONTROL, UNCONTROLLED
from laurel_cli.verdict.findings import JUDGED

# The part of a comparison that a figure shows; it is drawn where that is not empty.
DATA = {
    "frontier": "panels",
    "sweep": "sweeps",
    "curves": "curves",
    "latency": "latencies",
    "where": "where",
    "coefficients": "coefficients",
}
_SWEEP = (
    "Quality against the rank (the paper's Figure 3); bars: 95 % t-interval of the mean. Dashed lines: arms without a "
    "rank."
)
_CURVES = (
    "Learning curves: means over seeds of the evaluations on the way; bands: 95 % t-interval of the mean, where there "
    "are two trials or more. Of one formula the darker line has the larger rank."
)
_WHERE = (
    "Parameters added at each residual connection, in the order of execution; of each formula the arm of largest rank. "
    "A darker background is another stream: the history that PA reads starts anew."
)
_COEFFICIENTS = (
    "Learned residual weights at each connection, means over seeds: a of the branch f(x), b of the skip. The ordinary "
    "residual has 1 and 1; of one formula the darker line has the larger rank."
)


def caption(kind: str, body: Mapping[str, Any]) -> str:
    """What the figure of one comparison shows."""
    if kind == "frontier":
        return _frontier(body)
    if kind == "curves":
        controls = any(line["family"] == "control" for line in body["curves"])
        return _CURVES + (" Dashed: controls." if controls else "")
    if kind == "latency":
        levels = _levels(arm["level"] for panel in body["latencies"] for arm in panel["arms"])
        return (
            "Time as a ratio to the baseline's: each dot is one placement of the models in memory, the bar the "
            f"interval of the estimate{levels}."
        )
    return {"sweep": _SWEEP, "where": _WHERE, "coefficients": _COEFFICIENTS}[kind]


def _frontier(body: Mapping[str, Any]) -> str:
    study = body["study"]
    points = [point for panel in body["panels"] for point in panel["arms"]]
    said = [
        "Quality against each cost; up and left is better. Filled: on the frontier; half filled: tied; hollow: "
        "dominated, or not known."
    ]
    if any(point["status"] == CONTROL for point in points):
        said.append("The cross is a control: it stands beside the arms and is no rival.")
    said += words.trained_longer(point["name"] for point in points)
    if study["shown"] != study["metric"]:
        said.append(
            f"What is filled is said by the {study['metric']}; of the {study['shown']} the means alone are shown."
        )
    else:
        levels = _levels(arm["gain"]["level"] for arm in body["arms"] if arm["gain"] and has_bar(arm))
        said.append(
            "The line steps through the arms that are established to be on the frontier; what lies under it is shaded."
        )
        said.append(f"Vertical bars: interval of the difference to the baseline{levels}.")
        if any(panel["cost"] == "flops" for panel in body["panels"]):
            said.append("FLOPs are paid together with elementwise operations, so there is no such line.")
    if any(point["status"] == UNCONTROLLED for point in points):
        said.append("No control of the recipe was run: what is filled may be so by the recipe.")
    if any(point["level"] is not None for point in points):
        said.append(f"Horizontal bars: interval of a measured cost{_levels(point['level'] for point in points)}.")
    return " ".join(said)


def has_bar(arm: Mapping[str, Any]) -> bool:
    """Whether the difference of an arm to the baseline is drawn: that of a control, or of an arm that may be judged."""
    return arm["role"] == "positive" or (arm["role"] == "arm" and arm["verdict"] in JUDGED)


def _levels(found: Iterable[float | None]) -> str:
    """` (96.4 to 99.1 %)`."""
    known = sorted({value for value in found if value is not None})
    if not known:
        return ""
    ends = dict.fromkeys(words.level(value).removesuffix(" %") for value in (known[0], known[-1]))
    return f" ({' to '.join(ends)} %)"
