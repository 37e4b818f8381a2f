"""One judge: whatever the records, every command says the same of them."""

import random

import pytest

from laurel_cli.errors import UsageError
from laurel_cli.render import Look, render
from laurel_cli.reports.gate import FailCondition
from laurel_cli.reports.recommend import recommend
from laurel_cli.reports.rows import rows
from laurel_cli.verdict.document import document as judge
from laurel_cli.verdict.effects import BETTER, NOT_SEPARATED, WORSE
from laurel_cli.verdict.findings import GAINS
from tests.report.made import ARMS, POSITIVE, RATES, definition, document, failed, put, trial

ARM_KINDS = {name: (kind, added) for name, kind, added, _ in [*ARMS, POSITIVE, *RATES, ("pa", "laurel", 12, 0)]}
LOSSES = [0.8, 0.9, 0.95, 0.98, 0.99, 1.0, 1.0, 1.0, 1.01, 1.05]


def generated(number):
    """(definition, contents): controls or none, looks, added seeds and arms, failures, divergences, repeats."""
    rng = random.Random(number)
    seeds = rng.choice([2, 3, 5, 7, 10])
    arms = [
        ("baseline", "baseline", 0, 1.0),
        *((n, *ARM_KINDS[n], rng.choice(LOSSES)) for n in ("rw", "rw+lr@16", "pa")),
    ]
    arms += [("naive+1", "naive", 44_000, rng.choice(LOSSES))] if rng.random() < 0.8 else []
    controls = [(POSITIVE[0], "against", 60_000, rng.choice([0.93, 0.93, 1.0]))] if rng.random() < 0.7 else []
    controls += [(n, k, a, rng.choice([0.95, 1.0, 1.05])) for n, k, a, _ in RATES] if rng.random() < 0.7 else []
    families = [[name for name, kind, *_ in arms if kind != "baseline"]]
    if rng.random() < 0.3:
        families = [families[0][:-1], families[0][-1:]]
    declared = {
        "arms": families,
        "first": rng.choice([seeds, seeds, 2, 3, 7]),
        "most": rng.choice([0, 0, 0, 20]),
        "worth": rng.choice([None, 0.02]),
    }
    found = definition(arms, seeds, controls, declared) if rng.random() < 0.8 else {"name": "s", "seeds": seeds}
    spread, chance = rng.choice([0.002, 0.005, 0.02]), rng.choice([*[2.3] * 8, 1.2, None])
    apart = rng.random() < 0.1
    contents = []
    for i, (name, kind, added, loss) in enumerate([*arms, *controls]):
        for seed in range(3 if ":lr=" in name else seeds):
            content = trial(name, kind, 100 * i + seed if apart else seed, loss + rng.gauss(0, spread), added)
            content |= {"chance_loss": chance, "study": {"name": "s", "sha256": "5" * 64, "definition": found}}
            fate = rng.random()
            if fate < 0.004:
                content |= {"status": "diverged", "final": None, "reason": "loss became NaN"}
            elif fate < 0.008:
                content = failed(name, kind, content["seed"]) | {"study": content["study"]}
            elif fate < 0.012:
                content["final"] = content["final"] | {"loss": None}
            if fate < 0.995:
                contents.append(content)
            if fate > 0.97:  # twice, and not the same
                contents.append(content | {"final": content["final"] and content["final"] | {"loss": loss + 0.001}})
    rng.shuffle(contents)
    return found, contents


def accuracies(contents):
    """The same study, of which accuracies alone are recorded."""
    return [
        item | {"metric": "accuracy", "final": item["final"] and item["final"] | {"loss": None}, "evaluations": []}
        for item in contents
    ]


