"""Trained weights that are kept are those that were evaluated, and a stranger to the study can open and use them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import laurel_cli
from laurel_cli.proxy import batches
from laurel_cli.proxy.augment import normalise
from laurel_cli.proxy.weights import checksum
from laurel_cli.study import folder as studies
from laurel_cli.study import kept
from laurel_cli.study.compare import prepare
from laurel_cli.study.worker import run_trial
from laurel_cli.tasks import open_task
from laurel_cli.tasks.reading.tokenizers import of_bytes
from tests.proxy.small import planned, small_study

RESNET = {"model": "timm:resnet18", "task": "scenes", "layers": (1, 1, 1, 1), "width": 8, "batch": 16}
VIT = {"model": "timm:vit_tiny_patch16_224", "task": "scenes", "layers": 2, "width": 32, "batch": 16}
VIT |= {"model_args": {"patch_size": 8}}
GPT2 = {"model": "gpt2", "layers": 2, "width": 32}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "decoder-rw+lr": ({}, "rw+lr@2"),
    "decoder-baseline": ({}, "baseline"),
    "decoder-wider": ({"width": 16}, "baseline:width=2"),
    "decoder-streams": ({"layers": 2}, "hc"),
    "resnet-rw": (RESNET, "rw"),
    "resnet-baseline": (RESNET, "baseline"),
    "vit-rw+lr+pa": (VIT, "rw+lr+pa@2"),
    "gpt2-rw": (GPT2, "rw"),
    "gpt2-baseline": (GPT2, "baseline"),
}


def trained(tmp_path: Path, settings: dict, arm: str, **options: bool) -> tuple[studies.Study, dict[str, Any]]:
    settings = dict(settings)
    if settings.get("task") == "scenes":
        settings |= {"train_limit": 64, "evaluation_limit": 40, "seq_len": None}
    asked = small_study(tmp_path / "study", steps=3, arms=arm, seeds=1, controls=False, evaluations=1, **settings)
    folder = prepare(planned(asked)).folder
    return studies.load(folder), run_trial(folder, arm, 0, command="", **({"keep": True} | options))


def loss_of(model: torch.nn.Module, study: studies.Study) -> float:
    """Of the evaluation, written out."""
    task = open_task(**vars(study.recipe.task))
    total, count = 0.0, 0
    with torch.no_grad():
        for inputs, targets in batches.evaluation(task, 16):
            found = model.eval()(normalise(task, inputs) if task.kind == "image" else inputs)
            logits = getattr(found, "logits", found)
            total += float(F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="sum"))
            count += targets.numel()
    return total / count


@pytest.mark.parametrize("case", CASES)
def test_what_is_kept_is_what_was_evaluated(case: str, tmp_path: Path, cache: Path) -> None:
    settings, arm = CASES[case]
    if settings.get("model") == "gpt2":
        pytest.importorskip("transformers")
    study, trial = trained(tmp_path, settings, arm)
    place = tmp_path / "study" / trial["weights"]["folder"]
    assert trial["weights"]["sha256"] == checksum(place)
    opened = laurel_cli.load(str(place))
    assert sum(p.numel() for p in opened.module.parameters()) == trial["parameters"]["total"]
    assert loss_of(opened.module, study) == pytest.approx(trial["final"]["loss"], rel=1e-5)
    assert sorted(path.name for path in place.parent.iterdir()) == [place.name]  # no part of it beside it


def test_a_naively_deeper_model_has_its_weights_alone(tmp_path: Path, cache: Path) -> None:
    _, trial = trained(tmp_path, {"layers": 2}, "naive+1")
    place = tmp_path / "study" / trial["weights"]["folder"]
    assert {path.name for path in place.iterdir()} <= {"model.safetensors", "tokenizer.json"}


def test_transformers_opens_its_own_folder_and_writes_with_its_tokenizer(tmp_path: Path, cache: Path) -> None:
    transformers = pytest.importorskip("transformers")
    study, trial = trained(tmp_path, GPT2, "baseline")
    place = tmp_path / "study" / trial["weights"]["folder"]
    model = transformers.AutoModelForCausalLM.from_pretrained(place)
    assert model.config.use_cache is True
    assert model.generation_config.use_cache is True
    assert loss_of(model, study) == pytest.approx(trial["final"]["loss"], rel=1e-5)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(place / "tokenizer.json"))
    text = 'def f(x):\n\treturn "ümlaut, \x00 €  漢字"\n'
    assert tokenizer(text)["input_ids"] == list(text.encode())
    assert tokenizer.decode(list(text.encode())) == text


def test_images_say_how_they_were_normalised(tmp_path: Path, cache: Path) -> None:
    study, trial = trained(tmp_path, RESNET, "rw")
    task = open_task(**vars(study.recipe.task))
    assert (trial["weights"]["mean"], trial["weights"]["sd"]) == (list(task.mean), list(task.sd))
    _, text = trained(tmp_path / "text", {}, "rw")
    assert (text["weights"]["mean"], text["weights"]["sd"]) == (None, None)


def test_a_study_goes_on_from_them(tmp_path: Path, cache: Path) -> None:
    """The baseline's loss before its first step is that with which the weights were kept."""
    study, trial = trained(tmp_path, {}, "baseline")
    place = tmp_path / "study" / trial["weights"]["folder"]
    asked = small_study(tmp_path / "on", steps=1, arms="rw", seeds=1, controls=False, weights=place, lr=1e-12)
    folder = prepare(planned(asked)).folder
    after = run_trial(folder, "rw", 0, command="")
    assert after["final"]["loss"] == pytest.approx(trial["final"]["loss"], rel=1e-5)
    assert math.isfinite(loss_of(laurel_cli.load(str(place)).module, study))


