"""The results of the sweep as a page of Markdown."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from laurel_cli.records.provenance import code_sha256
from tests.zoo.case import FAMILIES
from tests.zoo.check import LAGS, RANK, TOLERANCE, VARIANTS

OUTSIDE = [
    "segmentation-models-pytorch",
    "diffusers",
    "open-clip-torch",
    "vit-pytorch",
    "x-transformers",
    "torch-geometric",
    "monai",
    "rtdl-revisiting-models",
]
Record = dict[str, Any]

INTRODUCTION = f"""# LAuReL on other people's models

Every classification model of torchvision, one model of every timm module (the smallest by parameters), small
models of transformers made from their configuration classes, and small models of eight packages outside. A model
passes if all of this holds:

- its residual connections are found; a model without any must be known by architecture to have none; where the count
  is known by architecture (`tests/zoo/expected.py`), it is that count;
- all of {", ".join(VARIANTS)} (rank {RANK}, {LAGS} lags) are put in the place of every connection of a copy, none left
  out;
- in float64 and eval mode its outputs equal the baseline's to {TOLERANCE["float64"]:.0e} of their largest number (in
  float32 to {TOLERANCE["float32"]:.0e} where the model itself fails in float64);
- within two SGD steps in training mode every entry of `c` and of the residual weights, every row of A and every column
  of B has had a finite gradient that is not zero;
- the parameters added are as many as the closed form says, and every name of the original's `state_dict` remains.

Weights are random and seeded; parameters that start constant are moved, so that no zero hides anything. Inputs are the
smallest images that a model takes, two at a time, or two rows of 32 tokens.
"""
LEGEND = """\
Inputs: images by their side. Expected: by architecture, where it is known. Id., proj.: identity and projection.
Equal: all five variants to the last bit, or the largest relative difference of any.
"""


def write_report(path: Path, records: list[Record], total: int) -> None:
    """Write the page.

    Args:
        path: of the file.
        records: the results, in the order of the sweep.
        total: models that the sweep knows, checked or not.
    """
    parts = [INTRODUCTION, _how(records), _summary(records, total), _failures(records)]
    letters = _letters(records) if len(_letters(records)) > 1 else {}
    parts += [_table(family, [r for r in records if _family(r) == family], letters) for family in FAMILIES]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(part for part in parts if part))


def _how(records: list[Record]) -> str:
    """How to make the page again, and what its rows were made with."""
    command = "Made by `python -m tests.zoo.sweep`, then `python -m tests.zoo.sweep --report`."
    letters = _letters(records)
    if len(letters) == 1:
        return f"{command} {next(iter(letters))}\n"
    lines = [f"- {letter} ({_rows(letter, letters, records)}): {made}" for made, letter in letters.items()]
    return (
        "\n".join([f"{command} Not all rows were made with the same; their last column says which:\n", *lines]) + "\n"
    )


def _letters(records: list[Record]) -> dict[str, str]:
    """A letter for everything that rows were made with."""
    return {made: chr(ord("a") + number) for number, made in enumerate(dict.fromkeys(map(_made_with, records)))}


def _made_with(record: Record) -> str:
    return record.get("made_with", "Versions: not recorded.")


def _rows(letter: str, letters: dict[str, str], records: list[Record]) -> str:
    """How many rows of which families a letter stands beside."""
    families = [_family(record) for record in records if letters[_made_with(record)] == letter]
    return ", ".join(f"{families.count(family)} of {family}" for family in FAMILIES if family in families)


def made_with() -> str:
    """What a row is made with from now on: the versions that are installed, and laurel's code."""
    return f"{versions()} laurel's code: {code_sha256()[:12]}."


def versions() -> str:
    """What was installed, in a sentence."""
    names = ("torch", "torchvision", "timm", "transformers", *OUTSIDE)
    said = ", ".join(f"{name} {version(name)}" for name in names if _installed(name))
    return f"Versions: {said}, Python {platform.python_version()}, {platform.machine()}."


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _summary(records: list[Record], total: int) -> str:
    rows = [(family, [r for r in records if _family(r) == family]) for family in FAMILIES]
    lines = [
        "## Summary\n",
        "| family | models | passed | percent | counts known | connections |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for family, group in [*rows, ("all", records)]:
        passed = sum(r["status"] == "passed" for r in group)
        share = f"{100 * passed / len(group):.1f}" if group else "-"
        known = sum(r.get("expected") is not None for r in group)
        found = sum(r.get("connections", 0) for r in group)
        lines.append(f"| {family} | {len(group)} | {passed} | {share} | {known} | {found} |")
    if len(records) < total:
        lines.append(f"\n{total - len(records)} of {total} models have not been checked yet.")
    return "\n".join(lines) + "\n"


def _failures(records: list[Record]) -> str:
    failed = [r for r in records if r["status"] != "passed"]
    lines = ["## Failures\n"]
    lines += [f"- `{r['name']}`: {'; '.join(_shortened(r['problems']))}" for r in failed]
    return "\n".join(lines or []) + ("\n" if failed else "None.\n")


def _shortened(problems: list[str]) -> list[str]:
    """Problems without their repetition in every variant."""
    variants: dict[str, list[str]] = {}
    for problem in problems:
        variant, colon, text = problem.partition(": ")
        key, name = (text, variant) if colon and variant in VARIANTS else (problem, "")
        variants.setdefault(key, []).append(name)
    return [f"{', '.join(names)}: {text}" if names[0] else text for text, names in variants.items()]


def _table(family: str, records: list[Record], letters: dict[str, str]) -> str:
    """One family's rows; with `letters`, each says what it was made with."""
    if not records:
        return ""
    counts = "connections | expected | id. | proj. | streams | blocks | refused"
    head, rule = (
        f"| model | parameters | inputs | {counts} | equal | s | |",
        "|---|--:|---|" + "--:|" * 7 + "---|--:|---|",
    )
    if letters:
        head, rule = f"{head} made with |", f"{rule}---|"
    rows = [_row(record) + (f" {letters[_made_with(record)]} |" if letters else "") for record in records]
    return "\n".join([f"## {family}\n", LEGEND, head, rule, *rows]) + "\n"


def _row(record: Record) -> str:
    expected = record.get("expected")
    cells = [
        record["name"].partition(":")[2],
        f"{record.get('parameters', 0):,}",
        _inputs(record.get("inputs", "")),
        record.get("connections", 0),
        "" if expected is None else expected,
        record.get("identity", 0),
        record.get("projection", 0),
        record.get("streams", 0),
        record.get("blocks", 0),
        record.get("refused", 0),
        _equal(record),
        record["seconds"],
        "" if record["status"] == "passed" else "failed",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _inputs(described: str) -> str:
    side = described.removeprefix("0 [2, 3, ").partition(",")[0]
    return side if described.startswith("0 [2, 3, ") else described


def _equal(record: Record) -> str:
    variants = record.get("variants", {}).values()
    if not variants:
        return "no connection" if record["status"] == "passed" else ""
    if all(one["bitwise"] for one in variants):
        return "bitwise" if record["dtype"] == "float64" else f"bitwise, {record['dtype']}"
    differences = [one["difference"] for one in variants]
    if any(difference != difference for difference in differences):
        return ""
    largest = f"{max(differences):.0e}"
    return largest if record["dtype"] == "float64" else f"{largest}, {record['dtype']}"


def _family(record: Record) -> str:
    name: str = record["name"]
    return name.partition(":")[0]
