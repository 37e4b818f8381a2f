"""The Python API from a notebook's point of view: strings, modules and inputs go in, objects that answer come out."""

import doctest
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

import laurel_cli
import laurel_cli as laurel
from laurel_cli.api.trained import StudyResult
from laurel_cli.arms import parse_arm
from laurel_cli.errors import ModelError, UsageError
from laurel_cli.study import folder as study
from laurel_cli.study.compare import Prepared, judged
from tests.rivals.shown import shown

ROOT = Path(__file__).parents[1]
D, RANK = 8, 2


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(D, D), nn.Dropout(0.5), nn.Linear(D, D))

    def forward(self, x):
        return x + self.f(x)


def net():
    return nn.Sequential(nn.Linear(D, D), *(Block() for _ in range(3)))


@pytest.fixture
def x():
    return torch.randn(2, 4, D)


def test_a_module_is_analysed_and_left_as_it_is(x):
    model = net().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    found = laurel.analyze(model, ["rw", laurel.Spec.parse("rw+lr", rank=RANK), parse_arm("layerscale")], x)
    assert model.training
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    added = {name: found.arm(name).added_parameters for name in ("baseline", "rw", f"rw+lr@{RANK}", "layerscale")}
    assert added == {"baseline": 0, "rw": 6, f"rw+lr@{RANK}": 3 * (2 * RANK * D + 2), "layerscale": 3 * D}
    assert found.arm("rw").added_elementwise_flops == found.document()["arms"][1]["added_elementwise_flops"] > 0
    with pytest.raises(KeyError, match="lr@4"):
        found.arm("lr@4")


def test_what_it_answers_reads_as_a_frame_as_json_and_as_html(x):
    pandas = pytest.importorskip("pandas")
    found = laurel.analyze(net(), "rw,attnres", x, check=False)
    frame = found.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.index) == ["baseline", "rw", "attnres"]
    assert frame.loc["rw", "added_parameters"] == 6
    assert json.loads(found.to_json()) == json.loads(json.dumps(found.to_dict()))
    assert "<table" in found._repr_html_()


def test_references_and_inputs_of_ones_own():
    small, usual = (laurel.analyze("resnet18", "rw", given, check=False) for given in (torch.randn(1, 3, 64, 64), None))
    assert small.arm("rw").added_parameters == usual.arm("rw").added_parameters == 16
    assert small.arm("baseline").macs < usual.arm("baseline").macs


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((net(), "rw"), TypeError), (("resnet18", "rezro"), UsageError), (("resnet1", "rw"), ModelError)],
)
def test_mistakes(arguments, error):
    with pytest.raises(error):
        laurel.analyze(*arguments)


def test_the_map_as_a_frame(x):
    pytest.importorskip("pandas")
    frame = laurel.residual_map(net(), x).to_frame()
    assert list(frame["name"]) == ["1:0", "2:0", "3:0"]
    assert set(frame["kind"]) == {"identity"}
    assert set(frame["width"]) == {D}
    written = json.loads(laurel.residual_map(net(), x).to_json())
    assert [entry["module"] for entry in written["connections"]] == ["1", "2", "3"]
    assert [entry["line"] for entry in written["connections"]] == list(frame["line"])
    line = next(
        n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "return x + self.f(x)" in text
    )
    assert set(zip(frame["file"], frame["line"], strict=True)) == {(__file__, line)}


def test_applied_where_it_is_wanted(x):
    model = laurel.apply(net().eval(), "rw+lr@2", x, only="[23]:*")
    assert [name for name, _ in model.named_modules() if name.endswith("laurel0")] == ["2.laurel0", "3.laurel0"]
    with pytest.raises(ModelError, match="is called '9"):
        laurel.apply(net(), "rw", x, only="9*")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        laurel.remove(model)


