"""Advice within a budget: from every study of the model, and from none where none establishes it."""

import json

import pytest

from laurel_cli.laurel.spec import Spec
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.render import Look, render
from laurel_cli.reports.recommend import recommend
from tests.report import made as made_records
from tests.report.made import (
    ARMS,
    POSITIVE,
    RATES,
    RATIOS,
    analysis,
    controlled,
    definition,
    document,
    profile,
    put,
    study,
)

NULL = [(name, kind, added, 1.0) for name, kind, added, _ in ARMS]


def advice(folder, **budgets):
    return recommend(document(folder)["comparisons"], budgets)


def text(found):
    return " ".join(render(found, "table", look=Look()).split())


def named(name, digit):
    return {"name": name, "sha256": digit * 64}


def test_with_quality_the_best_that_fits(made):
    assert advice(made)["advice"]["arm"] == "rw+lr+pa@16"
    assert advice(made, parameters=2.0)["advice"]["arm"] == "rw+lr@16"
    assert advice(made, parameters=2.0, latency=5.0)["advice"]["arm"] == "rw"
    found = advice(made, parameters=2.0, latency=15.0)
    assert found["advice"] == {"arm": "rw+lr@16", "options": "--variant rw+lr --rank 16"}
    assert "In the study s rw+lr@16 is better" in found["why"][0]
    assert any(said.startswith("latency: measured (infer") for said in found["rests_on"])
    assert "try first rw+lr@16" in text(found)


def test_nothing_better_is_an_answer(tmp_path):
    controlled(tmp_path, NULL)
    found = advice(tmp_path)
    assert found["advice"] is None
    assert found["untested"] is None  # all that the paper suggests was tried here
    assert "try first none: keep the plain residual" in text(found)
    assert "No arm is established by the study of this model to be better than the baseline" in found["why"][0]


def test_what_is_not_separated_from_the_best_is_not_as_good_as_it(tmp_path):
    """rw is equal to the baseline, and cheaper than rw+lr, which is better than it: noise must not recommend rw."""
    arms = [*ARMS[:3], ("rw", "laurel", 32, 1.0), ("rw+lr@16", "laurel", 17_000, 0.97)]
    controlled(tmp_path, arms, spread=0.008)
    found = advice(tmp_path)
    assert found["advice"]["arm"] == "rw+lr@16"
    # Out of the budget there is nothing in its place.
    assert advice(tmp_path, parameters=1.0)["advice"] is None


def test_of_two_that_are_better_in_no_known_order_the_cheaper(tmp_path):
    arms = [*ARMS[:3], ("rw", "laurel", 32, 0.900), ("rw+lr@16", "laurel", 17_000, 0.8995)]
    controlled(tmp_path, arms)
    found = advice(tmp_path)
    assert found["advice"]["arm"] == "rw"
    assert "in no established order: rw+lr@16; rw costs less parameters." in found["why"][-1]


def test_ties_go_by_the_next_cost(tmp_path):
    """Latencies whose intervals meet are tied; equal FLOPs are too; parameters then decide, not the name."""
    arms = [*ARMS[:3], ("lr@4", "laurel", 900, 0.9), ("rw", "laurel", 32, 0.9)]
    controlled(tmp_path, arms)
    profile(tmp_path, {"lr@4": (1.02, 1.00, 1.04), "rw": (1.03, 1.01, 1.05)})
    assert advice(tmp_path)["advice"]["arm"] == "rw"
    profile(tmp_path, {"lr@4": (1.02, 1.019, 1.021), "rw": (1.03, 1.029, 1.031)})  # now time tells
    assert advice(tmp_path)["advice"]["arm"] == "lr@4"


def test_without_controls_nothing_is_advised_and_it_is_said_why(tmp_path):
    study(tmp_path)
    found = advice(tmp_path)
    assert found["advice"] is None
    assert "with no control held against it: rw in s, rw+lr@16 in s and rw+lr+pa@16 in s" in found["why"][1]
    assert found["next"] == ["laurel train-proxy resnet20 --arms baseline,naive+1,rw,rw+lr@16,rw+lr+pa@16"]


