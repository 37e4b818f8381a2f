"""What an answer follows from: the user's files, those that they import, those that they name; when that is open."""

from __future__ import annotations

import hashlib
import sys

import pytest

from laurel_cli.answers.made_of import FOLDER, made_of

MODEL = """
from torch import nn
import helper
from parts.blocks import Block

def build(depth=helper.DEPTH):
    return nn.Sequential(*(Block() for _ in range(depth)))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model, a module beside it, and a package of which it imports one module."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(MODEL)
    (tmp_path / "helper.py").write_text("DEPTH = 2\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "parts" / "blocks.py").write_text("from .sizes import WIDTH\nclass Block: ...\n")
    (tmp_path / "parts" / "sizes.py").write_text("WIDTH = 8\n")
    (tmp_path / "parts" / "other.py").write_text("import os\n")
    return tmp_path.resolve()


@pytest.mark.parametrize("reference", ["net.py:build", "net:build"])
def test_files_that_run_are_found_through_every_import(folder, reference):
    found = made_of(reference)
    names = ("net.py", "helper.py", "parts/__init__.py", "parts/blocks.py", "parts/sizes.py")
    expected = {str(folder / name): hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    assert (found.why_not, dict(found.files)) == ("", expected)


@pytest.mark.parametrize("name", ["net.py", "helper.py", "parts/__init__.py", "parts/blocks.py", "parts/sizes.py"])
def test_a_byte_of_any_of_them_is_another_model(folder, name):
    before = made_of("net.py:build")
    with (folder / name).open("a") as file:
        file.write("#")
    assert made_of("net.py:build") != before


def test_a_module_that_comes_to_stand_before_another_is_another_model(folder):
    before = made_of("net.py:build")
    (folder / "helper").mkdir()
    (folder / "helper" / "__init__.py").write_text("DEPTH = 3\n")
    assert made_of("net.py:build") != before


@pytest.mark.parametrize("name", ["fractions", "statistics"])
def test_a_module_of_the_users_under_a_name_of_the_standard_library(folder, monkeypatch, name):
    """PYTHONPATH leads there first."""
    (folder / "helper.py").write_text(f"import {name}\n")
    before = made_of("net.py:build")
    assert not before.why_not
    place = folder / "first"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, name, raising=False)
    (place / f"{name}.py").write_text("DEPTH = 2\n")
    found = made_of("net.py:build")
    assert set(found.files) - set(before.files) == {str(place / f"{name}.py")}
    assert not found.why_not


def test_data_that_the_text_names_counts_and_so_does_its_absence(folder):
    (folder / "net.py").write_text('import json\nSIZES = json.load(open("sizes.json"))\nDATA = "data"\n')
    absent = made_of("net.py:build")
    (folder / "sizes.json").write_text("[1]")
    (folder / "data").mkdir()
    there = made_of("net.py:build")
    assert not absent.why_not
    assert set(there.files) - set(absent.files) == {str(folder / "sizes.json"), str(folder / "data")}
    assert there.files[str(folder / "data")] == FOLDER
    (folder / "sizes.json").write_text("[2]")
    assert made_of("net.py:build") != there


def test_a_file_that_is_named_by_an_argument_counts(folder):
    (folder / "sizes.json").write_text("[1]")
    found = made_of("net.py:build", values={"sizes": ["sizes.json"]})
    assert str(folder / "sizes.json") in found.files


def test_arms_of_the_users_own_count(folder):
    (folder / "arm.py").write_text("import helper\n")
    found = made_of("resnet50", ["arm.py"])
    assert set(found.files) == {str(folder / "arm.py"), str(folder / "helper.py")}


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        "import time",
        "from random import random",
        "import subprocess as s",
        "import torch; torch.os.environ",
        "import pandas",
        "from safetensors.torch import load_file",
        "import torch; torch.hub.load('a', 'b')",
        "from torch.backends import cudnn",
        "import torch.cuda",
        "import torch; torch.cuda.is_available()",
        "import numpy as np; np.random.rand(3)",
        "from pathlib import Path; Path('a', 'b').exists()",
        "from pathlib import Path; Path('latest').readlink().name",
        "from transformers.utils import is_torch_cuda_available",
        "import transformers; transformers.utils.is_flash_attn_2_available()",
        "__import__('os')",
        "eval('1')",
        "hash('a')",
        "def build(: pass",
    ],
)
def test_what_may_depend_on_more_than_its_files_is_told(folder, line):
    (folder / "helper.py").write_text(f"DEPTH = 2\n{line}\n")
    assert made_of("net.py:build").why_not


@pytest.mark.parametrize(
    "line",
    [
        "x = None if (input := 1) else 2",
        "import re; re.compile('a')",
        "import numpy as np",
        "x.select(0)",
        "from torchvision.ops import MLP",
    ],
)
def test_ordinary_words_are_no_reason(folder, line):
    (folder / "helper.py").write_text(f"DEPTH = 2\n{line}\n")
    assert not made_of("net.py:build").why_not


def test_a_configuration_is_a_file_and_the_hubs_may_change(folder):
    (folder / "config.json").write_text("{}")
    assert set(made_of(f"hf:{folder}").files) == set(made_of("hf:config.json").files) == {str(folder / "config.json")}
    assert made_of("hf:org/name").why_not
    assert not made_of("hf:GPT2Config").why_not


def test_an_installed_module_of_which_nothing_is_known_is_told():
    assert made_of("torchvision.models:resnet18").why_not


def test_a_package_outside_of_where_packages_are_installed_is_told(folder, monkeypatch):
    (folder / "thop").mkdir()
    (folder / "thop" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(__import__("sys").modules, "thop", raising=False)
    assert "thop" in made_of("resnet50").why_not
