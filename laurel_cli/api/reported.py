"""`laurel.report`: what was recorded, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laurel_cli.reports.asked import chosen_costs, chosen_metric, gathered, refuse_nothing
from laurel_cli.reports.document import report as make
from laurel_cli.reports.rows import rows
from laurel_cli.results import ResultOfArms

if TYPE_CHECKING:
    import pandas as pd

Places = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class ReportedArm:
    """What was recorded of one arm of one model. None for what was not, or may not be claimed.

    Attributes:
        name: of the arm; `model`, `study`, `task` in which it stands, `role` in the study.
        quality, quality_low, quality_high: mean of the final `metric`, and its interval.
        gain, gain_low, gain_high, gain_level: over the baseline, positive is better, in nats or as a share; `p_holm`
            corrected for the number of arms.
        verdict, words: of the study, in a word and in a phrase.
        trend: whether the gain lasts; `worth` whether it is worth having, where that was declared.
        excluded_low, excluded_high: between which the gain lies.
        costs: every further column of the frame, "added_parameters_percent", "added_latency_percent", by name.
    """

    name: str
    model: str | None = None
    study: str | None = None
    task: str | None = None
    role: str | None = None
    metric: str | None = None
    quality: float | None = None
    quality_low: float | None = None
    quality_high: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    gain_level: float | None = None
    p_holm: float | None = None
    verdict: str | None = None
    words: str | None = None
    trend: str | None = None
    worth: str | None = None
    excluded_low: float | None = None
    excluded_high: float | None = None
    costs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report(ResultOfArms[ReportedArm]):
    """The answer of `report`; `content` is its document, schema "laurel.report/2"."""

    content: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """The document of `laurel report --format json`."""
        return self.content

    def figures(self) -> list[ReportedArm]:
        """Every arm of every model and study."""
        names = {item.name for item in fields(ReportedArm)} - {"name", "costs"}
        return [
            ReportedArm(
                name=row["arm"],
                **{key: row.get(key) for key in names},
                costs={key: value for key, value in row.items() if key not in {*names, "arm"}},
            )
            for row in rows(self.content)
        ]

    @property
    def answer(self) -> list[str]:
        """What it comes to, in sentences."""
        return [sentence for body in self.content["comparisons"] for sentence in body["answer"]]

    def to_frame(self) -> pd.DataFrame:
        """A row an arm, by its name; the columns are those of `laurel report --format csv`."""
        from pandas import DataFrame

        return DataFrame(rows(self.content)).set_index("arm")

    def to_markdown(self) -> str:
        """The report as Markdown, without figures."""
        return self._rendered("markdown", {})

    def to_html(self) -> str:
        """The report as one HTML file, its figures in it."""
        from laurel_cli.reports.figures import inline

        return self._rendered("html", inline(self.content))

    def _rendered(self, format: str, pictures: Mapping[str, str]) -> str:  # noqa: A002 - the option's name
        from laurel_cli.render import render

        return render(self.content, format, pictures=pictures)

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{escape(sentence)}</p>" for sentence in self.answer)
        return said + str(self.to_frame().to_html())


def report(
    records: Places | None = None,
    *,
    study: Places | None = None,
    model: str | None = None,
    cost: str | Sequence[str] | None = None,
    quality: str | None = None,
) -> Report:
    """Report what was recorded: quality against each cost, what is established, what is excluded, what is not known.

    Reads what `laurel.profile`, `laurel.train` and the commands have left; builds no model. The verdicts are those of
    the studies, word for word.

    >>> import laurel_cli as laurel
    >>> found = laurel.report("reports/studies/stdlib-paper-c4-b4a7d0b8")
    >>> found.arm("rw").verdict, found.arm("rw").words
    ('not separated', 'not separated: within -0.011 and +0.016 nats of the baseline')

    Args:
        records: a folder of records, at any depth, or several; "reports" by default.
        study: this study alone, by its folder or by its name under reports/studies; or several.
        model: this model alone, as it was called.
        cost: of "parameters", "flops", "latency", "step" and "memory" what quality is set against; all by default.
        quality: "loss" or "accuracy", to be shown; verdicts are by the metric that the study declared.

    Returns:
        Figures by arm, the answer in sentences, the report as Markdown and HTML.

    Raises:
        RecordError: a folder is missing, nothing was recorded of what is asked for, or nothing can be read.
        UsageError: a cost or a quality that is unknown, or was not measured.
    """
    found = gathered(_places(study), None if records is None else _places(records))
    document = make(found, costs=chosen_costs(cost), metric=chosen_metric(quality), model=model)
    refuse_nothing(document, found, model)
    return Report(document)


def _places(given: Places | None) -> list[Path]:
    if given is None:
        return []
    return [Path(given)] if isinstance(given, str | Path) else [Path(place) for place in given]
