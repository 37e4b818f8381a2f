"""The pages of `reports/reproduce` again, from the records that lie there: nothing is counted, timed or trained.

python -m tests.bench.paper_pages [FOLDER ...]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from laurel_cli import experiments
from laurel_cli.cli.typed import document_in_options
from laurel_cli.experiments.beside import document
from laurel_cli.experiments.run import commands
from laurel_cli.records.folder import gather
from laurel_cli.render import render
from laurel_cli.study import folder as studies
from laurel_cli.verdict.document import document as judgement

HOME = Path("reports/reproduce")
# A study says it while it is prepared, and no record holds it.
OF_PREPARING = "all arms are trained contiguous"


def page(folder: Path) -> str:
    """`paper.md` of a folder NAME-SCALE, with the commands that its records name; its own command is that of before."""
    name, _, size = folder.name.partition("-")
    experiment = experiments.find(name)
    scale = experiment.scales[size]
    before = (folder / "paper.md").read_text(encoding="utf-8").splitlines()
    answers: dict[str, Any] = {}
    for kind in ("analyze", "profile"):
        found = [record for record in gather([folder / "records"]).records if record.kind == kind]
        if found:
            answers[kind] = max(found, key=lambda one: one.recorded).content
    study = folder / folder.name
    lines = [answer["command"] for answer in answers.values()]
    if study.is_dir():
        asked, trials = studies.load(study), studies.trials(study)
        definition = asked.definition() | {"arms": [one.name for one in asked.contenders]}
        answers["train-proxy"] = judgement(definition, trials)
        said = [re.sub(r"\\(.)", r"\1", line[2:]) for line in before if line.startswith(f"- {OF_PREPARING}")]
        answers["train-proxy"]["warnings"] = said + answers["train-proxy"]["warnings"]
        lines += sorted({trial["command"] for trial in trials})
    shown = {"task": scale.data or None} if "train-proxy" in scale.steps else {}
    made = document(
        experiment,
        scale,
        folder=folder.as_posix(),
        command=next(line for line in before if line.startswith("`laurel ")).strip("`"),
        lines=[*lines, commands(scale, folder, shown)[-1].line],
        cluster=[],
        answers=document_in_options(answers),
    )
    return render(made, "markdown")


def main() -> None:
    """Write them."""
    for folder in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(HOME.iterdir()):
        (folder / "paper.md").write_text(page(folder), encoding="utf-8")
        print(f"wrote {folder / 'paper.md'}")


if __name__ == "__main__":
    main()
