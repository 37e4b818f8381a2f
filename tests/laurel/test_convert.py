"""A trained model is given LAuReL on disk: the same function, opened again by its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

import laurel_cli
from laurel_cli.errors import ModelError, RecordError
from laurel_cli.laurel.convert import convert
from laurel_cli.laurel.spec import Spec
from laurel_cli.render import render

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x).tanh()
        return x

def build():
    return Net(), torch.randn(2, 8)
"""


@pytest.fixture
def resnet(tmp_path):
    """A ResNet-18 whose weights are no start's, and a batch."""
    torch.manual_seed(3)
    model = torchvision.models.resnet18(num_classes=10).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    save_file(model.state_dict(), tmp_path / "trained.safetensors")
    return model, torch.randn(2, 3, 64, 64)


def test_a_folder_is_opened_with_the_batch_that_is_asked_for(resnet, tmp_path):
    options = {"batch": 2, "image_size": 64, "model_args": {"num_classes": 10}}
    convert("resnet18", tmp_path / "trained.safetensors", Spec(rw=True), tmp_path / "made", options=options)
    shapes = [laurel_cli.load(str(tmp_path / "made"), **asked).inputs.args[0].shape for asked in ({}, {"batch": 1})]
    assert shapes == [(2, 3, 64, 64), (1, 3, 64, 64)]


