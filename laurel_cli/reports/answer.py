"""The answer in a few sentences: what is better, by how much and how surely, what it costs, what is not established."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from laurel_cli import text
from laurel_cli.arms import kind_of
from laurel_cli.reports import words
from laurel_cli.verdict import gates
from laurel_cli.verdict.effects import BETTER, NOT_SEPARATED, WORSE
from laurel_cli.verdict.findings import FAILED, REPAIRS, UNCONTROLLED, UNSTABLE
from laurel_cli.verdict.words import control

Item = Mapping[str, Any]
MANY = 8  # open orders that are still listed one by one
SHOWN = 4  # arms of which a sentence is said


def answer(body: Item) -> list[str]:
    """Sentences on one comparison, the first of them the answer."""
    study = body["study"]
    if study is None:
        return _costs_alone(body)
    if not study["trials"]["complete"]:
        return [f"No trial of the study {study['name']} is complete, so there is nothing to compare."]
    if not any(arm["role"] == "baseline" and arm["trials"]["complete"] for arm in body["arms"]):
        return [
            f"The study {study['name']} has no complete trial of the baseline, so there is nothing to compare with."
        ]
    judged = [arm for arm in body["arms"] if arm["role"] == "arm"]
    if study["withheld"]:
        said = [f"{_capital(study['withheld'])}. Nothing is claimed{_longer(study)}."]
    elif study["cannot_tell"]:
        said = [_cannot_tell(study)]
    else:
        said = [
            *_lead(study, judged, _single(body)),
            *_gains(judged),
            *_losses(judged),
            *_excluded(judged),
            *_worth(study, judged),
        ]
        said += [*_at_equal_quality(study, judged), *_unestablished(body)]
    said += _left_out(judged)
    if study["shown"] != study["metric"]:
        said.append(
            f"The figures shown are of the {study['shown']}; every verdict is by the {study['metric']}, which the "
            "study declared."
        )
    return said


def _longer(study: Item) -> str:
    return "; train longer" if study["learned"] is False else ""


def _cannot_tell(study: Item) -> str:
    positive = study["positive_control"]
    figure = words.gain_at(positive["gain"], study["metric"])
    return (
        f"On {study['task']['title']} the study cannot tell: its positive control, {control(positive['arm'])}, is not "
        f"separated from the baseline ({figure}), so a gain of that size would not have been seen either."
    )


def _lead(study: Item, judged: Sequence[Item], priced: Collection[str]) -> Iterator[str]:
    """What is better, for what (of the costs in `priced`); without any such arm, that none is."""
    task, by_metric = study["task"]["title"], f" by {study['metric']}" if study["shown"] != study["metric"] else ""
    rivals = [arm for arm in judged if not kind_of(arm["kind"]).is_scaling]
    better = [arm for arm in rivals if arm["verdict"] == BETTER]
    bare = [arm for arm in rivals if arm["verdict"] == UNCONTROLLED]
    if not rivals:
        yield f"The study {study['name']} on {task} has no arm beside naive scaling."
    elif better:
        beaten = "the baseline and than every control of its recipe"
        yield f"On {task} {_with_evidence(better, study, priced)} better than {beaten}{by_metric}."
    elif bare:
        yield (
            f"On {task} {_with_evidence(bare, study, priced)} better than the baseline{by_metric}, but without "
            f"controls: {_reasons(bare)}, and the baseline with another learning rate or start might have the gain as "
            "well."
        )
    elif any(arm["verdict"] == REPAIRS for arm in rivals):
        beaten = "the baseline and the controls of its recipe"
        yield f"On {task} no arm is established to be better than {beaten}{by_metric}."
    else:
        yield f"On {task} no arm is established to be better than the baseline{by_metric}."
    if better and bare:
        yield f"{_with_evidence(bare, study, priced)} better than the baseline, but without controls: {_reasons(bare)}."
    if len(rivals) > 1 and (better or bare):
        count = len(better) + len(bare)
        said = f"{count} of {len(rivals)}" if count < len(rivals) else f"All {count}"
        yield f"{said} arms beside naive scaling {'is' if count == 1 else 'are'} better."


def _with_evidence(arms: Sequence[Item], study: Item, priced: Collection[str]) -> str:
    """`rw (+0.03 nats [0.01, 0.05], 98.8 %, n = 5, p = 0.004) for +0.0003 % parameters is`."""
    parts = []
    for arm in arms[:SHOWN]:
        gain = arm["gain"]
        trend = f"; {arm['trend']}" if arm["trend"] in (gates.FADING, gates.GROWING) else ""
        evidence = f"{words.gain_at(gain, study['metric'])}, n = {gain['n']}"
        price = _price(arm, priced) if len(arms) == 1 else ""
        parts.append(f"{arm['name']} ({evidence}, {words.p_value(gain['p_holm'])}{trend}){price}")
    more = [f"{len(arms) - SHOWN} more"] if len(arms) > SHOWN else []
    return f"{words.listed([*parts, *more])} {'is' if len(arms) == 1 else 'are'}"


def _reasons(arms: Sequence[Item]) -> str:
    return "; ".join(dict.fromkeys(str(arm["reason"]) for arm in arms))


def _gains(judged: Sequence[Item]) -> Iterator[str]:
    """Arms whose gain may be the recipe's, and naive scaling."""
    for arm in judged:
        if arm["repair"]:
            yield f"{arm['repair']}."
    for arm in judged:
        if kind_of(arm["kind"]).is_scaling and arm["verdict"] not in (UNSTABLE, FAILED, REPAIRS):
            whom = " than the baseline" if arm["verdict"] in (BETTER, WORSE) else ""
            yield f"{arm['name']} is {arm['words']}{whom}."


