"""What the arms of a study cost, counted as `laurel analyze` does and recorded: a report needs it beside the trials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from laurel_cli.arms import Arm
from laurel_cli.records.canonical import sha256_of
from laurel_cli.records.store import read, write
from laurel_cli.study.folder import Study
from laurel_cli.study.plan import StudyPlan
from laurel_cli.tasks import Task


def _to_count(begun: Study) -> list[Arm]:
    """The arms that `laurel analyze` knows."""
    plain = [one.arm for one in begun.contenders if not one.reference and not one.arm.kind.own_seeds and one.width == 1]
    return list(dict.fromkeys(plain))


def is_counted(begun: Study, folder: Path) -> bool:
    """Whether what the arms cost is recorded: a run that was killed may have left the study without it."""
    arms = {arm.name for arm in _to_count(begun)}
    wanted = sha256_of([begun.code["code"], dict(begun.recipe.spec)])
    for path in (folder / "records").glob("analyze-*.json"):
        content = read(path)["content"]
        counted = {arm["name"] for arm in content["arms"]}
        if arms <= counted and sha256_of([content["hashes"]["code"], content["spec_options"]]) == wanted:
            return True
    return False


def count(begun: Study, task: Task, folder: Path, plan: StudyPlan, on_progress: Callable[[str], None]) -> None:
    """Count and record it."""
    from laurel_cli.analysis import analyze
    from laurel_cli.proxy.start import opened

    analysis = analyze(
        opened(begun.recipe, task),
        _to_count(begun),
        check=False,
        command=plan.command,
        on_progress=on_progress,
    )
    content = analysis.record()
    content |= {"options": begun.recipe.plain()["model"], "spec_options": dict(begun.recipe.spec)}
    hashes = {"model": content["model"]["architecture"], "code": begun.code["code"]}
    content |= {"versions": dict(plan.versions), "hashes": hashes}
    write(folder / "records", "analyze", "complete", content)
