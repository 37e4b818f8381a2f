"""An answer is given again where nothing has changed, and only there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial

import pytest

from laurel_cli.answers import cache
from laurel_cli.answers.cache import answered
from laurel_cli.answers.made_of import MadeOf, made_of
from laurel_cli.records import provenance

QUESTION = {"command": "analyze", "reference": "net.py:build", "arms": "baseline,rw", "spec": {"lags": 3}}
FOUND = {"document": {"schema": "laurel.analyze/1", "percent": float("nan")}, "where": {"rw": [1, 2]}}


class Asked:
    """Asks, and counts how often an answer had to be found."""

    def __init__(self, read=(), installed=()):
        self.found, self.read, self.installed, self.said = 0, list(read), list(installed), []

    def fresh(self):
        self.found += 1
        return {**FOUND, "number": self.found}, self.read, self.installed

    def __call__(self, question=QUESTION, made=None):
        made = partial(made_of, "net.py:build") if made is None else made
        return answered(question, made, self.fresh, self.said.append)


@pytest.fixture
def answers(tmp_path, monkeypatch):
    monkeypatch.setenv("LAUREL_CACHE", str(tmp_path / "cache"))
    # pytest writes there whether it prepares a test or runs it: else every answer would be found anew.
    monkeypatch.setattr(cache, "OF_THE_SESSION", cache.OF_THE_SESSION | {"PYTEST_CURRENT_TEST"})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("import helper\n")
    (tmp_path / "helper.py").write_text("")
    return tmp_path / "cache" / "answers"


@pytest.fixture
def ask(answers):
    asked = Asked()
    first = asked()
    assert repr(asked()) == repr(first)
    assert asked.found == 1, asked.said
    return asked


@pytest.fixture(autouse=True)
def _nothing_else_changes(request):
    """In every test that asks twice, asking again without a change gives the answer of before."""
    if "ask" in request.fixturenames:
        assert not is_found_anew(request.getfixturevalue("ask"))


def is_found_anew(ask, **more):
    before = ask.found
    ask(**more)
    return ask.found == before + 1


@pytest.mark.parametrize(
    "change",
    [{"reference": "net.py:other"}, {"arms": "rw"}, {"spec": {"lags": "3"}}, {"check": True}, {"model_args": {"a": 1}}],
)
def test_another_question_is_another_answer(ask, change):
    assert is_found_anew(ask, question=QUESTION | change)


def test_true_is_not_one(ask):
    ask(question=QUESTION | {"model_args": {"a": 1}})
    assert is_found_anew(ask, question=QUESTION | {"model_args": {"a": True}})


@pytest.mark.parametrize("name", ["net.py", "helper.py"])
def test_a_byte_of_the_users_files(ask, tmp_path, name):
    with (tmp_path / name).open("a") as file:
        file.write("#")
    assert is_found_anew(ask)


@pytest.mark.parametrize("name", ["torch", "torchvision", "timm", "transformers", "fvcore", "thop"])
def test_another_version(ask, monkeypatch, name):
    version = provenance.version
    monkeypatch.setattr(provenance, "version", lambda one: "0.0.1" if one == name else version(one))
    assert is_found_anew(ask)


def test_another_laurel_or_python(ask, monkeypatch):
    monkeypatch.setattr("laurel_cli.__version__", "0.0.1")
    assert is_found_anew(ask)
    monkeypatch.setattr("platform.python_version", lambda: "3.99.0")
    assert is_found_anew(ask)


@pytest.mark.parametrize("name", ["analysis.py", "cost/count.py", "models/shapes.json"])
def test_a_byte_of_ours(ask, monkeypatch, name):
    read = provenance.Path.read_bytes
    ending = f"laurel_cli/{name}"
    monkeypatch.setattr(
        provenance.Path, "read_bytes", lambda path: read(path) + (b"#" if path.as_posix().endswith(ending) else b"")
    )
    assert is_found_anew(ask)


def test_a_package_that_is_installed_or_installed_again(ask, tmp_path, monkeypatch):
    place = tmp_path / "installed"
    (place / "fused-1.0.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(place)])
    assert is_found_anew(ask)
    (place / "fused-1.0.dist-info").rename(place / "fused-1.1.dist-info")
    assert is_found_anew(ask)
    os.utime(place / "fused-1.1.dist-info", (1, 1))
    assert is_found_anew(ask)


def test_the_environment_but_not_the_terminal(ask, monkeypatch):
    monkeypatch.setenv("COLUMNS", "43")
    assert not is_found_anew(ask)
    monkeypatch.setenv("TIMM_FUSED_ATTN", "0")
    assert is_found_anew(ask)


def test_another_working_folder_or_machine(ask, tmp_path, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "another")
    assert is_found_anew(ask)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert is_found_anew(ask)


def test_what_was_read_and_is_not_known_beforehand_is_not_kept(answers, tmp_path):
    asked = Asked(read=[str(tmp_path / "net.py"), str(tmp_path / "b.json")])
    asked(), asked()
    assert asked.found == 2
    assert "b.json" in asked.said[-1]
    asked.read = [str(tmp_path / "net.py")]
    asked(), asked()
    assert asked.found == 3


def test_a_folder_that_was_listed_is_not_kept_however_it_is_named(answers, tmp_path):
    (tmp_path / "net.py").write_text("DATA = 'data'\n")
    (tmp_path / "data").mkdir()
    asked = Asked(read=[str(tmp_path / "net.py")])
    asked(), asked()
    assert asked.found == 1  # its name alone
    asked = Asked(read=[str(tmp_path / "net.py"), str(tmp_path / "data")])
    (tmp_path / "net.py").write_text("DATA = 'data'  # and what is in it\n")
    asked(), asked()
    assert asked.found == 2
    assert asked.said[-1].endswith("data too")


def test_a_link_that_leads_nowhere_hides_no_package(ask, tmp_path, monkeypatch):
    place = tmp_path / "installed"
    place.mkdir()
    for number in range(30):
        (place / f"gone-{number}.egg-link").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(sys, "path", [*sys.path, str(place)])
    ask()
    for number in range(3):
        (place / f"fused-{number}.dist-info").mkdir()
        assert is_found_anew(ask)


def test_what_is_open_is_not_kept(answers):
    asked = Asked()
    asked(made=lambda: MadeOf(why_not="a reason")), asked(made=lambda: MadeOf(why_not="a reason"))
    assert (asked.found, answers.exists()) == (2, False)
    assert "a reason" in asked.said[-1]


def test_a_file_that_changes_while_it_is_read_is_not_kept(answers, tmp_path):
    asked = Asked()
    found = asked.fresh

    def fresh():
        (tmp_path / "net.py").write_text(f"import helper # {asked.found}\n")
        return found()

    asked.fresh = fresh
    asked()
    assert not list(answers.glob("*"))


def test_an_installed_file_that_is_edited_in_place(answers, tmp_path):
    """Its size or its time is another: what Python itself goes by. Of one that is away no answer is known."""
    module = tmp_path / "module.py"
    module.write_text("DEPTH = 2")
    os.utime(module, (10**9, 10**9))
    asked = Asked(installed=[str(module)])
    asked()
    assert not is_found_anew(asked)
    for text, written in (("DEPTH = 12", 10**9), ("DEPTH = 13", 10**9 + 1)):
        module.write_text(text)
        os.utime(module, (written, written))
        assert is_found_anew(asked)
        assert not is_found_anew(asked)
    module.unlink()
    assert is_found_anew(asked)


def test_an_installed_file_that_is_edited_meanwhile_is_not_kept(answers, tmp_path):
    module = tmp_path / "module.py"
    asked = Asked(installed=[str(module)])
    found = asked.fresh

    def fresh():
        module.write_text("DEPTH = 2")
        return found()

    asked.fresh = fresh
    asked()
    assert not list(answers.glob("*"))
    assert asked.said[-1].endswith("changed meanwhile")


def damaged(data):
    head, _, body = data.partition(b"\n")
    yield b""
    yield data[: len(data) // 2]
    yield data[:-1]
    yield head
    yield head + b"\n" + body.replace(b"1", b"2")
    yield head + b"\n" + body.partition(b"\n")[2]
    yield body
    yield b"[]\n" + body
    yield head.replace(b'"key": "', b'"key": "0') + b"\n" + body
    yield b"\xff" * 100
    yield b"[" * 100_000


def test_a_torn_or_foreign_file_counts_as_none(ask, answers):
    (file,) = answers.glob("*.json")
    whole = file.read_bytes()
    for data in damaged(whole):
        file.write_bytes(data)
        assert is_found_anew(ask)
        assert not is_found_anew(ask)
    file.unlink()
    file.mkdir()
    assert is_found_anew(ask)


def test_an_answer_to_another_question_under_its_name_counts_as_none(ask, answers):
    (first,) = answers.glob("*.json")
    ask(question=QUESTION | {"arms": "rw"})
    second = next(file for file in answers.glob("*.json") if file != first)
    first.write_bytes(second.read_bytes())
    assert is_found_anew(ask)


def test_sizes_are_bounded(ask, answers, monkeypatch):
    for number in range(6):
        ask(question=QUESTION | {"arms": f"rw@{number}"})
    size = max(file.stat().st_size for file in answers.glob("*.json"))
    monkeypatch.setattr(cache, "MOST", 3 * size)
    ask(question=QUESTION | {"arms": "last"})
    assert len(list(answers.glob("*"))) == 3
    assert not is_found_anew(ask, question=QUESTION | {"arms": "last"})
    monkeypatch.setattr(cache, "LARGEST", 10)
    assert is_found_anew(ask, question=QUESTION | {"arms": "last"})
    assert is_found_anew(ask, question=QUESTION | {"arms": "last"})


def test_a_folder_that_cannot_be_used_costs_no_answer(answers, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "cache", tmp_path / "file", "~no-such-user-here/cache"):
        monkeypatch.setenv("LAUREL_CACHE", str(place))
        asked = Asked()
        asked(), asked()
        assert asked.found == 2


def test_a_full_disk_costs_no_answer(answers, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_whole", full)
    asked = Asked()
    assert asked()["where"] == FOUND["where"]
    assert "No space" in asked.said[-1]


def test_no_secret_of_the_environment_is_written(answers, monkeypatch):
    monkeypatch.setenv("TOKEN_OF_MINE", "hf_very_secret")
    Asked()()
    (file,) = answers.glob("*.json")
    assert b"very_secret" not in file.read_bytes()


NET = """
from pathlib import Path
from torchvision.datasets.folder import find_classes
from torch import nn

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x)
        return x

