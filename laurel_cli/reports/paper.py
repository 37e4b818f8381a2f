"""The paper's Table 1 beside this run, in what can be compared across models: shares of naive scaling's gain, ratios.

Source: arXiv 2411.07501v4, Table 1: ResNet-50 on ImageNet-1K, 5 trials, rank 16. Nothing is computed from it but the
ratios of its own figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli.arms import Arm, kind_of
from laurel_cli.laurel.paper import DECODER_PARAMETERS, TABLE_5
from laurel_cli.reports.arms import order
from laurel_cli.reports.join import Model, arms_of, newest_first

# Top-1 accuracy in percent, its standard deviation over 5 trials, parameters added in percent.
TABLE_1 = {
    "baseline": (74.95, 0.01, 0.0),
    "naive+1": (75.20, 0.12, 4.37),
    "rw": (75.10, 0.10, 0.003),
    "rw+lr": (75.20, 0.07, 1.68),
    "rw+lr+pa": (75.25, 0.09, 2.40),
}
RANK = 16
REMARK = (
    "The paper's trials are not paired. By Welch's test on its means and standard deviations its variants are better "
    "than its baseline; their order among themselves, and against one more layer, is not established "
    "(RW+LR+PA against +1 layer: p = 0.48)."
)


def printed(model: Model, names: Mapping[Arm, str]) -> list[dict[str, Any]]:
    """What the paper prints as added parameters beside what was counted, for the models of its tables."""
    found = model.once(_printed)
    return [{"arm": names.get(arm, arm.name), **found[arm]} for arm in order(list(found))]


def _printed(model: Model) -> dict[Arm, dict[str, Any]]:
    found: dict[Arm, dict[str, Any]] = {}
    for record in newest_first(model.analyses):
        for arm, item in arms_of(record).items():
            if item.get("paper") and arm not in found and not _is_of_another_size(item):
                figures = {"paper_percent": item["paper"]["added_percent"], "percent": item["added_parameters_percent"]}
                found[arm] = figures | {"remark": item["paper"]["remark"]}
    return found


def _is_of_another_size(item: Mapping[str, Any]) -> bool:
    """Whether Table 5's figure stands at a decoder of another size: versions before this one recorded it there too."""
    own = (item["parameters"] or 0) - (item["added_parameters"] or 0)
    return bool(item["paper"]["remark"] == TABLE_5 and own != DECODER_PARAMETERS)


def beside(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The paper's variants beside the arms of the same formula and rank; None for another model or kind of task."""
    if body["study"] is None or not _is_its_own(body):
        return None
    rows = [_row(body, arm) for arm in body["arms"] if _is_in_table(arm)]
    if not rows:
        return None
    return {"source": "arXiv 2411.07501v4, Table 1 (ResNet-50, ImageNet-1K, r = 16)", "remark": REMARK, "rows": rows}


def _is_its_own(body: Mapping[str, Any]) -> bool:
    """Whether it is the whole ResNet-50, trained to tell images apart."""
    library, _, name = str(body["model"]["reference"]).rpartition(":")
    if library not in ("", "timm", "torchvision") or name.partition(".")[0].lower() != "resnet50":
        return False
    built = (body["study"]["definition"].get("recipe") or {}).get("model") or {}
    whole = not any(built.get(key) for key in ("args", "layers", "width", "stem"))
    return whole and body["study"]["task"]["kind"] == "image"


def _is_in_table(arm: Mapping[str, Any]) -> bool:
    ranked = "lr" in arm["family"].split("+")
    return (
        arm["role"] == "arm"
        and kind_of(arm["kind"]).is_placed
        and arm["family"] in TABLE_1
        and (not ranked or arm["spec"]["rank"] == RANK)
    )


def _row(body: Mapping[str, Any], arm: Mapping[str, Any]) -> dict[str, Any]:
    accuracy, _, percent = TABLE_1[arm["family"]]
    base, naive = TABLE_1["baseline"][0], TABLE_1["naive+1"]
    panel = next((panel for panel in body["panels"] if panel["name"] == "parameters"), None)
    point = next((p for p in (panel["arms"] if panel else ()) if p["name"] == arm["name"]), None)
    return {
        "arm": arm["name"],
        "paper_gain_points": round(accuracy - base, 6),
        "paper_share_of_naive_gain": round((accuracy - base) / (naive[0] - base), 6),
        "paper_times_fewer": round(naive[2] / percent, 6),
        "share_of_naive": arm["share_of_naive"],
        "times_fewer": point["times_fewer"] if point else None,
    }
