"""Commands in folders that are laid out for them, what they leave when all goes well, and whether a folder is whole.

Kills and failing system calls try the same commands and ask the same of what they find afterwards.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from laurel_cli.errors import LaurelError
from laurel_cli.proxy import checkpoint
from laurel_cli.records.folder import gather
from laurel_cli.records.store import sha256_of
from laurel_cli.study import folder as study
from laurel_cli.tasks.reading.cache import open_arrays
from tests.commands import Commands, Done, left_in
from tests.faults.hostile import MODELS
from tests.report import made

# Imported beforehand, so that commands do what they do at once.
MODULES = (
    "typer",
    "laurel_cli.cli.app",
    "laurel_cli.render.table",
    "laurel_cli.render.markdown",
    "laurel_cli.render.html",
    "laurel_cli.render.latex",
    "laurel_cli.render.pages.report",
    "laurel_cli.render.pages.records",
    "laurel_cli.render.pages.analyze",
    "laurel_cli.render.pages.recommend",
    "laurel_cli.reports.document",
    "laurel_cli.reports.recommend",
    "laurel_cli.reports.figures",
    "matplotlib.figure",
    "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg",
    "laurel_cli.proxy.start",
    "laurel_cli.tasks.text",
)
LIMIT = 300.0  # seconds for a command that nobody kills
OLD = "what was here before: "
TEMPORARY = re.compile(r"\..*\.tmp")
KEPT = ("made", "counted", "kept", "into", "study")  # folders of records
# `place` says the number of the attempt, which kills make a larger one.
TIMED = ("seconds", "recorded", "samples", "arms", "noise_floor", "protocol", "warnings", "notes", "place")
# A checkpoint after every step, not every ten seconds.
OFTEN = {"laurel_cli.proxy.trial": {"CHECKPOINT_SECONDS": 0.0, "CHECKPOINT_SHARE": 1e9}}
TEXT = "Every record is whole or absent. A study that was killed goes on where it was, and ends as if it had not been. "
SMALL = ("--task", "text:words.txt", "--layers", "1", "--width", "32", "--seq-len", "16", "--batch", "4")
SMALL += ("--steps", "24", "--evaluations", "3", "--evaluation-limit", "256", "--device", "cpu", "--no-controls")
STUDY = ("train-proxy", *SMALL, "--arms", "rw,lr@2", "--seeds", "2", "--study", "study", "--processes", "1")


@dataclass(frozen=True)
class Case:
    """A command.

    Attributes:
        name: as the page calls it.
        words: what is typed.
        before: commands that lay the folder out, in turn, after its files are there.
        output: files and folders that it replaces, which hold something older.
        constants: of modules of this process, see `Commands.run`.
        fixed: kinds of records whose content is the same every time, but for `TIMED`.
    """

    name: str
    words: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    output: tuple[str, ...] = ()
    constants: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fixed: tuple[str, ...] = ("analyze", "trial")


TWO = ("--input", "float32:2x8", "--arms", "rw")
GIVEN = (*TWO, "--no-check", "--no-cache", "--save", "--records", "kept")
REPORT = ("report", "--records", "made", "--force")
CASES = {
    case.name: case
    for case in (
        Case(
            "analyze",
            ("analyze", "resnet18", "--arms", "rw,lr@2", "--no-check", "--no-cache", "--save", "--records", "kept"),
        ),
        Case(
            "analyze --output, a user's file",
            ("analyze", "models.py:Net", *GIVEN, "--format", "json", "--output", "out.json", "--force"),
            output=("out.json",),
        ),
        Case("train-proxy --prepare", (*STUDY, "--prepare", "--resume")),
        Case(
            "train-proxy --trial",
            ("train-proxy", "--trial", "rw:0", "--study", "study"),
            before=((*STUDY, "--prepare"),),
            constants=OFTEN,
        ),
        Case("report --output", (*REPORT, "--output", "out.txt"), output=("out.txt",)),
        Case(
            "report --output with figures",
            ("report", "--records", "counted", "--force", "--format", "markdown", "--output", "out.md"),
            output=("out.md", "out-figures"),
        ),
        Case(
            "recommend",
            ("recommend", "resnet20", "--records", "made", "--output", "out.txt", "--force"),
            (),
            ("out.txt",),
        ),
        Case("records --into", ("records", "made", "--into", "into", "--format", "json")),
        Case("records --output", ("records", "made", "--output", "out.txt", "--force"), output=("out.txt",)),
    )
}
# Those whose processes import torch themselves: long, and killed alone.
LONG = {
    case.name: case
    for case in (
        Case("train-proxy --resume", (*STUDY, "--resume")),
        Case(
            "profile",
            ("profile", "models.py:Net", *TWO, "--processes", "1", "--max-time", "1", "--records", "kept"),
        ),
    )
}


def lay_out(folder: Path) -> None:
    """Everything that a command reads."""
    folder.mkdir(parents=True)
    made.everything(folder / "made")
    made.analysis(folder / "counted", made.ARMS[:3])
    made.study(folder / "counted", made.ARMS[:3], seeds=2)  # few arms: few figures
    (folder / "models.py").write_text(MODELS)
    (folder / "words.txt").write_text(TEXT * 200)


@dataclass
class Bench:
    """Commands and the folders that they run in.

    Attributes:
        place: for the folders of rounds; beside it are those that are copied for them, which all parts share.
        commands: runs them.
    """

    place: Path
    commands: Commands

    def folder(self, case: Case, number: int) -> tuple[Path, dict[str, str], float]:
        """One for a round, laid out, with older files where its output will be.

        Returns:
            It, what the command leaves in it when nothing goes wrong, and the seconds that this takes.
        """
        template = self.place.parent / "laid-out" / case.name.replace(" ", "-").replace(",", "")
        known = template.with_suffix(".json")
        if not known.exists():
            lay_out(template)
            for words in case.before:
                done = self.run(case, template, words=words)
                assert done.returncode == 0, done.stderr
            known.write_text(json.dumps(self._whole(case, template)))
        folder = self.place / f"{number}"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, folder)
        return folder, *json.loads(known.read_text())

    def run(self, case: Case, folder: Path, *, limit: float = LIMIT, words: tuple[str, ...] = (), **env: str) -> Done:
        """The command (or another one) in its folder."""
        env = {"LAUREL_CACHE": str(folder / "cache")} | env
        return self.commands.run(words or case.words, folder, limit, env, case.constants, whole=False)

    def _whole(self, case: Case, template: Path) -> tuple[dict[str, str], float]:
        """What it leaves and its seconds. The template gets older files where it writes; what a command does not leave
        alike every time shows in the rounds."""
        scratch = template.with_name(f"{template.name}-whole")
        shutil.copytree(template, scratch)
        began = time.monotonic()
        done = self.run(case, scratch)
        seconds = time.monotonic() - began
        assert done.returncode == 0, f"{case.name}: {done.stderr}"
        assert not broken(case, scratch, {}), broken(case, scratch, {})
        for path in outputs(case, scratch):
            older = template / path.relative_to(scratch)
            older.parent.mkdir(parents=True, exist_ok=True)
            older.write_text(OLD + older.name)
        return left(case, scratch), seconds


def outputs(case: Case, folder: Path) -> list[Path]:
    """The files that it replaces."""
    places = [folder / name for name in case.output]
    inside = [path for place in places if place.is_dir() for path in place.iterdir()]
    return sorted(path for path in (*places, *inside) if path.is_file() and not TEMPORARY.fullmatch(path.name))


def left(case: Case, folder: Path) -> dict[str, str]:
    """What a command has left, but for times: output files by their bytes, records by their content."""
    found = {str(path.relative_to(folder)): sha256_of(path.read_bytes().hex()) for path in outputs(case, folder)}
    for record in gather(_kept(folder)).records:
        place = record.path.parent.relative_to(folder)
        content = record.content if record.kind in case.fixed else {}
        plain = {key: value for key, value in content.items() if key not in TIMED or record.kind != "trial"}
        if record.kind == "trial" and record.status == "failed":
            continue  # a trial that an error ends leaves a record of that, beside the one of the attempt that succeeds
        found[f"{place}/{record.kind} {sha256_of(plain)}"] = record.status
    if (folder / "study" / "study.json").exists():
        found["study.json"] = sha256_of(json.loads((folder / "study" / "study.json").read_bytes()))
    return found


def broken(case: Case, folder: Path, whole: Mapping[str, str]) -> list[str]:
    """What in a folder is neither as it was nor as a whole command leaves it.

    Args:
        whole: what a command leaves when nothing goes wrong; empty where that is not known yet.
    """
    said = [problem.what for problem in gather(_kept(folder)).problems]
    for path in outputs(case, folder):
        data = path.read_bytes()
        expected = whole.get(str(path.relative_to(folder)))
        if whole and data != (OLD + path.name).encode() and sha256_of(data.hex()) != expected:
            said.append(f"{path.name} is neither as it was nor as it should be")
    for path in folder.rglob("*"):
        try:
            if path.name == "study.json":
                study.load(path.parent)
            elif path.suffix == ".arrays":
                open_arrays(path, verify=True)
            elif path.suffix == ".pt":
                check_checkpoint(path)
        except LaurelError as error:
            said.append(str(error))
    return said


def _kept(folder: Path) -> list[Path]:
    return [folder / name for name in KEPT if (folder / name).exists()]


def check_checkpoint(path: Path) -> None:
    """That one is whole, whoever's it is."""
    owner = torch.load(path, weights_only=True)["owner"]
    assert checkpoint.restore(path, owner) is not None


def temporaries(folder: Path) -> list[Path]:
    """Files of writers that did not come to their end."""
    return [path for path in folder.rglob(".*") if TEMPORARY.fullmatch(path.name)]


def age(folder: Path) -> None:
    """As if they had been left a minute ago: a file of this moment may still be somebody's."""
    for path in temporaries(folder):
        os.utime(path, (time.time() - 60,) * 2)


def alone(folder: Path, patience: float = 5.0) -> bool:
    """Whether nobody works in a folder any more, after a moment."""
    until = time.monotonic() + patience
    while left_in(folder):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def unfit(done: Done, case: Case, folder: Path, whole: Mapping[str, str]) -> list[str]:
    """What is not as it must be after a command that nothing has disturbed."""
    said = (
        [] if done.returncode == 0 else [f"the next command ended with {done.returncode}: {done.stderr.strip()[-300:]}"]
    )
    if not said and left(case, folder) != whole:
        said.append(f"the next command left something else: {sorted(different(left(case, folder), whole))}")
    return said + [f"{path.name} was left" for path in temporaries(folder)] + broken(case, folder, whole)


def different(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """Keys whose values are not the same."""
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
