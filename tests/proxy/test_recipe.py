"""What fixes a trial, and how arms change it."""

import pytest

from laurel_cli.errors import UsageError
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.optimizers import rate
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from tests.proxy.small import cnn_recipe


def test_a_recipe_survives_the_disk() -> None:
    recipe = Recipe(
        ModelChoice("timm:resnet18", args=(("drop_rate", 0.1), ("channels", (8, 16))), layers=(2, 2), width=8),
        TaskChoice("text:a.txt", seq_len=64),
        lr=1e-2,
        spec={"lags": None, "init": "orthogonal"},
    )
    again = Recipe.of(recipe.plain())
    assert again == recipe
    assert again.sha256 == recipe.sha256


def test_everything_that_could_change_a_trial_changes_its_checksum() -> None:
    base = cnn_recipe()
    changes = [{"lr": 1e-2}, {"batch": 8}, {"threads": 2}, {"optimizer": "sgd"}, {"clip": 0.0}, {"spec": {"lags": 1}}]
    assert len({base.sha256, *(cnn_recipe(**change).sha256 for change in changes)}) == 1 + len(changes)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"batch": 6, "accumulate": 4},
        {"optimizer": "adam"},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"warmup": 1.0},
    ],
)
def test_recipes_that_cannot_be(change: dict) -> None:
    with pytest.raises(UsageError):
        cnn_recipe(**change)


def test_arms_and_what_they_change() -> None:
    found = parse_contenders("naive+1,rw+lr@8,Baseline,rw:lr=0.5,baseline:width=2:lr=.25,copy", ("wide.py:build",))
    names = ["baseline", "naive+1", "rw+lr@8", "rw:lr=0.5", "baseline:width=2:lr=0.25", "copy", "against:wide.py:build"]
    assert [one.name for one in found] == names
    by_name = {one.name: one for one in found}
    base = cnn_recipe(lr=0.01)
    assert by_name["rw:lr=0.5"].recipe(base).lr == 0.005
    assert by_name["rw+lr@8"].recipe(base) == base
    wide = by_name["baseline:width=2:lr=0.25"].recipe(base)
    assert (wide.model.width, wide.lr) == (8, 0.0025)
    rival = by_name["against:wide.py:build"].recipe(base)
    assert (rival.model, rival.steps) == (ModelChoice("wide.py:build"), base.steps)


def test_an_arm_has_one_name_however_its_settings_are_typed() -> None:
    typed = "rw:init=zero:steps=.70:lr=2.0,rw:lr=2:steps=0.7:init=zero,baseline:lr=0.00001,baseline:width=1.33333333"
    found = parse_contenders(typed)
    assert [one.name for one in found] == [
        "baseline",
        "rw:lr=2:steps=0.7:init=zero",
        "baseline:lr=1e-05",
        "baseline:width=1.33333",
    ]
    assert parse_contenders(",".join(one.name for one in found)) == found  # which is how a study on disk is read


def test_an_arm_may_train_for_longer_or_shorter_and_start_otherwise() -> None:
    _, short, long, zero, rw = parse_contenders("baseline:steps=0.7,naive+1:steps=2,baseline:init=zero,rw:init=one")
    base = cnn_recipe(steps=25)
    assert short.recipe(base) == cnn_recipe(steps=18)  # 17.5
    assert (long.recipe(base).steps, long.kind.name) == (50, "naive")
    assert (zero.recipe(base), zero.init, zero.kind.name, short.kind.name) == (base, "zero", "against", "against")
    assert (rw.init, rw.kind.name) == ("one", "laurel")
    with pytest.raises(UsageError, match=r"steps=0\.01"):
        parse_contenders("baseline:steps=.01")[1].recipe(base)
    # The rate rises and falls to zero within the arm's own steps.
    rates = [rate(short.recipe(base), step) for step in (0, 1, 2, 17, 18)]
    assert rates == [0.5, 1.0, 1.0, 1 / 16, 0.0]


@pytest.mark.parametrize(
    "text",
    ["rw:lr", "rw:lr=0", "rw:rank=3", "naive", "bogus", "rw:lr=-1", "rw:init=two", "rw:init=", "rw:steps=nan"],
)
def test_arms_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError):
        parse_contenders(text)


@pytest.mark.parametrize("text", ["rw:steps=0", "rw:lr=1e999", "baseline:lr=1e-999", "rw:zero", "rw:steps=-2"])
def test_factors_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_contenders(text)


def test_a_wider_arm_needs_a_width_to_multiply() -> None:
    (_, wide) = parse_contenders("baseline:width=2")
    with pytest.raises(UsageError, match="`width`"):
        wide.recipe(Recipe(ModelChoice("resnet18"), TaskChoice("scenes")))


@pytest.mark.parametrize(
    ("name", "value"), [("lr", -1), ("lr", float("inf")), ("warmup", 10), ("clip", float("nan")), ("laurel_lr", -0.5)]
)
def test_what_is_out_of_range_is_named_alone(name: str, value: float) -> None:
    with pytest.raises(UsageError) as caught:
        cnn_recipe(**{name: value})
    assert caught.value.what == f"`{name}={value:g}` is out of range."
