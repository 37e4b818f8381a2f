"""One declaration: what the command line makes of nothing typed is what Python makes of no argument, and so on."""

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import laurel_cli as laurel
from laurel_cli.cli import main
from laurel_cli.cli.typed import document_in_options, in_options
from laurel_cli.errors import UsageError
from laurel_cli.settings.base import called, options
from laurel_cli.settings.profile import ProfileSettings
from laurel_cli.settings.train import TrainSettings

TOLD = ("on_progress", "on_event", "on_note")


class SeenError(Exception):
    """Ends a command once its settings are known."""


def asked_by(command, monkeypatch, capsys):
    """The settings that a command has when it has been typed."""
    words = command.split()
    found = []

    def seen(asked, *_, **__):
        found.append(asked)
        raise SeenError

    room = "latency" if words[0] == "profile" else "study"
    monkeypatch.setattr(f"laurel_cli.{room}.asked.plan_of", seen)
    monkeypatch.setattr("laurel_cli.cli.stdio.reserve", lambda debug=False: None)  # stdout stays the test runner's
    with pytest.raises(SystemExit):
        main.run(words)
    (asked,) = found
    return {item.name: getattr(asked, item.name) for item in fields(asked) if item.name not in TOLD}


def given(settings):
    return {item.name: getattr(settings, item.name) for item in fields(settings) if item.name not in TOLD}


@pytest.mark.parametrize(
    ("typed", "python"),
    [
        ("train-proxy", TrainSettings()),
        (
            "train-proxy timm:resnet18 --task scenes --layers 2,2 --seeds 3 --no-controls --worth 0.02 --lags all",
            TrainSettings(
                model="timm:resnet18", task="scenes", layers=(2, 2), seeds=3, controls=False, worth=0.02, lags=None
            ),
        ),
        (
            "train-proxy --teacher gpt2 --teacher-weights gpt2.safetensors --teacher-arg n_layer=2 --temperature 3",
            TrainSettings(
                teacher="gpt2", teacher_weights=Path("gpt2.safetensors"), teacher_args={"n_layer": 2}, temperature=3.0
            ),
        ),
        ("profile resnet18", ProfileSettings("resnet18", variant=[], rank=[])),
        (
            "profile resnet18 --arms rw --precision 0.5% --model-arg num_classes=10 --input-shape 1x3x64x64",
            ProfileSettings(
                "resnet18",
                "rw",
                precision=0.5,
                model_args={"num_classes": 10},
                input_shape=(1, 3, 64, 64),
                variant=[],
                rank=[],
            ),
        ),
    ],
)
def test_what_is_typed_is_what_is_called(typed, python, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    wanted = given(python)
    for name in ("model_args", "teacher_args"):
        if name in wanted and wanted[name] is None:
            wanted[name] = {}  # typed no time
    found = asked_by(typed, monkeypatch, capsys)
    if wanted.get("layers", 0) is None:
        wanted["layers"] = ()
    assert found == wanted


def test_a_function_takes_what_the_settings_have():
    for function, settings in ((laurel.train, TrainSettings), (laurel.profile, ProfileSettings)):
        taken = inspect.signature(function).parameters
        assert list(taken) == list(inspect.signature(settings).parameters)
        assert all(options(settings)[name].help for name in taken if name not in TOLD)


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"first_seed": 1_000_000}, {"lr_search": -1}, {"threads": 0}])
def test_a_number_out_of_range_is_refused_in_python_too(wrong):
    with pytest.raises(UsageError, match="out of range"):
        TrainSettings(**wrong)


def test_the_default_study_is_within_reach_of_python():
    from laurel_cli.proxy import defaults
    from laurel_cli.study.asked import plan_of

    plan = plan_of(TrainSettings(), command="", versions={})
    assert (plan.arms, plan.seeds, plan.controls) == (defaults.ARMS, defaults.SEEDS, True)
    assert plan.recipe.task.reference == defaults.TASK
    assert plan.recipe.steps == defaults.BUDGETS["text"]["steps"]


def test_a_call_is_written_down_as_it_was_made():
    assert called("train", TrainSettings("rw", seeds=3)) == "laurel.train(arms='rw', seeds=3)"


@pytest.mark.parametrize(
    ("said", "typed"),
    [
        ("`seq_len=0` is too small.", "--seq-len 0 is too small."),
        ("Try `task='scenes'`.", "Try --task scenes."),
        ("Try `layers=(2, 2)`.", "Try --layers 2,2."),
        ("`controls=False` leaves them out.", "--no-controls leaves them out."),
        ("Add `resume=True`.", "Add --resume."),
        ("Check its `model_args`.", "Check its --model-arg."),
        ("`laurel models` lists them; `nothing=3` stays.", "`laurel models` lists them; `nothing=3` stays."),
    ],
)
def test_the_library_speaks_of_arguments_and_the_command_line_of_options(said, typed):
    assert in_options(said) == typed
    assert document_in_options({"a": [{"b": said, "c": 1}]}) == {"a": [{"b": typed, "c": 1}]}


def test_no_error_of_the_library_speaks_of_options():
    for mistake in (
        lambda: laurel.load("resnet18", seq_len=0),
        lambda: laurel.load("resnet18", seq_len=8),
        lambda: laurel.train("rw", steps=3, epochs=1),
        lambda: laurel.train("rw", task="scnes"),
        lambda: laurel.profile("resnet18", "rw", mode="trian", records=None),
        lambda: laurel.profile("resnet18", "rw", device="gpu", records=None),
        lambda: laurel.report("reports", cost="lateny"),
    ):
        with pytest.raises(laurel.LaurelError) as caught:
            mistake()
        assert "--" not in str(caught.value)
