"""`laurel.train`: every arm trained on a small task, and what is separated from what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laurel_cli.results import ResultOfArms
from laurel_cli.settings.base import called, taking
from laurel_cli.settings.train import TrainSettings


@dataclass(frozen=True)
class ArmQuality:
    """What a study establishes of one arm. None for what is not known, or may not be claimed.

    Attributes:
        name: of the arm; `role` "baseline", "copy", "arm", or that of a control.
        loss, loss_low, loss_high: mean of the final losses in nats and its 95 % interval; `accuracy` as a share.
        gain, gain_low, gain_high: over the baseline within blocks, positive is better, in the unit of the study's
            metric; the interval holds at the level `confidence`, corrected for the number of arms, as is `p`.
        n: blocks that it rests on.
        verdict: "better", "not separated", "worse", "cannot tell", "withheld" and the like; `words` the same in a
            phrase, `reason` why, `sentence` the phrase with the arm's name.
        excluded_low, excluded_high: between which the gain lies, together with those of the other arms.
        trend: whether the gain lasts; `worth` whether it is worth having, where that was declared.
        parameters, added_parameters: of the arm's model, and beyond the baseline's.
        failed: trials without a result that counts.
    """

    name: str
    role: str
    loss: float | None
    loss_low: float | None
    loss_high: float | None
    accuracy: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    confidence: float | None
    p: float | None
    n: int
    verdict: str | None
    words: str
    reason: str
    sentence: str
    excluded_low: float | None
    excluded_high: float | None
    trend: str | None
    worth: str | None
    parameters: int | None
    added_parameters: int | None
    failed: int


@dataclass(frozen=True)
class StudyResult(ResultOfArms[ArmQuality]):
    """The answer of `train`; `content` is its document, schema "laurel.train-proxy/2"."""

    content: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """The document of `laurel train-proxy --format json`."""
        return self.content

    def figures(self) -> list[ArmQuality]:
        """Every arm and control, the baseline first."""
        return [_quality(arm) for arm in self.content["arms"]]

    @property
    def folder(self) -> Path:
        """Where the study lies: its definition and a record of every trial."""
        return Path(self.content["folder"])

    @property
    def answer(self) -> list[str]:
        """What the study comes to, in sentences, as `laurel.report` has them."""
        from laurel_cli.api.reported import report

        return report(self.folder).answer


def _quality(arm: Mapping[str, Any]) -> ArmQuality:
    """Of an arm in the document, where differences are those of losses: a gain is one the other way round."""
    over, excluded, parameters = arm["difference"] or {}, arm["excluded"] or {}, arm["parameters"] or {}
    said = arm["words"] or arm["role"]
    return ArmQuality(
        **{key: arm[key] for key in ("name", "role", "n", "accuracy", "verdict", "words", "reason", "trend", "worth")},
        loss=arm["mean"],
        loss_low=arm["low"],
        loss_high=arm["high"],
        gain=_turned(over.get("mean")),
        gain_low=_turned(over.get("high")),
        gain_high=_turned(over.get("low")),
        confidence=over.get("confidence"),
        p=over.get("p"),
        sentence=f"{arm['name']}: {said}.",
        excluded_low=_turned(excluded.get("high")),
        excluded_high=_turned(excluded.get("low")),
        parameters=parameters.get("total"),
        added_parameters=parameters.get("added"),
        failed=arm["failed"],
    )


def _turned(value: float | None) -> float | None:
    return None if value is None else -value


@taking(TrainSettings)
def train(asked: TrainSettings) -> StudyResult:
    """Train every arm on a small task, each seed a block that all arms share, and say what is separated.

    Without arguments it is the default study of `laurel train-proxy`: about ten minutes of two idle cores. The
    arguments are that command's options, with the same defaults; `laurel train-proxy --help` says of each what it
    does. The same call again trains nothing; more `arms` or `seeds` add to the study. Ctrl-C lets the trials under way
    write their checkpoints; `resume=True` goes on with them.

    >>> import laurel_cli as laurel
    >>> few = {"seeds": 1, "steps": 4, "controls": False, "train_limit": 4096, "evaluation_limit": 512}
    >>> found = laurel.train("rw", task="stdlib", layers=1, width=16, study="study", **few)
    >>> found.arm("rw").added_parameters
    4
    >>> found.arm("rw").verdict
    'withheld'

    Args:
        arms: "rw,rw+lr@4,naive+1", or a list; the baseline and the controls are trained beside them.
        model: a reference that is built anew for every seed, "timm:resnet18" or "FILE.py:FACTORY"; the proxy of the
            task where none is named.
        task: "stdlib" and "scenes" need no data; "cifar10:DIR", "text:FILE", and so on.
        study: the folder in which all trials are recorded; by default one under reports/studies.
        on_progress: told what is being done; `on_event` what a trial says.

    Returns:
        Losses, gains and verdicts by arm; `answer` says in sentences what is established.

    Raises:
        UsageError: an argument that means nothing, or contradicts another; a study that is unfinished without `resume`.
        ModelError: the model or an arm of it cannot be built or does not fit the task.
        RecordError: data that is missing or changed, or a folder that holds another study.
        ResourceError: the device is absent, or the folder cannot be written.
        TypeError: a module in the place of a reference.
    """
    from laurel_cli.records.provenance import versions
    from laurel_cli.study.asked import plan_of
    from laurel_cli.study.compare import compare, prepare
    from laurel_cli.tasks.reading.places import rooted

    with rooted(asked.data_root):
        plan = plan_of(asked, command=called("train", asked), versions=versions())
        prepared = prepare(plan, asked.on_progress)
        return StudyResult(compare(plan, prepared, on_event=asked.on_event))
