"""The whole way from records to the document: the paper's table, planted truths, what must never be mixed."""

import json
import math

import pytest

from laurel_cli.arms import KINDS, Arm
from laurel_cli.errors import UsageError
from laurel_cli.laurel.paper import DECODER_PARAMETERS, TABLE_5, published
from laurel_cli.records.folder import gather
from laurel_cli.render import render
from laurel_cli.reports.arms import labels
from laurel_cli.reports.join import usable
from tests.report.made import (
    ARMS,
    HOSTILE,
    RATES,
    RATIOS,
    analysis,
    arm_of,
    controlled,
    document,
    failed,
    paper,
    profile,
    put,
    study,
    trial,
)


@pytest.fixture
def table_1(tmp_path):
    paper(tmp_path)
    return document(tmp_path)["comparisons"][0]


def test_the_papers_means_are_in_the_fixture(table_1):
    for name, mean in (("baseline", 0.7495), ("rw", 0.7510), ("rw+lr@16", 0.7520), ("rw+lr+pa@16", 0.7525)):
        assert arm_of(table_1, name)["quality"]["mean"] == pytest.approx(mean, abs=1e-12)
        assert arm_of(table_1, name)["quality"]["n"] == 5


def test_the_paper_2_6x_and_1_82x_fewer(table_1):
    """At equal quality, with a bound below: naive+1 is separated from the baseline in its table, so they are known."""
    (panel,) = table_1["panels"]
    times = {point["name"]: point["times_fewer"] for point in panel["arms"]}
    assert f"{times['rw+lr@16']['times']:.1f}" == "2.6"
    assert not times["rw+lr@16"]["at_least"]
    assert f"{times['rw+lr+pa@16']['times']:.2f}" == "1.82"
    assert times["rw+lr+pa@16"]["at_least"]
    for found in (times["rw"], times["rw+lr@16"], times["rw+lr+pa@16"]):
        assert 0 < found["low"] < found["times"]
        assert found["high"] is None  # naive scaling was tried no further than one layer
        assert found["level"] in (pytest.approx(0.964), pytest.approx(0.982))


def test_the_paper_60_percent_of_the_gain_for_rw(table_1):
    share = arm_of(table_1, "rw")["share_of_naive"]
    assert share["value"] == pytest.approx(0.6)
    assert 0 < share["low"] < 0.6 < share["high"]
    assert share["level"] == pytest.approx(0.964)
    assert any("rw 60 %" in sentence for sentence in table_1["answer"])


def test_the_paper_stands_beside_its_own_model_rank_and_kind_of_task_alone(tmp_path, table_1):
    assert [row["arm"] for row in table_1["paper"]["rows"]] == ["rw", "rw+lr@16", "rw+lr+pa@16"]
    own = {"reference": "timm:resnet50.a1_in1k", "source": "timm", "architecture": "6" * 64, "input": "x"}
    recipe = {"model": {"reference": "resnet50", "args": [], "layers": [], "width": None, "stem": None}}
    text = {"name": "books", "kind": "text", "sha256": "d" * 64}
    arms = [*ARMS[:4], ("rw+lr@8", "laurel", 8_000, 0.9), ("rw+lr@16", "laurel", 17_000, 0.9)]

    def rows(number, **more):
        folder = tmp_path / str(number)
        study(folder, arms, seeds=3, **more)
        found = document(folder)["comparisons"][0]["paper"]
        return None if found is None else [row["arm"] for row in found["rows"]]

    named = {"name": "s", "sha256": "5" * 64}
    assert rows(1, model=own) == ["rw", "rw+lr@16"]
    assert rows(2, model=own, given={"study": {**named, "definition": {"recipe": recipe}}}) == ["rw", "rw+lr@16"]
    narrow = {"model": recipe["model"] | {"width": 16}}
    assert rows(3, model=own, given={"study": {**named, "definition": {"recipe": narrow}}}) is None
    assert rows(4, model=own, task=text) is None
    assert rows(5, model=own | {"reference": "resnet18"}) is None
    assert rows(6, model=own | {"reference": "mine.py:resnet50"}) is None


