"""The answer in a few sentences: what is better, by how much and how surely, what it costs, what is not established."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from laurel_cli import text
from laurel_cli.report import words

Item = Mapping[str, Any]
MANY = 8  # open orders that are still listed one by one
SHOWN = 4  # arms whose costs stand in a sentence


def answer(body: Item) -> list[str]:
    """Sentences on one comparison, the first of them the answer."""
    if body["study"] is None:
        return _costs_alone(body)
    study, metric = body["study"], body["study"]["metric"]
    done = study["trials"]["complete"]
    if not done:
        return [f"No trial of the study {study['name']} is complete, so there is nothing to compare."]
    base = next((arm for arm in body["arms"] if arm["kind"] == "baseline" and arm["quality"]), None)
    if base is None:
        return [
            f"The study {study['name']} has no complete trial of the baseline, so there is nothing to compare with."
        ]
    if study["learned"] is False:
        mean, chance = base["quality"]["mean"], study["chance_loss"]
        return [
            f"The proxy has not learned: the baseline's loss is {mean:.4g}, chance is {chance:.4g}. "
            "Nothing is ranked; train longer."
        ]
    judged = [arm for arm in body["arms"] if arm["kind"] in ("laurel", "against") and arm["gain"]]
    said = _best(body, judged, study, metric)
    said += _shares(judged)
    said += _unestablished(body)
    return said


def _best(body: Item, judged: Sequence[Item], study: Item, metric: str) -> list[str]:
    task = study["task"]["title"]
    if not judged:
        return [f"No LAuReL arm of the study {study['name']} has a complete trial."]
    better = [arm for arm in judged if arm["verdict"] == "better"]
    best = max(better or judged, key=lambda arm: arm["gain"]["gain"])
    gain = best["gain"]
    evidence = f"{words.gain(gain, metric, unit=True)}, n = {gain['n']}, {words.p_value(gain['p_holm'])}"
    if not better:
        visible = study["smallest_visible"]
        seen = (
            ""
            if visible is None
            else f" The study would have seen {words.scaled(visible, metric):.2g} {_unit(metric)}."
        )
        worse = [arm["name"] for arm in judged if arm["verdict"] == "worse"]
        lost = f" Worse than it: {words.listed(worse)}." if worse else ""
        return [
            f"On {task} no arm is better than the baseline: the nearest is {best['name']} ({evidence}).{seen}{lost}"
        ]
    lead = (
        f"On {task} {best['name']} is better than the baseline ({evidence}){_price(best)}{_against_naive(body, best)}."
    )
    if len(judged) == 1:
        return [lead]
    count = f"{len(better)} of {len(judged)}" if len(better) < len(judged) else f"All {len(judged)}"
    return [
        lead,
        f"{count if len(judged) > 2 or len(better) < 2 else 'Both'} arms beside naive scaling "
        f"{'is' if len(better) == 1 else 'are'} better than the baseline.",
    ]


def _price(arm: Item) -> str:
    parts = []
    for name, said in (("parameters", "parameters"), ("flops", "FLOPs"), ("latency", "latency"), ("step", "step time")):
        if name in arm["costs"]:
            parts.append(f"{words.cost(arm['costs'][name])} {said}")
    return f" for {words.listed(parts)}" if parts else ""


def _against_naive(body: Item, arm: Item) -> str:
    """Beside the smallest naive arm: whether the order is established, and the ratio of the parameters."""
    naive = min(
        (a for a in body["arms"] if a["kind"] == "naive" and a["quality"]), key=lambda a: a["blocks"], default=None
    )
    if naive is None:
        return ""
    pair = next((o for o in body["orders"] if {o["better"], o["worse"]} == {arm["name"], naive["name"]}), None)
    if pair is None:
        return ""
    if pair["established"]:
        verdict = f"{'better' if pair['better'] == arm['name'] else 'worse'} than {naive['name']}"
    else:
        verdict = f"not separated from {naive['name']} ({words.p_value(pair['p'])})"
    times = _times(body, arm["name"])
    fewer = "" if times is None else f", with {text.times(times)} fewer added parameters"
    return f"; it is {verdict}{fewer}"


def _times(body: Item, name: str) -> float | None:
    panel = next((panel for panel in body["panels"] if panel["name"] == "parameters"), None)
    points = panel["arms"] if panel else ()
    return next((point["times_fewer_than_naive"] for point in points if point["name"] == name), None)


def _shares(judged: Sequence[Item]) -> list[str]:
    """How much of naive scaling's gain the arms reach."""
    known = [arm for arm in judged if arm["share_of_naive_gain"]]
    if not known:
        return []
    naive = known[0]["share_of_naive_gain"]["of"]
    parts = [f"{arm['name']} {words.share(arm['share_of_naive_gain'])}" for arm in known]
    return [f"Of the gain that {naive} brings, {words.listed(parts)} is reached."]


def _unestablished(body: Item) -> list[str]:
    orders = body["orders"]
    if not orders:
        return []
    open_ones = [f"{o['better']} over {o['worse']} ({_both(o)})" for o in orders if not o["established"]]
    if not open_ones:
        return ["The order of every two arms is established."]
    if len(open_ones) > MANY:
        known = [f"{order['better']} over {order['worse']}" for order in orders if order["established"]]
        said = f"of {words.listed(known)}" if known else "of none"
        return [f"Of {len(orders):,} pairs of arms beside the baseline the order {said} is established."]
    return [f"Orders that are not established: {words.listed(open_ones)}."]


def _costs_alone(body: Item) -> list[str]:
    arms = [arm for arm in body["arms"] if arm["kind"] in ("laurel", "naive", "against") and arm["costs"]]
    name = body["model"]["reference"]
    if not arms:
        return [f"Of {name} the baseline alone was measured."]
    said = [f"Of {name} the costs are recorded, no trained quality: what the arms bring is not known yet."]
    timed = [arm for arm in arms if {"latency", "step"} & set(arm["costs"])] or arms
    parts = [f"{arm['name']}{_price(arm).replace(' for ', ' ', 1)}" for arm in timed[:SHOWN]]
    more = "; the others are in the tables." if len(arms) > len(parts) else "."
    return [*said, "Beyond the baseline: " + "; ".join(parts) + more]


def _unit(metric: str) -> str:
    return words.UNITS[metric]


def _both(order: Item) -> str:
    """The p-value of a comparison alone, and corrected where that is what leaves it open."""
    alone = words.p_value(order["p"])
    corrected = order["p"] is not None and order["p"] < 0.05
    return f"{alone}, {words.short_p(order['p_holm'])} corrected" if corrected else alone
