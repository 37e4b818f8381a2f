"""What a report says of a study: its gates, its controls, what it excludes; and which records it rests on."""

import json

import pytest

from laurel_cli.records.folder import gather
from laurel_cli.render import render
from laurel_cli.reports.document import report
from laurel_cli.reports.rows import rows
from tests.report.made import (
    ARMS,
    BUDGET,
    POSITIVE,
    RATES,
    RATIOS,
    analysis,
    arm_of,
    controlled,
    definition,
    document,
    failed,
    profile,
    put,
    study,
    trial,
)

RW = ("rw", "laurel", 32, 0.96)
NULL = [ARMS[0], ("naive+1", "naive", 44_000, 1.0), ("rw", "laurel", 32, 1.0)]


def only(folder, **options):
    (body,) = document(folder, **options)["comparisons"]
    return body


def test_controls_are_shown_as_such_and_never_ranked(made):
    body = only(made)
    roles = {arm["name"]: arm["role"] for arm in body["arms"]}
    assert roles["baseline:width=1.125"] == "positive"
    assert {roles["baseline:lr=0.5"], roles["baseline:lr=2"]} == {"recipe"}
    controls = {name for name, role in roles.items() if role in ("positive", "recipe", "copy")}
    assert not controls & {order[key] for order in body["orders"] for key in ("better", "worse")}
    for panel in body["panels"]:
        points = {point["name"]: point["status"] for point in panel["arms"]}
        assert not {"baseline:lr=0.5", "baseline:lr=2", "copy"} & set(points)
        assert points.get("baseline:width=1.125", "control") == "control"
    # The wider baseline costs more than all arms but is better than naive+1: it dominates nobody and is on no frontier.
    assert "baseline:width=1.125" in {point["name"] for point in body["panels"][0]["arms"]}
    assert not any(name in body["answer"][0] for name in controls)
    assert all(row["role"] != "arm" for row in rows({"comparisons": [body]}) if row["arm"] in controls)


def test_a_gain_that_another_rate_has_as_well_is_a_repair(tmp_path):
    """The headline that one flag undid: twice the rate gives the baseline what rw gives it."""
    controlled(tmp_path, controls=(POSITIVE, RATES[0], ("baseline:lr=2", "against", 0, 0.96)))
    body = only(tmp_path)
    rw = arm_of(body, "rw")
    assert rw["words"] == "better than the baseline, not than the baseline at twice the rate"
    assert f"rw is {rw['words']}: it repairs the recipe, which one number would repair as well." in body["answer"]
    assert "rw (" not in body["answer"][0]
    # What only repairs the recipe is established to be better than nobody, so it is on no frontier.
    status = {point["name"]: point["status"] for point in body["panels"][0]["arms"]}
    assert status["rw"] == "tied"
    assert status["rw+lr+pa@16"] == "on the frontier"


def test_a_study_whose_positive_control_fails_cannot_tell(tmp_path):
    controlled(tmp_path, controls=(("baseline:width=1.125", "against", 60_000, 1.0), *RATES))
    body = only(tmp_path)
    assert "the study cannot tell: its positive control, the baseline 1.125 times as wide" in body["answer"][0]
    assert {arm["verdict"] for arm in body["arms"] if arm["role"] == "arm"} == {"cannot tell"}
    assert body["orders"] == []
    assert {point["status"] for point in body["panels"][0]["arms"]} == {"not known", "control"}
    assert body["study"]["equal_quality"]["why"] == "nothing is claimed of naive+1"


def test_what_is_excluded_is_said_where_nothing_is_separated(tmp_path):
    controlled(tmp_path, NULL, declared={"worth": 0.02})
    body = only(tmp_path)
    assert body["answer"][0] == "On cifar10 no arm is established to be better than the baseline."
    rw = arm_of(body, "rw")
    low, high = rw["excluded"]["low"], rw["excluded"]["high"]
    assert low < 0 < high
    # Of a loss: what gains exclude above lies below zero.
    assert rw["within"] == f"within {-high:+.4f} and {-low:+.4f} nats of the baseline"
    assert any(f"rw is {rw['within']}" in said for said in body["answer"])
    assert rw["worth"] == "not worth it"
    assert (
        "A gain of 0.02 nats was declared to be worth having; naive+1: not worth it; rw: not worth it."
        in body["answer"]
    )
    assert "try first" not in " ".join(body["answer"])