def test_nothing_is_derived_from_a_gain_of_naive_scaling_that_is_not_established(tmp_path):
    """The one predicate: else no share, no multiple, and the words."""
    controlled(tmp_path, [(name, kind, added, 0.999 if kind == "naive" else loss) for name, kind, added, loss in ARMS])
    (body,) = document(tmp_path)["comparisons"]
    assert arm_of(body, "naive+1")["verdict"] == "not separated"
    assert arm_of(body, "rw")["verdict"] == "better"
    assert not any(arm["share_of_naive"] for arm in body["arms"])
    assert not any(point["times_fewer"] for panel in body["panels"] for point in panel["arms"])
    assert not body["study"]["equal_quality"]["known"]
    assert not any("Of the gain" in sentence for sentence in body["answer"])
    assert any("as good is not known: naive+1 is not separated" in sentence for sentence in body["answer"])


def test_a_study_without_naive_scaling_says_so(tmp_path):
    controlled(tmp_path, [ARMS[0], *ARMS[3:]])
    (body,) = document(tmp_path)["comparisons"]
    assert body["study"]["equal_quality"] == {"known": False, "why": "the study has no arm naive+1"}
    assert not any(arm["share_of_naive"] or arm["to_naive"] for arm in body["arms"])


def test_arms_with_a_typed_rate_are_compared(tmp_path):
    rates = [("baseline:lr=0.5", "against", 0, 1.1), ("rw:lr=0.5", "laurel", 32, 0.9)]
    study(tmp_path, [*ARMS[:1], ARMS[3], *rates])
    (body,) = document(tmp_path)["comparisons"]
    verdicts = {arm["name"]: arm["verdict"] for arm in body["arms"]}
    bare = "better, without controls"
    assert verdicts == {"baseline": "baseline", "rw": bare, "baseline:lr=0.5": "worse", "rw:lr=0.5": bare}
    assert arm_of(body, "rw:lr=0.5")["costs"]["parameters"]["added"] == 32


def test_the_paper_variants_beat_the_baseline_and_no_order_is_established(table_1):
    assert [arm["verdict"] for arm in table_1["arms"]] == ["baseline"] + 4 * ["better, without controls"]
    assert "no control of the recipe was run" in table_1["answer"][0]
    assert not any(order["established"] for order in table_1["orders"])
    pair = next(o for o in table_1["orders"] if {o["better"], o["worse"]} == {"rw+lr+pa@16", "naive+1"})
    assert f"{pair['p']:.2f}" == "0.48"
    assert any("rw+lr+pa@16 over naive+1 (p = 0.48)" in sentence for sentence in table_1["answer"])
    assert table_1["study"]["paired"] is False


def test_a_planted_truth_is_found(made):
    (body,) = document(made)["comparisons"]
    assert arm_of(body, "copy")["verdict"] == "noise floor"
    for name, truth in (("naive+1", 0.10), ("rw", 0.04), ("rw+lr@16", 0.10), ("rw+lr+pa@16", 0.14)):
        found = arm_of(body, name)
        assert found["gain"]["low"] < truth < found["gain"]["high"]
        assert found["verdict"] == "better"
        assert found["gain"]["paired"]
    parameters = {p["name"]: p for p in body["panels"][0]["arms"]}
    assert parameters["naive+1"]["status"] == "dominated"  # rw+lr+pa costs less and is better
    assert parameters["rw"]["status"] == "on the frontier"
    assert [p["name"] for p in body["panels"]] == ["parameters", "flops", "latency", "step", "memory", "memory_2"]
    shares = {arm["name"]: arm["share_of_naive"] for arm in body["arms"] if arm["share_of_naive"]}
    for name, truth in (("rw", 0.4), ("rw+lr@16", 1.0), ("rw+lr+pa@16", 1.4)):
        assert shares[name]["low"] < truth < shares[name]["high"]


def test_one_row_for_cost_latency_memory_and_quality(made):
    (body,) = document(made)["comparisons"]
    row = arm_of(body, "rw+lr@16")
    assert row["costs"]["parameters"]["added"] == 17_000
    assert row["costs"]["parameters"]["percent"] == pytest.approx(1.7)
    assert row["costs"]["flops"]["percent"] == pytest.approx(100 * 50 * 17_000 / 80_000_000)
    assert row["costs"]["latency"]["percent"] == pytest.approx(12)
    assert row["costs"]["step"]["percent"] == pytest.approx(24)
    assert row["costs"]["memory"]["percent"] == pytest.approx(4)
    assert len(body["arms"]) == len(ARMS) + 3  # and the controls