def run_example(name: str, folder: Path) -> int:
    """Run what the docstring of a public name shows, in a folder beside the committed reports; how many lines."""
    (folder / "reports").symlink_to(ROOT / "reports")
    (folder / "my_arm.py").write_text(shown())
    tests = doctest.DocTestFinder(recurse=False).find(getattr(laurel_cli, name), name)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    assert all(not runner.run(test).failed for test in tests)
    return sum(len(test.examples) for test in tests)


def test_gains_are_those_of_the_trials():
    """Of a committed study, as `train` answers when all its trials are there."""
    folder = ROOT / "reports" / "studies" / "stdlib-paper-c4-b4a7d0b8"
    found = StudyResult(judged(Prepared(folder, study.load(folder), ()), ""))
    losses = {}
    for path in (folder / "records").glob("trial-*.json"):
        content = json.loads(path.read_text())["content"]
        losses[content["arm"]["name"], content["seed"]] = content["final"]["loss"]
    seeds = sorted(seed for name, seed in losses if name == "rw")
    assert len(seeds) > 2
    rw = found.arm("rw")
    assert rw.gain == pytest.approx(sum(losses["baseline", n] - losses["rw", n] for n in seeds) / len(seeds), abs=1e-12)
    assert rw.gain_low < rw.gain < rw.gain_high
    assert rw.loss == pytest.approx(sum(losses["rw", n] for n in seeds) / len(seeds))
    assert rw.n == len(seeds)
    assert set(found.to_frame().index) == {name for name, _ in losses}
    assert found.to_dict()["arms"][0]["name"] == "baseline"
    reported = laurel.report(folder)
    assert (reported.arm("rw").verdict, reported.arm("rw").words) == (rw.verdict, rw.words)
    assert reported.arm("rw").gain == pytest.approx(rw.gain)
    assert (reported.arm("rw").excluded_low, reported.arm("rw").excluded_high) == (rw.excluded_low, rw.excluded_high)
    assert found.answer == reported.answer