def test_the_gates_stand_in_the_document(tmp_path):
    start = [{"connection": f"layer{i}", "ratio": 0.0 if i % 2 else 0.8} for i in range(4)]
    controlled(tmp_path, start=start)
    found = only(tmp_path)["study"]
    assert found["positive_control"]["arm"] == "baseline:width=1.125"
    assert found["positive_control"]["separated"]
    assert found["start"]["zero"] == ["layer1", "layer3"]
    # The fixture's curves fall by 1.2 (600 / s - 1) / 5: from step 400 on by 0.12.
    assert found["late_fall"]["mean"] == pytest.approx(0.12)
    assert found["late_fall"]["share_of_run"] == pytest.approx(1 / 3)
    rw = arm_of(only(tmp_path), "rw")
    assert [moment["step"] for moment in rw["gains"]] == [100, 200, 300, 400, 500, 600]
    assert rw["trend"] == "lasting"
    assert any("2 of 4 branches start at zero" in said for said in only(tmp_path)["caveats"])


@pytest.mark.parametrize(("smallest", "warned"), [(0.8, False), (0.03, False), (0.014, True)])
def test_the_gate_and_the_caveats_agree_on_branches_that_start_nearly_at_zero(tmp_path, smallest, warned):
    controlled(tmp_path, start=[{"connection": f"layer{i}", "ratio": 0.8 if i else smallest} for i in range(4)])
    page = render(document(tmp_path), "markdown")
    assert ("branches start at zero or nearly so" in page) == warned
    assert ("none starts at zero, some nearly so |" in page) == warned
    assert ("none starts at zero |" in page) != warned


def test_steps_saved_are_measured_by_the_second_budget(tmp_path):
    """The baseline at 420 steps ends 0.06 higher than at 600: a gain of 0.04 is 2/3 of that, in log(steps)."""
    controlled(tmp_path, controls=(POSITIVE, *RATES, BUDGET), spread=0.001)
    rw = arm_of(only(tmp_path), "rw")
    assert rw["steps_saved"]["low"] < 600 * ((600 / 420) ** (2 / 3) - 1) < rw["steps_saved"]["high"]
    assert rw["steps_saved"]["level"] == rw["gain"]["level"]


def test_seeds_that_are_added_by_hand_do_not_look_again(tmp_path):
    """Between two declared looks the verdict is that of the last one, on its blocks."""
    controlled(tmp_path, NULL, seeds=9, declared={"first": 5})
    body = only(tmp_path)
    assert (body["study"]["look"]["n"], body["study"]["blocks"]) == (5, 9)
    assert arm_of(body, "rw")["gain"]["n"] == 5
    assert arm_of(body, "rw")["quality"]["n"] == 9
    assert any("the verdicts are those of the look at 5 blocks" in said for said in body["caveats"])


def test_an_arm_that_joined_later_is_a_family_of_its_own(tmp_path):
    controlled(tmp_path, [*ARMS, ("pa", "laurel", 12, 0.9)], declared={"arms": [["naive+1", "rw"], ["pa"]]})
    body = only(tmp_path)
    assert arm_of(body, "pa")["gain"]["level"] > arm_of(body, "rw")["gain"]["level"]
    assert body["study"]["declared"]["families"][1] == ["pa"]


def test_what_was_declared_stands_in_study_json_beside_the_records(tmp_path):
    """An arm that was declared and has no trial yet is known from there alone."""
    controlled(tmp_path)
    families = [["naive+1", "rw", "rw+lr@16", "rw+lr+pa@16"], ["pa"]]
    later = definition([*ARMS, ("pa", "laurel", 12, 0.9)], declared={"arms": families})
    (tmp_path / "study.json").write_text(json.dumps(later))
    body = only(tmp_path)
    assert arm_of(body, "pa")["verdict"] == "withheld"
    assert body["partial"]
    (tmp_path / "study.json").write_text("{")
    body = only(tmp_path)
    assert "pa" not in {arm["name"] for arm in body["arms"]}
    assert any("study.json" in note for note in body["caveats"])
    (tmp_path / "study.json").write_text(json.dumps(later | {"sha256": "0" * 64}))  # of another study
    assert not only(tmp_path)["partial"]


