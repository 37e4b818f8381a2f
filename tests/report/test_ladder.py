"""The report of a ladder: made on disk with a known truth, read back as the command reads it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from laurel_cli.records.store import write
from laurel_cli.render import FORMATS, render
from laurel_cli.reports import figures
from laurel_cli.reports import rungs as costs_of_rungs
from laurel_cli.reports.ladder import report
from laurel_cli.study.ladder import LadderLook
from laurel_cli.verdict import ladder as judgement
from tests.bench.ladder_statistics import PLANTED
from tests.bench.simulated_ladders import CONTROLS, World, constant, rungs, usual_controls
from tests.report.ladders import declared, model, put
from tests.report.made import profile, spec_of
from tests.schemas.test_documents import holds, plain

ARMS = {"rw": PLANTED["holds"], "rw+lr@4": PLANTED["shrinks"], "x0": PLANTED["flips"], "lr@4": constant(1.0)}
WORLD = World(ARMS, ratios={"rw+lr@4": 1.05}, controls=usual_controls())


def made(world=WORLD, seed=4):
    return rungs(world, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladder") / "books"
    put(folder, WORLD, made())
    return folder


@pytest.fixture(scope="module")
def document(place):
    return report(place, command="laurel report --study books")


def by_name(document):
    return {arm["name"]: arm for arm in document["arms"]}


def test_the_planted_trends_are_told(document):
    words = {name: arm["verdict"] for name, arm in by_name(document).items()}
    assert words == {"rw": "holds", "rw+lr@4": "shrinks", "x0": "flips", "lr@4": "unknown"}
    assert document["status"] == "complete"
    assert document["answer"][0] == (
        "From size 64 to size 192, 81 times the compute: what rw saves holds; what rw+lr@4 saves shrinks; "
        "what x0 saves flips; of lr@4 it is not known."
    )


def test_its_figures_are_those_of_the_judgement(document):
    """The records' losses, judged without the detour over the disk."""
    found = judgement.judge(made(), [list(ARMS)], CONTROLS)
    for name, arm in by_name(document).items():
        one = found.of(name)
        assert arm["level"] == one.level == 1 - 0.05 * 0.72 / 4
        for key in ("first", "last", "slope", "ahead"):
            assert arm[key]["value"] == pytest.approx(math.exp(getattr(one, key).value))
            assert arm[key]["high"] == pytest.approx(math.exp(getattr(one, key).high))
        assert [size["gain"]["value"] for size in arm["sizes"]] == pytest.approx([gain.value for gain in one.gains])
    assert [size["rate"] for size in by_name(document)["rw"]["sizes"]] == [3.0] * 4
    assert [size["flops_ratio"] for size in by_name(document)["rw+lr@4"]["sizes"]] == [1.05] * 4


def test_the_document_is_what_its_schema_says(document, place):
    holds(plain(document))
    holds(json.loads((place / "ladder.json").read_text()))


def test_the_same_records_give_the_same_document(document, place):
    assert report(place, command="laurel report --study books") == document


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_says_what_holds(document, format):  # noqa: A002
    text = render(plain(document), format)
    assert "rw+lr@4" in text.replace("\\", "")
    assert "shrinks" in text


def test_the_figure_has_a_line_and_a_name_for_every_arm(document):
    from matplotlib.text import Text

    assert figures.names(document) == ["ladder"]
    figure = figures.draw(document, "ladder")
    shown = [text.get_text() for text in figure.findobj(Text)]
    assert all(shown.count(name) == 1 for name in ARMS)
    assert {name: len(content) > 1000 for name, content in figures.pictures(document, ("png", "svg"))} == {
        "ladder.png": True,
        "ladder.svg": True,
    }


def test_a_line_is_followed_ten_times_beyond_the_largest_size_and_no_further(document):
    largest = document["sizes"][-1]["flops"]
    for band in document["bands"]:
        assert band["points"][-1]["flops"] == pytest.approx(10 * largest)
        assert band["points"][0]["flops"] == pytest.approx(document["sizes"][0]["flops"])


def carried(tmp_path, spoil=lambda rungs: rungs, world=WORLD, **of_the_ladder):
    """A ladder whose rates muP carried."""
    ladder = replace(declared(world), mup=True, **of_the_ladder)
    put(tmp_path / "books", world, spoil(made(world)), ladder)
    return report(tmp_path / "books")


def better_at(name, gain):
    """At one size the baseline at twice the rate is better, by about `gain` nats."""

    def spoil(rungs):
        for rung in rungs:
            if rung.name == name:
                base = rung.losses["baseline"]
                rung.losses["baseline:lr=2"] = {s: base[s] - gain * (1 + 0.1 * (s % 3)) for s in base}
        return rungs

    return spoil