def build():
    from torchvision.datasets import ImageFolder
    return Net(len(CLASSES))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "folder"),
    [
        ('ImageFolder(Path(__file__).parent / "data").classes', "data"),
        ('find_classes("data")[0]', "data"),  # lists one folder, which the text names
        ("find_classes(Path(__file__).parent)[0]", "."),  # where Python looks for modules too
    ],
)
def test_what_stands_in_a_folder_is_looked_at_every_time(laurel, tmp_path, classes, folder):
    """A library lists it, and no text names what is in it."""
    (tmp_path / "net.py").write_text(NET.replace("CLASSES", classes))
    counts = []
    for name in ("a", "b"):
        (tmp_path / folder / name).mkdir(parents=True)
        (tmp_path / folder / name / "x.jpg").touch()
        width = sum(entry.is_dir() for entry in (tmp_path / folder).iterdir())
        words = ["net.py:build", "--arms", "baseline,rw", "--no-check", "--format", "json"]
        done = laurel("analyze", *words, "--input", f"float32:2x{width}", "--debug")
        assert done.returncode == 0, done.stderr
        assert "the answer is not kept: it follows from" in done.stderr
        counts.append(json.loads(done.stdout)["model"]["parameters"])
    assert counts == [2 * (1 + 1), 2 * (4 + 2)]
    same = [laurel("analyze", *words, "--input", "float32:2x2") for _ in range(2)]
    assert json.loads(same[1].stdout)["model"]["parameters"] == counts[1]