def _losses(judged: Sequence[Item]) -> Iterator[str]:
    worse = [arm["name"] for arm in judged if arm["verdict"] == WORSE and not kind_of(arm["kind"]).is_scaling]
    if worse:
        yield f"Worse than the baseline: {words.listed(worse)}."


def _excluded(judged: Sequence[Item]) -> Iterator[str]:
    """What the study excludes of the arms that are not separated."""
    apart = [arm for arm in judged if arm["verdict"] == NOT_SEPARATED and not kind_of(arm["kind"]).is_scaling]
    said = [f"{arm['name']} is {arm['within']}" for arm in apart if arm["within"]]
    if said:
        more = "; the others stand in the table" if len(said) > SHOWN else ""
        yield f"What the study excludes: {'; '.join(said[:SHOWN])}{more}."
    unbounded = [arm["name"] for arm in apart if not arm["within"]]
    if unbounded:
        yield f"Not separated, and nothing is excluded: {words.listed(unbounded)}."


def _worth(study: Item, judged: Sequence[Item]) -> Iterator[str]:
    worth = study["declared"]["worth"]
    known = [f"{arm['name']}: {arm['worth']}" for arm in judged if arm["worth"]]
    if worth is not None and known:
        size = words.scaled(worth, study["metric"])
        yield f"A gain of {size:g} {words.UNITS[study['metric']]} was declared to be worth having; {'; '.join(known)}."


def _at_equal_quality(study: Item, judged: Sequence[Item]) -> Iterator[str]:
    """How much of naive scaling's gain the arms reach, where it has one."""
    if not study["equal_quality"]["known"]:
        yield (
            "What naive scaling would cost to be as good is not known: "
            + _plain_why(study["equal_quality"]["why"])
            + "."
        )
        return
    known = [arm for arm in judged if arm["share_of_naive"]]
    if known:
        naive = known[0]["share_of_naive"]["of"]
        parts = [f"{arm['name']} {words.share(arm['share_of_naive'])}" for arm in known]
        yield f"Of the gain that {naive} brings, {words.listed(parts)} is reached."


def _plain_why(why: str) -> str:
    """Without the figures, which stand in another sentence."""
    return why.partition(": ")[0]


def _left_out(judged: Sequence[Item]) -> Iterator[str]:
    yield from (f"{arm['name']} is {arm['words']}." for arm in judged if arm["verdict"] in (UNSTABLE, FAILED))


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


def _both(order: Item) -> str:
    """The p-value of a comparison alone, and corrected where that is what leaves it open."""
    alone = words.p_value(order["p"])
    corrected = order["p"] is not None and order["p"] < 0.05
    return f"{alone}, {words.short_p(order['p_holm'])} corrected" if corrected else alone


PRICES = {"parameters": "parameters", "flops": "FLOPs", "latency": "latency", "step": "step time"}


def _settings(body: Item) -> Counter[str]:
    """In how many settings each cost was recorded."""
    return Counter(str(setting["name"]).partition("_")[0] for setting in body["settings"])


def _single(body: Item) -> set[str]:
    """The costs that were recorded in one setting: a sentence has no room to tell several apart."""
    return {name for name, number in _settings(body).items() if number == 1}


def _price(arm: Item, priced: Collection[str]) -> str:
    parts = []
    for name, said in PRICES.items():
        paid = arm["costs"].get(name) if name in priced else None
        if paid is not None:
            parts.append(f"{words.price(paid, said)}{_elementwise(paid)}")
    return f" for {words.listed(parts)}" if parts else ""


def _elementwise(paid: Item) -> str:
    """An arm that multiplies nothing is not free where it adds."""
    if "elementwise_added" not in paid:
        return ""
    added = paid["elementwise_added"]
    return " of products" if added is None else f" with {text.amount(added)} elementwise operations" if added else ""


def _costs_alone(body: Item) -> list[str]:
    arms = [arm for arm in body["arms"] if not kind_of(arm["kind"]).is_baseline and arm["costs"]]
    name = body["model"]["reference"]
    if not arms:
        return [f"Of {name} the baseline alone was measured."]
    said = [f"Of {name} the costs are recorded, no trained quality: what the arms bring is not known yet."]
    timed = [arm for arm in arms if {"latency", "step"} & set(arm["costs"])] or arms
    single = _single(body)
    prices = [(arm["name"], _price(arm, single).removeprefix(" for ")) for arm in timed[:SHOWN]]
    parts = [f"{name} {price}" for name, price in prices if price]
    more = "; the others are in the tables." if len(arms) > len(parts) else "."
    said += ["Beyond the baseline: " + "; ".join(parts) + more] if parts else []
    several = [title for name, title in PRICES.items() if _settings(body)[name] > 1]
    return said + ([f"In several settings, which the tables tell apart: {words.listed(several)}."] if several else [])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