def test_what_is_of_one_model_joins_whatever_it_was_called(tmp_path):
    study(tmp_path)
    other = {"reference": "other.py:net", "source": "file other.py", "architecture": "a" * 64, "input": "x: [1]"}
    profile(tmp_path, RATIOS, model=other)
    strange = other | {"architecture": "b" * 64}
    profile(tmp_path, RATIOS, model=strange)
    bodies = document(tmp_path)["comparisons"]
    assert len(bodies) == 2
    with_study = next(body for body in bodies if body["study"])
    assert [setting["name"] for setting in with_study["settings"]] == ["parameters", "latency", "memory"]


def test_older_records_join_by_name_where_that_is_clear(tmp_path):
    named = {"reference": "m", "source": "s", "input": "x: float32 [1, 3, 32, 32]"}
    profile(tmp_path, RATIOS, model=named)
    analysis(tmp_path, model=named | {"architecture": "a" * 64, "parameters": 1})
    assert len(document(tmp_path)["comparisons"]) == 1
    analysis(tmp_path, model=named | {"architecture": "b" * 64, "parameters": 1})
    assert len(document(tmp_path)["comparisons"]) == 3  # now it could be of either, so it is of none


@pytest.mark.parametrize(
    "other",
    [
        {"device": {"name": "cuda:0", "gpu": "NVIDIA H100"}},
        {"hashes": {"data": "0" * 64, "code": "c" * 64}},
        {"study": {"name": "s", "sha256": "6" * 64, "definition": {}}},
        {"task": {"name": "cifar10", "kind": "image", "sha256": "0" * 64}},
    ],
)
def test_trials_of_other_devices_data_and_studies_stand_apart(tmp_path, other):
    study(tmp_path, ARMS[:4], seeds=3)
    for seed in range(3):
        for name, kind, added, loss in ARMS[:4]:
            put(tmp_path, trial(name, kind, seed, loss - 0.5, added) | other)
    bodies = document(tmp_path)["comparisons"]
    assert len(bodies) == 2
    assert sorted(round(arm_of(body, "baseline")["quality"]["mean"], 1) for body in bodies) == [0.5, 1.0]
    assert all(arm_of(body, "baseline")["quality"]["n"] == 3 for body in bodies)


@pytest.mark.parametrize(
    "other",
    [
        {"device": {"name": "cpu", "threads": 1}},
        {"device": {"name": "cuda:0", "gpu": "NVIDIA H100"}},
        {"dtype": "bfloat16"},
        {"compile": True},
        {"channels_last": True},
        {"versions": {"torch": "2.9.0"}},
        {"device": {"name": "cpu", "threads": 2, "cpu": "Intel Xeon"}},
        {"allocator": {"name": "keep", "variables": {}, "libc": "glibc 2.36", "preloaded": []}},
        {"options": {"model_args": {"heads": 2}}},
        {"model": {"reference": "m", "architecture": "a" * 64, "input": "x: float32 [8, 3, 32, 32]"}},
    ],
)
def test_times_of_other_settings_are_another_axis(tmp_path, other):
    study(tmp_path, ARMS[:4], seeds=3)
    profile(tmp_path, {"rw": (1.02, 1.01, 1.03)})
    profile(tmp_path, {"naive+1": (1.05, 1.04, 1.06)}, **other)
    (body,) = document(tmp_path)["comparisons"]
    panels = [panel for panel in body["panels"] if panel["cost"] == "latency"]
    assert sorted([p["name"] for p in panel["arms"]] for panel in panels) == [
        ["baseline", "naive+1"],
        ["baseline", "rw"],
    ]


def test_of_two_profiles_in_one_setting_the_narrower_counts_and_a_note_says_so(tmp_path):
    profile(tmp_path, {"rw": (1.10, 1.00, 1.20)})
    profile(tmp_path, {"rw": (1.06, 1.05, 1.07), "naive+1": (1.05, 1.04, 1.06)})
    (body,) = document(tmp_path)["comparisons"]
    assert arm_of(body, "rw")["costs"]["latency"]["percent"] == pytest.approx(6)
    assert any("2 profiles in one setting" in note for note in body["caveats"])


