"""Models of the user's own: whatever their file does, stdout stays clean and the error is one of ours."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from laurel_cli.errors import LaurelError, ModelError, UsageError
from laurel_cli.models import LoadedModel, load

HEAD = "import torch\nfrom torch import nn\n"


@pytest.fixture
def write(tmp_path: Path):
    def write(body: str) -> str:
        file = tmp_path / "model.py"
        file.write_text(HEAD + body)
        return str(file)

    return write


def runs(loaded: LoadedModel) -> Any:
    return loaded.inputs.call(loaded.build())


def test_prints_go_to_stderr_whoever_makes_them(write, capfd) -> None:
    file = write(
        "import os, sys\nprint('import')\n"
        "def build():\n    print('build'); os.system('echo child'); os.write(1, b'raw\\n')\n"
        "    sys.__stdout__.write('kept back')\n"
        "    return nn.Linear(4, 4)\n"
    )
    load(f"{file}:build")
    out, err = capfd.readouterr()
    assert out == ""
    assert all(word in err for word in ("import", "build", "child", "raw"))
    sys.__stdout__.flush()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise ValueError('no such data')", "ValueError: no such data"),
        ("import sys; sys.exit(0)", "exits"),
        ("def build(): raise RuntimeError('first\\nsecond')", "RuntimeError: first. See model.py, line 3."),
        ("def build(): raise SystemExit(7)", "7"),
        ("class Odd(BaseException): pass\ndef build(): raise Odd", "Odd"),
        ("def build(): return 3", "returns int"),
        ("def build(a): return nn.Linear(a, a)", "missing 1 required positional argument"),
        ("build = 3", "neither a factory nor a module"),
        ("def biuld(): pass", "Did you mean biuld"),
        ("def build(:", "line 3"),
        ("import no_such_package_anywhere", "no_such_package_anywhere"),
        ("def build(): return build()", "RecursionError"),
    ],
)
def test_a_file_that_fails_is_a_model_error(write, body: str, told: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(f"{write(body)}:build")
    assert caught.value.exit_code == 3
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "def build():\n    while True:\n        try:\n            pass\n        except Exception:\n            pass\n",
        "import time\ndef build(): time.sleep(100)",
        "class M(nn.Module):\n    def forward(self, x):\n        while True: pass\ndef build(): return M()",
    ],
)
def test_a_file_that_never_returns_is_ended(write, monkeypatch, body: str) -> None:
    monkeypatch.setenv("LAUREL_MODEL_TIMEOUT", "0.5")
    start = time.monotonic()
    with pytest.raises(ModelError, match="did not return"):
        load(f"{write(body)}:build")
    assert time.monotonic() - start < 30


@pytest.mark.slow
def test_even_one_that_catches_everything_is_ended(write) -> None:
    file = write("import time\nwhile True:\n    try:\n        time.sleep(9)\n    except BaseException: pass\n")
    code = f"from laurel_cli.models import load; load({file + ':build'!r})"
    ended = subprocess.run([sys.executable, "-c", code], env={"LAUREL_MODEL_TIMEOUT": "0.2"}, timeout=120)
    assert ended.returncode == 3


def test_a_limit_that_is_no_number_is_wrong_usage(write, monkeypatch) -> None:
    monkeypatch.setenv("LAUREL_MODEL_TIMEOUT", "soon")
    with pytest.raises(UsageError, match="LAUREL_MODEL_TIMEOUT"):
        load(f"{write('build = nn.Linear(2, 2)')}:build")


def test_a_missing_file_or_module_is_a_model_error(tmp_path) -> None:
    (tmp_path / "model.py").write_text("")
    with pytest.raises(ModelError, match=r"Did you mean model\.py"):
        load(f"{tmp_path}/modle.py:build")
    with pytest.raises(ModelError, match="no module"):
        load("laurel_cli.no_such_module:build")


def test_a_module_path_is_imported_from_the_search_path() -> None:
    loaded = load("torch.nn:Linear", model_args={"in_features": 6, "out_features": 6})
    assert loaded.source == "module torch.nn"
    assert runs(loaded).shape[-1] == 6


def test_factory_class_and_instance_are_all_accepted(write) -> None:
    file = write(
        "class Net(nn.Module):\n    def __init__(self, width=8):\n        super().__init__()\n"
        "        self.a = nn.Linear(width, width)\n    def forward(self, x):\n        return x + self.a(x)\n"
        "def build(width=8): return Net(width)\nnet = Net(4)\n"
    )
    assert load(f"{file}:build", model_args={"width": 5}).on_meta
    assert load(f"{file}:Net").inputs.args[0].shape[-1] == 8
    instance = load(f"{file}:net")
    assert not instance.on_meta
    built = instance.build()
    assert built is not instance.module
    assert torch.equal(built.a.weight, instance.module.a.weight)
    with pytest.raises(UsageError, match="`model_args`"):
        load(f"{file}:net", model_args={"width": 5})


def test_a_factory_that_cannot_run_on_meta_is_run_for_real(write) -> None:
    file = write("def build():\n    m = nn.Linear(4, 4)\n    m.scale = float(m.weight.sum())\n    return m\n")
    loaded = load(f"{file}:build")
    assert not loaded.on_meta
    assert "Built for real" in loaded.notes[0]


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (
            "net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 26 * 26, 10))",
            (1, 1, 28, 28),
        ),
        ("net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))", (1, 3, 224, 224)),
        ("net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))", (1, 784)),
        ("net = nn.Sequential(nn.Linear(20, 20), nn.BatchNorm1d(20))", (1, 20)),
        ("net = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 50))", (1, 128)),
        ("net = nn.Sequential(nn.Conv1d(6, 4, 3), nn.ReLU())", (1, 6, 128)),
        ("net = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 3))", (1, 128, 12)),
    ],
)
def test_inputs_are_inferred_from_the_layers(write, body: str, shape: tuple[int, ...]) -> None:
    loaded = load(f"{write(body)}:net")
    assert loaded.inputs.args[0].shape == shape
    runs(loaded)


@pytest.mark.parametrize(
    ("body", "asked", "shape"),
    [
        ("net = nn.Conv2d(3, 4, 3)", (3, 16, 16), (2, 3, 16, 16)),
        ("net = nn.Conv2d(3, 4, 3)", (5, 3, 16, 16), (5, 3, 16, 16)),
        ("net = nn.Linear(6, 4)", (6,), (2, 6)),
        ("net = nn.Linear(6, 4)", (7, 6), (7, 6)),
        ("net = nn.Embedding(6, 4)", (9,), (2, 9)),
    ],
)
def test_an_input_shape_is_with_the_batch_or_without(write, body: str, asked: tuple, shape: tuple) -> None:
    assert load(f"{write(body)}:net", batch=2, input_shape=asked).inputs.args[0].shape == shape


def test_inputs_of_several_arguments_and_dict_outputs(write) -> None:
    file = write(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.table = nn.Embedding(30, 16)\n        self.core = nn.Transformer(16, 2, 1, 1, batch_first=True)\n"
        "    def forward(self, src, tgt):\n"
        "        return {'out': self.core(self.table(src), self.table(tgt))}\n"
    )
    loaded = load(f"{file}:Net", batch=2, seq_len=7)
    assert [tuple(ids.shape) for ids in loaded.inputs.args] == [(2, 7), (2, 7)]
    assert runs(loaded)["out"].shape == (2, 7, 16)


@pytest.mark.parametrize(
    "returned", ["torch.ones(2, 5)", "(torch.ones(2, 5),)", "{'features': torch.ones(2, 5)}", "[torch.ones(2, 5)]"]
)
def test_the_files_own_example_inputs_are_used(write, returned: str) -> None:
    file = write(
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.net = nn.Linear(5, 3)\n    def forward(self, features):\n        return self.net(features)\n"
        f"def example_inputs(): return {returned}\n"
    )
    loaded = load(f"{file}:Net")
    assert runs(loaded).shape == (2, 3)
    with pytest.raises(UsageError, match="`seq_len`"):
        load(f"{file}:Net", seq_len=8)


def test_inputs_as_typed(write) -> None:
    file = write(
        "class Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.t = nn.Embedding(9, 4)\n"
        "    def forward(self, x, mask, y=None):\n        return self.t(x) * mask.unsqueeze(-1) + y\n"
    )
    loaded = load(f"{file}:Net", inputs=["int64:1x3", "mask=bool:1x3", "y=float64:4"])
    assert loaded.inputs.args[0].max() < 9
    assert {name: value.dtype for name, value in loaded.inputs.kwargs.items()} == {
        "mask": torch.bool,
        "y": torch.float64,
    }
    assert runs(loaded).shape == (1, 3, 4)


@pytest.mark.parametrize(
    ("text", "told"),
    [("x", "NAME=DTYPE:SHAPE"), ("flaot32:1x3", "float32"), ("1x0x3", "empty"), ("x=1x-3", "NAME=DTYPE:SHAPE")],
)
def test_an_input_that_cannot_be_read_is_wrong_usage(write, text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(f"{write('net = nn.Linear(2, 2)')}:net", inputs=[text])
    assert told in str(caught.value)


def test_inputs_that_cannot_be_inferred_are_wrong_usage_with_an_example(write) -> None:
    body = "class Net(nn.Module):\n    def forward(self, secret):\n        assert False, 'not this'\n"
    with pytest.raises(UsageError, match="`inputs") as caught:
        load(f"{write(body)}:Net")
    assert caught.value.exit_code == 2
    assert "not this" in str(caught.value)


def test_the_working_directory_and_signal_handlers_are_left_alone(write) -> None:
    import signal

    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(LaurelError):
        load(f"{write('raise ValueError')}:build")
    assert signal.getsignal(signal.SIGALRM) is before
    assert sys.stdout is not sys.stderr


PATCHED = """
class Patched(nn.Module):
    def __init__(self, image_size=64, patch=8, width=24, cls=1, channels=3, keep=False):
        super().__init__()
        if keep:
            self.image_size = image_size
        self.patch = patch
        numbers = channels * patch * patch
        self.embed = nn.Sequential(nn.LayerNorm(numbers), nn.Linear(numbers, width))
        self.cls = nn.Parameter(torch.zeros(1, cls, width))
        self.positions = nn.Parameter(torch.zeros(1, (image_size // patch) ** 2 + cls, width))
        self.block = nn.Linear(width, width)
    def forward(self, img):
        x = nn.functional.unfold(img, self.patch, stride=self.patch).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), self.embed(x)], 1)
        x = x + self.positions[:, : x.shape[1]]
        return x + self.block(x)