def test_machines_that_share_a_study_share_its_judgement(tmp_path):
    for seed in range(5):
        device = {"name": "cuda:0", "gpu": "A" if seed < 3 else "B"}
        for name, kind, added, loss in ARMS:
            put(tmp_path, trial(name, kind, seed, loss + 0.001 * (seed % 3) * len(name), added, device=device))
    body = only(tmp_path)
    assert body["study"]["device"] == "cuda:0 (A), cuda:0 (B)"
    assert arm_of(body, "rw")["gain"]["n"] == 5
    assert any("run on 2 devices" in note for note in body["caveats"])


def test_trials_that_cannot_be_compared_are_an_error_or_a_word(tmp_path):
    from laurel_cli.errors import RecordError

    study(tmp_path, ARMS[:4], seeds=3)
    put(tmp_path, trial("pa", "laurel", 0, final={"step": 700, "loss": 1.0, "accuracy": 0.5}))
    with pytest.raises(RecordError, match="2 numbers of steps"):
        document(tmp_path)
    study(tmp_path, ARMS[:4], seeds=3, study="other")
    found = document(tmp_path)
    assert [body["study"]["name"] for body in found["comparisons"]] == ["other"]
    assert any("the study 's' is left out" in said for said in found["warnings"])


def test_a_record_is_a_source_only_where_it_was_used(tmp_path):
    study(tmp_path, ARMS[:4], seeds=2)
    counted = analysis(tmp_path, ARMS[:4])
    analysis(tmp_path, ARMS[:1], command="again, and nothing new in it", seen="2020")
    narrow = profile(tmp_path, {"rw": (1.06, 1.05, 1.07), "naive+1": (1.05, 1.04, 1.06)})
    profile(tmp_path, {"rw": (1.10, 1.00, 1.20)}, samples=[])
    sources = {setting["name"]: setting["sources"] for setting in only(tmp_path)["settings"]}
    assert counted.name in sources["parameters"]
    assert not any(name.startswith("trial-") for name in sources["parameters"])  # they say what the count says
    assert len(sources["parameters"]) <= 2
    assert narrow.name in sources["latency"]
    assert len(sources["latency"]) <= 2


def test_records_that_were_not_compared_are_not_counted(tmp_path):
    study(tmp_path, ARMS[:4], seeds=2)
    put(tmp_path, failed("rw"), status="failed")
    for name in ("baseline", "rw"):
        sought = trial(name, "baseline" if name == "baseline" else "laurel", 2_000_000)
        put(tmp_path, sought | {"study": {"name": "s", "sha256": "9" * 64, "definition": {}}})
    assert document(tmp_path)["records"] == {"trial": 8}


def test_of_another_model_nothing_is_counted(tmp_path):
    study(tmp_path, ARMS[:4], seeds=2)
    other = {"reference": "other", "source": "s", "architecture": "b" * 64, "input": "x: float32 [1, 3, 32, 32]"}
    profile(tmp_path, RATIOS, model=other)
    assert report(gather([tmp_path]), model="resnet20")["records"] == {"trial": 8}


def test_levels_and_the_order_against_naive_of_newer_profiles_are_shown_and_older_ones_read(tmp_path):
    path = profile(tmp_path, RATIOS)
    content = json.loads(path.read_text())["content"]
    (old,) = only(tmp_path)["latencies"]
    assert {arm["level"] for arm in old["arms"]} == {0.95}
    assert {arm["to_naive"] for arm in old["arms"]} == {None}
    for arm in content["arms"]:
        if arm["ratio"]:
            arm["ratio"] |= {"confidence": 0.9875, "p_holm": 0.01}
        if arm["name"] == "rw":
            told = {
                "median": 0.971,
                "low": 0.96,
                "high": 0.98,
                "verdict": "faster",
                "confidence": 0.983,
                "p_holm": 0.02,
            }
            arm["to_naive"] = told
    path.unlink()
    put(tmp_path, content, "profile")
    body = only(tmp_path)
    (new,) = body["latencies"]
    assert {arm["level"] for arm in new["arms"]} == {0.9875}
    rw = next(arm for arm in new["arms"] if arm["arm"] == "rw")
    assert rw["to_naive"]["verdict"] == "faster"
    assert rw["to_naive"]["level"] == 0.983
    assert arm_of(body, "rw")["costs"]["latency"]["level"] == 0.9875


