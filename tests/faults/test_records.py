"""Records among hostile files, in hostile places, written by many at once: nothing is lost, nothing waits for ever."""

import contextlib
import json
import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import pytest
from torch import nn

from laurel_cli.errors import RecordError, ResourceError, UsageError
from laurel_cli.laurel.keep import describe
from laurel_cli.records import files
from laurel_cli.records.canonical import sha256_of
from laurel_cli.records.files import UNFINISHED, replacing, write_whole
from laurel_cli.records.folder import gather, merge
from laurel_cli.records.store import read, write
from tests.report import made

MERGES, RECORDS = 16, 60


def put(folder, number):
    content = made.trial(seed=number, command="laurel train-proxy " + "x" * 5_000)
    return write(folder, "trial", "complete", content)


def merged_at(start, source, into):
    gathered = gather([source])
    start.wait()
    try:
        merge(gathered, into)
    except BaseException:  # noqa: BLE001 - whatever it is, the exit code tells
        os._exit(1)
    os._exit(0)


def test_sixteen_merges_at_once_all_succeed(tmp_path):
    source, into = tmp_path / "source", tmp_path / "into"
    expected = {put(source, number).name for number in range(RECORDS)}
    context = multiprocessing.get_context("fork")
    start = context.Barrier(MERGES)
    merging = [context.Process(target=merged_at, args=(start, source, into)) for _ in range(MERGES)]
    for process in merging:
        process.start()
    for process in merging:
        process.join()
    assert [process.exitcode for process in merging] == [0] * MERGES
    assert {path.name for path in into.iterdir()} == expected
    assert all((into / name).read_bytes() == (source / name).read_bytes() for name in expected)