ONCE = """
import sys
from laurel_cli.cli.main import run
try:
    run(["analyze", *sys.argv[1:], "--no-check", "--arms", "baseline,rw"])
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


@pytest.fixture
def analyzed(laurel_env, tmp_path):
    """What `analyze` answers in a process from nothing, and whether that was found before."""

    def analyzed(*words):
        env = laurel_env | {"LAUREL_CACHE": str(tmp_path / "cache")}
        command = [sys.executable, "-c", ONCE, *words]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
        found = "the answer was found before" in done.stderr
        assert not (found and done.stderr.splitlines()[-1] == "True")  # without torch
        return done.stdout, found

    return analyzed


@pytest.mark.slow
def test_the_same_question_is_answered_without_torch_to_the_same_byte(analyzed, tmp_path):
    (tmp_path / "net.py").write_text(NET.replace("CLASSES", "'abcd'").replace("from torchvision", "# from torchvision"))
    words = ["net.py:build", "--input", "float32:2x4"]
    first, _ = analyzed(*words)
    assert analyzed(*words, "--debug") == (first, True)
    text, found = analyzed(*words, "--debug", "--format", "json")
    assert (json.loads(text)["model"]["parameters"], found) == (2 * 4 * 5, True)
    assert analyzed(*words, "--debug", "--no-cache") == (first, False)
    with (tmp_path / "net.py").open("a") as file:
        file.write("#")
    assert analyzed(*words, "--debug") == (first, False)


@pytest.mark.slow
def test_a_package_that_is_edited_where_it_is_installed_is_run_again(analyzed, tmp_path, laurel_env, monkeypatch):
    package = tmp_path / "site-packages" / "einops"
    package.mkdir(parents=True)
    monkeypatch.setitem(laurel_env, "PYTHONPATH", os.pathsep.join([str(package.parent), *sys.path]))
    (tmp_path / "net.py").write_text(
        NET.replace("Net(len(CLASSES))", "nn.Sequential(*(Net(6) for _ in range(einops.DEPTH)))")
        .replace("from torchvision.datasets import ImageFolder", "import einops")
        .replace("from torchvision", "# from torchvision")
    )
    for depth in (2, 13):
        (package / "__init__.py").write_text(f"DEPTH = {depth}")
        words = ["net.py:build", "--input-shape", "2x6", "--debug", "--format", "json"]
        text, found = analyzed(*words)
        assert (json.loads(text)["model"]["parameters"], found) == (2 * 6 * 7 * depth, False)
        assert analyzed(*words) == (text, True)


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["resnet18", "timm:resnet18", "hf:GPT2Config", "shape:gpt2"])
def test_models_that_are_named_are_kept(analyzed, reference):
    pytest.importorskip({"timm": "timm", "hf": "transformers"}.get(reference.partition(":")[0], "torchvision"))
    first, _ = analyzed(reference)
    assert analyzed(reference, "--debug") == (first, True)
