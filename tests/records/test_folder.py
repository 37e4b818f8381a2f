"""Folders of records: everything once, nothing skipped without a word, merges that lose nothing."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from laurel_cli.errors import RecordError
from laurel_cli.records.folder import gather, merge
from laurel_cli.records.store import load, write

RELEASED = Path(__file__).parent / "released"


def put(folder, number, kind="profile"):
    profile = {"model": {}, "device": {}, "mode": "infer", "dtype": "float32", "arms": []}
    trial = {"study": {"name": "s"}, "arm": {"name": "rw", "kind": "laurel"}, "seed": 0, "status": "failed"}
    content = trial if kind == "trial" else profile
    return write(folder, kind, "complete", content | {"number": number, "filler": "x" * 20_000})


def test_every_released_form_is_read():
    """One file for each form of record that a released version wrote; the form is never taken away from here."""
    records = gather([RELEASED])
    assert not records.problems
    assert len(records.records) == len(list(RELEASED.glob("*.json"))) >= 1
    assert {record.kind for record in records.records} >= {"profile"}
    old = next(record for record in records.records if record.kind == "profile")
    assert old.recorded == ""
    assert old.content["arms"][1]["ratio"]["median"] == 1.1013


def test_the_time_is_no_part_of_the_content(tmp_path):
    path = put(tmp_path, 1)
    first = path.read_bytes()
    assert load(path).recorded.endswith("Z")
    time.sleep(1.1)
    assert put(tmp_path, 1).read_bytes() == first


def test_a_damaged_record_is_written_again(tmp_path):
    path = put(tmp_path, 1)
    whole = path.read_text()
    path.write_text(whole[:100])
    assert put(tmp_path, 1) == path
    assert json.loads(path.read_text())["content"] == json.loads(whole)["content"]


def test_studies_are_found_and_other_files_are_not_records(tmp_path):
    one = put(tmp_path / "records", 1)
    two = put(tmp_path / "studies" / "s" / "records", 2, "trial")
    (tmp_path / "studies" / "s" / "study.json").write_text("{}")
    (tmp_path / "answer.json").write_text("{}")
    (tmp_path / "report.md").write_text("")
    found = gather([tmp_path])
    assert sorted(record.path for record in found.records) == sorted([one, two])
    assert found.problems == ()


def test_nothing_is_skipped_silently(tmp_path):
    put(tmp_path, 1)
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "notes.json").write_text("{}")
    (tmp_path / "profile-0123456789abcdef.json").write_text("")
    renamed = put(tmp_path, 2)
    renamed = renamed.rename(tmp_path / "trial-0123456789abcdef.json")
    found = gather([tmp_path])
    assert len(found.records) == 2
    assert [problem.path.name for problem in found.problems] == [
        "profile-0123456789abcdef.json",
        "notes.json",
        renamed.name,
    ]


def test_a_record_found_twice_counts_once(tmp_path):
    put(tmp_path / "a", 1)
    put(tmp_path / "b", 1)
    found = gather([tmp_path / "a", tmp_path / "b", tmp_path / "a"])
    assert (len(found.records), found.copies) == (1, 1)


def test_absent_folder(tmp_path):
    with pytest.raises(RecordError, match="no folder"):
        gather([tmp_path / "none"])


def test_merge_takes_whole_ones_and_replaces_nothing(tmp_path):
    a, b, into = tmp_path / "a", tmp_path / "b", tmp_path / "into"
    put(a, 1), put(a, 2), put(b, 2), put(into, 3)
    put(b, 4).write_text("cut short")
    before = {path: path.read_bytes() for path in into.iterdir()}
    new = merge(gather([a, b]), into)
    assert len(new) == 2
    assert sorted(record.content["number"] for record in gather([into]).records) == [1, 2, 3]
    assert all(path.read_bytes() == data for path, data in before.items())
    for path in new:
        assert (
            path.read_bytes()
            == next(folder for folder in (a, b) if (folder / path.name).exists()).joinpath(path.name).read_bytes()
        )
    assert merge(gather([a, b]), into) == []


def test_a_merge_that_was_killed_after_its_last_record_leaves_no_temporary_file(tmp_path):
    """The next one has nothing to write."""
    a, into = tmp_path / "a", tmp_path / "into"
    put(a, 1), put(into, 1)
    torn, under_way = into / ".laurel-1-0a0b0c0d.tmp", into / ".laurel-2-0a0b0c0d.tmp"
    torn.write_text("cut short"), under_way.write_text("somebody writes it")
    os.utime(torn, (time.time() - 60,) * 2)
    assert merge(gather([a]), into) == []
    assert not torn.exists()
    assert under_way.exists()


def _write_many(folder, start):
    for number in range(start, start + 1_000_000):
        put(Path(folder), number % 40)


def test_writers_that_are_killed_leave_whole_records_or_none(tmp_path):
    """Several writers of the same records, killed at any moment, while the folder is read."""
    context = multiprocessing.get_context("fork")
    for attempt in range(4):
        writers = [context.Process(target=_write_many, args=(tmp_path, 10 * i)) for i in range(3)]
        for writer in writers:
            writer.start()
        time.sleep(0.02 + 0.05 * attempt)
        during = gather([tmp_path])
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
        after = gather([tmp_path])
        assert not during.problems
        assert not after.problems
        assert len({record.sha256 for record in after.records}) == len(after.records) >= len(during.records)
    assert len(after.records) > 0


def test_what_declares_a_ladder_is_no_record(tmp_path):
    (tmp_path / "ladder.json").write_text("{}")
    (tmp_path / "24" / "records").mkdir(parents=True)
    assert not gather([tmp_path]).problems
    (tmp_path / "24" / "records" / "ladder.json").write_text("{}")  # among records every file should be one
    assert len(gather([tmp_path]).problems) == 1