@pytest.mark.parametrize("counted", [True, False])
def test_rw_multiplies_nothing_and_is_not_free(tmp_path, counted):
    """It adds elementwise work: at equal FLOPs the baseline is not dominated by it, and unknown where not counted."""
    study(tmp_path, [ARMS[0], ARMS[2], ("rw", "laurel", 0, 0.9)], seeds=5)
    path = analysis(tmp_path, [ARMS[0], ARMS[2], ("rw", "laurel", 0, 0.9)])
    if not counted:
        content = json.loads(path.read_text())["content"]
        path.unlink()
        for arm in content["arms"]:
            del arm["added_elementwise_flops"]
        put(tmp_path, content, "analyze")
    panel = next(panel for panel in only(tmp_path)["panels"] if panel["name"] == "flops")
    points = {point["name"]: point for point in panel["arms"]}
    assert points["rw"]["cost_percent"] == 0
    assert points["rw"]["elementwise_added"] == (1_000 if counted else None)
    assert points["baseline"]["status"] == ("on the frontier" if counted else "not known")


def test_what_lora_adds_is_its_arms_own(tmp_path):
    """Neither the count of the arm without it nor that of another arm with it stands for it, in whatever order."""
    counted = [*ARMS, ("rw+lr@4", "laurel", 500, 0.99)]
    analysis(tmp_path, counted)
    trained = [("rw+lr@4:train=lora@2", "laurel", 900, 0.95), ("rw+lr@4:train=added", "laurel", 500, 0.96)]
    study(tmp_path, [ARMS[0], trained[0], trained[1], ("rw+lr@4", "laurel", 500, 0.94)])
    body = only(tmp_path)
    costs = {arm["name"]: arm["costs"] for arm in body["arms"]}
    added = {name: found["parameters"]["added"] for name, found in costs.items() if name.startswith("rw+lr@4")}
    assert added == {"rw+lr@4": 500, "rw+lr@4:train=added": 500, "rw+lr@4:train=lora@2": 900}
    flops = {name for name, found in costs.items() if "flops" in found}
    assert {"rw+lr@4", "rw+lr@4:train=added"} <= flops
    assert "rw+lr@4:train=lora@2" not in flops  # its products were counted in no record
    assert not any("a count says" in note for note in body["notes"])


@pytest.mark.parametrize("setting", ["train=added", "grow=stack", "grow=subnets"])
def test_steps_of_full_training_do_not_stand_for_those_of_a_part(tmp_path, setting):
    """Of what is the same, parameters, FLOPs of a forward pass and inference, the arm's own count and time hold."""
    name = f"rw+lr@16:{setting}"
    analysis(tmp_path)
    profile(tmp_path, RATIOS)
    profile(tmp_path, RATIOS, mode="train")
    study(tmp_path, [*ARMS, (name, "laurel", 17_000, 0.91)])
    body = only(tmp_path)
    settings = {item["name"]: item["setting"] for item in body["settings"]}
    steps = {key for key, said in settings.items() if said.startswith("train")}
    assert {key.partition("_")[0] for key in steps} == {"step", "memory"}
    whole, part = (set(arm_of(body, one)["costs"]) for one in ("rw+lr@16", name))
    assert whole == set(settings)
    assert whole - part == steps
    (panel,) = [panel for panel in body["panels"] if panel["cost"] == "step"]
    assert panel["missing"] == [name]


def test_a_figure_of_one_trial_says_that_its_interval_is_unknown_and_has_no_p(tmp_path):
    controlled(tmp_path, [ARMS[0], ("rw", "laurel", 12, 0.9)], seeds=1)
    body = only(tmp_path)
    gains = [arm["gain"] for arm in body["arms"] if arm["role"] in ("positive", "recipe")]
    assert len(gains) == 3
    assert {(gain["low"], gain["p"], gain["p_holm"]) for gain in gains} == {(None, None, None)}
    page = render(report(gather([tmp_path])), "table")
    rates = [line for line in page.splitlines() if line.startswith("baseline:lr=") and "recipe" in line]
    assert len(rates) == 2
    assert all(line.count("[unknown]") == 2 for line in rates)
