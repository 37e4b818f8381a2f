"""What a model has learned becomes a part of its weights, in a file that PyTorch opens by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import laurel_cli
from laurel_cli.laurel import deploy as deployed
from laurel_cli.laurel.deploy import deploy
from laurel_cli.models.inputs import Inputs
from laurel_cli.render import render

OPENS = """
import sys

class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("laurel_cli", "torchvision", "transformers"):
            raise ImportError(f"{name} is not to be had here")

sys.meta_path.insert(0, Refuse())
import torch

given, wanted = torch.load("given.pt"), torch.load("wanted.pt")
model = torch.export.load("folded/model.pt2").module()
for x, y in zip(given, wanted):
    found = model(x)
    found = found[0] if isinstance(found, tuple) else found
    # Rounding goes with the largest of the outputs, not with each of them.
    torch.testing.assert_close(found, y, rtol=0, atol=1e-4 * float(y.abs().max()))
"""


def stir(model):
    """Give what LAuReL learned other values than those of its start."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in laurel_cli.parameters(model):
            parameter.add_(0.2 * torch.rand(parameter.shape, generator=generator))


def opens(given, wanted, python):
    """Whether the file gives the same in a process that has PyTorch alone."""
    torch.save(given, "given.pt")
    torch.save(wanted, "wanted.pt")
    python(OPENS)


SLOWLY = [pytest.param(arm, marks=pytest.mark.slow) for arm in ("rw", "layerscale")]


