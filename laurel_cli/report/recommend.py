"""Which variant and rank to try first, within a budget: from measured costs, and from quality where it was recorded.

Without quality the paper speaks (arXiv 2411.07501v4): RW+LR is the variant of all its language-model experiments and
reaches the gain of one more layer in Table 1; ranks 16 to 32 are best in Figure 3, 32 to 64 in its language models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from laurel_cli.report import words

Item = Mapping[str, Any]
SCHEMA = "laurel.recommend/1"
PREFERRED = ("rw+lr", "rw+lr+pa", "rw", "pa", "lr", "rw+pa", "lr+pa")
RANKS = {"image": (16, 32), "text": (32, 64)}
YES, MAYBE, UNMEASURED, NO = "yes", "perhaps", "not measured", "no"
NAMES = {
    "parameters": "parameters",
    "flops": "FLOPs",
    "latency": "latency",
    "step": "step time",
    "memory": "peak memory",
}


def recommend(body: Item, budgets: Mapping[str, float], command: str = "") -> dict[str, Any]:
    """The document of the advice (schema "laurel.recommend/1") from one comparison of `report`.

    Args:
        body: of `document.report`.
        budgets: by the name of a cost the most it may add, in percent.
        command: the command line.
    """
    candidates = [_candidate(arm, budgets) for arm in body["arms"] if arm["kind"] == "laurel"]
    fitting = [item for item in candidates if item["fits"] in (YES, MAYBE)]
    studied = [item for item in candidates if item["gain"] is not None]
    chosen, why = _by_quality(fitting, body) if any(item in studied for item in fitting) else _by_paper(fitting, body)
    return {
        "schema": SCHEMA,
        "command": command,
        "model": body["model"],
        "budgets": dict(budgets),
        "advice": None if chosen is None else {"arm": chosen["arm"], "options": _options(body, chosen["arm"])},
        "why": why if chosen is not None else [_nothing_fits(candidates, budgets)],
        "rests_on": _rests_on(body, budgets),
        "candidates": candidates,
        "next": _next(body, chosen, budgets),
        "warnings": [],
    }


def _candidate(arm: Item, budgets: Mapping[str, float]) -> dict[str, Any]:
    fits = [_fits(arm["costs"].get(name), most) for name, most in budgets.items()]
    worst = max(fits, key=(YES, MAYBE, UNMEASURED, NO).index, default=YES)
    return {
        "arm": arm["name"],
        "formula": arm["family"],
        "rank": (arm["spec"] or {}).get("rank") if "lr" in arm["family"] else None,
        "fits": worst,
        "costs": arm["costs"],
        "gain": arm["gain"],
        "verdict": arm["verdict"],
    }


def _fits(paid: Item | None, most: float) -> str:
    """Whether a cost stays within the budget: surely, by its estimate alone, or not."""
    if paid is None or paid["percent"] is None:
        return UNMEASURED
    if paid["percent"] > most:
        return NO
    return YES if paid["high"] is not None and paid["high"] <= most else MAYBE


def _by_quality(fitting: Sequence[Item], body: Item) -> tuple[Item | None, list[str]]:
    """The cheapest of the arms that are not separated from the best one."""
    metric = body["study"]["metric"]
    ranked = [item for item in fitting if item["gain"] is not None]
    if body["study"]["learned"] is False:
        chosen, why = _by_paper(fitting, body)
        return chosen, ["The recorded study has not learned, so its quality says nothing.", *why]
    best = max(ranked, key=lambda item: item["gain"]["gain"])
    apart = {o["worse"] for o in body["orders"] if o["better"] == best["arm"] and o["established"]}
    alike = [item for item in ranked if item["arm"] not in apart]
    chosen = min(alike, key=_price)
    gain = f"{words.gain(chosen['gain'], metric, unit=True)}, n = {chosen['gain']['n']}"
    verdict = f"{chosen['verdict']} than" if chosen["verdict"] in ("better", "worse") else f"{chosen['verdict']} from"
    why = [f"In the study {body['study']['name']} {chosen['arm']} is {verdict} the baseline ({gain})."]
    if len(alike) > 1:
        others = words.listed([item["arm"] for item in alike if item is not chosen])
        why.append(f"Not separated from the best within the budget, and the cheapest of those: beside it {others}.")
    if chosen["verdict"] != "better":
        why.append("No arm within the budget is established to be better than the baseline.")
    return chosen, why


def _by_paper(fitting: Sequence[Item], body: Item) -> tuple[Item | None, list[str]]:
    """The formula that the paper leans on, at the rank nearest to its best ones."""
    if not fitting:
        return None, []
    low, high = RANKS["text" if "input_ids" in " ".join(body["model"]["inputs"]) else "image"]

    def key(item: Item) -> tuple[int, float, float]:
        formula = PREFERRED.index(item["formula"]) if item["formula"] in PREFERRED else len(PREFERRED)
        rank = item["rank"] or low
        away = 0.0 if low <= rank <= high else abs(math.log2(rank / (low if rank < low else high)))
        return formula, away, _price(item)

    chosen = min(fitting, key=key)
    why = ["No quality of this model is recorded, so the formula follows the paper, the budget the measured costs."]
    if chosen["formula"] == "rw+lr":
        why.append(
            "RW+LR is what the paper uses in its language models; in Table 1 it gains as much as one more layer."
        )
    elif chosen["formula"] == "rw":
        why.append("RW costs next to nothing; in Table 1 it brings 60 % of what one more layer does.")
    if chosen["rank"] is not None:
        why.append(f"Ranks {low} to {high} are the paper's best for such models.")
    return chosen, why


def _price(item: Item) -> float:
    """What it costs, for a choice between equals: time before FLOPs before parameters."""
    for name in ("latency", "step", "flops", "parameters"):
        paid = item["costs"].get(name)
        if paid is not None and paid["percent"] is not None:
            return float(paid["percent"])
    return math.inf


def _options(body: Item, name: str) -> str:
    """The command-line options that build an arm, where they are not the defaults."""
    spec = next((arm["spec"] for arm in body["arms"] if arm["name"] == name), None) or {}
    parts = ["--variant " + next(arm["family"] for arm in body["arms"] if arm["name"] == name)]
    parts += [f"--rank {spec['rank']}"] if "@" in name else []
    defaults = {"lags": 3, "normalize": "2softmax", "init": "xavier", "per": "connection"}
    for key, usual in defaults.items():
        if spec.get(key, usual) != usual:
            parts.append(f"--{key} {'all' if spec[key] is None else spec[key]}")
    parts += ["--vector-weights"] if spec.get("vector_weights") else []
    return " ".join(parts)


def _nothing_fits(candidates: Sequence[Item], budgets: Mapping[str, float]) -> str:
    if not candidates:
        return "No LAuReL arm of this model is recorded."
    limits = words.listed([f"{words.signed_percent(most)} {NAMES[name]}" for name, most in budgets.items()])
    unmeasured = [item["arm"] for item in candidates if item["fits"] == UNMEASURED]
    more = f" Not measured, and so not judged: {words.listed(unmeasured)}." if unmeasured else ""
    return f"No recorded arm is known to stay within {limits}.{more}"


def _rests_on(body: Item, budgets: Mapping[str, float]) -> list[str]:
    said = []
    for setting in body["settings"]:
        kind = setting["name"].partition("_")[0]
        how = "counted" if kind in ("parameters", "flops") else "measured"
        where = f" ({setting['setting']})" if setting["setting"] else ""
        said.append(
            f"{NAMES[kind]}: {how}{where}, {len(setting['sources']):,} record{'s' * (len(setting['sources']) != 1)}"
        )
    said += [
        f"{NAMES[name]}: not measured" for name in budgets if not any(name in arm["costs"] for arm in body["arms"])
    ]
    study = body["study"]
    if study is None:
        said.append("quality: none recorded; the paper's Table 1 (ResNet-50, ImageNet-1K) in its place")
    else:
        done = study["trials"]["complete"]
        said.append(f"quality: the study {study['name']} on {study['task']['title']}, {done:,} complete trials")
    return said


def _next(body: Item, chosen: Item | None, budgets: Mapping[str, float]) -> list[str]:
    """What would make the advice firmer."""
    model = body["model"]["reference"]
    commands = []
    unmeasured = [name for name in budgets if not any(name in arm["costs"] for arm in body["arms"])]
    if {"parameters", "flops"} & set(unmeasured):
        commands.append(f"laurel analyze {model} --save")
    if {"latency", "memory"} & set(unmeasured):
        commands.append(f"laurel profile {model}")
    if "step" in unmeasured:
        commands.append(f"laurel profile {model} --mode train")
    if body["study"] is None and chosen is not None:
        commands.append(f"laurel train-proxy {model} --arms baseline,naive+1,{chosen['arm']}")
    return commands
