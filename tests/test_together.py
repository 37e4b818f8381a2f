"""README's table of what works together with LAuReL: every line names tests, and they are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows(text: str) -> list[list[str]]:
    """The cells of each line of the table under "Together with other methods"."""
    section = text.partition("\n## Together with other methods\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def defined_in(file: Path) -> set[str]:
    """Names of a file's test functions, as pytest finds them."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def missing(text: str) -> list[str]:
    """What is wrong with a table: lines without a test, and tests that are not there."""
    found = []
    for row in rows(text):
        named = TEST.findall(row[-1])
        found += [] if named and len(row) == 3 and row[1] else [f"no test: {row}"]
        for file, test in named:
            if not (ROOT / file).is_file() or test not in defined_in(ROOT / file):
                found.append(f"{file}::{test}")
    return found


README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_line_names_tests_that_are_there() -> None:
    assert len(rows(README)) > 15
    assert missing(README) == []


@pytest.mark.parametrize(
    "line",
    [
        "| x | y | |",
        "| x | y | `tests/laurel/test_peft.py::test_of_nothing` |",
        "| x | y | `tests/laurel/test_nothing.py::test_it` |",
        "| x | | `tests/laurel/test_peft.py::test_laurel_on_a_model_with_an_adapter` |",
    ],
)
def test_a_line_without_a_test_is_seen(line: str) -> None:
    table = f"\n## Together with other methods\n\n| a | b | c |\n|---|---|---|\n{line}\n\n## Next\n"
    assert len(missing(table)) == 1
