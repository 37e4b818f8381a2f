"""Settings in a file are those that would have been typed."""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from laurel_cli.errors import UsageError
from laurel_cli.experiments import COMMANDS
from laurel_cli.settings import files
from laurel_cli.settings.base import flag, options
from laurel_cli.settings.executors import ExecutorSettings
from laurel_cli.settings.teacher import TeacherSettings
from laurel_cli.settings.train import TrainSettings
from laurel_cli.study import folder as study
from laurel_cli.study import written
from laurel_cli.study.asked import plan_of

from .test_settings import asked_by

REPORTS = Path(__file__).parents[2] / "reports"
# Sizes of a ladder are no settings of their own: what asks for them is the ladder.
STUDIES = sorted(path.parent for path in REPORTS.glob("studies/*/study.json"))
WHOLE = """
[train-proxy]
model = "gpt2"
layers = [2, 2]
width = 64
arms = ["naive+1", "rw", "rw+lr@8"]
against = ["wide.py:build"]
rank = 4
lags = "all"
per = "block"
model-arg = { n_head = 4, activation_function = "gelu", depths = [1, 2] }
task = "text:books.txt"
lr = 1
warmup = 0
worth = 0.02
compile = true
controls = false
steps-saved = false
seeds = 3
study = "somewhere"
"""
TYPED = (
    "train-proxy gpt2 --layers 2,2 --width 64 --arms naive+1,rw,rw+lr@8 --against wide.py:build --rank 4 --lags all "
    "--per block --model-arg n_head=4 --model-arg activation_function=gelu --model-arg depths=[1,2] "
    "--task text:books.txt --lr 1 --warmup 0 --worth 0.02 --compile --no-controls --no-steps-saved --seeds 3 "
    "--study somewhere"
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_is_what_would_have_been_typed(here, monkeypatch, capsys):
    Path("a.toml").write_text(WHOLE)
    typed = asked_by(TYPED, monkeypatch, capsys)
    assert asked_by("train-proxy --config a.toml", monkeypatch, capsys) == typed
    found = files.typed(tomllib.loads(WHOLE)["train-proxy"], [TrainSettings], "a.toml")
    monkeypatch.setattr("shlex.split", None)  # the words are words already
    words = files.words(found, [TrainSettings])
    assert asked_by(_Words(["train-proxy", *words]), monkeypatch, capsys) == typed


class _Words(str):
    """A command that has been split already."""

    words: list[str]

    def __new__(cls, words):
        self = super().__new__(cls, " ".join(words))
        self.words = words
        return self

    def split(self, *_):
        return self.words


def test_what_is_typed_goes_before_what_the_file_says(here, monkeypatch, capsys):
    Path("a.toml").write_text(WHOLE)
    found = asked_by("train-proxy resnet18 --config a.toml --seeds 9 --controls --lags 3", monkeypatch, capsys)
    assert (found["model"], found["seeds"], found["controls"], found["lags"]) == ("resnet18", 9, True, 3)
    assert (found["width"], found["against"]) == (64, ("wide.py:build",))


def test_the_default_study_written_down_asks_for_itself(here):
    plan = plan_of(TrainSettings(), command="", versions={})
    text = files.text({"train-proxy": written.of_plan(plan)}, {"train-proxy": [TrainSettings]})
    again = plan_of(_settings(text), command="", versions={})
    assert again == plan
    assert "seeds = 7" in text  # a default is written out: another version may have another one
    assert "optimizer" in text


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_every_committed_study_written_down_asks_for_itself(folder, here):
    recorded = study.load(folder)
    if recorded.rates:  # it does not say among how many
        with pytest.raises(UsageError, match="searched the learning rate"):
            written.of_study(recorded)
        return
    Path("reports").symlink_to(folder.parents[1])  # where the trained weights lie that a study goes on from
    text = files.text({"train-proxy": written.of_study(recorded)}, {"train-proxy": [TrainSettings]})
    asked = _settings(text)
    plan = plan_of(asked, command="", versions={})
    # Of a text nothing depends on the memory format of images, which older studies name all the same.
    same = replace(recorded.recipe, channels_last=plan.recipe.channels_last)
    assert plan.recipe == (same if recorded.recipe.task.seq_len else recorded.recipe)
    named = {one for one in recorded.arms if one not in recorded.declared.controls.names}
    assert set(plan.arms.split(",")) == named
    assert plan.against == recorded.against
    assert tuple(range(plan.first_seed, plan.first_seed + plan.seeds)) == recorded.seeds
    assert plan.controls == bool(recorded.declared.controls.names)


def _settings(text):
    """As the command line reads a file of settings."""
    found = files.typed(tomllib.loads(text)["train-proxy"], [TrainSettings], "a.toml")
    known = options(TrainSettings)
    return TrainSettings(
        **{
            name: known[name].read(flag(name, known[name]), value) if known[name].read else value
            for name, value in found.items()
        }
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_no_two_options_of_a_command_have_one_key(command):
    keys = [files._key(name, option) for one in COMMANDS[command] for name, option in options(one).items()]
    assert len(keys) == len(set(keys))
    assert {item.name for one in COMMANDS[command] for item in fields(one)} >= {"model"}


def test_text_of_any_kind_survives_a_file():
    hostile = "a\"b\\c\x7f\x01\n\té😀 [red] ' #"
    text = files.text({"train-proxy": {"task": hostile, "against": [hostile]}}, {"train-proxy": [TrainSettings]})
    assert tomllib.loads(text)["train-proxy"] == {"task": hostile, "against": [hostile]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[train-proxy]\nseedz = 3", "has no option 'seedz'. Did you mean seeds?"),
        ("[train-proxy]\nseeds = '3'", "seeds = '3' is not a whole number"),
        ("[train-proxy]\nseeds = 3.0", "seeds = 3.0 is not a whole number"),
        ("[train-proxy]\nseeds = true", "seeds = True is not a whole number"),
        ("[train-proxy]\ncontrols = 'no'", "controls = 'no' is not true or false"),
        ("[train-proxy]\nlr = 'fast'", "lr = 'fast' is not a number"),
        ("[train-proxy]\ntask = {a = 1}", "is not a text"),
        ("[train-proxy]\nseq-len = 3\nseq_len = 4", "has 'seq_len' twice"),
        ("[train-proxy]\nlayers = 'many'", "--layers 'many' is not a whole number"),
        ("[train-proxy]\nseeds = 0", "out of range"),
        ("[train-proxy]\narms = []", "arms = [] is empty"),
        ("train-proxy = 3", "is no table"),
        ("[profile]\nmode = 'train'", "has no table [train-proxy]"),
        ("seeds = = 3", "is no TOML"),
        ("\xff", "is no TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(content, said, laurel, tmp_path):
    (tmp_path / "a.toml").write_bytes(content.encode("latin-1"))
    done = laurel("train-proxy", "--config", "a.toml")
    assert done.returncode == 2
    assert said in done.stderr.replace("\nhint:", "")


def test_a_file_that_is_none_is_wrong_usage(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path, Path("/dev/zero")):
        with pytest.raises(UsageError, match="cannot be read"):
            files.read(path)


def test_a_study_is_written_from_its_folder_and_never_over_a_file(laurel, tmp_path):
    folder = str(REPORTS / "studies" / "books-wide")
    first = laurel("train-proxy", "--study", folder, "--write-config", "a.toml", "--seeds", "9")
    assert (first.returncode, first.stdout) == (0, "")
    assert "options beside --study are not looked at" in first.stderr
    assert tomllib.loads((tmp_path / "a.toml").read_text())["train-proxy"]["seeds"] == 4
    assert laurel("train-proxy", "--write-config", "a.toml").returncode == 2


def test_what_a_file_leaves_out_is_what_it_says(here):
    """Every option of the command is in it, or is named at its head."""
    found = written.of_plan(plan_of(TrainSettings(keep_weights=True), command="", versions={}))
    # Passes have become steps, the command adds arm files, and this study has no teacher.
    missing = set(options(TrainSettings)) - set(found) - {"epochs", "arm_file"} - set(options(TeacherSettings))
    where = {"study", "data_root", "resume", "processes", "allow_versions", "allow_mixed_devices"}
    assert missing == where | set(options(ExecutorSettings))
    text = files.text({"train-proxy": found}, {"train-proxy": [TrainSettings]}, written.LEFT_OUT)
    head = text.partition("\n")[0]
    assert head.startswith("# ")
    assert all(name in head for name in ("study", "data-root", "resume", "processes", "executor", "allow-..."))
    assert "keep-weights = true" in text
    assert plan_of(_settings(text), command="", versions={}).keep


@pytest.mark.parametrize("value", [None, [1, None], {"a": None}, b"x", 1j, {1: 2}])
def test_what_toml_has_no_word_for_is_refused(value):
    with pytest.raises(UsageError, match=r"model-arg cannot be written down\. TOML has no word for"):
        files.text({"train-proxy": {"model_args": {"x": value}}}, {"train-proxy": [TrainSettings]})


def test_a_config_with_none_is_refused_and_not_written(laurel, tmp_path):
    done = laurel("train-proxy", "--model-arg", "x=None", "--write-config", "a.toml")
    assert (done.returncode, "TOML has no word for None" in done.stderr) == (2, True)
    assert not (tmp_path / "a.toml").exists()


def test_a_study_of_a_device_that_is_elsewhere_is_written_down_here(laurel, tmp_path):
    """Nothing is trained by it; no machine of these tests has a TPU."""
    done = laurel("train-proxy", "--device", "tpu", "--write-config", "a.toml")
    assert done.returncode == 0, done.stderr
    assert tomllib.loads((tmp_path / "a.toml").read_text())["train-proxy"]["device"] == "tpu"