def test_the_function_is_kept_and_the_folder_opens(resnet, laurel, tmp_path, monkeypatch):
    model, x = resnet
    words = ["--weights", "trained.safetensors", "--variant", "rw+lr", "--rank", "4", "--model-arg", "num_classes=10"]
    done = laurel("convert", "resnet18", *words, "--output", "made", "--format", "json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["difference"] <= 1e-6
    own = 2 * 8 + 2 * 4 * (2 * 64 + 2 * 128 + 2 * 256 + 2 * 512)
    assert (said["connections"], said["added"]) == (8, own)
    assert said["parameters"] == own + sum(p.numel() for p in model.parameters())
    monkeypatch.chdir(tmp_path)
    opened = laurel_cli.load("made")
    with torch.no_grad():
        assert torch.allclose(opened.module(x), model(x), rtol=0, atol=1e-5)
        # What LAuReL learned since is there too, and so in another build of the same folder.
        for parameter in laurel_cli.parameters(opened.module):
            parameter.add_(0.1)
        laurel_cli.save(opened.module, "trained")
        assert torch.equal(laurel_cli.load("trained").module(x), opened.module(x))
    # Of a model that was built by hand nobody knows how.
    laurel_cli.save(laurel_cli.apply(model, "rw", x), "by-hand")
    assert "built" not in json.loads(Path("by-hand/laurel.json").read_text())
    with pytest.raises(RecordError, match="does not say how its model is built"):
        laurel_cli.load("by-hand")


def test_a_model_of_nothing_but_nan_is_not_called_unchanged(resnet, tmp_path):
    weights = load_file(tmp_path / "trained.safetensors")
    save_file(weights | {"fc.bias": weights["fc.bias"] * torch.nan}, tmp_path / "broken.safetensors")
    sized = {"model_args": {"num_classes": 10}, "image_size": 32}
    made = convert("resnet18", tmp_path / "broken.safetensors", Spec(rw=True), tmp_path / "made", options=sized)
    assert made.difference is None
    said = vars(made) | {"schema": "laurel.convert/1", "command": "", "model": "resnet18", "arm": "rw"}
    table = render(said | {"weights": "", "folder": "made", "warnings": []}, "table")
    assert "not compared: in float32" in table
    loaded = laurel_cli.load(str(tmp_path / "made"))
    with pytest.raises(ModelError, match="could not be checked"):
        laurel_cli.fold(loaded.module, loaded.inputs)


@pytest.mark.slow
def test_half_weights_stay_half_and_nothing_moves(resnet, laurel, tmp_path, monkeypatch):
    weights = {
        k: v.bfloat16() if v.is_floating_point() else v for k, v in load_file(tmp_path / "trained.safetensors").items()
    }
    save_file(weights, tmp_path / "half.safetensors")
    words = [
        "--weights",
        "half.safetensors",
        "--arms",
        "layerscale",
        "--model-arg",
        "num_classes=10",
        "--output",
        "made",
    ]
    done = laurel("convert", "resnet18", *words, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert (json.loads(done.stdout)["dtype"], json.loads(done.stdout)["difference"]) == ("bfloat16", 0.0)
    monkeypatch.chdir(tmp_path)
    loaded = laurel_cli.load("made")
    assert loaded.input_description == "x: bfloat16 [1, 3, 224, 224]"
    with torch.no_grad():
        assert loaded.inputs.call(loaded.module).dtype == torch.bfloat16
    opened = loaded.module
    assert opened.fc.weight.dtype == opened.conv1.weight.dtype == torch.bfloat16
    assert torch.equal(opened.fc.weight, weights["fc.weight"])


@pytest.mark.slow
def test_inputs_and_notes_of_a_folder_are_those_of_its_weights(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=64, n_positions=32)
    transformers.GPT2LMHeadModel(config).bfloat16().save_pretrained(tmp_path / "gpt2")
    formula = Spec(rw=True)
    convert(f"hf:{tmp_path / 'gpt2'}", tmp_path / "gpt2", formula, tmp_path / "made")
    again = laurel_cli.load(str(tmp_path / "made"))
    assert {parameter.dtype for parameter in again.module.parameters()} == {torch.bfloat16}
    assert not [note for note in again.notes if "float32" in note]


@pytest.mark.slow
def test_a_model_is_opened_where_another_one_stood(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=64, n_positions=32)
    place(transformers.GPT2LMHeadModel(config), tmp_path / "made")
    save_file(torchvision.models.resnet18().state_dict(), tmp_path / "trained.safetensors")
    convert("resnet18", tmp_path / "trained.safetensors", Spec(rw=True), tmp_path / "made")
    assert isinstance(laurel_cli.load(str(tmp_path / "made")).module, torchvision.models.ResNet)


def place(model, folder):
    """Write a model of transformers with LAuReL."""
    laurel_cli.save(laurel_cli.apply(model, "rw", {"input_ids": torch.arange(8)[None]}), folder)


@pytest.mark.slow
def test_a_start_that_is_not_the_baselines_is_said(resnet, laurel):
    words = ["--weights", "trained.safetensors", "--variant", "rw", "--normalize", "softmax", "--output", "made"]
    done = laurel("convert", "resnet18", *words, "--model-arg", "num_classes=10")
    assert done.returncode == 0, done.stderr
    assert "function      changed" in done.stdout


@pytest.mark.slow
def test_a_model_of_transformers_opens_by_its_folder(laurel, tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=64, n_positions=32)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path / "gpt2")
    done = laurel("convert", "hf:gpt2", "--weights", "gpt2", "--variant", "rw", "--output", "made", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert "%" not in done.stderr  # transformers has a bar for the files that it writes
    assert json.loads(done.stdout)["difference"] <= 1e-6
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").rename(tmp_path / "moved")  # it stands on its own
    ids = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.allclose(laurel_cli.load("moved").module(ids).logits, model(ids).logits, atol=1e-5)
        opened = transformers.AutoModelForCausalLM.from_pretrained("moved")
        largest = float(model(ids).logits.abs().max())
        assert float((opened(ids).logits - model(ids).logits).abs().max()) <= 1e-6 * largest
    short = laurel_cli.load("moved", seq_len=1).inputs
    assert [tuple(one.shape) for one in (*short.args, *short.kwargs.values())] == [(1, 1)]
    assert len(laurel_cli.parameters(opened)) == 4  # two layers of two connections, a and b in one parameter
    assert json.loads(done.stdout)["architecture"] == "GPT2LMHeadModel"


def test_what_fails_leaves_no_folder(laurel, tmp_path):
    done = laurel("convert", "resnet18", "--weights", "none.safetensors", "--variant", "rw", "--output", "made")
    assert done.returncode == 4, done.stderr
    assert not (tmp_path / "made").exists()


def test_a_folder_gets_no_code_to_run(laurel, tmp_path, monkeypatch):
    (tmp_path / "converted.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    model, x = __import__("converted").build()
    save_file(model.state_dict(), "net.safetensors")
    words = ["--weights", "net.safetensors", "--variant", "rw", "--output", "made"]
    done = laurel("convert", "converted.py:build", *words)
    assert done.returncode == 0, done.stderr
    assert "unchanged" in done.stdout
    with pytest.raises(ModelError, match="does not get code of yours to run"):
        laurel_cli.load("made")
    again = laurel_cli.restore(__import__("converted").build()[0], "made")
    assert torch.allclose(again(x), model(x), atol=1e-6)


def test_weights_of_another_model_and_pickles_are_refused(resnet, laurel, tmp_path):
    words = ["--variant", "rw", "--output", "made"]
    other = laurel("convert", "resnet34", "--weights", "trained.safetensors", *words)
    assert (other.returncode, "holds another model" in other.stderr) == (RecordError.exit_code, True)
    assert not (tmp_path / "made").exists()
    (tmp_path / "a.pt").write_bytes(b"x")
    assert laurel("convert", "resnet18", "--weights", "a.pt", *words).returncode == 2
    (tmp_path / "a.safetensors").write_bytes(b"x")
    assert laurel("convert", "resnet18", "--weights", "a.safetensors", *words).returncode == 4
    assert laurel("convert", "resnet18", "--weights", "none.safetensors", *words).returncode == 4
    several = laurel(
        "convert", "resnet18", "--weights", "trained.safetensors", "--variant", "rw,lr", "--output", "made"
    )
    assert (several.returncode, "One formula is needed" in several.stderr) == (2, True)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "mine").write_text("x")
    kept = laurel("convert", "resnet18", "--weights", "trained.safetensors", *words)
    assert (kept.returncode, "exists already" in kept.stderr) == (2, True)
