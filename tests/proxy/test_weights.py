"""Trials that start from trained weights: every seed and arm from the same ones, or a sentence that says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from laurel_cli.devices.cpu import Cpu
from laurel_cli.errors import RecordError, UsageError
from laurel_cli.proxy import batches
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.parallel import Group
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.proxy.start import start
from laurel_cli.proxy.trial import Stopped, train
from laurel_cli.proxy.weights import checksum
from laurel_cli.settings.train import TrainSettings
from laurel_cli.study import written
from laurel_cli.study.compare import prepare
from laurel_cli.study.worker import run_trial
from laurel_cli.tasks import open_task
from laurel_cli.verdict import remarks
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


def test_a_size_of_a_ladder_by_mup_is_not_written_down_as_another_study(settings: TrainSettings) -> None:
    """Without its ladder nothing says from which width its rates and starts are carried."""
    begun = prepare(planned(replace(settings, weights=None, arms="rw"))).study
    assert written.of_study(begun)["width"] == 16
    carried = replace(begun.recipe, model=replace(begun.recipe.model, width=32, mup_base=16))
    with pytest.raises(UsageError, match="cannot be written as settings"):
        written.of_study(replace(begun, recipe=carried))


@pytest.mark.parametrize("how", ["folder", "file in it"])
def test_weights_that_fit_a_model_of_other_heads_are_refused(tmp_path: Path, cache: Path, how: str) -> None:
    """GPT-2's weights have the same shapes whatever its heads are; the folder says how many its model has."""
    transformers = pytest.importorskip("transformers")
    shape = {"n_layer": 1, "n_embd": 24, "n_positions": 32, "vocab_size": 256}
    transformers.GPT2LMHeadModel(transformers.GPT2Config(n_head=3, **shape)).save_pretrained(tmp_path / "t")
    place = tmp_path / "t" if how == "folder" else tmp_path / "t" / "model.safetensors"
    asked = replace(small_study(tmp_path / "s", arms="rw", steps=4, seeds=1, controls=False), layers=None, width=None)
    asked = replace(asked, model="gpt2", weights=place, model_args={**shape, "n_head": 4})
    with pytest.raises(RecordError, match=r"computes otherwise.*n_head=3, this one 4"):
        prepare(planned(asked))
    prepare(planned(replace(asked, model_args={**shape, "n_head": 3})))
    taught = replace(asked, weights=None, teacher="gpt2", teacher_weights=place, teacher_args={**shape, "n_head": 4})
    with pytest.raises(RecordError, match="computes otherwise"):
        prepare(planned(replace(taught, study=tmp_path / "taught")))


def test_weights_of_a_model_with_another_stem_are_refused(tmp_path: Path, cache: Path) -> None:
    asked = TrainSettings(
        model="timm:resnet18", width=8, layers=(1, 1, 1, 1), task="scenes", arms="rw", controls=False, device="cpu",
        study=tmp_path / "s", seeds=1, steps=2, batch=8, stem=2, keep_weights=True,
    )  # fmt: skip
    begun = prepare(planned(asked))
    content = run_trial(begun.folder, "baseline", 0, command="", keep=True)
    place = begun.folder / content["weights"]["folder"]
    with pytest.raises(RecordError, match=r"computes otherwise.*stem=2, this one 1"):
        prepare(planned(replace(asked, weights=place, stem=1, study=tmp_path / "other")))
    prepare(planned(replace(asked, weights=place, study=tmp_path / "same")))


@pytest.mark.parametrize("spelled", ["paper-c4", "shape:paper-c4"])
def test_heads_that_nobody_names_again_are_held_against_those_of_the_weights(
    tmp_path: Path, cache: Path, spelled: str
) -> None:
    heads = {"model_args": {"heads": 8}}
    asked = small_study(tmp_path / "s", arms="rw", steps=1, seeds=1, controls=False, keep_weights=True, **heads)
    begun = prepare(planned(asked))
    content = run_trial(begun.folder, "baseline", 0, command="", keep=True)
    place = begun.folder / content["weights"]["folder"] / "model.safetensors"
    again = replace(asked, model=spelled, weights=place, keep_weights=False)
    with pytest.raises(RecordError, match=r"computes otherwise.*heads=8, this one 2"):
        prepare(planned(replace(again, model_args=None, study=tmp_path / "other")))
    prepare(planned(replace(again, study=tmp_path / "same")))