KEEP = {"name": "keep", "variables": {}, "libc": "glibc 2.36", "preloaded": []}


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (
            {"device": {"name": "cpu", "threads": 2, "cpu": "Intel Xeon"}},
            {"device": {"name": "cpu", "threads": 2, "cpu": "AMD EPYC"}},
            ("cpu (AMD EPYC, 2 threads)", "cpu (Intel Xeon, 2 threads)"),
        ),
        (
            {"allocator": KEEP},
            {"allocator": KEEP | {"name": "default"}},
            ("cpu (2 threads)", "cpu (2 threads), default allocator"),
        ),
        (
            {"allocator": KEEP | {"name": "default"}},
            {"allocator": KEEP | {"name": "default", "preloaded": ["libjemalloc.so.2"]}},
            ("cpu (2 threads), default allocator", "cpu (2 threads), libjemalloc.so.2 allocator"),
        ),
        (
            {"device": {"name": "xla", "runtime": "CPU"}},
            {"device": {"name": "xla", "runtime": "TPU"}},
            ("xla (CPU)", "xla (TPU)"),
        ),
        (
            {"versions": {"torch": "2.9.0"}},
            {"versions": {"torch": "2.15.0"}},
            ("cpu (2 threads), torch 2.15.0", "cpu (2 threads), torch 2.9.0"),
        ),
    ],
)
def test_each_axis_says_under_what_it_was_measured(tmp_path, one, other, words):
    """Two machines of one kind in the words of before are two all the same, and the reader sees which is which."""
    profile(tmp_path, {"rw": (1.02, 1.01, 1.03)}, **one)
    profile(tmp_path, {"rw": (1.05, 1.04, 1.06)}, **other)
    (body,) = document(tmp_path)["comparisons"]
    found = [setting["setting"] for setting in body["settings"] if setting["title"] == "latency added"]
    assert len(found) == 2
    assert all(said.endswith(end) for said, end in zip(found, words, strict=True)), found


def test_profiles_that_do_not_tell_their_processor_are_one_setting_with_a_word(tmp_path):
    """As older records are: whether they are of one machine is not known."""
    profile(tmp_path, {"rw": (1.02, 1.01, 1.03)})
    assert not any("different machines" in note for note in document(tmp_path)["comparisons"][0]["caveats"])
    profile(tmp_path, {"naive+1": (1.05, 1.04, 1.06)})
    (body,) = document(tmp_path)["comparisons"]
    assert any("may be of different machines" in note for note in body["caveats"])


@pytest.mark.parametrize("narrow", [0, 1])
@pytest.mark.parametrize("measured", [True, False])
def test_all_that_is_said_of_an_arms_time_is_from_one_record(tmp_path, narrow, measured):
    """Whichever was written last: its milliseconds, its ratio, that to naive+1, its memory and its place in figures."""
    runs = {}
    for number, (middle, width) in enumerate([(1.10, 0.05), (1.20, 0.06)] if narrow else [(1.10, 0.06), (1.20, 0.05)]):
        ends = (middle - width, middle + width) if measured else (None, None)
        path = profile(tmp_path, {"rw": (middle, *ends), "naive+1": (1.3, 1.2, 1.4)})
        content = json.loads(path.read_text())["content"]
        path.unlink()
        rw = next(arm for arm in content["arms"] if arm["name"] == "rw")
        rw |= {"to_naive": rw["ratio"] | {"median": middle - 0.1}, "peak_bytes": 150_000_000 + number}
        name = put(tmp_path, content, "profile").name
        runs[name] = {"ratio": middle, "ms": 80 * middle, "to_naive": middle - 0.1, "peak": 150_000_000 + number}
    (body,) = document(tmp_path)["comparisons"]
    costs = arm_of(body, "rw")["costs"]
    (shown,) = [arm for arm in body["latencies"][0]["arms"] if arm["arm"] == "rw"]
    expected = runs[shown["source"]]
    assert 1 + costs["latency"]["percent"] / 100 == pytest.approx(expected["ratio"]) == pytest.approx(shown["median"])
    assert costs["latency"]["total"] == pytest.approx(expected["ms"])
    assert shown["to_naive"]["median"] == expected["to_naive"]
    assert costs["memory"]["total"] == expected["peak"]
    if measured:
        assert expected["ratio"] == (1.10 if narrow else 1.20)
    (said,) = [note for note in body["caveats"] if "2 profiles in one setting" in note]
    assert "that with the narrowest interval of its ratio, where none has an interval the newest" in said