def test_controls_that_do_not_contradict_a_carried_rate_stand_in_a_table(tmp_path):
    found = carried(tmp_path)
    assert not [line for line in found["warnings"] if "muP" in line]
    note = next(line for line in found["notes"] if "carried by muP" in line)
    assert "not run" not in note
    assert found["rate_level"] == 1 - 0.05 / 8  # four sizes, two controls
    for size in found["sizes"]:
        by_control = {one["name"]: one["gain"] for one in size["rate_gains"]}
        base, twice = (by_seed(tmp_path, size["name"], arm) for arm in ("baseline", "baseline:lr=2"))
        assert by_control["baseline:lr=2"]["value"] == pytest.approx(
            np.mean([base[seed] - twice[seed] for seed in twice])
        )
    holds(plain(found))


def by_seed(tmp_path, size, arm):
    contents = [
        json.loads(path.read_text())["content"] for path in (tmp_path / "books" / size / "records").glob("trial-*.json")
    ]
    return {one["seed"]: one["final"]["loss"] for one in contents if one["arm"]["name"] == arm}


def test_a_control_that_contradicts_the_carried_rate_is_said(tmp_path):
    found = carried(tmp_path, better_at("128", 0.05))
    said = [line for line in found["warnings"] if "muP" in line]
    assert len(said) == 1
    assert said[0].startswith("size 128: the baseline at twice the rate that muP carried is better, by 0.05")
    for format in FORMATS:  # noqa: A001
        assert render(found, format)


def test_at_the_smallest_size_it_is_the_search_that_is_contradicted(tmp_path):
    said = [line for line in carried(tmp_path, better_at("64", 0.05))["warnings"] if "its search found" in line]
    assert len(said) == 1
    assert said[0].startswith("size 64")


def test_at_the_smallest_size_it_is_what_was_given_that_is_contradicted(tmp_path):
    found = carried(tmp_path, better_at("64", 0.05), rates=0)
    said = [line for line in found["warnings"] if "the rate that was given is better" in line]
    assert len(said) == 1
    assert "lr_search" not in said[0]
    assert any("none was searched" in note for note in found["notes"])
    assert "the recipe's at the smallest size, carried by muP" in render(found, "markdown").replace("\\", "")


def test_without_controls_nobody_says_whether_a_carried_rate_fits(tmp_path):
    found = carried(tmp_path, world=replace(WORLD, controls={}))
    assert any("No control says whether a carried rate fits" in line for line in found["notes"])


def test_a_ladder_that_lacks_a_size_says_nothing_of_larger_ones(tmp_path):
    ladder = put(tmp_path, WORLD, made()[:3], declared(WORLD))
    found = report(tmp_path)
    assert found["status"] == "partial"
    assert found["withheld"] == "3 of the 4 sizes of the first look are complete"
    assert {arm["verdict"] for arm in found["arms"]} == {"withheld"}
    (panel,) = figures.draw(plain(found), "ladder").axes  # none for what arms save
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("FLOPs of training the baseline", "loss, nats")
    assert [size["blocks"] for size in found["sizes"]] == [5, 5, 5, 0]
    assert len(ladder.sizes) == 4
    holds(plain(found))
    render(plain(found), "table")


def test_one_that_has_only_been_declared_has_a_page_too(tmp_path):
    put(tmp_path, WORLD, [])
    found = report(tmp_path)
    assert found["withheld"].startswith("0 of the 4 sizes")
    holds(plain(found))
    render(plain(found), "table")


def test_a_later_look_is_taken_once_it_is_whole(tmp_path):
    """Three sizes at first, then a fourth: until all of it is there, the three are what is judged, at their level."""
    looks = (LadderLook(3, 5), LadderLook(4, 5))
    put(tmp_path, WORLD, made()[:3], declared(WORLD, looks=looks))
    before = report(tmp_path)
    assert (before["look"], [size["blocks"] for size in before["sizes"]]) == (0, [5, 5, 5, 0])
    assert not before["withheld"]
    put(tmp_path, WORLD, made(), declared(WORLD, looks=looks))
    after = report(tmp_path)
    assert (after["look"], [size["blocks"] for size in after["sizes"]]) == (1, [5, 5, 5, 5])
    assert after["arms"][0]["level"] == 1 - judgement.alpha_of(1, 0) / 4


def test_an_arm_that_lost_a_trial_is_not_judged(tmp_path):
    found = made()
    lost = [
        replace(rung, losses={**rung.losses, "rw": dict(list(rung.losses["rw"].items())[1:])}) for rung in found[:1]
    ]
    put(tmp_path, WORLD, [*lost, *found[1:]], declared(replace(WORLD, arms=ARMS), looks=(LadderLook(4, 5),)))
    said = by_name(report(tmp_path))
    assert said["rw"]["verdict"] == "withheld"
    assert {said["lr@4"]["verdict"], said["x0"]["verdict"]} <= {"withheld"}  # the first look lacks a trial


TRAINED = {"input": "input_ids: int64 [16, 64]"}  # 16 sequences a step, as `tests.report.ladders` has it


def timed(folder, size, ratios, more=None, **given):
    """A profile of the training steps of a size, with the input that it is trained with."""
    path = profile(folder, ratios, mode="train", **given)
    content = json.loads(path.read_text())["content"]
    path.unlink()
    write(folder / "records", "profile", "complete", content | {"model": model(size) | TRAINED | (more or {})})