@pytest.mark.parametrize("arm", ["rw+lr@4", *SLOWLY])
def test_a_folded_resnet_is_one_file_for_any_number_of_images(arm, laurel, python, tmp_path, monkeypatch):
    torch.manual_seed(3)
    model = torchvision.models.resnet18(num_classes=10)
    save_file(model.state_dict(), tmp_path / "trained.safetensors")
    sized = ["--model-arg", "num_classes=10", "--image-size", "64"]
    words = ["--weights", "trained.safetensors", "--arms", arm, *sized, "--output", "made"]
    assert laurel("convert", "resnet18", *words).returncode == 0
    monkeypatch.chdir(tmp_path)
    trained = laurel_cli.load("made").module
    stir(trained)
    laurel_cli.save(trained, "made")
    done = laurel("convert", "made", "--fold", "--output", "folded", "--format", "json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["schema"], said["batch"], said["left"]) == ("laurel.deploy/1", 0, [])
    assert said["difference"] < 1e-4
    assert said["norms"] == 20  # all of a ResNet-18's
    given = [torch.randn(n, 3, 64, 64) for n in (1, 2, 5)]
    with torch.no_grad():
        wanted = [trained.eval()(x) for x in given]
        plain = laurel_cli.remove(trained)(given[0])
    assert not torch.allclose(plain, wanted[0], rtol=1e-2)  # what was learned matters
    opens(given, wanted, python)
    table = render(said, "table")
    assert "torch.export.load('folded/model.pt2').module()" in table
    assert "any number" in table


class Centres(nn.Module):
    """Takes the mean of the samples away where there are several."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x):
        x = x + self.map(x)
        return x - x.mean(0) if x.shape[0] > 1 else x


class Keeps(Centres):
    def forward(self, x):
        return x + self.map(x)


@pytest.mark.parametrize(("kind", "any_number"), [(Centres, False), (Keeps, True)])
def test_any_number_of_samples_is_said_where_one_is_among_them(kind, any_number, tmp_path):
    x = torch.randn(2, 4)
    model = laurel_cli.apply(kind().eval(), "rw", x)
    stir(model)
    made = deploy(model, Inputs((x,)), tmp_path)
    program = torch.export.load(tmp_path / "model.pt2").module()

    def takes(number):
        given = torch.randn(number, 4)
        with torch.no_grad():
            wanted = model(given)
        try:
            found = program(given)
        except Exception:  # noqa: BLE001 - refused, in whatever way
            return False
        return found.shape == wanted.shape and torch.allclose(found, wanted, atol=1e-5)

    assert takes(2)
    assert takes(1) == (made.batch == 0) == any_number


class Pairs(Keeps):
    """Takes two inputs by name, whose numbers of samples are one."""

    def forward(self, *, x, y):
        return super().forward(x) * y


def test_inputs_that_are_given_by_name_may_have_to_be_of_one_number(tmp_path):
    named = {name: torch.randn(2, 4) for name in ("x", "y")}
    model = laurel_cli.apply(Pairs().eval(), "rw", named)
    stir(model)
    assert deploy(model, Inputs(kwargs=named), tmp_path).batch == 0
    program = torch.export.load(tmp_path / "model.pt2").module()
    x, y = torch.randn(2, 5, 4)
    with torch.no_grad():
        assert torch.allclose(program(x=x, y=y), model(x=x, y=y), atol=1e-5)
    with pytest.raises(AssertionError, match="Guard failed"):
        program(x=x, y=y[:3])


@pytest.mark.parametrize(("arm", "folded"), [("rw", 1), ("lr@2", 0), ("pa", 0), ("rw+lr@2", 1)])
def test_only_what_went_into_weights_is_called_folded(arm, folded, tmp_path):
    x = torch.randn(2, 4)
    model = laurel_cli.apply(Keeps().eval(), arm, x)
    stir(model)
    before = model.map.weight.clone()
    made = deploy(model, Inputs((x,)), tmp_path)
    program = torch.export.load(tmp_path / "model.pt2")
    kept = any(torch.equal(value, before) for value in program.state_dict.values())
    assert (made.folded, made.connections, kept) == (folded, 1, not folded)
    said = vars(made) | {"schema": "laurel.deploy/1", "command": "", "model": "m", "arm": arm, "file": "f"}
    table = render(said | {"warnings": []}, "table")
    assert f"{folded} of 1 connections" in table
    assert next(iter(made.sums)) in table


def bottlenecks():
    torch.manual_seed(3)
    model = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [2, 1, 1, 1], num_classes=5).eval()
    x = torch.randn(2, 3, 64, 64)
    laurel_cli.apply(model, "rw+lr@4", x)
    stir(model)
    return model, x


def test_the_file_is_what_profile_times(tmp_path):
    """No norm is left, and no low-rank map: of five, four are in projections, one is more channels of a branch."""
    model, x = bottlenecks()
    made = deploy(model, Inputs((x,)), tmp_path)
    assert made.norms == sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert made.sums == {"f + x": 4, "f + b x (B A x in f)": 1}
    graph = torch.export.load(tmp_path / "model.pt2").graph
    called = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    assert not any("norm" in name for name in called)
    assert sum("conv" in name for name in called) == sum(
        isinstance(module, nn.Conv2d) for module in laurel_cli.remove(model).modules()
    )


def test_what_moves_the_outputs_too_far_is_not_merged(tmp_path, monkeypatch):
    model, x = bottlenecks()
    own = deployed.merge

    def spoiled(folded, inputs):
        found = own(folded, inputs)
        with torch.no_grad():
            folded.conv1.weight.mul_(1.01)
        return found

    monkeypatch.setattr(deployed, "merge", spoiled)
    made = deploy(model, Inputs((x,)), tmp_path)
    assert (made.norms, made.connections) == (0, 5)
    assert not any("in f" in form for form in made.sums)
    program = torch.export.load(tmp_path / "model.pt2").module()
    with torch.no_grad():
        wanted = model(x)
    torch.testing.assert_close(program(x), wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.slow
def test_a_folded_gpt2_returns_tensors_alone(laurel, tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=3, n_embd=32, n_head=2, vocab_size=64, n_positions=32, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    )
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    words = ["--weights", "gpt2", "--variant", "rw+lr", "--rank", "4", "--output", "made"]
    assert laurel("convert", "hf:gpt2", *words).returncode == 0
    monkeypatch.chdir(tmp_path)
    trained = laurel_cli.load("made")
    stir(trained.module)
    laurel_cli.save(trained.module, "made")
    done = laurel("convert", "made", "--fold", "--output", "folded", "--format", "json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["connections"], said["folded"]) == (6, 6)
    ids = torch.arange(2 * trained.inputs.kwargs["input_ids"].shape[1]).reshape(2, -1) % 64
    with torch.no_grad():
        wanted = trained.module(input_ids=ids, use_cache=False).logits
    program = torch.export.load("folded/model.pt2").module()
    found = program(**{**trained.inputs.kwargs, "input_ids": ids})
    torch.testing.assert_close(found[0] if isinstance(found, tuple) else found, wanted, rtol=1e-4, atol=1e-4)
    again = laurel("convert", "made", "--fold", "--output", "folded", "--force")
    assert (again.returncode, "any number" in again.stdout) == (0, True), again.stderr


@pytest.mark.slow
def test_inputs_that_the_folder_names_are_those_of_the_file(laurel, tmp_path, monkeypatch):
    """And sizes that are asked for take their place, as inputs that are asked for do that of sizes."""
    torch.manual_seed(3)
    save_file(torchvision.models.resnet18(num_classes=10).state_dict(), tmp_path / "trained.safetensors")
    words = ["--weights", "trained.safetensors", "--arms", "rw", "--model-arg", "num_classes=10"]
    named = laurel("convert", "resnet18", *words, "--input", "x=float32:3x3x64x64", "--output", "named")
    sized = laurel("convert", "resnet18", *words, "--image-size", "64", "--output", "sized")
    assert (named.returncode, sized.returncode) == (0, 0), named.stderr + sized.stderr
    monkeypatch.chdir(tmp_path)

    def shape(folder, **asked):
        inputs = laurel_cli.load(folder, **asked).inputs
        return next(iter((*inputs.args, *inputs.kwargs.values()))).shape

    assert shape("named") == (3, 3, 64, 64)
    assert shape("named", image_size=32) == (1, 3, 32, 32)
    assert shape("sized", inputs=["x=float32:2x3x32x32"]) == (2, 3, 32, 32)
    done = laurel("convert", "named", "--fold", "--output", "folded", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["batch"] == 0


def test_what_fold_needs_is_said(laurel, tmp_path):
    plain = laurel("convert", "resnet18", "--fold", "--output", "folded")
    assert (plain.returncode, "is no folder of a model with LAuReL" in plain.stderr) == (2, True)
    both = laurel("convert", "resnet18", "--fold", "--variant", "rw", "--output", "folded")
    assert (both.returncode, "--fold takes no --variant" in both.stderr) == (2, True)
    for words in (["--rank", "8"], ["--normalize", "softmax"]):
        formed = laurel("convert", "resnet18", "--fold", *words, "--output", "folded")
        assert (formed.returncode, "setting of a formula" in formed.stderr) == (2, True)
    pytest.importorskip("transformers")
    kept = Path(__file__).parents[2] / "reports" / "studies" / "books-decoder" / "weights" / "baseline-0"
    bare = laurel("convert", str(kept), "--fold", "--output", "bare")
    assert (bare.returncode, "has no LAuReL" in bare.stderr) == (2, True), bare.stderr
    more = laurel("convert", "resnet18", "--weights", "w.safetensors", "--arms", "naive+1,rw", "--output", "made")
    assert (more.returncode, "'naive+1' is no formula" in more.stderr) == (2, True)
    nothing = laurel("convert", "resnet18", "--variant", "rw", "--output", "made")
    assert (nothing.returncode, "There are no weights" in nothing.stderr) == (2, True)
    assert not (tmp_path / "folded").exists()
    assert not (tmp_path / "made").exists()
