"""What stands in the file is held against what was imported: an edited source is never built in silently."""

from __future__ import annotations

import importlib
import linecache
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from laurel_cli import apply_laurel
from laurel_cli.errors import ModelError
from laurel_cli.laurel.apply import laurel_layers

SOURCE = """
import torch
from torch import nn

SCALE = 2.0


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Linear(4, 4)

    def forward(self, x):
        return x + SCALE * torch.tanh(self.f(x))


class Other(Block):
    def forward(self, x):
        return torch.tanh(self.f(x)) + x
"""
X = torch.linspace(-1, 1, 12).view(3, 4)
Write = Callable[[str], ModuleType]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module's source and imports it; `linecache` has not seen it yet."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"edited_{tmp_path.name.replace('-', '_')}"

    def write(source: str) -> ModuleType:
        file = tmp_path / f"{name}.py"
        file.write_text(source)
        linecache.checkcache(str(file))
        importlib.invalidate_caches()
        return sys.modules[name] if name in sys.modules else importlib.import_module(name)

    yield write
    sys.modules.pop(name, None)


def check(model: nn.Module) -> None:
    """LAuReL in the place of what was imported, or a reason; never another function."""
    before = model(X)
    why = ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            apply_laurel(model, "rw", X)
        except ModelError as error:
            why = error.why
    told = any(text in why for text in ("does not say what was imported", "no longer valid", "cannot be read"))
    assert told != bool(laurel_layers(model)), why
    torch.testing.assert_close(model(X), before)


def test_the_file_that_was_imported_is_changed_as_asked(written: Write) -> None:
    model = written(SOURCE).Block()
    check(model)
    assert laurel_layers(model)


EDITS = {
    "another constant": SOURCE.replace("return x + SCALE", "return x + 3.0"),
    "another function": SOURCE.replace("torch.tanh(self.f(x))\n", "torch.relu(self.f(x))\n"),
    "another sign": SOURCE.replace("return x + SCALE", "return x - SCALE"),
    "the operands changed places": SOURCE.replace(
        "x + SCALE * torch.tanh(self.f(x))", "SCALE * torch.tanh(self.f(x)) + x"
    ),
    "another method on the same line": SOURCE.replace("    def forward(self, x):\n", "    def backward(self, x):\n", 1),
    "one more argument": SOURCE.replace("def forward(self, x):", "def forward(self, x, y=1):", 1),
    "lines before it": "\n\n\nimport math\n" + SOURCE,
    "a longer text": SOURCE.replace("class Other", "def helper(x):\n    return x\n\n\nclass Other"),
    "no Python": SOURCE + "\n)(\n",
    "nothing": "",
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_file_that_was_edited_after_the_import(written: Write, edit: str) -> None:
    module = written(SOURCE)
    written(EDITS[edit])
    check(module.Block())
    check(module.Other())


def test_an_edit_between_two_models(written: Write) -> None:
    module = written(SOURCE)
    first = module.Block()
    check(first)
    expected = first(X)
    written(EDITS["another constant"])
    check(module.Block())
    assert torch.equal(first(X), expected)


def test_a_file_that_is_gone(written: Write, tmp_path: Path) -> None:
    module = written(SOURCE)
    next(tmp_path.glob("edited_*.py")).unlink()
    linecache.clearcache()
    model = module.Block()
    with pytest.raises(ModelError, match="cannot be read"):
        apply_laurel(model, "rw", X)
