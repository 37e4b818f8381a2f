"""From what is asked of `report` to the records that it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from laurel_cli.errors import RecordError, fitting_names
from laurel_cli.records.folder import Gathered, gather
from laurel_cli.reports.costs import COSTS
from laurel_cli.reports.join import models, usable
from laurel_cli.reports.studies import METRICS
from laurel_cli.settings.read import items, one_of
from laurel_cli.study.ladder import holds

REPORTS, STUDIES = Path("reports"), Path("reports/studies")


def chosen_costs(cost: str | Sequence[str] | None) -> tuple[str, ...]:
    """The costs that are asked for, all where none is.

    Raises:
        UsageError: an unknown one.
    """
    return tuple(dict.fromkeys(one_of("cost", item, COSTS) for item in items("cost", cost))) or tuple(COSTS)


def chosen_metric(quality: str | None) -> str | None:
    """The metric that is asked for, None where none is.

    Raises:
        UsageError: an unknown one.
    """
    return None if quality is None else one_of("quality", quality, METRICS)


@fitting_names()
def gathered(studies: Sequence[Path], records: Sequence[Path] | None) -> Gathered:
    """What is asked for; with `studies` alone their trials, and what else is known of their models.

    Args:
        studies: folders, or names of folders under reports/studies.
        records: folders; None for "reports".

    Raises:
        RecordError: a folder is missing.
    """
    if not studies:
        if records is None and not REPORTS.is_dir():
            return Gathered((), ())
        return gather(records or [REPORTS])
    trials = gather([_folder(study) for study in studies])
    others = beside(records)
    rest = gather(others) if others else Gathered((), ())
    both = {record.name: record for record in rest.records if record.kind != "trial"}
    both |= {record.name: record for record in trials.records}
    good, _ = usable(both.values())
    known = {record.name for record in good}
    joined = {record.name for model in models(good) if model.trials for record in model.records}
    # What cannot be used is kept: the report says why.
    wanted = joined | (both.keys() - known)
    kept = tuple(both[name] for name in sorted(both) if name in wanted)
    return replace(trials, records=kept, problems=(*trials.problems, *rest.problems))


def ladder_among(studies: Sequence[Path]) -> Path | None:
    """The first of these that is a ladder, as its folder; None where none is."""
    return next((place for study in studies if holds(place := _folder(study))), None)


def beside(records: Sequence[Path] | None) -> list[Path]:
    """The folders of records that are looked at beside a study: those asked for, else the usual one if it is there."""
    return list(records) if records else [folder for folder in (REPORTS / "records",) if folder.is_dir()]


def refuse_nothing(document: Mapping[str, Any], found: Gathered, model: str | None) -> None:
    """No answer is no report.

    Raises:
        RecordError: nothing was recorded, nothing of that model, or nothing that can be read.
    """
    from laurel_cli.models.reference import did_you_mean

    if document["comparisons"]:
        return
    if found.problems:
        raise RecordError("No record can be read.", found.problems[0].what, "Try laurel records --verify.")
    if model is not None and found.records:
        called = sorted({str(record.content["model"].get("reference")) for record in found.records})
        raise RecordError(
            f"Nothing is recorded of {model!r}.", hint=did_you_mean(model, called) or "Try laurel records."
        )
    raise RecordError(
        "There are no records to report.",
        "analyze --save, profile and train-proxy leave them in reports/records and reports/studies.",
        "Try laurel analyze resnet50 --save, or name a folder with `records`.",
    )


def _folder(study: Path) -> Path:
    """The folder of a study, by its path or its name."""
    return study if study.exists() or not (STUDIES / study).is_dir() else STUDIES / study