def test_nothing_is_kept_unasked_and_what_is_gone_is_said(tmp_path: Path, cache: Path) -> None:
    _, trial = trained(tmp_path, {}, "rw", keep=False)
    assert "weights" not in trial
    assert not (tmp_path / "study" / kept.FOLDER).exists()
    asked = small_study(tmp_path / "study", steps=3, arms="rw", seeds=1, controls=False, evaluations=1, resume=True)
    (said,) = studies.without_weights(tmp_path / "study")
    assert "of 1 trials" in said
    again = prepare(planned(asked.__class__(**vars(asked) | {"keep_weights": True})))
    assert said in again.warnings
    assert said not in prepare(planned(asked)).warnings


def test_an_attempt_that_was_killed_before_its_record_leaves_nothing_in_the_way(tmp_path: Path, cache: Path) -> None:
    asked = small_study(tmp_path / "study", steps=3, arms="rw", seeds=1, controls=False, evaluations=1)
    folder = prepare(planned(asked)).folder
    for name in ("rw-0", ".rw-0.part"):
        (folder / "weights" / name).mkdir(parents=True)
        (folder / "weights" / name / "old.safetensors").write_bytes(b"torn")
    trial = run_trial(folder, "rw", 0, command="", keep=True)
    place = folder / trial["weights"]["folder"]
    assert {path.name for path in place.iterdir()} >= {"laurel.json", "model.safetensors"}
    assert not (place / "old.safetensors").exists()
    assert [path.name for path in (folder / "weights").iterdir()] == ["rw-0"]


def test_bytes_are_tokens_of_their_own_number() -> None:
    pytest.importorskip("tokenizers")
    from tokenizers import Tokenizer

    read = Tokenizer.from_str(of_bytes())
    assert json.loads(of_bytes())["model"]["type"] == "BPE"
    for text in ("", " a  b\n", "\x7f\u00ad\u0100", "🙂"):
        assert read.encode(text).ids == list(text.encode())
        assert read.decode(list(text.encode())) == text
