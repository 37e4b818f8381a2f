"""Experiments are data: each parses, asks for what its commands take, and its cluster's command trains."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from laurel_cli import experiments
from laurel_cli.errors import ModelError, UsageError
from laurel_cli.experiments.beside import document
from laurel_cli.experiments.run import commands, on_a_cluster
from laurel_cli.models import load
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.schemas import DOCUMENTS
from laurel_cli.schemas.check import WHOLE, fault
from laurel_cli.settings.base import flag, options
from laurel_cli.settings.read import keywords
from laurel_cli.settings.train import TrainSettings
from laurel_cli.study.asked import plan_of
from laurel_cli.verdict.document import document as study_document

from ..verdict.studies import study  # noqa: TID252  # tests are no installed package

TABLE_5 = {  # printed, in millions
    "baseline": 157.20,
    "naive+4": 179.23,
    "rw": 157.20,
    "lr@32": 158.40,
    "pa": 157.22,
    "rw+lr@32": 158.40,
    "rw+lr+pa@32": 160.83,
}
EVERY = [(name, scale) for name in experiments.names() for scale in experiments.find(name).scales]


def settings(found):
    known = options(TrainSettings)
    read = {name: (known[name].read, flag(name, known[name])) for name in found}
    return TrainSettings(**{n: read[n][0](read[n][1], v) if read[n][0] else v for n, v in found.items()})


def beside(experiment, scale, answers):
    """The document of a run of which these are the answers."""
    run = {"folder": "x", "command": "laurel reproduce", "lines": [], "cluster": []}
    return document(experiment, experiment.scales[scale], **run, answers=answers)


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_what_an_experiment_asks_for_can_be_asked(name, scale, tmp_path):
    """Its studies become plans; every arm that it sets beside another one is one of its arms."""
    size = experiments.find(name).scales[scale]
    asked = {"task": size.data or None}
    planned = commands(size, tmp_path, asked)
    assert [one.name for one in planned] == [*size.steps, "report"]
    arms: set[str] = set()
    for key in ("analyze", "profile"):
        if key in size.steps:
            arms |= {one.name for one in parse_contenders(size.steps[key]["arms"])}
    for step in (size.steps.get("train-proxy"), size.cluster):
        if step is not None:
            given = {"task": size.data, **step, "epochs": None, "device": "cpu"}
            plan = plan_of(settings({key: value for key, value in given.items() if value}), command="", versions={})
            arms |= {one.name for one in parse_contenders(plan.arms, **plan.recipe.spec)}
    assert set(size.beside) <= arms
    assert set(size.beside.values()) <= set(experiments.find(name).printed)


@pytest.mark.slow
def test_the_paper_scale_of_table_5_counts_what_the_paper_prints(laurel):
    """The formula, the paper, and what it seems to count besides."""
    done = laurel("reproduce", "table5", "--dry-run", "--scale", "paper")
    words = shlex.split(done.stdout.splitlines()[0])[1:]
    answer = laurel(*words[: words.index("--save")], "--no-check", "--format", "json")
    counted = {arm["name"]: arm["parameters"] for arm in json.loads(answer.stdout)["arms"]}
    D, r, blocks = 768, 32, 24
    base = 32_100 * D + 512 * D + D + blocks * (4 * D * D + 2 * D * 2048 + 2 * D)
    maps = 1 + 2 + 3 * (blocks - 2)  # the history of the first two blocks is short
    plain = {
        "baseline": base,
        "naive+4": base + 4 * (4 * D * D + 2 * D * 2048 + 2 * D),
        "rw": base + 2 * blocks,
        "lr@32": base + 2 * r * D * blocks,
        "pa": base + maps,
        "rw+lr@32": base + (2 * r * D + 2) * blocks,
        "rw+lr+pa@32": base + 2 * r * D * maps + maps + 2 * blocks,
    }
    assert counted == plain
    experiment = experiments.find("table5")
    found = beside(experiment, "paper", {"analyze": json.loads(answer.stdout)})
    shown = {row["arm"]: row["with_unwritten"] for row in found["arms"]}
    assert {row["arm"]: row["paper"]["parameters"] for row in found["arms"]} == {
        arm: pytest.approx(1e6 * millions) for arm, millions in TABLE_5.items()
    }
    extra = {"lr@32": blocks, "pa": blocks, "rw+lr@32": blocks, "rw+lr+pa@32": maps + blocks}
    assert shown == {arm: plain[arm] + D * extra.get(arm, 0) for arm in plain}
    fits = {arm for arm in plain if round(shown[arm] / 1e6, 2) == TABLE_5[arm]}
    assert fits == set(plain) - {"rw+lr+pa@32"}
    # What the notes say of the last one: with full histories, a unit of the last digit away.
    full = base + (2 * r * D + 1) * 3 * blocks + 2 * blocks + D * (3 * blocks + blocks)
    assert round(full / 1e6, 2) == 160.82


def test_the_paper_and_this_run_stand_side_by_side():
    """Gains are differences from each one's own baseline; verdicts are the study's, word for word."""
    experiment = experiments.find("table5")
    trained = study_document(*study({"naive+1": -0.06, "rw": -0.07, "lr@4": 0.01}), command="laurel train-proxy")
    found = beside(experiment, "cpu", {"train-proxy": trained})
    rows = {row["arm"]: row for row in found["arms"]}
    for arm in trained["arms"]:
        assert rows[arm["name"]]["quality"] == arm["mean"]
        assert rows[arm["name"]]["words"] == (arm["words"] or "")
        if arm["difference"]:
            assert rows[arm["name"]]["gain"] == -arm["difference"]["mean"]
            assert rows[arm["name"]]["gain_low"] == -arm["difference"]["high"]
    assert rows["naive+1"]["beside"] == "naive+4"
    assert rows["naive+1"]["paper"]["gain"] == pytest.approx(3.0159 - 2.9963)
    assert rows["rw"]["paper"]["step_ratio"] == pytest.approx(1.0)
    assert rows["lr@4"]["paper"]["added_percent"] == pytest.approx(100 * 1.20 / 157.20, rel=1e-4)
    assert fault(found, DOCUMENTS["laurel.reproduce/1"], WHOLE) == ""
    assert rows["rw"]["with_unwritten"] is None  # of another model than the paper's


BESIDE = "[paper]\narms.rw = {quality = 1}\n[scales.cpu.train-proxy]\narms = ['rw', 'lr']\n[scales.cpu]\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has nothing to run"),
        ("x = 1", "'x' is unknown"),
        ("[scales.cpu]", "has nothing to run"),
        ("[scales.cpu.train-prox]\nseeds = 1", "Did you mean train-proxy?"),
        ("[train-proxy]\nsedes = 1", "Did you mean seeds?"),
        ("[train-proxy]\n[paper]\narms.rw = {qualty = 1}", "Did you mean quality?"),
        ("[train-proxy]\n[paper]\narms.rw = {quality = 'x'}", "where a number belongs"),
        ("[train-proxy]\n[paper]\nquality = 'speed'", 'where "loss" or "accuracy" belongs'),
        ("[train-proxy]\n[paper]\nquality = 'accuracy'\narms.rw = {quality = 75.2}", "Write 0.752 for 75.2 %"),
        ("[train-proxy]\n[paper.unwritten]\neach = 1", "paper.unwritten.arms is missing"),
        ("scales = 3", "where an object belongs"),
        ("notes = 'x'\n[train-proxy]", "where a list belongs"),
        ("[train-proxy]\nstudy = 'x'", "train-proxy cannot have 'study'"),
        ("[train-proxy]\nresume = true", "train-proxy cannot have 'resume'"),
        ("[profile]\nmodel = 'resnet18'\nrecords = 'x'", "profile cannot have 'records'"),
        ("[train-proxy]\narms = []", "arms = [] is empty"),
        ("[analyze]\nmodel = 'resnet18'\narms = ''", "arms = '' is empty"),
        ("[train-proxy]\narms = ['rw']\n[paper]\narms.wr = {quality = 1}", "'wr' is no arm of any scale"),
        ("[train-proxy]\narms = ['rw+lr']\nrank = 8\n[paper]\narms.'rw+lr' = {quality = 1}", "Did you mean rw+lr@8?"),
        ("[train-proxy]\narms = ['rw']\n[paper.unwritten]\neach = 1\nwhy = ''\narms = {rw = 1}", "'rw' is none"),
        (f"{BESIDE}beside = {{wr = 'rw'}}", "'wr' is none of its arms. It has baseline"),
        (f"{BESIDE}beside = {{rw = 'pa'}}", "'pa' is no arm of [paper]"),
        (f"{BESIDE}papers_model = true", "Did you mean papers-model?"),
    ],
)
def test_what_is_wrong_with_an_experiment_is_said(content, said, tmp_path):
    (tmp_path / "a.toml").write_text(content)
    with pytest.raises(UsageError) as raised:
        experiments.find(str(tmp_path / "a.toml"))
    assert said in str(raised.value)


def test_a_name_that_is_none_and_data_that_are_not_named(laurel):
    assert "Did you mean table5?" in laurel("reproduce", "tabel5").stderr
    missing = laurel("reproduce", "table1", "--scale", "cpu")
    assert (missing.returncode, "--task cifar10:DIR" in missing.stderr) == (2, True)
    assert laurel("reproduce").returncode == 2
    assert laurel("reproduce", "table5", "--scale", "huge").returncode == 2


def test_a_scale_is_asked_for_as_the_file_spells_it(laurel, tmp_path):
    (tmp_path / "mine.toml").write_text(
        "[scales.Small.train-proxy]\nseeds = 1\n[scales.other.train-proxy]\nseeds = 2\n"
    )
    for asked, seeds in (("Small", "1"), ("other", "2"), ("OTHER", "2")):
        done = laurel("reproduce", "mine.toml", "--scale", asked, "--dry-run")
        assert done.returncode == 0, done.stderr
        assert f"--seeds {seeds} " in done.stdout


@pytest.mark.parametrize("folder", [".", "..", "a/..", "a", "a/"])
def test_a_study_lies_in_the_folder_of_its_experiment(folder, tmp_path, monkeypatch):
    home = tmp_path / "within"
    (home / "a").mkdir(parents=True)
    monkeypatch.chdir(home)
    for one in commands(experiments.find("table5").scales["cpu"], Path(folder), {}):
        if "--study" in one.words:
            study = Path(one.words[one.words.index("--study") + 1]).resolve()
            assert study.parent == Path(folder).resolve()


def test_tables_2_and_3_count_models_of_one_three_and_four_billion():
    """The sizes by the formula of their layers; 3.2 billion is 3.21 on its model card."""

    def llama(width, layers, heads):
        keys = 8 * width // heads
        layer = 2 * width * width + 2 * width * keys + 3 * width * 8192 + 2 * width
        return 128_256 * width + layers * layer + width

    def plain(width, layers):
        return (210_000 + 2048) * width + layers * (4 * width * width + 2 * width * 11_264 + 2 * width) + width

    sizes = {
        ("table2", "cpu"): llama(2048, 16, 32),
        ("table2", "cpu-3b"): llama(3072, 28, 24),
        ("table3", "cpu"): plain(2816, 40),
    }
    assert [round(size / 1e9, 1) for size in sizes.values()] == [1.2, 3.2, 4.4]
    for (name, scale), size in sizes.items():
        asked = experiments.find(name).scales[scale].steps["analyze"]
        args = keywords("--model-arg", asked.get("model_args"))
        model = load(asked["model"], model_args=args, seq_len=8).module
        assert sum(p.numel() for p in model.parameters()) == size


TINY = """
title = "Mine"
[paper]
arms.baseline = {quality = 3.0}
arms.rw = {quality = 2.9}
[analyze]
model = "paper-c4"
model-arg = {layers = 2, width = 32, feed_forward = 64, heads = 2, vocabulary = 64}
arms = ["baseline", "rw"]
[train-proxy]
layers = 1
width = 16
arms = ["rw"]
steps = 2
batch = 2
evaluation-limit = 512
seeds = 2
evaluations = 1
controls = false
processes = 1
"""


@pytest.mark.slow
def test_a_file_of_ones_own_runs_and_costs_nothing_the_second_time(laurel, tmp_path):
    (tmp_path / "mine.toml").write_text(TINY)
    done = laurel("reproduce", "mine.toml", "--format", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = {row["arm"]: row for row in found["arms"]}
    assert rows["rw"]["added_parameters"] == 8  # two scalars at each of four connections
    assert rows["rw"]["paper"]["gain"] == pytest.approx(0.1)
    folder = tmp_path / "reports" / "reproduce" / "mine-as-written"
    kept = {path.name for path in folder.iterdir()}
    assert {"analyze.json", "train-proxy.json", "records", folder.name, "report.md", "paper.md"} <= kept
    assert "Mine" in (folder / "paper.md").read_text()
    trials = sorted((folder / folder.name / "records").glob("trial-*.json"))
    before = [path.stat().st_mtime_ns for path in trials]
    assert len(trials) == 4
    again = laurel("reproduce", "mine.toml", "--format", "json")
    assert json.loads(again.stdout) == found
    assert [
        path.stat().st_mtime_ns for path in sorted((folder / folder.name / "records").glob("trial-*.json"))
    ] == before


def test_a_command_that_fails_ends_it_with_its_exit_code(laurel, tmp_path):
    (tmp_path / "bad.toml").write_text('[analyze]\nmodel = "resnet17"\n[train-proxy]\nseeds = 1\n')
    done = laurel("reproduce", "bad.toml", "--format", "json")
    assert done.returncode == ModelError.exit_code
    assert json.loads(done.stdout)["schema"] == "laurel.error/1"
    assert "resnet17" in done.stderr
    assert not (tmp_path / "reports" / "reproduce" / "bad-as-written" / "bad-as-written").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, scale in EVERY if experiments.find(name).scales[scale].cluster])
def test_the_command_for_a_cluster_trains_once_it_is_shrunk(name, laurel, tmp_path):
    """The printed lines themselves, with a smaller model, other data and one step: written down, then one trial."""
    size = experiments.find(name).scales["paper"]
    prepare, trial = on_a_cluster(size, tmp_path, {"task": None})
    words = shlex.split(prepare.partition(" > ")[0])[1:]
    small = {"task": "stdlib" if "c4" in prepare else "scenes", "steps": "1", "batch": "2", "device": "cpu"}
    small |= {"layers": "1" if "c4" in prepare or "vit" in prepare else "1,1,1,1", "seeds": "1", "dtype": "fp32"}
    small |= {"width": "24" if "vit" in prepare else "16", "evaluation-limit": "512", "control-seeds": "1"}
    small |= {"seq-len": "32", "tokenizer": "bytes"} if "c4" in prepare else {"image-size": "32"}
    small |= {"positive-control": "naive+2"}
    for option in ("--epochs", "--tokens"):
        if option in words:
            del words[words.index(option) : words.index(option) + 2]
    kept = words + [part for key, value in small.items() for part in (f"--{key}", value)]  # the last one counts
    done = laurel(*kept)
    assert done.returncode == 0, done.stderr
    assert "rw:0" in done.stdout.split()
    words = shlex.split(trial.partition("    #")[0].replace('"$TRIAL"', "rw:0"))[1:]
    done = laurel(*words)
    assert done.returncode == 0, done.stderr
    assert "rw:0: complete" in done.stderr


def test_an_option_that_says_nothing_to_a_scale_is_refused(tmp_path):
    size = experiments.find("table2").scales["cpu"]
    assert set(size.steps) == {"analyze"}
    for key, value in (("task", "cifar10:X"), ("device", "cuda"), ("processes", 4)):
        with pytest.raises(UsageError, match=f"`{key}=.*says nothing to the scale cpu"):
            commands(size, tmp_path, {key: value})
    assert commands(size, tmp_path, {"task": None, "device": None, "processes": None})