def test_sums_that_were_timed_at_their_start_are_told_and_give_way(tmp_path):
    """At a = b = 1 a processor leaves RW's product out, as profiles without the note of it had their arms."""
    old = profile(tmp_path, {"rw": (1.01, 1.0, 1.02), "lr@4": (1.1, 1.09, 1.11)}, notes=[])
    (body,) = document(tmp_path)["comparisons"]
    (said,) = [note for note in body["caveats"] if "once they are trained" in note]
    assert said.startswith("rw: RW's a and b were 1 when arms were timed")
    profile(tmp_path, {"rw": (1.08, 1.0, 1.16), "lr@4": (1.2, 1.1, 1.3)})
    (body,) = document(tmp_path)["comparisons"]
    assert old.exists()
    assert not [note for note in body["caveats"] if "once they are trained" in note]
    assert arm_of(body, "rw")["costs"]["latency"]["percent"] == pytest.approx(8)  # though its interval is wider
    assert arm_of(body, "lr@4")["costs"]["latency"]["percent"] == pytest.approx(10)


def test_milliseconds_of_another_run_are_told_from_the_baselines(tmp_path):
    profile(tmp_path, {"rw": (1.1, 1.05, 1.15), "lr@4": (1.1, 1.05, 1.15)})
    path = profile(tmp_path, {"pa": (1.5, 1.4, 1.6)})
    content = json.loads(path.read_text())["content"]
    path.unlink()
    content["arms"][0]["milliseconds"]["median"] = 1234.5
    put(tmp_path, content, "profile")
    (body,) = document(tmp_path)["comparisons"]
    assert arm_of(body, "baseline")["costs"]["latency"]["total"] == 80  # as in the run of most arms
    (said,) = [note for note in body["caveats"] if "of another run" in note]
    assert said.startswith("milliseconds of pa are of another run, whose baseline took 1,234 ms (")


def test_what_a_profile_says_against_itself_stands_in_the_report(tmp_path):
    doubt = "rw: the samples are unstable: their standard deviation is above 10 % of the mean"
    path = profile(tmp_path, {"rw": (1.1, 1.05, 1.15)}, warnings=[doubt])
    assert f"{path.name}: {doubt}" in document(tmp_path)["comparisons"][0]["caveats"]


def test_flops_of_which_a_part_is_not_counted_carry_a_mark_and_rank_nobody(tmp_path):
    """What one arm alone has is a lower bound; what the baseline has as often cancels in what is added."""
    study(tmp_path, ARMS[:4], seeds=5)
    path = analysis(tmp_path, ARMS[:4])
    content = json.loads(path.read_text())["content"]
    path.unlink()
    for arm in content["arms"]:
        arm["uncounted"] = [{"operator": "own", "calls": 5 if arm["name"] == "naive+1" else 4}]
    put(tmp_path, content, "analyze")
    (body,) = document(tmp_path)["comparisons"]
    naive, rw = (arm_of(body, name)["costs"]["flops"] for name in ("naive+1", "rw"))
    assert (naive["low"], naive["high"], naive["lower_bound"]) == (None, None, True)
    assert rw["low"] == rw["high"] == rw["percent"]
    points = {p["name"]: p for panel in body["panels"] if panel["cost"] == "flops" for p in panel["arms"]}
    assert points["rw"]["status"] == "not known"  # worse than naive+1, which may cost no more
    page = render(document(tmp_path), "markdown")
    assert "| `naive+1` | >= 82.200 M |" in page.replace("&gt;", ">").replace("\\>", ">")
    assert "(not all counted)" in page