@pytest.mark.parametrize("number", range(60))
def test_every_command_says_the_same(tmp_path, number):
    found, contents = generated(number)
    if number % 6 == 5:
        found, contents = {"name": "s"}, accuracies(contents)
        contents = [item | {"study": {"name": "s", "sha256": "5" * 64, "definition": {}}} for item in contents]
    for content in contents:
        put(tmp_path, content)
    theirs = {arm["name"]: arm for arm in judge(found, contents)["arms"]}
    document_ = document(tmp_path)
    (body,) = document_["comparisons"]
    ours = {arm["name"]: arm for arm in body["arms"]}
    assert set(ours) == set(theirs)
    for name, arm in theirs.items():
        assert ours[name]["role"] == arm["role"]
        if arm["role"] == "arm":
            assert (ours[name]["verdict"], ours[name]["words"]) == (arm["verdict"], arm["words"])
            assert (ours[name]["trend"], ours[name]["worth"]) == (arm["trend"], arm["worth"])
        if arm["difference"]:
            assert ours[name]["gain"]["p_holm"] == arm["difference"]["p"]
            assert ours[name]["gain"]["level"] == arm["difference"]["confidence"]
    _rows_agree(document_, theirs)
    _advice_agrees(body, theirs)
    _page_agrees(document_, theirs)
    if number % 6 != 5:  # whatever is shown
        (shown,) = document(tmp_path, metric="accuracy")["comparisons"]
        assert {arm["name"]: arm["words"] for arm in shown["arms"]} == {
            name: arm["words"] for name, arm in ours.items()
        }


def _rows_agree(document_, theirs):
    """CSV and gates: a gain is there exactly where the arm may be judged, and it says what the verdict does."""
    flat = {row["arm"]: row for row in rows(document_)}
    for name, arm in theirs.items():
        row = flat[name]
        if arm["role"] != "arm":
            continue
        assert (row["verdict"], row["words"]) == (arm["verdict"], arm["words"])
        judged = arm["verdict"] in (*GAINS, WORSE, NOT_SEPARATED)
        assert (row["gain"] is not None) == judged
        if judged and row["gain_low"] is not None:
            assert (row["gain_low"] > 0) == (arm["verdict"] in GAINS)
            assert (row["gain_high"] < 0) == (arm["verdict"] == WORSE)
    gated = [arm for arm in theirs.values() if arm["role"] == "arm" and arm["kind"] != "naive"]
    gains = [arm["name"] for arm in gated if arm["verdict"] in GAINS]
    try:
        tripped = FailCondition.parse("gain_low > 0").tripped(list(flat.values()))
    except UsageError:
        assert not gains
    else:
        assert sorted(said.partition(" has ")[0] for said in tripped) == sorted(gains)


def _advice_agrees(body, theirs):
    found = recommend([body], {})
    better = {name for name, arm in theirs.items() if arm["verdict"] == BETTER and arm["kind"] == "laurel"}
    better -= {name for name in better if theirs[name]["worth"] == "not worth it"}
    assert (found["advice"] is not None) == bool(better)
    assert found["advice"] is None or found["advice"]["arm"] in better
    for item in found["candidates"]:
        assert item["verdict"] == f"s: {theirs[item['arm']]['words']}"


def _page_agrees(document_, theirs):
    text = " ".join(render(document_, "markdown", look=Look()).replace("`", "").replace("\\", "").split())
    for arm in theirs.values():
        if arm["role"] == "arm":
            assert arm["words"] in text


def test_of_two_records_of_one_trial_every_command_takes_the_same(tmp_path):
    """The one with the smaller hash, as `laurel train-proxy` judges them."""
    from laurel_cli.study.folder import trials as read_by_train_proxy
    from laurel_cli.verdict.trials import gather

    for seed in range(12):
        for loss in (1.0, 1.1):
            put(tmp_path, trial("baseline", "baseline", seed, loss))
    (body,) = document(tmp_path)["comparisons"]
    (arm,) = body["arms"]
    theirs = {
        str(seed): content["final"]["loss"]
        for seed, content in gather([], range(12), read_by_train_proxy(tmp_path)).baseline.trials.items()
    }
    assert arm["quality"]["values"] == theirs
    assert len(set(theirs.values())) == 2