"""


@pytest.mark.parametrize(
    ("call", "side", "channels"),
    [
        ("Patched()", 64, 3),
        ("Patched(256, 32, cls=0)", 256, 3),
        ("Patched(96, 16, cls=5, channels=1)", 96, 1),
        ("Patched(80, 16, channels=4, keep=True)", 80, 4),
    ],
)
def test_an_image_fills_the_table_of_positions(write, call: str, side: int, channels: int) -> None:
    loaded = load(f"{write(PATCHED + f'def build(): return {call}')}:build")
    assert loaded.inputs.args[0].shape == (1, channels, side, side)


def test_an_image_size_is_taken_or_refused(write) -> None:
    file = write(PATCHED + "def build(): return Patched(256, 32)\nplain = nn.Linear(6, 6)\n")
    assert load(f"{file}:build", image_size=128).inputs.args[0].shape == (1, 3, 128, 128)
    with pytest.raises(UsageError):
        load(f"{file}:build", image_size=100)
    with pytest.raises(UsageError, match="`image_size` does not apply"):
        load(f"{file}:plain", image_size=64)


def test_convolutions_that_cut_patches_have_a_table_too(write) -> None:
    body = (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.cut, self.places = nn.Conv2d(3, 8, 16, stride=16), nn.Embedding(25, 8)\n"
        "    def forward(self, x):\n        x = self.cut(x).flatten(2).transpose(1, 2)\n"
        "        return x + self.places.weight[: x.shape[1]]\n"
    )
    assert load(f"{write(body)}:Net").inputs.args[0].shape == (1, 3, 80, 80)


BROUGHT = """
class Sums(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Linear(5, 5)
    def forward(self, {arguments}):
        x = {body}
        return x + self.f(x)
def build(): return Sums(), {inputs}
"""


@pytest.mark.parametrize(
    ("arguments", "body", "inputs"),
    [
        ("x", "x", "torch.ones(2, 5)"),
        ("x", "x", "(torch.ones(2, 5),)"),
        ("x, y", "x + y", "(torch.ones(2, 5), torch.ones(2, 5))"),
        ("x, y", "x + y", "[torch.ones(2, 5), torch.ones(2, 5)]"),
        ("x, y=None", "x + y", "{'x': torch.ones(2, 5), 'y': torch.ones(2, 5)}"),
        ("batch", "batch['a'][0] + batch['a'][1]", "{'a': [torch.ones(2, 5), torch.ones(2, 5)]}"),
        ("batch", "batch['a'] + batch['b']", "{'batch': {'a': torch.ones(2, 5), 'b': torch.ones(2, 5)}}"),
        ("rows", "torch.stack(rows)", "[torch.ones(5), torch.ones(5), torch.ones(5)]"),
        ("rows, names=None", "torch.stack(rows)", "[torch.ones(5), torch.ones(5)]"),
        ("x, *, scale", "x * scale", "{'x': torch.ones(2, 5), 'scale': 2.0}"),
        ("ids", "nn.functional.one_hot(ids, 5).float()[: int(ids[0]) + 1]", "torch.tensor([3, 1, 4, 1])"),
    ],
)
def test_inputs_that_a_factory_brings(write, arguments: str, body: str, inputs: str) -> None:
    file = write(BROUGHT.format(arguments=arguments, body=body, inputs=inputs))
    loaded = load(f"{file}:build")
    assert runs(loaded).shape[-1] == 5
    assert isinstance(loaded.build(), torch.nn.Module)
    with pytest.raises(UsageError, match="`seq_len`"):
        load(f"{file}:build", seq_len=8)


def test_typed_inputs_go_before_those_that_are_brought(write) -> None:
    file = write(BROUGHT.format(arguments="x", body="x", inputs="torch.ones(2, 5)"))
    assert load(f"{file}:build", inputs=["3x5"]).inputs.args[0].shape == (3, 5)
    assert load(f"{file}:build", input_shape=(7, 5)).inputs.args[0].shape == (7, 5)


def test_an_input_shape_goes_before_example_inputs(write) -> None:
    file = write("net = nn.Linear(5, 3)\ndef example_inputs(): return torch.ones(2, 5)\n")
    assert load(f"{file}:net").inputs.args[0].shape == (2, 5)
    assert load(f"{file}:net", input_shape=(9, 5)).inputs.args[0].shape == (9, 5)


def test_inputs_that_come_with_a_model_too_large_to_build_are_drawn_in_their_shapes(write, monkeypatch) -> None:
    monkeypatch.setattr("laurel_cli.models.user.SMALL", 10)
    loaded = load(f"{write(BROUGHT.format(arguments='x', body='x', inputs='torch.ones(2, 5)'))}:build")
    assert loaded.on_meta
    assert loaded.inputs.args[0].shape == (2, 5)
    assert not loaded.inputs.args[0].is_meta
    assert any("drawn anew" in note for note in loaded.notes)


def test_lazy_modules_get_their_shapes_from_the_inputs(write) -> None:
    file = write(
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.a, self.norm = nn.LazyLinear(6), nn.LazyBatchNorm1d()\n"
        "    def forward(self, x):\n        return x + self.norm(self.a(x))\n"
    )
    loaded = load(f"{file}:Net", input_shape=(4, 6))
    assert loaded.module.a.weight.shape == (6, 6)
    assert loaded.build().norm.weight.shape == (6,)
    assert loaded.module.norm.running_mean.abs().sum() == 0


def test_a_model_that_looks_at_its_data_has_its_inputs_inferred(write) -> None:
    file = write(
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.f = nn.Linear(6, 6)\n"
        "    def forward(self, x):\n        return x.index_add(0, torch.where(x[:, 0] > 9)[0], self.f(x)[:0])\n"
    )
    loaded = load(f"{file}:Net")
    assert loaded.inputs.args[0].shape[-1] == 6
    runs(loaded)


FORKS = """
import os, sys
from laurel_cli.models import guard

def fork():
    os.fork()

guard.keep_apart(lambda word: None)
here = os.path.join(os.path.dirname(guard.__file__), "loop.py")  # a loop of ours
scope = {"fork": fork}
exec(compile("def loop():\\n    for _ in range(12):\\n        fork()\\n", here, "exec"), scope)
scope["loop"]()
print("ended")
"""


def test_a_copy_that_a_model_forks_ends_where_our_code_goes_on(laurel_env, tmp_path):
    (tmp_path / "forks.py").write_text(FORKS)
    command = [sys.executable, "forks.py"]
    done = subprocess.run(command, env=laurel_env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ended\n")  # and not 4096 times
