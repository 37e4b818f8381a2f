"""A rival of another package, as CONTRIBUTING.md shows it, is an arm of every command; a broken one stops none."""

import json
import re
from pathlib import Path

import pytest

import laurel_cli

ROOT = Path(__file__).parents[2]
IMPORTS = """
from __future__ import annotations
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from laurel_cli.rivals.static import Coefficient, Static, Terms
if TYPE_CHECKING:
    from torch import Tensor
"""
MODEL = ("paper-c4", "--model-arg", "layers=2", "--model-arg", "width=16", "--model-arg", "heads=2", "--seq-len", "8")


def shown() -> str:
    """The class in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = re.search(r"(?m)^    @dataclass.*?(?=^\S)", text, re.DOTALL)[0]
    assert len(block.strip().splitlines()) <= 30
    return IMPORTS + re.sub(r"(?m)^    ", "", block)


def install(folder: Path, source: str, entry: str = "halved = halved_arm:Halved") -> dict[str, str]:
    """A distribution in a folder that Python looks into: the environment that makes it do so."""
    (folder / "halved_arm.py").write_text(source)
    about = folder / "halved-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: halved\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[laurel_cli.arms]\n{entry}\n")
    return {"PYTHONPATH": f"{folder}:{Path(laurel_cli.__file__).parents[1]}"}


def test_what_contributing_shows_is_an_arm(laurel, tmp_path):
    env = install(tmp_path, shown())
    listed = json.loads(laurel("arms", "--format", "json", env=env).stdout)["arms"]
    assert next(arm for arm in listed if arm["name"] == "halved")["starts"] == "exact"
    counted = laurel("analyze", *MODEL, "--arms", "halved,rezero", "--no-check", "--format", "json", env=env)
    assert counted.returncode == 0, counted.stdout
    added = {arm["name"]: arm["added_parameters"] for arm in json.loads(counted.stdout)["arms"]}
    assert added == {"baseline": 0, "halved": 4, "rezero": 4}


def test_a_wrong_closed_form_is_seen(laurel, tmp_path):
    env = install(tmp_path, shown().replace("return elements\n", "return 2 * elements\n"))
    counted = laurel("analyze", *MODEL, "--arms", "halved", "--no-check", env=env)
    assert counted.returncode == 1
    assert "the equations of halved and the count disagree" in " ".join(counted.stderr.split())


@pytest.mark.parametrize(
    ("source", "entry", "reason"),
    [
        ("import nothing_of_that_name", "halved = halved_arm:Halved", "cannot be loaded"),
        ("Halved = dict", "halved = halved_arm:Halved", "no subclass"),
        ("from laurel_cli.rivals.rezero import ReZero as Halved", "halved = halved_arm:Halved", "not its own name"),
        ("from laurel_cli.rivals.rezero import ReZero as Halved", "rezero = halved_arm:Halved", "is taken"),
    ],
)
def test_a_broken_one_is_named_and_stops_nothing_else(laurel, tmp_path, source, entry, reason):
    env = install(tmp_path, source, entry)
    listed = laurel("arms", env=env)
    assert listed.returncode == 0
    assert reason in " ".join(listed.stderr.split())
    assert laurel("analyze", "paper-c4", "--arms", "halved", env=env).returncode == 2
