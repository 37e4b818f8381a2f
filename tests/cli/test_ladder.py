"""`laurel train-proxy --ladder` and its report as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from laurel_cli.records.store import read

TEXT = "".join(f"{n} times {n} is {n * n}, and one more is {n * n + 1}.\n" for n in range(4000))
SMALL = ["--layers", "1", "--seq-len", "32", "--batch", "8", "--evaluation-limit", "2048", "--device", "cpu"]


@pytest.fixture
def train(laurel, tmp_path: Path, cache: Path):
    (tmp_path / "text.txt").write_text(TEXT)

    def run(*arguments: object, **options):
        base = ["paper-c4", "--task", "text:text.txt", *SMALL]
        return laurel("train-proxy", *base, *arguments, env={"LAUREL_CACHE": str(cache)}, **options)

    return run


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ladder", "16,24"], "3 sizes"),
        (["--ladder", "16,24,x"], "'x' is neither"),
        (["--ladder", "16,24x2,32"], "no one dial"),
        (["--ladder", ","], "no list of sizes"),
        (["--ladder", "32,24,16"], "does not ascend"),
        (["--ladder", "64,80,96"], "times the compute"),
        (["--ladder", "16,24,48", "--arms", "rw:grow=stack"], "'rw:grow=stack' cannot stand on a ladder"),
        (
            ["--ladder", "16,24,48", "--positive-control", "baseline:grow=stack"],
            "'baseline:grow=stack' cannot stand on a ladder",
        ),
        (["--ladder", "16,24,32", "--width", "8"], "--ladder and --width contradict"),
        (["--ladder", "16,24,32", "--steps", "8"], "--ladder and --steps contradict"),
        (["--ladder", "16,24,32", "--tokens-per-parameter", "0"], "--tokens-per-parameter 0 is out of range"),
        (["--ladder", "16,24,32", "--tokens-per-parameter", "nan"], "out of range"),
        (["--ladder", "16,32,64", "--ladder-lr", "mup", "--optimizer", "sgd"], "--optimizer sgd and --ladder-lr mup"),
        (["--ladder", "16,32,64", "--ladder-lr", "mup", "--optimizer", "muon"], "rules are those of Adam"),
        (["--ladder", "16x1,32x2,64x4", "--ladder-lr", "mup"], "layers that grow have no rule"),
        (["--ladder", "16,20,64", "--ladder-lr", "mup"], "attention heads 8 wide"),
        (["--ladder", "16,32,64", "--ladder-lr", "mupp"], "Did you mean mup?"),
        (["--ladder", "16,32,64", "--ladder-lr", "mup", "--keep-weights"], "Leave --keep-weights out"),
        (["--ladder-lr", "mup"], "--ladder-lr mup needs --ladder"),
        (["--ladder-lr", "given"], "--ladder-lr given needs --ladder"),
        (["--ladder", "16,32,64", "--lr-search", "1"], "--lr-search needs two rates at least"),
        (["--tokens-per-parameter", "5"], "--tokens-per-parameter 5 needs --ladder"),
        (["--ladder", "16,32,64", "--ladder-lr", "given", "--lr-search", "3"], "A rate that is given is not searched"),
        (["--ladder", "16,32,64", "--ladder-lr", "given", "--optimizer", "sgd"], "rules are those of Adam"),
    ],
)
def test_what_is_no_ladder_is_refused_before_anything_is_trained(train, tmp_path: Path, options, said) -> None:
    done = train(*options, "--study", "s")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert not (tmp_path / "s").exists()


def test_images_have_no_ladder(laurel, tmp_path: Path, cache: Path) -> None:
    options = ["timm:resnet18", "--task", "scenes", "--ladder", "4,8,16"]
    done = laurel("train-proxy", *options, env={"LAUREL_CACHE": str(cache)})
    assert done.returncode == 2
    assert "of text" in done.stderr


@pytest.mark.slow
def test_a_ladder_its_studies_and_its_answer(train, laurel, tmp_path: Path, cache: Path) -> None:
    """Trained, reported, asked for again, extended by a size, and gone on with by a scheduler."""
    options = ["--tokens-per-parameter", "1", "--arms", "rw", "--seeds", "2", "--lr-search", "2", "--no-controls"]
    options += ["--study", "s", "--format", "json"]
    done = train("--ladder", "16,24,48", *options)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "laurel.ladder-report/1"
    assert [size["name"] for size in document["sizes"]] == ["16", "24", "48"]
    assert [size["blocks"] for size in document["sizes"]] == [2, 2, 2]
    assert document["sizes"][-1]["flops"] > 8 * document["sizes"][0]["flops"]
    assert [arm["name"] for arm in document["arms"]] == ["rw"]

    seen: dict[str, set[int]] = {}
    for size in document["sizes"]:
        folder = tmp_path / "s" / size["name"]
        trials = [read(path)["content"] for path in (folder / "records").glob("trial-*.json")]
        assert len(trials) == 4
        seen[size["name"]] = {trial["seed"] for trial in trials}
        assert {trial["final"]["step"] for trial in trials} == {size["steps"]}
        assert {trial["parameters"]["total"] - trial["parameters"]["added"] for trial in trials} == {size["parameters"]}
        assert size["tokens"] == size["steps"] * 8 * 32
        assert size["tokens"] == pytest.approx(size["parameters"], abs=8 * 32)  # one token a parameter
        searched = [read(path)["content"] for path in (folder / "search" / "records").glob("trial-*.json")]
        assert len(searched) == 4  # two rates of two arms
    assert not seen["16"] & seen["24"] | seen["16"] & seen["48"] | seen["24"] & seen["48"]

    reported = laurel("report", "--study", "s", "--format", "json")
    assert reported.returncode == 0, reported.stderr
    ours, theirs = (
        {key: d[key] for key in ("arms", "sizes", "answer")} for d in (json.loads(reported.stdout), document)
    )
    assert ours == theirs
    again = train("--ladder", "16,24,48", *options)
    assert json.loads(again.stdout)["arms"] == document["arms"]

    listed = train("--ladder", "16,24,48,64", *options[:-2], "--prepare")
    assert listed.returncode == 0, listed.stderr
    lines = [line.split() for line in listed.stdout.splitlines()]
    assert [line[1::2] for line in lines] == [
        ["s/64", f"{arm}:{seed}"] for seed in (3000, 3001) for arm in ("baseline", "rw")
    ]
    partial = json.loads(laurel("report", "--study", "s", "--format", "json").stdout)
    assert (partial["status"], partial["look"]) == ("partial", 0)
    for line in lines:
        assert laurel("train-proxy", *line, env={"LAUREL_CACHE": str(cache)}).returncode == 0
    grown = json.loads(laurel("report", "--study", "s", "--format", "json").stdout)
    assert (grown["status"], grown["look"]) == ("complete", 1)
    assert [size["blocks"] for size in grown["sizes"]] == [2] * 4

    done = train("--ladder", "16,32,48,64", *options)
    assert done.returncode == 2
    assert "larger sizes" in done.stdout
    done = train("--study", "s")
    assert done.returncode == 2
    assert "holds a ladder" in done.stderr
    done = laurel("report", "--study", "s", "--cost", "latency")
    assert done.returncode == 2
    assert "--cost is not asked of a ladder" in done.stderr


def test_a_model_without_a_rule_is_refused_before_anything_is_trained(train, tmp_path: Path) -> None:
    """Its number of heads is given, so that they grow wider."""
    options = ["--ladder", "16,32,64", "--ladder-lr", "mup", "--study", "s"]
    done = train(*options, "--model-arg", "heads=2")
    assert done.returncode == 2, done.stderr
    assert "8 and 16 and 32 wide" in done.stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_rates_of_the_smallest_size_are_carried_by_mup(train, laurel, tmp_path: Path, cache: Path) -> None:
    options = ["--ladder", "16,24,48", "--ladder-lr", "mup", "--tokens-per-parameter", "1", "--arms", "rw+lr@4"]
    options += ["--seeds", "2", "--lr-search", "2", "--no-steps-saved", "--study", "s", "--format", "json"]
    done = train(*options)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["mup"] is True
    studies = {size: json.loads((tmp_path / "s" / size / "study.json").read_text()) for size in ("16", "24", "48")}
    assert [study["recipe"]["model"].get("mup_base") for study in studies.values()] == [None, 16, 16]
    assert (tmp_path / "s" / "16" / "search").is_dir()
    assert not (tmp_path / "s" / "24" / "search").exists()
    positive = {size: study["declared"]["controls"]["positive"] for size, study in studies.items()}
    rates = {
        size: {"positive" if name == positive[size] else name: rate for name, rate in study["rates"].items()}
        for size, study in studies.items()
    }
    assert "rw+lr@4" in rates["16"]
    assert "positive" in rates["16"]
    assert rates["16"] == rates["24"] == rates["48"]
    for size in document["sizes"]:
        assert [gain["name"] for gain in size["rate_gains"]] == ["baseline:lr=0.5", "baseline:lr=2"]
        assert all(gain["gain"] for gain in size["rate_gains"])
    assert {size["width"] / size["heads"] for size in document["sizes"]} == {8}
    assert any("carried by muP" in note for note in document["notes"])

    reported = laurel("report", "--study", "s")
    assert "Does the carried rate fit?" in reported.stdout
    again = train(*options)
    assert json.loads(again.stdout)["arms"] == document["arms"]
    other = train(*options[:2], *options[4:], "--resume")
    assert other.returncode == 4
    assert "ladder_lr was mup, is search" in json.loads(other.stdout)["error"]["why"]
    written = train(*options[:-2], "--write-config", "ladder.toml")
    assert written.returncode == 0, written.stderr
    assert 'ladder-lr = "mup"' in (tmp_path / "ladder.toml").read_text()


@pytest.mark.slow
def test_a_rate_that_is_given_is_that_of_the_smallest_size_for_every_arm(train, laurel, tmp_path: Path, cache) -> None:
    options = ["--ladder", "16,24,48", "--ladder-lr", "given", "--lr", "0.01", "--tokens-per-parameter", "1"]
    options += ["--arms", "rw", "--seeds", "2", "--no-steps-saved", "--study", "s", "--format", "json"]
    done = train(*options)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["mup"], document["rates"]) == (True, 0)
    assert any("none was searched" in note for note in document["notes"])
    for size in ("16", "24", "48"):
        study = json.loads((tmp_path / "s" / size / "study.json").read_text())
        assert (study["rates"], study["recipe"]["lr"]) == ({}, 0.01)
        assert study["recipe"]["model"].get("mup_base") == (None if size == "16" else 16)
        assert not (tmp_path / "s" / size / "search").exists()
    assert "the recipe's at the smallest size, carried by muP" in laurel("report", "--study", "s").stdout
    other = train(*options[:2], "--ladder-lr", "mup", *options[4:], "--resume")
    assert other.returncode == 4
    assert "ladder_lr was given, is mup" in json.loads(other.stdout)["error"]["why"]
    written = train(*options[:-2], "--write-config", "ladder.toml")
    assert 'ladder-lr = "given"' in (tmp_path / "ladder.toml").read_text(), written.stderr


@pytest.mark.parametrize("more", [["--executor", "slurm"], ["--detach"], ["--dry-run"], ["--status"]])
def test_a_ladder_is_trained_on_this_machine(laurel, more: list[str]) -> None:
    done = laurel("train-proxy", "paper-c4", "--ladder", "16,32,64", "--study", "ladder", *more)
    assert done.returncode == 2
    assert "ladder" in done.stderr
