"""Which arm to try first, within a budget: from measured costs, and from every study of the model together.

An arm is advised where a study establishes that it is better than the baseline and than every control of its recipe,
and no other study says otherwise. Where there is none the answer is the plain residual; what the paper leans on (arXiv
2411.07501v4: RW+LR in all its language models, ranks 16 to 32 in Figure 3, 32 to 64 in its language models) is then
named as untested, if it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from laurel_cli.arms import kind_of
from laurel_cli.laurel.spec import Spec
from laurel_cli.reports import words
from laurel_cli.rivals import RIVALS
from laurel_cli.verdict.effects import BETTER, NOT_SEPARATED, WORSE
from laurel_cli.verdict.findings import FAILED, GAINS, NOT_WORTH, REPAIRS, UNCONTROLLED, UNSTABLE
from laurel_cli.verdict.gates import FADING

Item = Mapping[str, Any]
SCHEMA = "laurel.recommend/2"
PREFERRED = ("rw+lr", "rw+lr+pa", "rw", "pa", "lr", "rw+pa", "lr+pa")
RANKS = {"image": (16, 32), "text": (32, 64)}
YES, MAYBE, UNMEASURED, NO = "yes", "perhaps", "not measured", "no"
PLAIN = "none: keep the plain residual"
TELLING = (BETTER, UNCONTROLLED, REPAIRS, WORSE, NOT_SEPARATED, UNSTABLE, FAILED)
"""Verdicts that say something of an arm; the others say that the study does not."""
NAMES = {
    "parameters": "parameters",
    "flops": "FLOPs",
    "latency": "latency",
    "step": "step time",
    "memory": "peak memory",
}
PRICES = ("latency", "step", "flops", "parameters", "memory")
"""In which order costs decide between arms of which all else is established: time first."""


def recommend(bodies: Sequence[Item], budgets: Mapping[str, float], command: str = "") -> dict[str, Any]:
    """The document of the advice (schema "laurel.recommend/2").

    Args:
        bodies: every comparison of the model, of `document.report`; at least one.
        budgets: by the name of a cost the most it may add, in percent.
        command: the command line.
    """
    # What was counted or timed of the model as it is stands before what belongs to a study's small one.
    costed = sorted(bodies, key=lambda body: body["study"] is not None)
    candidates = _candidates(costed, budgets)
    fitting = [item for item in candidates if item["fits"] in (YES, MAYBE)]
    established = [item for item in fitting if item["established"] and item["worth"]]
    chosen, why = _choice(established, bodies)
    why = why or list(_why_none(bodies, candidates, budgets))
    untested = None if chosen is not None else _untested(fitting, bodies)
    studied = [body for body in bodies if body["study"] is not None]
    return {
        "schema": SCHEMA,
        "command": command,
        "model": bodies[0]["model"],
        "budgets": dict(budgets),
        "advice": None if chosen is None else {"arm": chosen["arm"], "options": _options(chosen)},
        "untested": untested,
        "why": [*why, *_too_small(fitting), *_nothing_fits(candidates, fitting, budgets)],
        "disagreements": list(_disagreements(candidates)),
        "studies": [_study(body) for body in studied],
        "rests_on": _rests_on(costed, budgets),
        "candidates": [{key: value for key, value in item.items() if key != "key"} for item in candidates],
        "next": _next(bodies, candidates, untested, budgets),
        "warnings": [],
    }


def _candidates(bodies: Sequence[Item], budgets: Mapping[str, float]) -> list[dict[str, Any]]:
    """Every arm that stands at residual connections once, with its costs and what each study says of it."""
    found: dict[Any, dict[str, Any]] = {}
    for body in bodies:
        for arm in body["arms"]:
            if not kind_of(arm["kind"]).is_placed or arm["role"] not in (None, "arm"):
                continue
            key = (arm["name"].partition(" (")[0], repr(sorted(arm["spec"].items(), key=str)))
            item = found.setdefault(key, _candidate(key, arm))
            for name, paid in arm["costs"].items():
                item["costs"].setdefault(name, paid)
            if arm["verdict"] != "not trained":
                said = {"study": body["study"]["name"], "verdict": arm["verdict"], "words": arm["words"]}
                told = {"gain": arm["gain"], "metric": body["study"]["metric"], "worth": arm["worth"]}
                told |= {"late_fall": (body["study"]["late_fall"] or {}).get("mean"), "trend": arm["trend"]}
                told |= {key: body["study"][key] for key in ("starts_from", "taught_by")}
                item["verdicts"].append(said | told)
    for item in found.values():
        fits = [_fits(item["costs"], name, most) for name, most in budgets.items()]
        item["fits"] = max(fits, key=(YES, MAYBE, UNMEASURED, NO).index, default=YES)
        item["verdicts"].sort(key=lambda said: str(said["study"]))
        telling = {said["verdict"] for said in item["verdicts"] if said["verdict"] in TELLING}
        item["established"] = BETTER in telling and telling <= {BETTER, UNCONTROLLED}
        item["worth"] = not any(said["worth"] == NOT_WORTH for said in item["verdicts"])
        item["verdict"] = "; ".join(f"{said['study']}: {said['words']}" for said in item["verdicts"])
    return list(found.values())


def _candidate(key: Any, arm: Item) -> dict[str, Any]:
    rank = (arm["spec"] or {}).get("rank") if "lr" in arm["family"] else None
    told = {"key": key, "arm": arm["name"], "formula": arm["family"], "rank": rank, "spec": arm["spec"]}
    return told | {"fits": YES, "costs": {}, "verdicts": []}


def _fits(costs: Mapping[str, Item], kind: str, most: float) -> str:
    """Whether a cost stays within the budget in every setting in which it is known: surely, by estimates, or not."""
    found = [paid for name, paid in costs.items() if name.partition("_")[0] == kind and paid["percent"] is not None]
    if not found:
        return UNMEASURED
    if any(paid["percent"] > most for paid in found):
        return NO
    return YES if all(paid["high"] is not None and paid["high"] <= most for paid in found) else MAYBE


def _choice(established: Sequence[Item], bodies: Sequence[Item]) -> tuple[Item | None, list[str]]:
    """Of the arms that are established to be better those that no other one beats, and of these the cheapest."""
    if not established:
        return None, []
    ahead = _ahead(bodies)
    left = [item for item in established if not any((other["arm"], item["arm"]) in ahead for other in established)]
    # Orders of different studies may go in a circle; then none of them stands.
    chosen, deciding = _cheapest(left or established)
    why = []
    for said in chosen["verdicts"]:
        if said["verdict"] == BETTER:
            gain = words.gain_at(said["gain"], said["metric"])
            why.append(
                f"In the study {said['study']} {chosen['arm']} is {said['words']}, the controls beaten ({gain}, "
                f"n = {said['gain']['n']})."
            )
            why += _doubts(said)
    others = [item["arm"] for item in established if item is not chosen and (chosen["arm"], item["arm"]) not in ahead]
    if others:
        by = f"; {chosen['arm']} costs less {NAMES[deciding]}" if deciding else ""
        why.append(
            f"Also established to be better than the baseline, in no established order: {words.listed(others)}{by}."
        )
    return chosen, why


def _doubts(said: Item) -> Iterator[str]:
    """What speaks against a gain that is established, or bounds what it says."""
    if said["starts_from"]:
        yield (
            f"All trials of {said['study']} start from trained weights ({said['starts_from']}): the gain is one of "
            "training on from them, not of training anew."
        )
    if said["taught_by"]:
        yield (
            f"Every arm of {said['study']}, the baseline too, is distilled from a teacher ({said['taught_by']}): the "
            "gain is one of training beside it."
        )
    if said["trend"] == FADING:
        yield f"It fades there: it is smaller at the end of {said['study']} than earlier, a head start."
    fall = said["late_fall"]
    if fall is not None and fall > said["gain"]["gain"]:
        yield (
            f"The baseline of {said['study']} still gained {words.size(fall, said['metric'])} over the last part of "
            "its run, more than that: an arm that only learns sooner would look better there."
        )


def _ahead(bodies: Sequence[Item]) -> set[tuple[str, str]]:
    """Pairs of arms of which a study establishes the order, and none the contrary."""
    known = {(order["better"], order["worse"]) for body in bodies for order in body["orders"] if order["established"]}
    return {(a, b) for a, b in known if (b, a) not in known}


def _cheapest(items: Sequence[Item]) -> tuple[Item, str]:
    """The cheapest by the first cost that tells; costs whose intervals meet are tied, and the next cost decides."""
    left, deciding = list(items), ""
    for kind in PRICES:
        paid = [item["costs"].get(kind) for item in left]
        if len(left) == 1 or any(one is None or one["percent"] is None for one in paid):
            continue
        most = min(math.inf if one["high"] is None else one["high"] for one in paid if one)
        cheap = [one is not None and (-math.inf if one["low"] is None else one["low"]) <= most for one in paid]
        if not all(cheap):
            deciding = kind
        left = [item for item, stays in zip(left, cheap, strict=True) if stays]
    return min(left, key=lambda item: str(item["arm"])), deciding


def _why_none(bodies: Sequence[Item], candidates: Sequence[Item], budgets: Mapping[str, float]) -> Iterator[str]:
    studied = [body for body in bodies if body["study"] is not None]
    if not studied:
        yield "No quality of this model is recorded: what any arm brings here is not known."
        return
    within = " within the budget" if budgets else ""
    where = "the study" if len(studied) == 1 else f"the {len(studied):,} studies"
    yield f"No arm{within} is established by {where} of this model to be better than the baseline and its controls."
    bare = [
        f"{item['arm']} in {words.listed([said['study'] for said in item['verdicts'] if said['verdict'] in GAINS])}"
        for item in candidates
        if {said["verdict"] for said in item["verdicts"] if said["verdict"] in TELLING} == {UNCONTROLLED}
    ]
    if bare:
        yield (
            f"Better than the baseline, with no control held against it: {words.listed(bare)}. The baseline with "
            "another learning rate or another start might have the gain as well."
        )
    for body in studied:
        if body["study"]["withheld"] or body["study"]["cannot_tell"]:
            yield f"{body['study']['name']}: {body['answer'][0]}"


def _too_small(fitting: Sequence[Item]) -> Iterator[str]:
    for item in fitting:
        if item["established"] and not item["worth"]:
            yield f"{item['arm']} is better than the baseline, but not by what was declared to be worth having."


def _disagreements(candidates: Sequence[Item]) -> Iterator[str]:
    """Arms that one study calls better and another one does not."""
    for item in candidates:
        telling = [said for said in item["verdicts"] if said["verdict"] in TELLING]
        claims = any(said["verdict"] in (*GAINS, WORSE) for said in telling)
        apart = {BETTER if said["verdict"] == UNCONTROLLED else said["verdict"] for said in telling}
        if claims and len(apart) > 1:
            said = "; ".join(f"{one['words']} in {one['study']}{_basis(one)}" for one in telling)
            yield f"The studies disagree on {item['arm']}: {said}."


def _basis(study: Item) -> str:
    """` from trained weights beside a teacher`; "" where a study trains anew."""
    parts = {"starts_from": " from trained weights", "taught_by": " beside a teacher"}
    return "".join(said for key, said in parts.items() if study[key])


def _untested(fitting: Sequence[Item], bodies: Sequence[Item]) -> dict[str, Any] | None:
    """What the paper leans on, of the arms that no study has tried, with their usual training."""
    usual = [item for item in fitting if ":" not in item["key"][0]]
    free = [item for item in usual if not any(said["verdict"] in TELLING for said in item["verdicts"])]
    if not free:
        return None
    inputs = " ".join(text for body in bodies for text in body["model"]["inputs"])
    low, high = RANKS["text" if "input_ids" in inputs else "image"]

    def key(item: Item) -> tuple[int, float, str]:
        formula = PREFERRED.index(item["formula"]) if item["formula"] in PREFERRED else len(PREFERRED)
        rank = item["rank"] or low
        away = 0.0 if low <= rank <= high else abs(math.log2(rank / (low if rank < low else high)))
        return formula, away, str(item["arm"])

    nearest = sorted(free, key=key)
    alike = [item for item in nearest if key(item)[:2] == key(nearest[0])[:2]]
    chosen, _ = _cheapest(alike)
    what = "what the paper suggests" if chosen["formula"] in PREFERRED else "the cheapest arm left"
    why = f"{chosen['arm']} is {what}; it is untested here."
    if chosen["formula"] == "rw+lr":
        why += (
            " RW+LR is the variant of the paper's language models; in its Table 1 it gains as much as one more layer."
        )
    elif chosen["formula"] == "rw":
        why += " In the paper's Table 1 RW brings 60 % of what one more layer does."
    if chosen["rank"] is not None:
        why += f" Ranks {low} to {high} are the paper's best for such models."
    return {"arm": chosen["arm"], "options": _options(chosen), "why": why}


def _options(item: Item) -> str:
    """The command-line options that build an arm: its whole name where a variant and a rank do not say all of it."""
    name = item["key"][0]
    if ":" in name or item["formula"] in RIVALS:
        return f"--arms {name}{_further(item)}"
    rank = f" --rank {item['spec']['rank']}" if "@" in name else ""
    return f"--variant {item['formula']}{rank}{_further(item)}"


def _further(item: Item) -> str:
    """` --lags all`: what its name does not say, where it is not the default."""
    spec = item["spec"] or {}
    if item["formula"] in RIVALS:
        usual: Item = {"per": "connection"}
    else:
        plain = vars(Spec.parse(item["formula"]).plain)
        usual = {key: plain[key] for key in ("lags", "history", "normalize", "init", "per")}
    parts = [
        f" --{key} {'all' if spec[key] is None else spec[key]}"
        for key, value in usual.items()
        if spec.get(key, value) != value
    ]
    return "".join([*parts, *([" --vector-weights"] if spec.get("vector_weights") else [])])


def _nothing_fits(candidates: Sequence[Item], fitting: Sequence[Item], budgets: Mapping[str, float]) -> list[str]:
    if not candidates:
        return ["No arm of this model that could be recommended is recorded."]
    if fitting:
        return []
    limits = words.listed([f"{words.signed_percent(most)} {NAMES[name]}" for name, most in budgets.items()])
    unmeasured = [item["arm"] for item in candidates if item["fits"] == UNMEASURED]
    more = f" Not measured, and so not judged: {words.listed(unmeasured)}." if unmeasured else ""
    return [f"No recorded arm is known to stay within {limits}.{more}"]


def _study(body: Item) -> dict[str, Any]:
    study = body["study"]
    return {
        "name": study["name"],
        "task": study["task"]["title"],
        "metric": study["metric"],
        "parameters": body["model"]["parameters"],
        "trials": study["trials"]["complete"],
        "tells": not study["withheld"] and not study["cannot_tell"],
        "controls": study["declared"]["controls"],
        "answer": body["answer"][0],
        "verdicts": {arm["name"]: arm["words"] for arm in body["arms"] if arm["role"] == "arm"},
    }


def _rests_on(bodies: Sequence[Item], budgets: Mapping[str, float]) -> list[str]:
    said = {}
    for body in bodies:
        size = body["model"]["parameters"]
        for setting in body["settings"]:
            kind = setting["name"].partition("_")[0]
            how = "counted" if kind in ("parameters", "flops") else "measured"
            where = [setting["setting"]] if setting["setting"] else []
            where += [f"of {size:,} parameters"] if size is not None else []
            told = f" ({', '.join(where)})" if where else ""
            number = len(setting["sources"])
            said[f"{NAMES[kind]}: {how}{told}"] = f"{number:,} record{'s' * (number != 1)}"
    found = [f"{what}, {records}" for what, records in said.items()]
    found += [f"{NAMES[name]}: not measured" for name in budgets if not _is_measured(bodies, name)]
    studied = [body for body in bodies if body["study"] is not None]
    for body in studied:
        study = body["study"]
        done, tells = study["trials"]["complete"], "" if _study(body)["tells"] else ", which says nothing"
        trained = f"{done:,} complete trials{_basis(study)}{tells}"
        found.append(f"quality: the study {study['name']} on {study['task']['title']}, {trained}")
    return found if studied else [*found, "quality: none recorded"]


def _is_measured(bodies: Sequence[Item], kind: str) -> bool:
    return any(name.partition("_")[0] == kind for body in bodies for arm in body["arms"] for name in arm["costs"])


def _next(
    bodies: Sequence[Item], candidates: Sequence[Item], untested: Item | None, budgets: Mapping[str, float]
) -> list[str]:
    """What would make the advice firmer."""
    model = bodies[0]["model"]["reference"]
    commands = []
    unmeasured = [name for name in budgets if not _is_measured(bodies, name)]
    if {"parameters", "flops"} & set(unmeasured):
        commands.append(f"laurel analyze {model} --save")
    if {"latency", "memory"} & set(unmeasured):
        commands.append(f"laurel profile {model}")
    if "step" in unmeasured:
        commands.append(f"laurel profile {model} --mode train")
    # An arm that stood without controls is worth a study that has them; else what was not tried yet.
    bare = [item for item in candidates if any(said["verdict"] == UNCONTROLLED for said in item["verdicts"])]
    wanted = bare or [item for item in candidates if untested is not None and item["arm"] == untested["arm"]]
    if wanted and not any(item["established"] for item in candidates):
        alike: dict[str, list[str]] = {}
        for item in wanted:
            alike.setdefault(_further(item), []).append(item["key"][0])
        for further, names in alike.items():
            commands.append(f"laurel train-proxy {model} --arms baseline,naive+1,{','.join(names)}{further}")
    return commands
