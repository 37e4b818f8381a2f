"""laurel.record/1: the file that holds one measurement."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from laurel_cli.schemas.marks import Moment, Sha256


class RecordJSON(TypedDict):
    """One measurement. `content` is the document of its kind: laurel.analyze/1, laurel.profile/1 or laurel.trial/1.

    `sha256` is that of the content as canonical JSON: sorted keys, no spaces, ASCII. `recorded` is the time in UTC.
    """

    schema: Literal["laurel.record/1"]
    kind: Literal["analyze", "profile", "trial"]
    status: Literal["complete", "partial", "failed"]
    sha256: Sha256
    recorded: NotRequired[Moment]  # older records have none
    content: dict[str, Any]