@pytest.mark.slow
def test_a_module_in_a_file_is_timed_one_of_a_notebook_is_refused(tmp_path, monkeypatch):
    (tmp_path / "timed_block.py").write_text(
        "from torch import nn\n\n\nclass Block(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.f = nn.Linear(8, 8)\n\n    def forward(self, x):\n        return x + self.f(x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import timed_block

    quick = {"max_time": 1, "processes": 1, "threads": 1, "device": "cpu", "records": None}
    found = laurel.profile(nn.Sequential(timed_block.Block()), "rw", inputs=torch.randn(4, 8), **quick)
    assert [one.name for one in found.figures()] == ["baseline", "copy", "rw"]
    assert found.arm("rw").milliseconds > 0
    monkeypatch.setattr(timed_block.Block, "__module__", "__main__")
    with pytest.raises(ModelError, match="rebuilt in a worker process"):
        laurel.profile(timed_block.Block(), "rw", inputs=torch.randn(4, 8), **quick)
    with pytest.raises(TypeError, match="inputs"):
        laurel.profile(nn.Linear(2, 2), "rw", **quick)


def test_modules_counted_apart_add_up(x):
    costs = laurel.count(net().eval(), x).by_module()
    by_name = {one.name: one for one in costs.figures()}
    assert by_name["1.f.0"].flops == 2 * 8 * D * D  # 8 positions
    assert by_name["1"].flops == by_name["1.f.0"].flops + by_name["1.f.2"].flops
    assert by_name[""].flops == sum(by_name[name].flops for name in ("0", "1", "2", "3"))
    assert by_name["1"].elementwise_flops == 8 * D  # its addition; dropout is none in eval mode
    assert costs.module("2").parameters == 2 * (D * D + D)


LONG = ("fold", "fold_training", "profile", "report", "train", "unfold_training")


@pytest.mark.parametrize("name", [name for name in laurel_cli.__all__ if name not in (*LONG, "__version__")])
def test_the_example_of_a_public_name_is_right(name, tmp_path, monkeypatch, own_arms):
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    assert run_example(name, tmp_path) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_the_example_of_what_takes_longer_is_right(name, tmp_path, monkeypatch, cache):
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    assert run_example(name, tmp_path) > 1


@pytest.mark.slow
def test_the_readme_s_python_section_runs(tmp_path, monkeypatch, cache):
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    section = re.search(r"(?ms)^## In Python$(.*?)^## ", (ROOT / "README.md").read_text(encoding="utf-8"))[1]
    code = "\n\n".join(re.findall(r"(?m)(?:^    .*\n?)+", section))
    resnet = torchvision.models.resnet50
    monkeypatch.setattr(torchvision.models, "resnet50", lambda weights=None: resnet())  # weights cannot be fetched here
    code = re.sub(r"(?m)^    ", "", code)
    few = "controls=False, steps=2, train_limit=64, evaluation_limit=32"
    for usual, shorter in (("max_time=60", "max_time=2, image_size=64, processes=1"), ("seeds=3", f"seeds=1, {few}")):
        assert usual in code
        code = code.replace(usual, shorter)
    exec(code, {})


@pytest.mark.slow
def test_a_users_script_is_strictly_typed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\nimport laurel_cli as laurel\n\n"
        "laurel.add_arms('my_arm.py')\n"
        "timed = laurel.profile('resnet18', 'rw,rw+lr@4', mode='train', max_time=5, records=None)\n"
        "ratio: float | None = timed.arm('rw').latency_ratio\n"
        "inside = laurel.profile(torch.nn.Linear(2, 2), ['rw'], inputs=torch.randn(1, 2)).to_dict()\n"
        "study = laurel.train('rw,rw+lr@4', task='scenes', seeds=3, study='folder')\n"
        "gain: float | None = study.arm('rw').gain\nsaid: list[str] = study.answer\n"
        "report = laurel.report('reports', model='resnet18', cost=['flops'])\n"
        "quality: float | None = report.arm('rw').quality\ntext: str = report.to_html() + report.to_markdown()\n"
        "loaded = laurel.load('resnet18', image_size=64)\nspec = laurel.Spec.parse('rw+lr', rank=4)\n"
        "own = laurel.parameters(laurel.apply_laurel(loaded.build(), spec, loaded.inputs, seed=1))\n"
        "number: int = sum(p.numel() for p in own)\n"
        "first: str = laurel.find_connections(loaded.module, loaded.inputs).connections[0].name\n"
        "laurel.restore(torch.nn.Linear(2, 2), 'folder')\n"
        "try:\n    laurel.train(lags='all')\nexcept laurel.LaurelError as error:\n    print(error.hint)\n"
        "rows = laurel.residual_map(loaded.module, loaded.inputs).to_frame()\n"
        "model = torch.nn.Linear(2, 2)\nx = torch.randn(1, 2)\n"
        "found = laurel.analyze(model, 'rw,rw+lr@4', x)\n"
        "added: int | None = found.arm('rw').added_parameters\n"
        "cost = laurel.count(model, laurel.as_inputs(x))\nflops: int = cost.flops\n"
        "within: int = cost.by_module().module('layer1').parameters\n"
        "print(added, flops, laurel.residual_map(model, x).blocks, found.to_json())\n"
        "laurel.apply(model, 'layerscale', x, only='*')\nlaurel.save(laurel.remove(model), 'folder')\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"]
    home = Path(laurel_cli.__file__).parents[1]
    env = os.environ if home.name == "site-packages" else os.environ | {"MYPYPATH": str(home)}

    def errors(text: str) -> str:
        script.write_text(text)
        return subprocess.run(
            [*command, str(script)], capture_output=True, text=True, check=False, cwd=tmp_path, env=env
        ).stdout

    text = script.read_text()
    assert errors(text).startswith("Success")
    # It does see our types.
    assert "attr-defined" in errors(text + "found.nothing\n")
    assert "call-arg" in errors(text + "laurel.train('rw', sedes=3)\n")
    assert "arg-type" in errors(text + "laurel.profile('resnet18', 'rw', max_time='long')\n")
