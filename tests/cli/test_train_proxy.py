"""`laurel train-proxy` as a user meets it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from laurel_cli.records.store import read, write
from tests.proxy.small import MODELS, NARROW

SMALL = ["--train-limit", "256", "--evaluation-limit", "100", "--batch", "32", "--device", "cpu"]
ALONE = [*SMALL, "--no-controls"]
ONE = ["--processes", "1"]  # its start takes longer than all that it trains


@pytest.fixture
def train(laurel, tmp_path: Path, cache: Path):
    (tmp_path / "models.py").write_text(MODELS)

    def run(*arguments: object, **options):
        env = {"LAUREL_CACHE": str(cache)} | options.pop("env", {})
        return laurel("train-proxy", *ALONE, *arguments, env=env, **options)

    return run


def test_a_study_its_records_and_its_answer(train, tmp_path: Path) -> None:
    options = ["models.py:build", "--arms", "naive+1,rw", "--seeds", "2", "--steps", "10", *ONE, "--format", "json"]
    done = train(*options)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "laurel.train-proxy/2"
    assert [(arm["name"], arm["n"]) for arm in document["arms"]] == [("baseline", 2), ("naive+1", 2), ("rw", 2)]
    assert document["learned"] is False  # ten steps
    assert {arm["verdict"] for arm in document["arms"][1:]} == {"withheld"}
    (folder,) = (tmp_path / "reports" / "studies").iterdir()
    records = [read(path) for path in (folder / "records").glob("trial-*.json")]
    assert len(records) == 6
    assert all(record["content"]["schema"] == "laurel.trial/1" for record in records)
    assert str(tmp_path) not in (folder / "study.json").read_text()

    again = train(*options)
    assert json.loads(again.stdout)["arms"] == document["arms"]
    more = train(*options, "--seeds", "3")
    assert [arm["n"] for arm in json.loads(more.stdout)["arms"]] == [3, 3, 3]
    table = train(*options[:-2])
    assert table.returncode == 0
    assert "naive+1" in table.stdout


@pytest.mark.slow
def test_a_scheduler_of_ones_own(train, tmp_path: Path) -> None:
    options = ["models.py:build", "--arms", "rw", "--seeds", "1", "--steps", "5", "--study", "s"]
    done = train(*options, "--prepare")
    assert (done.returncode, done.stdout) == (0, "baseline:0\nrw:0\n"), done.stderr
    again = train(*options, "--prepare", "--resume", "--output", "trials.txt")
    assert (again.returncode, again.stdout, (tmp_path / "trials.txt").read_text()) == (0, "", done.stdout), again.stderr
    for trial in done.stdout.split():
        done = train("--trial", trial, "--study", "s", "--steps", "9")
        assert done.returncode == 0, done.stderr
        assert "not looked at: --train-limit, --evaluation-limit, " in done.stderr
        assert "--steps" in done.stderr
    assert len(list((tmp_path / "s" / "records").glob("trial-*.json"))) == 2
    done = train(*options, "--format", "json")
    assert [arm["n"] for arm in json.loads(done.stdout)["arms"]] == [1, 1]
    assert not (tmp_path / "s" / "weights").exists()
    kept = train(*options, "--seeds", "2", "--keep-weights", "--format", "json")
    assert kept.returncode == 0, kept.stderr
    assert "of 2 trials that ended before the trained weights are gone" in kept.stderr
    assert sorted(path.name for path in (tmp_path / "s" / "weights").iterdir()) == ["baseline-1", "rw-1"]


@pytest.mark.slow
def test_what_would_write_outside_its_memory_is_trained_contiguous(train, tmp_path: Path) -> None:
    """Channels last, the process aborts within a few steps, or goes on with wrong gradients."""
    (tmp_path / "narrow.py").write_text(NARROW)
    options = ["narrow.py:narrow", "--arms", "rw", "--seeds", "1", "--steps", "10", "--study", "s", "--format", "json"]
    done = train(*options)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert any("contiguous" in said and "from 4 channels to 8" in said for said in document["warnings"])
    assert [(arm["name"], arm["n"]) for arm in document["arms"]] == [("baseline", 1), ("rw", 1)]
    assert json.loads((tmp_path / "s" / "study.json").read_text())["recipe"]["channels_last"] is False
    assert train(*options, "--seeds", "2").returncode == 0  # the same study
    compiled = train(*options[:-4], "--compile")
    assert compiled.returncode == 2
    assert "Leave out --compile" in compiled.stderr


def test_a_failed_trial_is_exit_code_6(train) -> None:
    arms = ["--arms", "baseline", "--against", "models.py:bad"]
    done = train("models.py:build", *arms, "--seeds", "1", "--steps", "5", *ONE)
    assert done.returncode == 6, done.stderr
    assert "a bug in the user's model" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_a_partial_answer(train, laurel_env, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    words = ["models.py:build", "--arms", "rw", "--seeds", "1", "--steps", "60000", "--study", "s", *ALONE]
    process = subprocess.Popen(
        [sys.executable, "-m", "laurel_cli", "train-proxy", *words],
        cwd=tmp_path,
        env=laurel_env | {"LAUREL_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while not list((tmp_path / "s" / "checkpoints").glob("*.pt")) and time.monotonic() < until:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert list((tmp_path / "s" / "checkpoints").glob("*.pt"))
    refused = train(*words[: -len(ALONE)])
    assert refused.returncode == 2
    assert "--resume" in refused.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--task", "scens"], 2, "Did you mean scenes?"),
        (["--task", "cifar10:nowhere"], 4, "nowhere"),
        (["--arms", "rwx"], 2, "rwx"),
        (["--steps", "3", "--epochs", "1"], 2, "--steps and --epochs"),
        (["--device", "cuda"], 5, "cuda"),
        (["--trial", "rw"], 2, "ARM:SEED"),
        (["--trial", "rw:0"], 2, "--study"),
        (["--trial", "rw:0", "--study", "nowhere"], 4, "nowhere"),
        (["resnet18", "--width", "8"], 2, "timm:resnet18"),
        (["resnet500"], 3, "resnet500"),
        (["--lr", "0"], 2, "--lr"),
        (["--worth", "0"], 2, "--worth"),
        (["--parallel", "fsdp"], 2, "Add --world 2."),
        (["--parallel", "zero", "--world", "2"], 2, "ddp, fsdp"),
        (["--parallel", "fsdp", "--world", "2", "--compile"], 2, "--compile and --parallel fsdp"),
        (["--parallel", "fsdp", "--world", "2"], 2, "--prepare"),
        (["--positive-control", "rw"], 2, "--no-controls"),
        (["--controls", "--positive-control", "copy"], 2, "--positive-control"),
        (["--controls", "--positive-control", "baseline:lr=2"], 2, "another control"),
        (["--controls", "--positive-control", "naive+2,rw"], 2, "one arm"),
        (["--controls", "resnet18", "--positive-control", "baseline:width=2"], 2, "--width"),
        (["--seeds", "1", "--until-separated", "5"], 2, "--until-separated"),
        (["--study", "models.py/x"], 5, "models.py/x"),
        (["--task", "stdlib", "--flip"], 2, "--flip does not fit stdlib"),
        (["--task", "stdlib", "--stem", "2"], 2, "--stem 2 does not fit stdlib"),
        (["--prepare", "--output", "a.txt", "--format", "csv"], 2, "--format says nothing beside --prepare"),
        (["--write-config", "a.toml", "--output", "a.txt"], 2, "--output says nothing beside --write-config"),
        (["--write-config", "a.toml", "--dry-run"], 2, "--dry-run and --write-config contradict"),
        (["--write-config", "a.toml", "--status", "--study", "s"], 2, "--status and --write-config contradict"),
        (["--prepare", "--tensorboard", "t"], 2, "--tensorboard says nothing beside --prepare"),
    ],
)
def test_mistakes(train, words: list[str], code: int, said: str) -> None:
    done = train(*words, env={"CUDA_VISIBLE_DEVICES": ""})  # so that --device cuda fails where there is a GPU as well
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert not done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_changed_options_in_a_study_are_named(train) -> None:
    options = ["models.py:build", "--arms", "rw", "--seeds", "1", "--study", "s", *ONE]
    assert train(*options, "--steps", "5").returncode == 0
    done = train(*options, "--steps", "6")
    assert done.returncode == 4
    assert "recipe.steps was 5, is 6" in done.stderr


@pytest.mark.slow
def test_what_was_declared_stays_and_a_change_is_named(train, tmp_path: Path) -> None:
    options = ["models.py:build", "--steps", "5", "--study", "s", "--prepare", "--resume"]
    first = ["--arms", "rw", "--seeds", "2", "--worth", "0.02", "--positive-control", "naive+1", "--controls"]
    done = train(*options, *first)
    assert done.returncode == 0, done.stderr
    study = json.loads((tmp_path / "s" / "study.json").read_text())
    assert study["schema"] == "laurel.study/2"
    products = {layers: 3072 * 16 + layers * 2 * 16 * 16 + 160 for layers in (2, 3)}
    expected = {
        "arms": [["rw"]],
        "first": 2,
        "most": 0,
        "metric": "loss",
        "worth": 0.02,
        "controls": {
            "positive": "naive+1",
            "recipe": ["baseline:lr=0.5", "baseline:lr=2"],
            "budget": "baseline:steps=0.7",
            "positive_flops_ratio": pytest.approx(products[3] / products[2]),
        },
        "control_seeds": 2,
    }
    assert study["declared"] == expected
    changed = {
        "declared.worth was 0.02, is 0.03": ["--worth", "0.03"],
        "declared.controls.positive was naive+1, is naive+2": ["--positive-control", "naive+2"],
        "declared.controls.budget was baseline:steps=0.7, is absent": ["--no-steps-saved"],
        "declared.control_seeds was 2, is 1": ["--control-seeds", "1"],
        "declared.most was 0, is 9": ["--until-separated", "9"],
    }
    for said, words in changed.items():
        done = train(*options, *first, *words)
        assert (done.returncode, said in done.stderr) == (4, True), done.stderr
    done = train(*options, *first, "--arms", "lr@2,rw", "--seeds", "4")
    assert done.returncode == 0, done.stderr
    more = json.loads((tmp_path / "s" / "study.json").read_text())
    assert more["declared"] == expected | {"arms": [["rw"], ["lr@2"]]}
    arms, short = ["baseline", "rw", "lr@2", "naive+1"], ["baseline:lr=0.5", "baseline:lr=2", "baseline:steps=0.7"]
    blocks = [[*arms, *short], [*arms, *short], arms, arms]
    assert done.stdout.splitlines() == [f"{arm}:{seed}" for seed, names in enumerate(blocks) for arm in names]


def test_a_model_that_cannot_be_widened_is_told_how_to_name_a_control(train, tmp_path: Path) -> None:
    options = ["models.py:build", "--arms", "rw", "--seeds", "1", "--steps", "5", "--prepare", "--controls"]
    done = train(*options, "--study", "s")
    assert done.returncode == 0, done.stderr
    assert "no positive control" in done.stderr
    assert "--positive-control" in done.stderr
    short = ["baseline:lr=0.5", "baseline:lr=2", "baseline:steps=0.7"]
    assert done.stdout.split() == [f"{arm}:0" for arm in ("baseline", "rw", *short)]
    wide = ["--against", "models.py:build", "--positive-control", "against:models.py:build", "--study", "t"]
    done = train(*options, *wide)
    assert done.returncode == 0, done.stderr
    assert "no positive control" not in done.stderr
    declared = json.loads((tmp_path / "t" / "study.json").read_text())["declared"]
    assert declared["arms"] == [["rw"]]
    assert declared["controls"]["positive"] == "against:models.py:build"
    assert declared["controls"]["positive_flops_ratio"] == 1


@pytest.mark.slow
def test_every_arm_gets_the_same_search_and_a_typed_rate_stays(train, tmp_path: Path) -> None:
    options = ["models.py:build", "--seeds", "1", "--steps", "5", "--study", "s"]
    done = train(*options, "--arms", "copy,rw,rw:lr=0.5", "--lr-search", "3")
    assert done.returncode == 0, done.stderr
    searched: dict[str, dict[float, float]] = {"baseline": {}, "rw": {}}
    for path in (tmp_path / "s" / "search" / "records").glob("trial-*.json"):
        trial = read(path)["content"]
        searched[trial["arm"]["name"].partition(":")[0]][trial["arm"]["lr_factor"]] = trial["final"]["loss"]
    assert all(len(losses) == 3 for losses in searched.values())
    best = {arm: min(losses, key=lambda factor: losses[factor]) for arm, losses in searched.items()}
    arms = [read(path)["content"]["arm"] for path in (tmp_path / "s" / "records").glob("trial-*.json")]
    used = {arm["name"]: arm["lr_factor"] for arm in arms}
    expected = {"baseline": best["baseline"], "copy": best["baseline"], "rw": best["rw"], "rw:lr=0.5": 0.5}
    assert used == pytest.approx(expected, rel=1e-5)  # a name has six digits
    assert {arm["name"]: arm["kind"] for arm in arms if arm["kind"] != "laurel"} == {
        "baseline": "baseline",
        "copy": "copy",
    }


@pytest.mark.slow
def test_a_baseline_at_another_rate_is_an_arm_like_any_other(train, tmp_path: Path) -> None:
    arms = "baseline:lr=0.01,rw,rw:lr=0.5"
    options = ["--seeds", "2", "--steps", "10", "--study", "s", *ONE, "--format", "json"]
    done = train("models.py:build", "--arms", arms, *options)
    assert done.returncode == 0, done.stderr
    found = {arm["name"]: arm for arm in json.loads(done.stdout)["arms"]}
    assert list(found) == ["baseline", *arms.split(",")]
    assert found["baseline"]["difference"] is None
    for name in arms.split(","):
        own, base = ([trial["loss"] for trial in found[arm]["trials"]] for arm in (name, "baseline"))
        assert own != base
        mean = sum(a - b for a, b in zip(own, base, strict=True)) / 2
        assert found[name]["difference"]["mean"] == pytest.approx(mean)


@pytest.mark.slow
def test_a_wider_model_adds_what_it_has_more_than_the_baseline(train, tmp_path: Path) -> None:
    """Counted by hand: an embedding of 3,072 pixels, two layers of a norm and two maps, a head of ten classes."""
    (tmp_path / "models.py").write_text(MODELS + "\ndef wide():\n    return build(width=32)\n")
    done = train(
        *("models.py:build", "--arms", "rw", "--against", "models.py:wide", "--seeds", "1", "--steps", "5"),
        *(*ONE, "--format", "json"),
    )
    assert done.returncode == 0, done.stderr
    total = {w: 3072 * w + w + 2 * (2 * w + 2 * (w * w + w)) + 10 * w + 10 for w in (16, 32)}
    found = {arm["name"]: arm["parameters"] for arm in json.loads(done.stdout)["arms"]}
    assert found["baseline"] == {"total": total[16], "added": 0}
    assert found["rw"] == {"total": total[16] + 4, "added": 4}
    assert found["against:models.py:wide"] == {"total": total[32], "added": total[32] - total[16]}


@pytest.mark.slow
def test_a_malformed_study_or_trial_is_4(train, tmp_path: Path) -> None:
    """With right checksums: nothing goes on from what cannot be understood."""
    options = ["models.py:build", "--arms", "rw", "--seeds", "1", "--steps", "4", "--format", "json"]
    assert train(*options).returncode == 0
    (path,) = tmp_path.glob("reports/studies/*/study.json")
    whole = path.read_text()
    for change in ({"seeds": "0"}, {"recipe": []}, {"declared": None}, {"arms": [3]}, {"rates": {"rw": "fast"}}):
        path.write_text(json.dumps(json.loads(whole) | change))
        done = train(*options, "--resume")
        assert done.returncode == 4, (change, done.stderr)
        assert "where" in json.loads(done.stdout)["error"]["why"]
    path.write_text(whole)
    record = next((path.parent / "records").glob("trial-*.json"))
    write(record.parent, "trial", "complete", read(record)["content"] | {"seed": [0]})
    done = train(*options, "--resume")
    assert done.returncode == 4, done.stderr
    assert "Its seed is [0], where a whole number belongs" in json.loads(done.stdout)["error"]["why"]