def test_flops_of_another_input_are_not_shown(tmp_path):
    study(tmp_path, ARMS[:4], seeds=3)
    model = {
        "reference": "m",
        "architecture": "a" * 64,
        "input": "x: float32 [1, 3, 224, 224]",
        "parameters": 1_000_000,
    }
    analysis(tmp_path, ARMS[:4], model=model)
    (body,) = document(tmp_path)["comparisons"]
    assert "flops" not in {panel["name"] for panel in body["panels"]}
    assert any("FLOPs were counted for" in note for note in body["caveats"])
    analysis(tmp_path, ARMS[:4], batch=16)  # the batch does not matter
    (body,) = document(tmp_path)["comparisons"]
    assert "flops" in {panel["name"] for panel in body["panels"]}


def test_trials_that_failed_are_counted_and_said(tmp_path):
    study(tmp_path, ARMS[:4], seeds=4)
    for seed in (4, 5):
        put(tmp_path, trial("rw", "laurel", seed, final=None, status="diverged", reason="loss became NaN at step 40"))
    put(tmp_path, failed("pa"), status="failed")
    (body,) = document(tmp_path)["comparisons"]
    rw, pa = arm_of(body, "rw"), arm_of(body, "pa")
    assert rw["trials"] == {"complete": 4, "diverged": 2, "failed": 0}
    assert rw["quality"]["n"] == 4
    assert rw["reasons"] == ["loss became NaN at step 40"]
    assert (rw["verdict"], rw["words"]) == ("unstable", "unstable: 2 of 6 diverged")
    assert (pa["verdict"], pa["quality"]) == ("failed", None)
    assert any("rw: 2 of 6 trials diverged" in said for said in body["caveats"])
    assert "rw is unstable: 2 of 6 diverged." in body["answer"]


def test_a_trial_that_was_run_again_counts_once(tmp_path):
    study(tmp_path, ARMS[:2], seeds=3)
    put(tmp_path, failed("baseline", "baseline", 1), status="failed")
    (body,) = document(tmp_path)["comparisons"]
    assert arm_of(body, "baseline")["trials"] == {"complete": 3, "diverged": 0, "failed": 0}
    put(tmp_path, trial("baseline", "baseline", 1, loss=0.5))
    (body,) = document(tmp_path)["comparisons"]
    assert arm_of(body, "baseline")["quality"]["n"] == 3
    assert any("baseline, seed 1, has 2 records that differ" in said for said in body["caveats"])


def test_nothing_is_ranked_where_nothing_was_learned(tmp_path):
    study(tmp_path, [(n, k, a, math.log(10) - 0.01 * i) for i, (n, k, a, _) in enumerate(ARMS)])
    (body,) = document(tmp_path)["comparisons"]
    assert body["answer"][0].startswith("The proxy has not learned")
    assert {point["status"] for point in body["panels"][0]["arms"]} == {"not known"}


def test_one_seed_says_nothing_of_order(tmp_path):
    study(tmp_path, seeds=1)
    (body,) = document(tmp_path)["comparisons"]
    assert {point["status"] for point in body["panels"][0]["arms"]} == {"not known"}
    assert {arm["verdict"] for arm in body["arms"]} <= {"baseline", "withheld", "noise floor"}
    assert body["answer"][0].startswith("1 block is complete, the first look is at 5")


def test_costs_alone(tmp_path):
    analysis(tmp_path)
    (body,) = document(tmp_path)["comparisons"]
    assert body["study"] is None
    assert "no trained quality" in body["answer"][0]
    assert arm_of(body, "rw")["verdict"] == "not trained"


def test_an_unfinished_study_says_partial(tmp_path):
    study(tmp_path, seeds=3)
    (body,) = document(tmp_path)["comparisons"]
    assert body["partial"]
    assert any(said.startswith("partial") for said in body["caveats"])
    study(tmp_path, seeds=5)
    assert not document(tmp_path)["comparisons"][0]["partial"]