def test_times_are_those_of_profiles_of_training_steps(tmp_path):
    ladder = put(tmp_path / "ladder", WORLD, made())
    timed(tmp_path, ladder.sizes[-1], {"rw": (1.1, 1.09, 1.11)})
    found = report(tmp_path / "ladder", [tmp_path / "records"])
    arms = by_name(found)
    times = [one["time_saved"] for one in arms["rw"]["sizes"]]
    assert times[:3] == [None] * 3
    saved = arms["rw"]["sizes"][-1]["saved"]["value"]
    assert times[-1]["value"] == pytest.approx(saved / 1.1)
    assert arms["x0"]["sizes"][-1]["time_saved"] is None
    (said,) = [note for note in found["notes"] if note.startswith("In time")]
    assert "(train, float32, eager, cpu (2 threads), torch 2.15.0)" in said
    assert "size 64, size 96 and size 128 (no laurel profile --mode train of its model was found)" in said
    assert "x0 at size 192" in said


@pytest.mark.parametrize(
    ("more", "given", "why"),
    [
        ({"input": "input_ids: int64 [2, 64]"}, {}, "it was timed with input_ids: int64 [2, 64], and trained with "),
        ({"input": "input_ids: int64 [16, 32]"}, {}, "it was timed with input_ids: int64 [16, 32], and trained with "),
        ({}, {"spec_options": {"per": "block"}}, "rw at size 192"),
        ({}, {"spec_options": {"vector_weights": True}}, "rw at size 192"),
        ({"architecture": "f" * 64}, {}, "no laurel profile --mode train of its model was found"),
    ],
)
def test_what_was_timed_otherwise_than_it_was_trained_is_not_measured(tmp_path, more, given, why):
    ladder = put(tmp_path / "ladder", WORLD, made())
    timed(tmp_path, ladder.sizes[-1], {"rw": (1.1, 1.09, 1.11)}, more, **given)
    found = report(tmp_path / "ladder", [tmp_path / "records"])
    assert all(size["time_saved"] is None for arm in found["arms"] for size in arm["sizes"])
    assert any(note.startswith("In time") and why in note for note in found["notes"])


@pytest.mark.parametrize("other", [{"versions": {"torch": "2.9.0"}}, {"channels_last": True}])
def test_times_of_two_settings_are_not_one_line(tmp_path, other):
    ladder = put(tmp_path / "ladder", WORLD, made())
    timed(tmp_path, ladder.sizes[0], {"rw": (1.1, 1.09, 1.11)})
    timed(tmp_path, ladder.sizes[1], {"rw": (1.2, 1.19, 1.21)}, **other)
    found = report(tmp_path / "ladder", [tmp_path / "records"])
    assert [size["time_saved"] is not None for size in by_name(found)["rw"]["sizes"]].count(True) == 1
    assert any("(it was timed in another setting)" in note for note in found["notes"])


def test_what_training_costs_is_known_of_what_was_counted_alone():
    """Neither LoRA, nor a part of the weights, nor another width was counted: the arm without it cannot stand for it,
    nor can one of the same name whose formula, or whose input, is another."""

    def analysis(ratio, text="[2, 64]", **options):
        arms = [{"name": "baseline", "flops": 100}, {"name": "rw", "flops": 100 * ratio}]
        content = {"arms": arms, "model": {"architecture": "a", "input": text}, "spec_options": options}
        return SimpleNamespace(content=content, recorded="", sha256="")

    own = {"kind": "laurel", "spec": spec_of("rw")}
    beside = {"kind": "against", "spec": None}
    arms = dict.fromkeys(("rw", "rw:lr=2", "rw:train=added", "rw:train=lora@4", "rw:init=zero"), own)
    arms |= {"rw:steps=0.5": own | {"steps_factor": 0.5}, "rw:grow=stack": own | {"steps_factor": 1}}
    arms |= {"baseline": {"kind": "baseline"}, "baseline:lr=2": beside, "baseline:width=1.125": beside}
    arms |= {"baseline:steps=0.5": beside | {"steps_factor": 0.5}, "baseline:train=lora@4": beside}
    arms |= {"rw2": own | {"spec": spec_of("rw") | {"per": "block"}}}
    trained = {"architecture": "a", "input": "[4, 64]"}
    trials = [{"arm": arm | {"name": name}, "model": trained} for name, arm in arms.items()]
    counted = [analysis(1.1), analysis(1.2, "[2, 32]"), analysis(1.3, per="block")]
    found = {"baseline": 1, "baseline:lr=2": 1, "baseline:steps=0.5": 0.5, "rw2": 1.3, "rw:steps=0.5": 0.55}
    found |= dict.fromkeys(("rw", "rw:lr=2", "rw:init=zero", "rw:grow=stack"), 1.1)
    for order in (counted, counted[::-1]):
        assert costs_of_rungs._ratios(order, trials) == pytest.approx(found)
