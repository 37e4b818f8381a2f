"""A trial is refused where what would train is not the study's, by real processes; the record holds what was found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from laurel_cli.errors import RecordError, UsageError
from laurel_cli.study import folder as study
from laurel_cli.study.measured import check
from tests.proxy.small import MODELS, one_layer

LIMITS = {"train_limit": 64, "evaluation_limit": 16}


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Path:
    return one_layer(tmp_path / "study", steps=2, evaluations=1)


def rewritten(folder: Path, **code: str) -> None:
    """The study as another installation would have begun it."""
    plain = json.loads((folder / "study.json").read_text())
    plain["code"] |= code
    (folder / "study.json").write_text(json.dumps(plain))


def test_every_difference_is_named(folder: Path) -> None:
    rewritten(folder, torch="1.0", code="0" * 64)
    with pytest.raises(RecordError) as found:
        check(study.load(folder), world=2)
    for said in ("torch was 1.0, is ", "code was 000000000000, is ", "processes were 1, are 2"):
        assert said in found.value.why
    with pytest.raises(RecordError, match="code was"):
        check(study.load(folder), world=1, allowed=["torch"])
    with pytest.raises(UsageError, match="numpyy"):
        check(study.load(folder), world=1, allowed=["numpyy"])


@pytest.mark.slow
def test_another_version_is_refused_unless_allowed_and_then_recorded(laurel, folder: Path) -> None:
    rewritten(folder, torch="1.0")
    words = ["train-proxy", "--trial", "rw:0", "--study", folder]
    done = laurel(*words)
    assert done.returncode == 4
    assert "torch was 1.0, is " in done.stderr
    assert "--allow-versions torch" in done.stderr
    assert not study.trials(folder)
    done = laurel(*words, "--allow-versions", "torch")
    assert done.returncode == 0, done.stderr
    (trial,) = study.trials(folder)
    assert trial["versions_changed"] == {"torch": {"study": "1.0", "here": trial["versions"]["torch"]}}
    assert trial["versions"]["torch"] != "1.0"
    assert study.load(folder).code["torch"] == "1.0"


@pytest.mark.slow
def test_a_model_that_is_found_elsewhere_is_another_model(laurel, tmp_path: Path, cache: Path) -> None:
    """A module by its name, of which another copy stands first on the path when the trial runs."""
    helper = "WIDTH = 16\n"
    for place, text in (("ours", helper), ("theirs", "WIDTH = 32\n"), ("moved", helper)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "zoo_of_mine.py").write_text("from helper_of_mine import WIDTH\n" + MODELS)
        (tmp_path / place / "helper_of_mine.py").write_text(text)
    root = str(Path(__file__).parents[2])
    words = ["train-proxy", "zoo_of_mine:build", "--task", "scenes", "--arms", "rw", "--no-controls", "--seeds", "1"]
    words += ["--steps", "2", "--train-limit", "64", "--evaluation-limit", "16", "--batch", "4", "--device", "cpu"]
    words += ["--study", "study"]
    for name in ("ours", "theirs", "moved"):
        env = {"PYTHONPATH": f"{tmp_path / name}:{root}"}
        if name == "ours":
            assert laurel(*words, "--prepare", env=env).returncode == 0
            continue
        done = laurel("train-proxy", "--trial", "baseline:0", "--study", "study", env=env)
        if name == "theirs":
            assert done.returncode == 4, done.stderr
            assert "helper_of_mine.py was absent, is" in done.stderr
            assert "zoo_of_mine.py was" not in done.stderr
        else:
            assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_study_for_another_machines_device_is_prepared_here_and_not_run(laurel, tmp_path: Path, cache: Path) -> None:
    """No machine of these tests has a TPU; the index is no part of what is written down."""
    words = ["train-proxy", "--task", "stdlib", "--arms", "rw", "--no-controls", "--seeds", "1", "--layers", "1"]
    words += ["--width", "16", "--train-limit", "2048", "--evaluation-limit", "64", "--study", "study"]
    done = laurel(*words, "--prepare", "--device", "tpu:1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "baseline:0\nrw:0\n"
    begun = study.load(tmp_path / "study")
    assert (begun.recipe.device, begun.recipe.threads) == ("tpu", None)
    assert laurel(*words, "--prepare", "--resume", "--device", "tpu:0").returncode == 0
    assert study.load(tmp_path / "study") == begun
    trial = ["train-proxy", "--trial", "rw:0", "--study", "study"]
    done = laurel(*trial)
    assert done.returncode == 5
    done = laurel(*trial, "--device", "cpu")
    assert done.returncode == 4
    assert "device was tpu, is cpu" in done.stderr


def test_an_older_study_that_names_a_number_is_the_same_on_another_one(folder: Path) -> None:
    """`cuda:1`, as it was once written down; nothing is run."""
    begun = study.load(folder)
    old = replace(begun, recipe=replace(begun.recipe, device="cuda:1"))
    asked = replace(begun, recipe=replace(begun.recipe, device="cuda"))
    place = folder.parent / "older"
    study.begin(place, old, resume=False)
    assert not study.differences(old, asked)
    assert study.begin(place, asked, resume=True).sha256 == old.sha256
    assert study.differences(old, begun) == ["recipe.device was cuda, is cpu"]