def test_what_only_repairs_the_recipe_is_not_advised(tmp_path):
    twice = ("baseline:lr=2", "against", 0, 0.90)
    controlled(tmp_path, controls=(POSITIVE, RATES[0], twice), spread=0.001)
    assert advice(tmp_path)["advice"]["arm"] == "rw+lr+pa@16"  # 0.86
    assert advice(tmp_path, parameters=2.0)["advice"] is None


def test_what_one_study_contradicts_is_claimed_of_none(tmp_path):
    controlled(tmp_path / "one", named=named("one", "1"))
    assert advice(tmp_path)["advice"]["arm"] == "rw+lr+pa@16"
    arms = [*NULL[:3], ARMS[3], ARMS[4], ("rw+lr+pa@16", "laurel", 24_000, 1.0)]
    controlled(tmp_path / "two", arms, named=named("two", "2"))
    found = advice(tmp_path)
    assert found["advice"]["arm"] == "rw+lr@16"  # better in both
    (said,) = [sentence for sentence in found["disagreements"] if "rw+lr+pa@16" in sentence]
    assert "better in one" in said
    assert "not separated: within" in said
    assert {item["name"] for item in found["studies"]} == {"one", "two"}
    for name in ("one", "two"):
        assert f"quality: the study {name} on cifar10" in text(found)


def test_a_study_that_cannot_tell_contradicts_nobody_and_supports_nobody(tmp_path):
    controlled(tmp_path / "one", named=named("one", "1"))
    blind = (("baseline:width=1.125", "against", 60_000, 1.0), *RATES)
    controlled(tmp_path / "two", NULL, controls=blind, named=named("two", "2"))
    found = advice(tmp_path)
    assert found["advice"]["arm"] == "rw+lr+pa@16"
    assert any("the study two on cifar10" in said and "which says nothing" in said for said in found["rests_on"])
    assert found["disagreements"] == []


def test_a_gain_that_is_not_worth_having_is_not_advised(tmp_path):
    controlled(tmp_path, [*ARMS[:3], ("rw", "laurel", 32, 0.96)], declared={"worth": 0.1})
    found = advice(tmp_path)
    assert found["advice"] is None
    assert "rw is better than the baseline, but not by what was declared to be worth having." in found["why"]


def test_an_interval_that_crosses_the_budget_is_perhaps(made):
    found = {item["arm"]: item["fits"] for item in advice(made, latency=12.5)["candidates"]}
    assert found == {"rw": "yes", "rw+lr@16": "perhaps", "rw+lr+pa@16": "no"}


def test_a_budget_holds_in_every_setting(tmp_path):
    controlled(tmp_path)
    profile(tmp_path, {"rw": (1.02, 1.01, 1.03), "rw+lr@16": (1.02, 1.01, 1.03)})
    profile(tmp_path, {"rw": (1.02, 1.01, 1.03), "rw+lr@16": (1.2, 1.1, 1.3)}, compile=True)
    found = {item["arm"]: item["fits"] for item in advice(tmp_path, latency=5.0)["candidates"]}
    assert found == {"rw": "yes", "rw+lr@16": "no", "rw+lr+pa@16": "not measured"}


def test_without_quality_the_paper_is_named_as_untested(tmp_path):
    ranks = [(f"rw+lr@{r}", "laurel", 1_000 * r, 1.0) for r in (4, 16, 64)]
    analysis(tmp_path, [*ARMS[:4], *ranks])

    def untested(**budgets):
        found = advice(tmp_path, **budgets)
        assert found["advice"] is None
        return found["untested"] and found["untested"]["arm"]

    assert untested() == "rw+lr@16"
    assert untested(parameters=1.0) == "rw+lr@4"
    assert untested(parameters=0.1) == "rw"
    assert untested(parameters=0.001) is None
    found = advice(tmp_path)
    assert found["untested"]["why"].startswith("rw+lr@16 is what the paper suggests; it is untested here.")
    assert found["next"] == ["laurel train-proxy resnet20 --arms baseline,naive+1,rw+lr@16"]
    assert any("none recorded" in said for said in found["rests_on"])
    assert "No recorded arm is known to stay within" in advice(tmp_path, parameters=0.001)["why"][-1]