def test_lists_of_json_are_the_tuples_that_they_were(tmp_path: Path, cache: Path) -> None:
    asked = TrainSettings(
        model="timm:resnet18", width=8, layers=(1, 1, 1, 1), task="scenes", arms="rw", controls=False, device="cpu",
        study=tmp_path / "s", seeds=1, steps=2, batch=8, keep_weights=True, train_limit=32, evaluation_limit=16,
        model_args={"layers": [1, 1, 1, 1]},
    )  # fmt: skip
    begun = prepare(planned(asked))
    content = run_trial(begun.folder, "baseline", 0, command="", keep=True)
    place = begun.folder / content["weights"]["folder"]
    prepare(planned(replace(asked, weights=place, model_args=None, study=tmp_path / "same")))


@pytest.mark.parametrize("arm", ["rw:train=added", "baseline:train=lora@2", "rw+lr@2:train=lora@2"])
def test_norms_that_are_not_trained_keep_their_statistics(tmp_path: Path, arm: str) -> None:
    """Running means of batch norms are no parameters: training mode alone moves them. Nor do evaluations, or stops."""
    if "lora" in arm:
        pytest.importorskip("peft")
    task = image_task()
    recipe, given = trained(tmp_path, cnn_recipe(steps=6, evaluations=3, lr=0.05), task)
    begun = start(parse_contenders(arm)[-1], recipe, task, 0)
    stops = iter([False, False, True])
    with pytest.raises(Stopped):
        train(begun, recipe, task, 0, group=Group(Cpu()), path=tmp_path / "t.pt", stop=lambda: next(stops))
    begun = start(parse_contenders(arm)[-1], recipe, task, 0)
    state = train(begun, recipe, task, 0, group=Group(Cpu()), path=tmp_path / "t.pt")
    assert state.step == 6
    own = dict(begun.model.named_buffers())
    assert sum(name.endswith("running_mean") for name in own) > 5
    assert all(torch.equal(own[name], given[name]) for name in own.keys() & given.keys())
    assert not all(norm.training for norm in begun.model.modules() if isinstance(norm, torch.nn.BatchNorm2d))
    whole = start(parse_contenders("rw")[-1], recipe, task, 0)
    train(whole, recipe, task, 0, group=Group(Cpu()))
    moved = dict(whole.model.named_buffers())
    assert not any(torch.equal(moved[name], given[name]) for name in moved if name.endswith("running_mean"))


def test_a_model_that_goes_on_generates_as_the_given_one_is_asked_to(tmp_path: Path, cache: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shape = {"n_layer": 1, "n_embd": 24, "n_head": 3, "n_positions": 32, "vocab_size": 256}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape))
    model.generation_config.max_new_tokens = 7
    model.save_pretrained(tmp_path / "t")
    asked = replace(small_study(tmp_path / "s", arms="rw", steps=1, seeds=1, controls=False), layers=None, width=None)
    folder = prepare(planned(replace(asked, model="gpt2", weights=tmp_path / "t", model_args=shape))).folder
    for arm in ("baseline", "rw"):
        place = folder / run_trial(folder, arm, 0, command="", keep=True)["weights"]["folder"]
        opened = transformers.AutoModelForCausalLM.from_pretrained(place)
        assert (opened.config.use_cache, opened.generation_config.max_new_tokens) == (True, 7)


def test_what_given_weights_lose_before_the_first_step_is_said(settings: TrainSettings) -> None:
    plan = planned(settings)
    folder = prepare(plan).folder
    content = run_trial(folder, "baseline", 0, command="")
    task = open_task(**vars(plan.recipe.task))
    begun = start(parse_contenders("")[0], plan.recipe, task, 0)
    losses = []
    with torch.no_grad():
        for inputs, targets in batches.evaluation(task, 50):
            logits = begun.call(begun.model.eval(), inputs)
            losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none"))
    assert content["given"]["start"] == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)
    said = remarks._before({"given": content["given"], "chance_loss": content["chance_loss"]}, "start")
    assert "less than a guess" in said  # nobody trained these
    assert "guess" not in remarks._before({"given": {"start": 1.0}, "chance_loss": 5.5}, "start")
    assert remarks._before({"chance_loss": 5.5}, "start") == ""
