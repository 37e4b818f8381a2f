"""Distillation: its loss against the formula written out, a teacher seen in what is learned, one that changed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from laurel_cli.errors import ModelError, RecordError, UsageError
from laurel_cli.proxy import distil
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.parallel import joined, own_device
from laurel_cli.proxy.recipe import Distillation, ModelChoice, Recipe
from laurel_cli.proxy.start import start
from laurel_cli.proxy.trial import train
from laurel_cli.proxy.weights import checksum
from laurel_cli.settings.train import TrainSettings
from laurel_cli.study.compare import prepare
from laurel_cli.study.worker import run_trial
from laurel_cli.tasks import open_task
from tests.proxy.small import decoder_recipe, planned, small_study, text_task, weights

NOBODY = ModelChoice("paper-c4")


@pytest.mark.parametrize(("temperature", "share"), [(2.0, 0.5), (1.0, 0.25), (5.0, 1.0)])
def test_the_loss_is_hinton_s(temperature: float, share: float) -> None:
    """Position by position, with probabilities; T^2 times the divergence."""
    torch.manual_seed(0)
    logits, taught, targets = torch.randn(2, 3, 5).double(), torch.randn(2, 3, 5).double(), torch.randint(5, (2, 3))

    def softmax(values: Tensor) -> Tensor:
        powers = torch.exp(values / temperature)
        return powers / powers.sum()

    total = 0.0
    for b in range(2):
        for n in range(3):
            z, t = logits[b, n], taught[b, n]
            right = -math.log(torch.exp(z)[targets[b, n]] / torch.exp(z).sum())
            p, q = softmax(t), softmax(z)
            divergence = float(sum(p[k] * math.log(p[k] / q[k]) for k in range(5)))
            total += (1 - share) * right + share * temperature**2 * divergence
    found = distil.loss(logits, taught, targets, Distillation(NOBODY, temperature, share))
    assert float(found) == pytest.approx(total / 6, rel=1e-5)


def test_its_gradient_at_high_temperatures_is_as_large_as_the_paper_says() -> None:
    """Eq. 4: for logits of mean zero T^2 times the gradient of the soft term nears (z - t) / N."""
    torch.manual_seed(0)
    z, t = (v - v.mean() for v in (torch.randn(1, 7), torch.randn(1, 7)))
    z.requires_grad_()
    distil.loss(z, t, torch.zeros(1, dtype=torch.long), Distillation(NOBODY, 1000.0, 1.0)).backward()
    torch.testing.assert_close(z.grad, (z.detach() - t) / 7, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize(
    ("field", "value"), [("temperature", 0), ("temperature", math.nan), ("share", 0), ("share", 1.5)]
)
def test_numbers_that_mean_nothing(field: str, value: float) -> None:
    with pytest.raises(UsageError, match="out of range"):
        Distillation(NOBODY, **{field: value})


def taught(folder: Path, recipe: Recipe, given: dict[str, Tensor], **numbers: float) -> Recipe:
    """The recipe with a teacher of these weights, which is one of the same model."""
    save_file(given, folder / "teacher.safetensors")
    place = str(folder / "teacher.safetensors")
    teacher = replace(recipe.model, weights=place, weights_sha256=checksum(Path(place)))
    return replace(recipe, distillation=Distillation(teacher, **numbers))


@pytest.mark.parametrize("arm", ["baseline", "rw+lr@2"])
def test_a_teacher_that_errs_is_followed(arm: str, tmp_path: Path) -> None:
    """Planted: a teacher of zeros is unsure of everything; taught by it alone the arm is too, and else not."""
    task, recipe = text_task(), decoder_recipe(steps=60, lr=1e-2)
    (baseline,) = parse_contenders("")
    one = parse_contenders(arm)[-1]
    given = {name: torch.zeros_like(value) for name, value in weights(start(baseline, recipe, task, 5).model).items()}

    def answers(recipe: Recipe) -> float:
        begun = start(one, recipe, task, 0)
        device = own_device("cpu", 1)
        with joined(device, recipe.batch, recipe.accumulate) as group:
            train(begun, recipe, task, 0, group=group)
        with torch.no_grad():
            logits = begun.call(begun.model.eval(), torch.arange(128).view(8, 16) % 11)
        return float(logits.softmax(-1).max())

    sure, unsure = answers(recipe), answers(taught(tmp_path, recipe, given, share=1.0))
    assert sure > 0.6
    assert unsure < 0.15
    between = answers(taught(tmp_path, recipe, given, temperature=1.0, share=0.5))
    assert unsure < between < sure


def test_the_teacher_stays_as_it_is_and_every_arm_has_it(tmp_path: Path) -> None:
    task, recipe = text_task(), decoder_recipe(steps=2)
    (baseline,) = parse_contenders("")
    given = weights(start(baseline, recipe, task, 5).model)
    recipe = taught(tmp_path, recipe, given)
    for one in parse_contenders("rw+lr@2"):
        begun = start(one, recipe, task, 0)
        with joined(own_device("cpu", 1), recipe.batch, recipe.accumulate) as group:
            train(begun, recipe, task, 0, group=group)
        assert begun.teacher is not None
        assert not begun.teacher.model.training
        assert all(torch.equal(value, given[name]) for name, value in weights(begun.teacher.model).items())
        assert all(parameter.grad is None for parameter in begun.teacher.model.parameters())


def test_a_teacher_for_other_classes_is_refused(tmp_path: Path) -> None:
    recipe, task = decoder_recipe(), text_task()
    args = (("vocabulary", 12),)
    (baseline,) = parse_contenders("")
    other = replace(recipe, model=replace(recipe.model, args=args))
    given = weights(start(baseline, other, replace(task, classes=12), 5).model)
    recipe = taught(tmp_path, recipe, given)
    assert recipe.distillation is not None
    teacher = replace(recipe.distillation.teacher, args=args)
    with pytest.raises(ModelError, match="The teacher gives"):
        start(baseline, replace(recipe, distillation=replace(recipe.distillation, teacher=teacher)), task, 0)


# ---------------------------------------------------------------- in a study


@pytest.fixture
def settings(tmp_path: Path, cache: Path) -> TrainSettings:
    (baseline,) = parse_contenders("")
    asked = small_study(tmp_path / "study", arms="rw", steps=4, seeds=1, controls=False)
    recipe = planned(replace(asked, width=32)).recipe  # a wider teacher
    given = weights(start(baseline, recipe, open_task(**vars(recipe.task)), 77).model)
    save_file(given, tmp_path / "teacher.safetensors")
    file, args = tmp_path / "teacher.safetensors", {"layers": 1, "width": 32, "feed_forward": 88, "heads": 1}
    return replace(asked, teacher="paper-c4", teacher_weights=file, teacher_args=args)


def test_the_study_holds_its_teacher_s_checksum_and_refuses_another(settings: TrainSettings) -> None:
    assert settings.teacher_weights is not None
    folder = prepare(planned(settings)).folder
    held = json.loads((folder / "study.json").read_text())["recipe"]["distillation"]
    assert held["teacher"]["weights_sha256"] == checksum(Path(settings.teacher_weights))
    assert (held["temperature"], held["share"]) == (2.0, 0.5)
    assert run_trial(folder, "rw", 0, command="")["status"] == "complete"
    other = {name: value + 1 for name, value in load_file(settings.teacher_weights).items()}
    save_file(other, settings.teacher_weights)
    with pytest.raises(RecordError, match="have changed since the study began"):
        run_trial(folder, "baseline", 0, command="")
    with pytest.raises(RecordError, match="other"):  # nor does the command go on with that study
        prepare(planned(replace(settings, resume=True)))


@pytest.mark.slow
def test_a_verdict_says_who_taught(settings: TrainSettings) -> None:
    from laurel_cli.study.compare import compare

    plan = planned(settings)
    document = compare(plan, prepare(plan))
    assert document["taught_by"].startswith("paper-c4, teacher.safetensors, SHA-256 ")
    assert any("distilled from a teacher" in note for note in [*document["notes"], *document["warnings"]])


def test_it_is_written_down_and_read_again(settings: TrainSettings) -> None:
    from laurel_cli.study import written

    plan = planned(settings)
    assert Recipe.of(plan.recipe.plain()) == plan.recipe
    again = TrainSettings(**{key: value for key, value in written.of_plan(plan).items() if value is not None})
    assert planned(again).recipe == plan.recipe
    alone = planned(replace(settings, teacher=None, teacher_weights=None, teacher_args=None)).recipe
    assert "distillation" not in alone.plain()
    assert Recipe.of(alone.plain()) == alone


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher": None, "teacher_args": None}, "`teacher_weights` needs `teacher`"),
        ({"teacher": None, "teacher_args": {}, "teacher_weights": None, "temperature": 3.0}, "`temperature` needs"),
        ({"teacher_weights": None}, "needs `teacher_weights`"),
        ({"temperature": -1.0}, "`temperature=-1` is out of range"),
        ({"teacher_share": 2.0}, "`teacher_share=2` is out of range"),
    ],
)
def test_what_contradicts_itself(settings: TrainSettings, changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        planned(replace(settings, **changes))
