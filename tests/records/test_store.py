"""A record is read as it was written, or refused with its name."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest

from laurel_cli.errors import RecordError, ResourceError
from laurel_cli.records.store import read, write

CONTENT = {"arms": [{"name": "rw\n[red]", "ratio": 1.5, "samples": (1, 2.25)}], "missing": math.nan}
PLAIN = {"arms": [{"name": "rw\n[red]", "ratio": 1.5, "samples": [1, 2.25]}], "missing": None}


def test_round_trip(tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "b", "profile", "complete", CONTENT)
    record = read(path)
    assert record["content"] == PLAIN
    assert (record["schema"], record["kind"], record["status"]) == ("laurel.record/1", "profile", "complete")
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_name_is_that_of_the_content(tmp_path: Path) -> None:
    path = write(tmp_path, "profile", "complete", CONTENT)
    text = json.dumps(PLAIN, sort_keys=True, separators=(",", ":"))
    assert path.name == f"profile-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    assert write(tmp_path, "profile", "complete", dict(reversed(CONTENT.items()))) == path


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("1.5", "1.4"),
        lambda text: text.replace("laurel.record/1", "laurel.record/2"),
        lambda text: "[]",
        lambda text: "\x00\xff",
    ],
)
def test_damaged_records_are_refused_by_name(tmp_path: Path, damage) -> None:
    path = write(tmp_path, "profile", "complete", CONTENT)
    path.write_text(damage(path.read_text()), encoding="latin-1")
    with pytest.raises(RecordError, match=path.name):
        read(path)


def test_absent(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"none\.json"):
        read(tmp_path / "none.json")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be made"):
        write(tmp_path / "file" / "records", "profile", "complete", CONTENT)
