"""What laurel writes and prints, as types, a file a document: JSON Schemas and the check of what is read.

No torch, and nothing of the other rooms.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from laurel_cli.schemas.analyze import Analyze
from laurel_cli.schemas.arms import Arms
from laurel_cli.schemas.convert import Convert
from laurel_cli.schemas.count import CountedModel, CountedModules
from laurel_cli.schemas.deploy import Deploy
from laurel_cli.schemas.env import Env
from laurel_cli.schemas.error import ErrorJSON
from laurel_cli.schemas.evaluate import Evaluate
from laurel_cli.schemas.ladder import LadderJSON, LadderReport
from laurel_cli.schemas.model import ModelJSON
from laurel_cli.schemas.models import Models
from laurel_cli.schemas.profile import ProfileJSON
from laurel_cli.schemas.recommend import Recommend
from laurel_cli.schemas.record import RecordJSON
from laurel_cli.schemas.records import Records
from laurel_cli.schemas.report import ReportJSON
from laurel_cli.schemas.reproduce import Experiments, Reproduce, ReproduceFolder
from laurel_cli.schemas.residual_map import FoundConnections
from laurel_cli.schemas.study import StudyOne, StudyTwo
from laurel_cli.schemas.study_status import DryRun, StudyStatus
from laurel_cli.schemas.train_proxy import TrainProxy
from laurel_cli.schemas.trial import Trial

DOCUMENTS: dict[str, Any] = {
    "laurel.analyze/1": Analyze,
    "laurel.arms/1": Arms,
    "laurel.convert/1": Convert,
    "laurel.count/1": CountedModel,
    "laurel.deploy/1": Deploy,
    "laurel.dry-run/1": DryRun,
    "laurel.env/1": Env,
    "laurel.error/1": ErrorJSON,
    "laurel.evaluate/1": Evaluate,
    "laurel.experiments/1": Experiments,
    "laurel.ladder/1": LadderJSON,
    "laurel.ladder-report/1": LadderReport,
    "laurel.model/1": ModelJSON,
    "laurel.models/1": Models,
    "laurel.modules/1": CountedModules,
    "laurel.profile/1": ProfileJSON,
    "laurel.recommend/2": Recommend,
    "laurel.record/1": RecordJSON,
    "laurel.records/1": Records,
    "laurel.report/2": ReportJSON,
    "laurel.reproduce-folder/1": ReproduceFolder,
    "laurel.reproduce/1": Reproduce,
    "laurel.residual-map/1": FoundConnections,
    "laurel.study-status/1": StudyStatus,
    "laurel.study/1": StudyOne,
    "laurel.study/2": StudyTwo,
    "laurel.train-proxy/2": TrainProxy,
    "laurel.trial/1": Trial,
}
"""By the name that a document has under "schema"."""
KINDS: dict[str, Any] = {"analyze": Analyze, "profile": ProfileJSON, "trial": Trial}
"""What the content of a record is, by the record's kind."""


def named(text: str) -> str | None:
    """The full name that people mean: "study" is "laurel.study/2", the newest; None for no document."""
    known: dict[str, str] = {}
    for name in sorted(DOCUMENTS):
        short = name.removeprefix("laurel.")
        known |= dict.fromkeys((name, short, name.partition("/")[0], short.partition("/")[0]), name)
    return known.get(text.strip().lower())


def nearest(text: str) -> list[str]:
    """The names most like one that is none, without what they all share."""
    known = [name.removeprefix("laurel.") for name in sorted(DOCUMENTS)]
    return get_close_matches(text.strip().lower().removeprefix("laurel."), known, n=2, cutoff=0.5)