def test_quality_and_cost_can_be_chosen(made):
    (plain,) = document(made, costs=("latency",))["comparisons"]
    (body,) = document(made, costs=("latency",), metric="accuracy")["comparisons"]
    assert [panel["name"] for panel in body["panels"]] == ["latency"]
    assert (body["study"]["shown"], body["study"]["better"]) == ("accuracy", "higher")
    assert 0.6 < arm_of(body, "rw")["quality"]["mean"] < 0.8
    # What is established is that of the loss, which the study declared, and it says so.
    assert body["study"]["metric"] == "loss"
    for one, other in zip(plain["arms"], body["arms"], strict=True):
        for key in ("verdict", "words", "gain", "share_of_naive"):
            assert one[key] == other[key]
    assert any("every verdict is by the loss" in said for said in body["answer"])
    put(made, trial("rw", study="z", final={"step": 1, "loss": 1.0, "accuracy": None}))
    with pytest.raises(UsageError, match="`quality='accuracy'` was not measured"):
        document(made, metric="accuracy")


def test_records_of_strange_content_are_left_out_with_a_word(made):
    for content in ({}, {"model": 3, "arms": []}, {"model": {}, "arms": [3]}, {"model": {}, "arms": [], "device": 1}):
        put(made, content, "profile")
    put(made, trial() | {"final": None}, "trial")
    put(made, {"model": {}}, "later")  # a kind of a later version
    found = document(made)
    assert len(found["warnings"]) == 6
    assert sum("cannot be used" in said for said in found["warnings"]) == found["unreadable"] == 5
    assert sum("is left out" in said for said in found["warnings"]) == 1
    assert len(found["comparisons"]) == 1


def test_the_document_is_plain_json_and_the_same_every_time(made):
    study(made, study=HOSTILE)
    one, two = (json.dumps(document(made), allow_nan=False) for _ in range(2))
    assert one == two
    assert json.loads(one) == document(made)
    assert len(gather([made]).records) == 41 + 30 + 3


def test_what_the_paper_prints_stands_beside_the_count(tmp_path):
    path = analysis(tmp_path)
    content = json.loads(path.read_text())["content"]
    content["arms"][3]["paper"] = {"added_percent": 0.003, "remark": "two scalars at each"}
    put(tmp_path, content | {"command": "again"}, "analyze")
    path.unlink()
    (body,) = document(tmp_path)["comparisons"]
    assert body["printed"] == [
        {"arm": "rw", "paper_percent": 0.003, "percent": pytest.approx(0.0032), "remark": "two scalars at each"}
    ]


def test_what_the_paper_prints_of_its_decoder_stands_beside_its_size_alone(tmp_path):
    """Versions before wrote Table 5's percentages into counts of every size of its decoder."""
    path = analysis(tmp_path)
    content = json.loads(path.read_text())["content"]
    content["arms"][3]["paper"] = {"added_percent": 0.0, "remark": TABLE_5}
    put(tmp_path, content | {"command": "again"}, "analyze")
    path.unlink()
    (body,) = document(tmp_path)["comparisons"]
    assert body["printed"] == []
    base = DECODER_PARAMETERS
    assert base == 32_613 * 768 + 24 * 5_506_560  # as decoder.py derives it from the two printed counts
    assert published("paper-c4", base, "lr@32").added_percent == pytest.approx(100 * 1.20 / 157.20, abs=1e-3)
    assert published("paper-c4", 49_440, "lr@32") is None


def test_a_search_of_learning_rates_is_no_study(tmp_path):
    study(tmp_path, ARMS[:4], seeds=2)
    sought = {"name": "s", "sha256": "9" * 64, "definition": {}}
    for name in ("baseline", "rw", "rw:lr=0.001"):
        body = trial(name, "baseline" if name == "baseline" else "laurel", 2_000_000, study="s")
        put(tmp_path, body | {"study": sought})
    found = document(tmp_path)
    assert len(found["comparisons"]) == 1
    assert "3 trials of a search of learning rates are not compared" in found["warnings"]


def test_what_a_definition_names_and_no_trial_has_is_missing(tmp_path):
    for seed in (0, 1):
        for name in ("baseline", "rw"):
            content = trial(name, "laurel" if name == "rw" else name, seed)
            content["study"] = content["study"] | {"definition": {"arms": ["baseline", "rw"], "seeds": [0, 1]}}
            put(tmp_path, content)
    assert not document(tmp_path)["comparisons"][0]["partial"]
    content["study"] = content["study"] | {"definition": {"arms": ["baseline", "rw"], "seeds": [0, 1, 2]}}
    put(tmp_path, content | {"seed": 2})
    assert document(tmp_path)["comparisons"][0]["partial"]