def test_a_torn_file_in_the_target_is_not_taken_for_the_record(laurel, tmp_path):
    path = put(tmp_path / "source", 1)
    target = tmp_path / "into" / path.name
    target.parent.mkdir()
    for torn in (b"", path.read_bytes()[:300], put(tmp_path / "other", 2).read_bytes()):
        target.write_bytes(torn)
        done = laurel("records", "source", "--into", "into", "--format", "json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["merged"]["new"] == 1
        assert target.read_bytes() == path.read_bytes()
    assert json.loads(laurel("records", "source", "--into", "into", "--format", "json").stdout)["merged"]["new"] == 0


@pytest.mark.parametrize("place", ["a-file", "a-file/below", "x" * 300, "a-loop"])
def test_a_target_that_cannot_be_is_5(laurel, tmp_path, place):
    put(tmp_path / "source", 1)
    (tmp_path / "a-file").write_text("")
    (tmp_path / "a-loop").symlink_to("a-loop")
    done = laurel("records", "source", "--into", place, "--format", "json")
    assert done.returncode == 5
    error = json.loads(done.stdout)["error"]
    assert place in error["what"]
    assert "--into" in error["hint"]


def test_a_target_that_is_read_only_is_5(laurel, mounted, tmp_path):
    put(tmp_path / "source", 1)
    into = mounted("ro,size=64k")
    for place in (into, into / "below"):
        done = laurel("records", "source", "--into", place, "--format", "json")
        assert done.returncode == 5
        assert "ead-only" in json.loads(done.stdout)["error"]["why"]


def test_a_full_disk_is_5_and_says_so_and_leaves_nothing(laurel, mounted, tmp_path):
    for number in range(30):
        put(tmp_path / "source", number)
    into = mounted("size=64k")
    done = laurel("records", "source", "--into", into, "--format", "json")
    assert done.returncode == 5
    assert "disk is full" in json.loads(done.stdout)["error"]["why"]
    assert not gather([into]).problems
    assert not gather([into]).leftovers


def fill(path):
    with replacing(path, force=True) as file:
        try:
            for _ in range(100):
                file.write(b"x" * 10_000)
        except OSError:
            raise RuntimeError("enforce fail at inline_container") from None


def test_what_a_library_makes_of_a_full_disk_is_said_as_it_is(mounted):
    place = mounted("size=64k")
    (place / "old").write_text("old")
    with pytest.raises(ResourceError, match="disk is full"):
        fill(place / "old")
    assert (place / "old").read_text() == "old"
    assert [path.name for path in place.iterdir()] == ["old"]


def test_a_full_disk_leaves_the_old_description_of_a_model(mounted):
    place = mounted("size=64k")
    (place / "laurel.json").write_text("old")
    with contextlib.suppress(OSError), (place / "rest").open("wb", buffering=0) as file:
        for _ in range(2000):
            file.write(b"x" * 64)
    with pytest.raises(ResourceError, match="disk is full"):
        describe(nn.Linear(1, 1), place)
    assert (place / "laurel.json").read_text() == "old"
    assert sorted(path.name for path in place.iterdir()) == ["laurel.json", "rest"]


def test_pipes_and_devices_among_records_are_not_read(laurel, tmp_path):
    folder = tmp_path / "records"
    put(folder, 1)
    os.mkfifo(folder / "profile-0000000000000000.json")
    (folder / "profile-1111111111111111.json").symlink_to("/dev/zero")
    done = laurel("records", "records", "--format", "json", timeout=60)
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert len(document["records"]) == 1
    assert [problem["what"].count("no regular file") for problem in document["problems"]] == [1, 1]


def enveloped(content):
    said = {"schema": "laurel.record/1", "kind": "wonder", "status": "complete", "sha256": sha256_of(content)}
    return f"wonder-{said['sha256'][:16]}.json", json.dumps(said | {"content": content})


@pytest.mark.slow
def test_ten_thousand_records_and_one_of_100_mb_are_read(laurel, tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    for content in (*({"number": number} for number in range(10_000)), {"text": "x" * 100_000_000}):
        name, text = enveloped(content)
        (folder / name).write_text(text)
    done = laurel("records", "records", "--verify", "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (len(document["records"]), document["problems"]) == (10_001, [])


def test_a_record_names_no_other_folder(tmp_path):
    """Its kind is part of its file's name."""
    content = {"a": 1}
    record = {"schema": "laurel.record/1", "kind": "../../evil", "status": "complete", "sha256": sha256_of(content)}
    path = tmp_path / "records" / "profile-0000000000000000.json"
    path.parent.mkdir()
    path.write_text(json.dumps(record | {"content": content}))
    with pytest.raises(RecordError):
        read(path)
    assert len(gather([tmp_path / "records"]).problems) == 1


def killed_while_writing(path, ready):
    with replacing(path, force=True) as file:
        file.write(b"half")
        ready.set()
        signal.pause()


def test_what_killed_writers_leave_is_swept_by_the_next_and_what_others_write_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SETTLED", 0.0)
    context = multiprocessing.get_context("fork")
    begun = [context.Event(), context.Event()]
    writers = [context.Process(target=killed_while_writing, args=(tmp_path / "a", ready)) for ready in begun]
    for writer, ready in zip(writers, begun, strict=True):
        writer.start()
        assert ready.wait(60)
    writers[0].kill()
    writers[0].join()
    assert len(unfinished(tmp_path)) == 2
    time.sleep(0.05)
    write_whole(tmp_path / "b", "b", force=False)
    assert [name.split("-")[1] for name in unfinished(tmp_path)] == [str(writers[1].pid)]
    writers[1].kill()
    writers[1].join()
    write_whole(tmp_path / "c", "c", force=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]


def unfinished(folder):
    return [path.name for path in folder.iterdir() if UNFINISHED.fullmatch(path.name)]


def test_a_file_keeps_its_rights_and_a_taken_name_is_refused(tmp_path):
    path = tmp_path / "a"
    write_whole(path, "1", force=False)
    path.chmod(0o640)
    write_whole(path, "2", force=True)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("2", 0o640)
    with pytest.raises(UsageError, match="exists already"):
        write_whole(path, "3", force=False)
    assert Path(path).read_text() == "2"
