"""`--output`: whole or not at all, never over what was not meant, no temporary file left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from laurel_cli.errors import ResourceError, UsageError
from laurel_cli.records import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_answer_goes_to_the_file_alone(laurel, tmp_path):
    done = laurel("models", "resnet50", "--format", "json", "--output", "out.json")
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads((tmp_path / "out.json").read_text())["schema"] == "laurel.models/1"
    assert names(tmp_path) == ["out.json"]


def test_an_existing_file_needs_force(laurel, tmp_path):
    file = tmp_path / "out.md"
    file.write_text("old")
    file.chmod(0o640)
    refused = laurel("models", "resnet50", "--output", "out.md")
    assert (refused.returncode, file.read_text()) == (2, "old")
    assert "--force" in refused.stderr
    assert laurel("models", "resnet50", "--output", "out.md", "--force").returncode == 0
    assert "resnet50" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640


def test_dash_is_stdout(laurel, tmp_path):
    assert "resnet50" in laurel("models", "resnet50", "--output", "-").stdout
    assert names(tmp_path) == []


@pytest.mark.parametrize("path", ["missing/out", ".", "/dev/null", "a" * 300, ""])
def test_a_place_that_cannot_be_is_2(laurel, path):
    done = laurel("models", "resnet50", "--force", "--output", path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not Path("/dev/null").is_file()


def test_a_read_only_folder_is_5(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ResourceError):
        files.check_writable(tmp_path / "out", force=False)


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    files.write_whole(tmp_path / "link", "new", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_file_that_came_meanwhile_stays(tmp_path):
    (tmp_path / "out").write_text("theirs")
    with pytest.raises(UsageError):
        files.write_whole(tmp_path / "out", "ours", force=False)
    assert (tmp_path / "out").read_text() == "theirs"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("force", [False, True])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, force):
    def full(_descriptor):
        raise OSError(28, os.strerror(28))

    (tmp_path / "out").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="No space"):
        files.write_whole(tmp_path / ("out" if force else "new"), "new", force)
    assert (tmp_path / "out").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_a_size_limit_is_no_success(laurel_env, tmp_path):
    command = f"ulimit -f 0; trap '' XFSZ; {sys.executable} -m laurel_cli models --output out"
    done = subprocess.run(
        ["bash", "-c", command], env=laurel_env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5
    assert names(tmp_path) == []
