"""Trials that start from trained weights: every seed and arm from the same ones, or a sentence that says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from laurel_cli.errors import RecordError, UsageError
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.proxy.start import start
from laurel_cli.proxy.weights import checksum
from laurel_cli.settings.train import TrainSettings
from laurel_cli.study.compare import prepare
from laurel_cli.study.worker import run_trial
from laurel_cli.tasks import open_task
from tests.proxy.small import cnn_recipe, decoder_recipe, image_task, planned, small_study, text_task, weights


def trained(tmp_path: Path, recipe: Recipe, task) -> tuple[Recipe, dict[str, torch.Tensor]]:
    """The recipe that starts from weights in a file, and these weights."""
    (baseline,) = parse_contenders("")
    drawn = weights(start(baseline, recipe, task, 77).model)
    given = {name: value + 0.1 if value.is_floating_point() else value for name, value in drawn.items()}
    save_file(given, tmp_path / "trained.safetensors")
    place = str(tmp_path / "trained.safetensors")
    model = replace(recipe.model, weights=place, weights_sha256=checksum(Path(place)))
    return replace(recipe, model=model), given


@pytest.mark.parametrize(("recipe", "task"), [(cnn_recipe(), image_task()), (decoder_recipe(), text_task())])
def test_every_arm_and_seed_starts_from_them(tmp_path: Path, recipe: Recipe, task) -> None:
    recipe, given = trained(tmp_path, recipe, task)
    examples = torch.randn(2, 3, 8, 8) if task.kind == "image" else torch.randint(0, 11, (2, 16))
    outputs = []
    for one in parse_contenders("copy,rw,rw+lr@2,rw:train=added"):
        for seed in (0, 1):
            begun = start(one, recipe, task, seed)
            own = weights(begun.model)
            assert all(torch.equal(own[name], value) for name, value in given.items()), one.name
            outputs.append(begun.call(begun.model.eval(), examples))
    assert all(torch.equal(output, outputs[0]) for output in outputs)
    # A block that is added is drawn from the seed.
    naive = parse_contenders("naive+1")[-1]
    drawn = [dict(start(naive, recipe, task, seed).model.named_parameters()) for seed in (0, 1)]
    new = [name for name, value in drawn[0].items() if name not in given and value.dim() > 1]
    assert new
    assert not any(torch.equal(drawn[0][name], drawn[1][name]) for name in new)


@pytest.fixture
def settings(tmp_path: Path, cache: Path) -> TrainSettings:
    (baseline,) = parse_contenders("")
    asked = small_study(tmp_path / "study", arms="rw:train=added", steps=6, seeds=2)
    recipe = planned(asked).recipe
    given = weights(start(baseline, recipe, open_task(**vars(recipe.task)), 77).model)
    save_file(given, tmp_path / "trained.safetensors")
    return replace(asked, weights=tmp_path / "trained.safetensors")


def test_what_an_arm_adds_is_trained_alone(settings: TrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    from laurel_cli.study import worker

    kept = {}
    real = worker.coefficients
    monkeypatch.setattr(worker, "coefficients", lambda model, group: kept.update(weights(model)) or real(model))
    folder = prepare(planned(settings)).folder
    content = run_trial(folder, "rw:train=added", 0, command="")
    before = load_file(settings.weights)
    assert all(torch.equal(kept[name], value) for name, value in before.items())
    assert any(entry["a"] != 1 for entry in content["coefficients"])
    assert content["arm"]["train"] == "added"
    assert content["arm_model"]["recipe"]["weights_sha256"] == checksum(Path(settings.weights))
    run_trial(folder, "baseline", 0, command="")
    assert not all(torch.equal(kept[name], value) for name, value in before.items())


def test_the_positive_control_is_a_longer_run(settings: TrainSettings) -> None:
    """A wider baseline could not start from these weights."""
    begun = prepare(planned(settings)).study
    assert begun.declared.controls.positive == "baseline:steps=1.25"
    assert begun.declared.controls.positive_flops_ratio == pytest.approx(1.25, abs=0.1)  # 6 steps, so 8


def test_weights_that_changed_are_refused(settings: TrainSettings) -> None:
    folder = prepare(planned(settings)).folder
    other = {name: value + 1 for name, value in load_file(settings.weights).items()}
    save_file(other, settings.weights)
    with pytest.raises(RecordError, match="have changed since the study began"):
        run_trial(folder, "baseline", 0, command="")
    with pytest.raises(RecordError, match="other"):  # nor does the command go on with that study
        prepare(planned(replace(settings, resume=True)))
    Path(settings.weights).unlink()
    with pytest.raises(RecordError, match="cannot be read"):
        run_trial(folder, "baseline", 0, command="")


def test_weights_of_another_model_are_refused(settings: TrainSettings) -> None:
    save_file({"strange": torch.zeros(2)}, settings.weights)
    with pytest.raises(RecordError, match="holds another model"):
        prepare(planned(settings))


@pytest.mark.parametrize("arms", ["baseline:width=1.5", "baseline:init=zero", "rw:init=one"])
def test_arms_that_cannot_start_from_them(settings: TrainSettings, arms: str) -> None:
    with pytest.raises(UsageError, match="cannot start from"):
        prepare(planned(replace(settings, arms=arms)))


@pytest.mark.parametrize("arms", ["baseline:train=added", "copy:train=added", "naive+1:train=added"])
def test_arms_that_add_nothing_to_train(settings: TrainSettings, arms: str) -> None:
    with pytest.raises(UsageError, match="adds nothing that could be trained alone"):
        prepare(planned(replace(settings, arms=arms)))


def test_a_study_without_them_is_written_as_before(settings: TrainSettings) -> None:
    recipe = planned(replace(settings, weights=None)).recipe
    assert not {"weights", "weights_sha256"} & set(recipe.plain()["model"])
    assert Recipe.of(recipe.plain()) == recipe
    given = planned(settings).recipe
    assert Recipe.of(given.plain()) == given
