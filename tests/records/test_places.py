"""No record says where it was written."""

from pathlib import Path

import pytest

from laurel_cli.records.places import Places
from laurel_cli.records.store import read, write


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("laurel analyze HERE/net.py:build --rank 16", "laurel analyze net.py:build --rank 16"),
        ("hf:HERE/sub/config", "hf:sub/config"),
        ("laurel analyze 'HOME/my models/net.py:build'", "laurel analyze '~/my models/net.py:build'"),
        ("file /srv/bob/x/net.py", "file .../net.py"),
        ("--output=/srv/bob/x/net.py", "--output=.../net.py"),
        ("C:\\Users\\bob\\net.py:build", "...\\net.py:build".replace("\\", "/")),
        ("https://example.org/a/b/c", "https://example.org/a/b/c"),
        ("a/b/c, ../x/y, ./x/y, ~/x/y", "a/b/c, ../x/y, ./x/y, ~/x/y"),
        ("[red]a|b<script>alert(1)</script> 3 / 4 / 5", "[red]a|b<script>alert(1)</script> 3 / 4 / 5"),
        ("x: float32 [64, 3, 32, 32]", "x: float32 [64, 3, 32, 32]"),
        ("rw+lr+pa@16", "rw+lr+pa@16"),
    ],
)
def test_paths_lose_their_folders(tmp_path, monkeypatch, text, kept):
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir(), home.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    assert Places().without(text.replace("HERE", str(here)).replace("HOME", str(home))) == kept


def test_two_folders_stay_two_and_one_stays_one():
    value = {"/a/x/m.py": 1, "/b/x/m.py": [2, "/a/x/m.py"]}
    assert Places().without(value) == {".../m.py": 1, "...2/m.py": [2, ".../m.py"]}


def test_without_a_home(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert Places().without("/a/b/m.py") == ".../m.py"


def test_a_record_is_written_without_them(tmp_path):
    path = write(tmp_path, "analyze", "complete", {"command": f"laurel analyze {tmp_path}/net.py:build"})
    assert str(tmp_path) not in path.read_text()
    assert read(path)["content"]["command"].endswith("/net.py:build")