def test_two_arms_never_get_one_label():
    """Naive scaling by one block and, of an older record, by two, both called naive+2: only a number tells them."""
    kind = KINDS["naive"]
    arms = [Arm("naive+2", kind, blocks=1), Arm("naive+2", kind, blocks=2), Arm("rw", KINDS["laurel"])]
    assert list(labels(arms).values()) == ["naive+2 (naive, 1)", "naive+2 (naive, 2)", "rw"]


def test_a_study_of_which_every_trial_failed_says_why(tmp_path):
    put(tmp_path, failed("rw", reason="killed"), status="failed")
    (said,) = usable(gather([tmp_path]).records)[1]
    assert "its trial failed (killed)" in said


def test_a_time_of_one_process_has_no_interval_and_says_so(tmp_path):
    profile(tmp_path, {"rw": (1.2878, None, None), "naive+1": (1.03, 1.02, 1.04)})
    body = document(tmp_path)["comparisons"][0]
    assert "rw +28.78 % latency (no interval)" in " ".join(body["answer"])
    assert "naive+1 +3.0 % latency ([2.0, 4.0] at 95 %)" in " ".join(body["answer"])
    page = render(document(tmp_path), "markdown")
    assert "| `rw` | 103 | +28.78 % (no interval) | - |" in page
    assert "| `naive+1` | 82.4 | +3.0 % [2.0, 4.0] | 95 % |" in page


def test_times_of_several_devices_are_never_one_figure_in_a_sentence(tmp_path):
    """Which of two settings comes first is a matter of the alphabet: neither is told without its name."""
    profile(tmp_path, {"rw": (0.967, 0.885, 1.057)})
    profile(tmp_path, {"rw": (1.2878, 1.20, 1.31)}, device={"name": "cuda", "gpu": "NVIDIA H200"})
    body = document(tmp_path)["comparisons"][0]
    said = " ".join(body["answer"])
    assert "28.78" not in said
    assert "-3.3" not in said
    assert "In several settings, which the tables tell apart: latency." in said
    assert len([setting for setting in body["settings"] if setting["title"] == "latency added"]) == 2


def test_naive_scaling_as_the_positive_control_is_what_equal_quality_is_measured_by(tmp_path):
    arms = [one for one in ARMS if one[0] in ("baseline", "naive+1", "rw")]
    positive = {"positive": "naive+1", "recipe": [name for name, *_ in RATES if ":lr=" in name], "budget": None}
    controlled(tmp_path, arms, RATES, declared={"arms": [["rw"]], "controls": positive, "control_seeds": 3})
    (body,) = document(tmp_path)["comparisons"]
    assert body["study"]["positive_control"]["separated"] is True
    assert body["study"]["equal_quality"] == {"known": True, "why": "naive+1 is better"}
    assert arm_of(body, "rw")["share_of_naive"]["value"] > 0
    assert not any("naive+1 is ." in sentence for sentence in body["answer"])


def test_declared_controls_that_have_not_run_leave_a_study_unfinished(tmp_path):
    given = {"controls": {"positive": None, "recipe": [name for name, *_ in RATES if ":lr=" in name], "budget": None}}
    for number, run in enumerate((RATES, ())):
        controlled(tmp_path / str(number), ARMS, run, declared=given | {"control_seeds": 3})
        (body,) = document(tmp_path / str(number))["comparisons"]
        assert body["study"]["missing"] == (0 if run else 3 * len(given["controls"]["recipe"]))
        assert body["partial"] is not bool(run)


@pytest.mark.parametrize("mode", ["prefill", "decode"])
def test_times_with_a_models_cache_are_read_and_stand_on_an_axis_of_their_own(tmp_path, mode):
    profile(tmp_path, {"rw": (1.02, 1.01, 1.03)})
    profile(tmp_path, {"rw": (1.05, 1.04, 1.06)}, mode=mode)
    (body,) = document(tmp_path)["comparisons"]
    found = [setting["setting"] for setting in body["settings"] if setting["title"] == "latency added"]
    assert sorted(said.partition(",")[0] for said in found) == sorted(["infer", mode])
