"""`laurel analyze` from the command line to the answer."""

import csv
import io
import json
import subprocess
import sys
from functools import partial

import pytest

from laurel_cli.cli.analyze import SCARCE

NAMES = ["rw", "lr@2", "pa", "rw+lr@2", "rw+lr+pa@2"]
USER_MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, depth, width):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x)
        return x

def build(depth=2, width=8):
    print("noise from the model file")
    return Net(depth, width)

def broken():
    raise RuntimeError("no such luck")

def plain():
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU())
"""


@pytest.fixture
def user(tmp_path):
    (tmp_path / "net.py").write_text(USER_MODEL)
    return ["--input", "float32:1x8", "--no-check"]


def test_all_formats_say_the_same(laurel, user):
    words = ["analyze", "net.py:build", "--model-arg", "depth=3", *user, "--rank", "2"]
    document = json.loads(laurel(*words, "--format", "json").stdout)
    assert document["schema"] == "laurel.analyze/1"
    assert document["model"]["parameters"] == 3 * 72
    assert [arm["name"] for arm in document["arms"]] == ["baseline", "naive+1", *NAMES]
    assert [arm["added_parameters"] for arm in document["arms"][2:4]] == [3 * 2, 3 * 2 * 2 * 8]
    assert len(document["connections"]) == 3
    rows = list(csv.DictReader(io.StringIO(laurel(*words, "--format", "csv").stdout)))
    assert [row["parameters"] for row in rows] == [str(arm["parameters"]) for arm in document["arms"]]
    for format_name in ("table", "markdown"):
        text = laurel(*words, "--format", format_name, "--connections").stdout
        for arm in document["arms"]:
            assert f"{arm['parameters']:,}" in text
        for connection in document["connections"]:
            assert connection["name"] in text


def test_what_a_model_file_prints_stays_off_stdout(laurel, user):
    done = laurel("analyze", "net.py:build", *user, "--arms", "rw", "--format", "json")
    assert [arm["name"] for arm in json.loads(done.stdout)["arms"]] == ["baseline", "rw"]


@pytest.mark.parametrize(
    ("reference", "words"), [("net.py:broken", "no such luck"), ("net.py:plain", "no residual connection")]
)
def test_a_model_that_cannot_be_used_is_3(laurel, user, reference, words):
    done = laurel("analyze", reference, *user)
    assert (done.returncode, done.stdout) == (3, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(laurel("analyze", reference, *user, "--format", "json").stdout)["error"]["code"] == 3


def test_a_wrong_name_is_3_with_the_nearest(laurel):
    done = laurel("analyze", "resnt50")
    assert done.returncode == 3
    assert "resnet50" in done.stderr


@pytest.mark.parametrize("columns", ["20", "40", "80"])
@pytest.mark.usefixtures("user")
def test_a_narrow_terminal_cuts_no_number(laurel, columns):
    done = laurel(
        "analyze",
        "net.py:build",
        "--model-arg",
        "width=2048",
        "--input",
        "1x2048",
        "--no-check",
        env={"COLUMNS": columns},
    )
    assert done.returncode == 0, done.stderr
    assert f"{2 * 2048 * 2049:,}" in done.stdout


def test_the_main_command(laurel):
    words = ["analyze", "resnet50", "--variant", "rw+lr", "--rank", "16"]
    done = laurel(*words)
    assert done.returncode == 0, done.stderr
    for whole in ("25,557,032", "1,117,184", "4.3713 %", "483,360", "1.8913 %", "2.31x", "12 identity"):
        assert whole in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
def test_the_answer_of_before_is_the_same_to_the_last_byte(laurel, user, tmp_path):
    laurel = partial(laurel, fresh=True)  # of what was imported beforehand nothing is kept
    words = ["analyze", "net.py:build", *user, "--arms", "naive+1,rw+lr@2,rw", "--format"]
    laurel(*words, "json", env={"LAUREL_CACHE": "kept"})
    for name in ("json", "table", "html"):
        fresh = laurel(*words, name, env={"LAUREL_CACHE": f"empty-{name}"})
        again = laurel(*words, name, env={"LAUREL_CACHE": "kept"})
        assert again.stdout == fresh.stdout != ""
        # What the model's file prints comes of running it.
        assert ("noise" in fresh.stderr, again.stderr) == (True, "")
    assert "noise" in laurel(*words, "json", "--no-cache", env={"LAUREL_CACHE": "kept"}).stderr
    assert len(list((tmp_path / "kept" / "answers").iterdir())) == 1


@pytest.mark.slow
def test_the_answer_of_before_needs_no_torch_and_a_changed_model_does(laurel_env, user, tmp_path):
    script = (
        "import sys\nfrom laurel_cli.cli.main import run\n"
        "SMALL = '--model-arg layers=2 --model-arg width=16 --model-arg heads=2'.split()\n"
        "sys.argv = ['laurel', 'analyze', 'paper-c4', '--seq-len', '8', '--arms', 'rw', '--no-check'] + SMALL\n"
        "try: run()\nfinally: print('torch:', 'torch' in sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", script]
    for expected, more in (
        ("True", {}),
        ("False", {}),
        ("False", {"COLUMNS": "40"}),
        ("True", {"OMP_NUM_THREADS": "3"}),
    ):
        done = subprocess.run(command, env=laurel_env | more, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert f"torch: {expected}" in done.stderr
        assert "baseline" in done.stdout


def test_a_changed_model_is_looked_at_again(laurel, user, tmp_path):
    words = ["analyze", "net.py:build", *user, "--arms", "rw", "--format", "json"]
    first = json.loads(laurel(*words).stdout)
    (tmp_path / "net.py").write_text(USER_MODEL.replace("depth=2", "depth=3"))
    second = json.loads(laurel(*words).stdout)
    assert (len(first["connections"]), len(second["connections"])) == (2, 3)


def test_a_record_of_the_answer_of_before_is_the_same_record(laurel, user, tmp_path):
    words = ["analyze", "net.py:build", *user, "--arms", "rw", "--save"]
    assert laurel(*words).returncode == laurel(*words).returncode == 0
    assert len(list((tmp_path / "reports" / "records").glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("note", "scarce"),
    [
        ("could not run: MemoryError", True),
        ("could not run: FileNotFoundError: [Errno 2] No such file or directory: 'x'", True),
        (
            "saved activations not counted: RuntimeError: [enforce fail at alloc_cpu.cpp:118] you tried to allocate",
            True,
        ),
        ("saved activations counted in eval mode, since train mode failed: OutOfMemoryError: out of memory", True),
        ("dense is left out: The pass failed. RuntimeError: can't allocate memory.", True),
        ("could not run: RuntimeError: Unsupported operator", False),
        ("saved activations counted in eval mode, since train mode failed: ValueError: more than 1 value", False),
    ],
)
def test_an_answer_for_want_of_memory_is_not_kept(note, scarce):
    """Tomorrow there may be more."""
    document = {"arms": [{"note": note}, {"note": "memory.alloc"}]}
    assert bool(SCARCE.search(json.dumps(document))) == scarce
