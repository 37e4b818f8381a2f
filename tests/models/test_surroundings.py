"""What a model's code remembers outside of the model makes no later count smaller, and is as it was afterwards."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from laurel_cli.cost.count import count
from laurel_cli.models.inputs import Inputs

CODE = """
from functools import lru_cache, wraps
import torch
from torch import nn

TABLES = {}
SIZES = {}
LAST = None
CALLS = 0

class Shelf:
    def __init__(self):
        self.tables = {}

SHELF = Shelf()

def remembered(function):
    kept = lru_cache(maxsize=4)(function)
    @wraps(function)
    def call(*given):
        return kept(*given)
    return call

class Net(nn.Module):
    table = None
    kept = []
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)
    def make(self, width):
        return torch.ones(width, 5) @ torch.ones(5, width)
    def forward(self, x):
        return self.linear(x) + self.positions(x.shape[-1])[0]

class Method(Net):
    @lru_cache(maxsize=32)
    def positions(self, width):
        return self.make(width)

class Static(Net):
    @staticmethod
    @lru_cache
    def of(width):
        return {"table": (torch.ones(width, 5) @ torch.ones(5, width),)}
    def positions(self, width):
        return self.of(width)["table"][0]

class Decorated(Net):
    @remembered
    def positions(self, width):
        return self.make(width)

@lru_cache(maxsize=None)
def table(width):
    return torch.ones(width, 5) @ torch.ones(5, width)

class Function(Net):
    def positions(self, width):
        return table(width)

class Global(Net):
    def positions(self, width):
        if width not in TABLES:
            TABLES[width] = self.make(width)
        return TABLES[width]

class Rebound(Net):
    def positions(self, width):
        global LAST
        if LAST is None:
            LAST = self.make(width)
        return LAST

class New(Net):
    def positions(self, width):
        if "FOUND" not in globals():
            globals()["FOUND"] = self.make(width)
        return FOUND

class Counting(Net):
    def positions(self, width):
        global CALLS
        CALLS += 1
        return self.make(width) if CALLS == 1 else torch.ones(width, width)

class OfClass(Net):
    def positions(self, width):
        if self.table is None:
            type(self).table = self.make(width)
        return self.table

class OfBase(Net):
    def positions(self, width):
        if not Net.kept:
            Net.kept.append(self.make(width))
        return self.kept[0]

class OfObject(Net):
    def positions(self, width):
        if width not in SHELF.tables:
            SHELF.tables[width] = self.make(width)
        return SHELF.tables[width]
"""
KINDS = [
    *("Method", "Static", "Decorated", "Function", "Global", "Rebound", "New", "Counting"),
    *("OfClass", "OfBase", "OfObject"),
]
MACS = 2 * 8 * 8 + 8 * 5 * 8
"""The linear map of two rows, and the table's product, made once a pass."""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = tmp_path / "remembering.py"
    path.write_text(CODE)
    spec = importlib.util.spec_from_file_location("remembering", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "remembering", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_count_is_the_first_one(code: ModuleType, kind: str, real: bool) -> None:
    model, inputs = getattr(code, kind)(), Inputs((torch.randn(2, 8),))
    assert [count(model, inputs, real=real).macs for _ in range(3)] == [MACS] * 3
    expected = model.linear(inputs.args[0]) + 5
    assert torch.equal(model(*inputs.args), expected)  # no stand-in was left behind
    if kind != "Counting":
        assert torch.equal(model(*inputs.args), expected)
    assert [count(model, inputs, real=real).macs for _ in range(2)] == [2 * 8 * 8 if left(code, kind) else MACS] * 2
    assert torch.equal(model(*inputs.args), expected if kind != "Counting" else model.linear(inputs.args[0]) + 1)


def left(code: ModuleType, kind: str) -> bool:
    """Whether a name holds from the calls above what a pass would make: then it does not make it."""
    return kind not in ("Method", "Static", "Decorated", "Function")


def test_names_are_as_they_were(code: ModuleType) -> None:
    before = dict(vars(code))
    for kind in KINDS:
        count(getattr(code, kind)(), Inputs((torch.randn(2, 8),)))
    assert vars(code) == before
    assert (code.TABLES, code.SHELF.tables, code.Net.kept, code.OfClass.table) == ({}, {}, [], None)


def test_caches_without_tensors_are_left_alone(code: ModuleType) -> None:
    """A vocabulary that was read, a package that was looked for: dear, and nothing that a pass computes."""
    code.table.cache_clear()
    looked = code.lru_cache(lambda name: [name])
    vars(code)["looked"] = looked
    looked("a")
    count(code.Function(), Inputs((torch.randn(2, 8),)))
    assert looked.cache_info().currsize == 1