def test_what_was_not_measured_is_not_promised(tmp_path):
    analysis(tmp_path)
    found = advice(tmp_path, latency=5.0)
    assert (found["advice"], found["untested"]) == (None, None)
    assert "Not measured" in found["why"][-1]
    assert found["next"][0].startswith("laurel profile")
    profile(tmp_path, RATIOS)
    assert advice(tmp_path, latency=5.0)["untested"]["arm"] == "rw"


@pytest.mark.parametrize("format_name", ["table", "markdown", "csv", "json"])
def test_every_format(made, format_name):
    said = render(advice(made), format_name, look=Look())
    assert "rw+lr+pa@16" in said


@pytest.mark.parametrize("name", ["rw+lr@4:lr=2", "rw:train=lora@4", "rw+lr@4:train=added", "rw:init=zero"])
def test_the_options_of_an_arm_with_settings_build_that_arm(tmp_path, name):
    alike = [
        (f"baseline:{setting}", "baseline", 0, 1.0) for setting in ("train=lora@4", "init=zero") if setting in name
    ]
    controlled(tmp_path, [*ARMS[:3], (name, "laurel", 900, 0.9), *alike])
    found = advice(tmp_path)
    assert found["advice"] == {"arm": name, "options": f"--arms {name}"}
    (built,) = parse_contenders(name)[1:]
    assert built.name == name
    assert found["untested"] is None


@pytest.mark.parametrize(
    "fields",
    [{"lags": None}, {"history": "shared"}, {"per": "block"}, {"vector_weights": True}, {"init": "orthogonal"}],
)
def test_options_build_the_formula_that_was_trained(tmp_path, monkeypatch, fields):
    """Read as `train-proxy` reads them, they give the arm of the records."""
    name = "rw+lr+pa@4"
    usual = made_records.spec_of
    monkeypatch.setattr(made_records, "spec_of", lambda arm: usual(arm) | fields)
    controlled(tmp_path, [*ARMS[:3], (name, "laurel", 900, 0.9)])
    advised = advice(tmp_path)["advice"]
    assert advised["arm"] == name
    asked = {word.replace("-", "_"): value for word, _, value in map(_parted, advised["options"].split("--")[1:])}
    assert (asked.pop("variant"), asked.pop("rank")) == ("rw+lr+pa", "4")
    options = {key: True if value == "" else None if value == "all" else value for key, value in asked.items()}
    assert Spec.parse(name, **options) == Spec.parse(name, **fields)


def _parted(option):
    return option.strip().partition(" ")


def test_what_is_to_be_tried_next_is_asked_for_with_all_that_its_name_does_not_say(tmp_path):
    path = analysis(tmp_path, [ARMS[0], ("rw+lr+pa@16", "laurel", 900, 1.0)])
    content = json.loads(path.read_text())["content"]
    path.unlink()
    content["arms"][1]["spec"]["lags"] = "all"
    put(tmp_path, content, "analyze")
    assert advice(tmp_path)["next"] == ["laurel train-proxy resnet20 --arms baseline,naive+1,rw+lr+pa@16 --lags all"]


def test_advice_from_trained_weights_or_beside_a_teacher_says_so(tmp_path):
    weights = {"weights": "there/model.safetensors", "weights_sha256": "ab" * 32}
    teacher = {"teacher": weights | {"reference": "resnet50"}, "temperature": 2.0, "share": 0.5}
    bases = {
        "from": ({"model": weights}, "from trained weights"),
        "beside": ({"model": {}, "distillation": teacher}, "beside a teacher"),
        "anew": ({"model": {}}, ""),
    }
    for number, (name, (recipe, _)) in enumerate(bases.items()):
        declared = definition(ARMS) | {"recipe": recipe}
        controlled(tmp_path / name, named=named(name, str(number)) | {"definition": declared})
    found = advice(tmp_path)
    for name, (_, basis) in bases.items():
        (rests,) = [said for said in found["rests_on"] if f"the study {name} on" in said]
        assert rests.endswith(f"complete trials {basis}".strip())
    why = [said for said in found["why"] if "the gain is one of" in said]
    assert len(why) == 2
    assert "All trials of from start from trained weights (model.safetensors, SHA-256 abababababab)" in " ".join(why)
    assert "Every arm of beside, the baseline too, is distilled from a teacher (resnet50, model" in " ".join(why)
