"""Every arm goes through every command; one that is not known goes through none."""

import json

import pytest

from laurel_cli.arms import KINDS
from laurel_cli.rivals import RIVALS

NAMES = ["baseline", "copy", "naive+1", "rw", "lr@2", "pa", "rw+lr@2", "rw+lr+pa@2", *RIVALS]
MODEL = ("paper-c4", "--model-arg", "layers=2", "--model-arg", "width=16", "--model-arg", "heads=2")
QUICK = ("--seq-len", "16", "--max-time", "1", "--processes", "1", "--threads", "1", "--device", "cpu")


def answer(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def by_name(document):
    return {arm["name"]: arm for arm in document["arms"]}


def test_the_list_names_every_kind(laurel):
    listed = answer(laurel("arms", "--format", "json"))["arms"]
    assert {arm["kind"] for arm in listed} == set(KINDS)
    assert {arm["name"] for arm in listed} >= {"baseline", "copy", "naive+N", "rw", "rw+lr@R", *RIVALS}
    assert all(arm["equation"] and arm["parameters"] and arm["starts"] for arm in listed)


@pytest.mark.slow
def test_counted(laurel):
    found = by_name(answer(laurel("analyze", *MODEL, "--seq-len", "16", "--arms", ",".join(NAMES), "--format", "json")))
    assert list(found) == NAMES
    parameters = {name: arm["added_parameters"] for name, arm in found.items()}
    assert (parameters["baseline"], parameters["copy"], parameters["depthscale"]) == (0, 0, 0)
    assert (parameters["rezero"], parameters["layerscale"], parameters["affine"]) == (4, 4 * 16, 16 * 16)
    for name, arm in found.items():  # what is not the baseline is not counted as if it were
        assert (arm["added_elementwise_flops"] > 0) == (name not in ("baseline", "copy")), name


@pytest.mark.slow
def test_timed(laurel):
    names = [name for name in NAMES if name not in ("baseline", "copy")]
    found = by_name(answer(laurel("profile", *MODEL, *QUICK, "--arms", ",".join(names), "--format", "json")))
    assert set(found) == set(NAMES)
    assert all(arm["milliseconds"]["median"] > 0 for arm in found.values())


@pytest.mark.slow
def test_trained_reported_and_recommended(laurel, tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question\n" * 400)
    options = ("--task", "text:text.txt", "--layers", "2", "--width", "16", "--seq-len", "16", "--batch", "4")
    study = (*options, "--steps", "6", "--seeds", "2", "--no-controls", "--evaluations", "1", "--device", "cpu")
    trained = by_name(answer(laurel("train-proxy", *study, "--arms", ",".join(NAMES), "--format", "json")))
    assert set(trained) == set(NAMES)
    losses = {name: arm["trials"][0]["loss"] for name, arm in trained.items()}
    alike = [name for name, loss in losses.items() if loss == losses["baseline"] and name != "baseline"]
    assert not alike  # each was another model, or another start
    reported = answer(laurel("report", "--format", "json"))["comparisons"][0]
    assert {arm["name"] for arm in reported["arms"]} == set(NAMES)
    assert {arm["family"] for arm in reported["arms"]} >= set(RIVALS)
    assert all(arm["costs"] for arm in reported["arms"])
    found = answer(laurel("recommend", "paper-c4", "--format", "json"))
    assert {item["arm"] for item in found["candidates"]} == {*RIVALS, "rw", "lr@2", "pa", "rw+lr@2", "rw+lr+pa@2"}


@pytest.mark.parametrize("command", ["analyze", "profile", "train-proxy"])
def test_an_unknown_arm_is_a_usage_error(laurel, command):
    done = laurel(command, "paper-c4", "--arms", "rw,rezro")
    assert done.returncode == 2
    assert "rezro" in done.stderr
    assert "rezero" in done.stderr  # the nearest
    assert not done.stdout
