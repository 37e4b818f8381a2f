"""Experiments as data: a file of TOML holds arms, model, task and budget at each scale, and what the paper prints.

    title = "Table 5: a decoder-only language model on C4"
    source = "arXiv 2411.07501v4, Table 5"
    notes = ["What does not add up, in a sentence each."]

    [paper]                                  # what is printed, to stand beside what is measured
    quality = "loss"                         # or "accuracy", a share of 1
    arms.baseline = {parameters = 157_200_000, quality = 3.0159, step = 0.095, memory = 11.65}
    arms."rw+lr@32" = {added_percent = 0.76}  # percent in place of a count, where that is what is printed

    [scales.cpu]                             # `laurel reproduce table5 --scale cpu`
    note = "What is smaller than in the paper."
    data = "cifar10:DIR"                     # a task that must be named, where it needs data
    papers-model = true                      # what analyze counts is the model whose parameters are printed
    beside = {"rw+lr@4" = "rw+lr@32"}        # an arm here, and the printed one that it stands beside
    analyze = {model = "paper-c4", arms = ["rw", "rw+lr@4"]}
    profile = {model = "paper-c4", mode = "train"}
    train-proxy = {model = "paper-c4", layers = 6, seeds = 4}
    cluster = {model = "paper-c4", task = "c4"}    # a study that is printed, for other machines

Each of the three commands is a table of its options. A file without scales has these at its top, and is of one
scale: so what `laurel train-proxy --write-config` wrote is one. Where records and the study go is no option of theirs:
that is one folder. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from laurel_cli.errors import UsageError
from laurel_cli.experiments.arms import check_arms
from laurel_cli.schemas.check import fault
from laurel_cli.schemas.experiment import ExperimentTOML, PaperTOML, PrintedTOML, ScaleTOML, UnwrittenTOML
from laurel_cli.schemas.marks import fields
from laurel_cli.settings import files
from laurel_cli.settings.base import Settings
from laurel_cli.settings.profile import ProfileSettings
from laurel_cli.settings.shared import (
    ArmFileSettings,
    ArmSettings,
    ExampleSettings,
    FormulaSettings,
    ModelArgSettings,
    ModelSetting,
    VariantSettings,
)
from laurel_cli.settings.train import TrainSettings
from laurel_cli.text import shortened

ANALYZE = (ModelSetting, VariantSettings, ArmSettings, ArmFileSettings, FormulaSettings, ExampleSettings)
COMMANDS: dict[str, tuple[type[Settings], ...]] = {
    "analyze": (*ANALYZE, ModelArgSettings),
    "profile": (ProfileSettings,),
    "train-proxy": (TrainSettings,),
}
"""The commands of an experiment, in the order in which they run, and what their options are."""
ONLY = "as written"  # the one scale of a file without scales
OURS = ("study", "records", "resume")  # options that every experiment sets itself


@dataclass(frozen=True)
class Scale:
    """How an experiment is made at one size.

    Attributes:
        name: "cpu", "gpu", "paper" or the file's own.
        steps: by command, its options in the form in which they are typed, by field.
        note: what differs from the paper's.
        data: a task that must be named, such as "cifar10:DIR"; "" where none must be.
        beside: names of the paper's arms by ours.
        papers_model: whether analyze counts the model whose parameters the paper prints.
        cluster: options of a study that is printed and not run; None for none.
    """

    name: str
    steps: Mapping[str, Mapping[str, Any]]
    note: str = ""
    data: str = ""
    beside: Mapping[str, str] = field(default_factory=dict)
    cluster: Mapping[str, Any] | None = None
    papers_model: bool = False


@dataclass(frozen=True)
class Unwritten:
    """Parameters that a paper counts and does not mention: `each` so many, in each arm a number of times."""

    each: int
    arms: Mapping[str, int]
    why: str


@dataclass(frozen=True)
class Experiment:
    """What a paper did, and how to do it again.

    Attributes:
        name: as it is asked for.
        title, source: what it is, and where it stands.
        quality: "loss" or "accuracy", in which the paper's `quality` is.
        printed: by arm, the paper's "parameters" or "added_percent", "quality", "step" (seconds), "memory" (any unit).
        unwritten: what would explain its parameters, None where nothing is known.
        scales: by name.
        notes: what does not add up.
        file: where it is described; None for one that comes with laurel.
    """

    name: str
    title: str
    source: str
    quality: str
    printed: Mapping[str, Mapping[str, float]]
    unwritten: Unwritten | None
    scales: Mapping[str, Scale]
    notes: tuple[str, ...]
    file: Path | None = None


def names() -> list[str]:
    """The experiments that come with laurel, sorted."""
    return sorted(file.name.removesuffix(".toml") for file in _data().iterdir() if file.name.endswith(".toml"))


def find(name: str) -> Experiment:
    """An experiment by its name, or of a file.

    Raises:
        UsageError: there is no such experiment or file, or what it says cannot be read.
    """
    if name in names():
        with resources.as_file(_data() / f"{name}.toml") as path:
            return parse(name, files.read(path))
    if not name.endswith(".toml"):
        near = get_close_matches(name, names(), n=1)
        hint = f"Did you mean {near[0]}?" if near else f"It is one of {', '.join(names())}, or a FILE.toml."
        raise UsageError(f"There is no experiment {name!r}.", hint=hint)
    return replace(parse(Path(name).stem, files.read(Path(name))), file=Path(name))


def parse(name: str, tables: Mapping[str, Any]) -> Experiment:
    """An experiment from what a file holds.

    Raises:
        UsageError: a key that there is not, a value of another kind, an arm that is none, or nothing to run.
    """
    if "scales" not in tables:
        own = {key: table for key, table in tables.items() if key in COMMANDS}
        tables = {key: value for key, value in tables.items() if key not in COMMANDS} | {"scales": {ONLY: own}}
    wrong = fault(tables, ExperimentTOML)
    if wrong:
        raise UsageError(f"{name} is no experiment.", f"{wrong[:1].upper()}{wrong[1:]}.")
    _only(tables, ExperimentTOML, name)
    paper, extra = tables.get("paper", {}), None
    _only(paper, PaperTOML, f"{name} paper")
    for arm, figures in paper.get("arms", {}).items():
        _only(figures, PrintedTOML, f"{name} paper {arm}")
        share = figures.get("quality", 0) if paper.get("quality") == "accuracy" else 0
        if not 0 <= share <= 1:
            what = f"{name} paper {arm}: quality = {share:g} is no share of 1."
            raise UsageError(what, "So an accuracy is written.", f"Write {share / 100:g} for {share:g} %.")
    if "unwritten" in paper:
        _only(paper["unwritten"], UnwrittenTOML, f"{name} paper unwritten")
        extra = Unwritten(**paper["unwritten"])
    scales = {key: _scale(key, table, f"{name} {key}") for key, table in tables["scales"].items()}
    if not all(scale.steps for scale in scales.values()) or not scales:
        raise UsageError(f"{name} has nothing to run.", hint="Write [train-proxy] or [scales.cpu.train-proxy].")
    found = Experiment(
        name=name,
        title=tables.get("title", name),
        source=tables.get("source", ""),
        quality=paper.get("quality", "loss"),
        printed=paper.get("arms", {}),
        unwritten=extra,
        scales=scales,
        notes=tuple(tables.get("notes", ())),
    )
    check_arms(found)
    return found


def _scale(name: str, table: Mapping[str, Any], where: str) -> Scale:
    _only(table, ScaleTOML, where)
    steps = {key: files.typed(table[key], COMMANDS[key], f"{where} {key}") for key in COMMANDS if key in table}
    cluster = files.typed(table["cluster"], COMMANDS["train-proxy"], f"{where} cluster") if "cluster" in table else None
    for command, found in [*steps.items(), ("cluster", cluster or {})]:
        for key in OURS:
            if key in found:
                why = "All that an experiment leaves goes to one folder, and is gone on with."
                raise UsageError(f"{where} {command} cannot have {key!r}.", why, "Leave it out, and name a --folder.")
    words = (table.get("note", ""), table.get("data", ""), table.get("beside", {}))
    return Scale(name, steps, *words, cluster, table.get("papers-model", False))


def _only(table: Mapping[str, Any], of: Any, where: str) -> None:
    """No key that a type has not: one that is misspelled would be passed over in silence."""
    known = [item.name for item in fields(of)]
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"It has {', '.join(known)}."
            raise UsageError(f"{where}: {shortened(repr(key))} is unknown.", hint=hint)


def _data() -> Any:
    return resources.files("laurel_cli.experiments") / "data"
