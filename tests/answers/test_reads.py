"""What is read while a model is built is seen, and told apart from what is installed."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import socket
from contextlib import suppress
from pathlib import Path

from laurel_cli.answers.reads import NETWORK, of_packages, of_users, watched


def test_files_that_are_read_are_seen_and_those_that_are_not_there(tmp_path):
    (tmp_path / "a.json").write_text("1")
    with watched() as seen:
        json.loads((tmp_path / "a.json").read_text())
        with suppress(FileNotFoundError):
            (tmp_path / "b.json").open()
        (tmp_path / "written").write_text("")
        Path(json.__file__).read_text()
        Path("/proc/self/maps").read_text()
    found = {Path(file).name for file in of_users(seen) if Path(file).is_relative_to(tmp_path.resolve())}
    assert found == {"a.json", "b.json"}
    assert {str(Path(json.__file__)), "/proc/self/maps"}.isdisjoint(of_users(seen))


def test_a_compiled_module_stands_for_its_text(tmp_path):
    with watched() as seen, suppress(FileNotFoundError):
        (tmp_path / "__pycache__" / "own.cpython-311.pyc").open("rb")
    assert str((tmp_path / "own.py").resolve()) in of_users(seen)


def test_the_network_is_seen():
    with watched() as seen, suppress(OSError):
        socket.getaddrinfo("127.0.0.1", 80)
    assert NETWORK in of_users(seen)


def test_nothing_is_seen_outside(tmp_path):
    with watched() as seen:
        pass
    (tmp_path / "a").write_text("")
    (tmp_path / "a").read_text()
    assert not seen


def test_folders_that_are_listed_are_seen_but_not_those_that_python_looks_into_for_modules(tmp_path, monkeypatch):
    (tmp_path / "found" / "inner").mkdir(parents=True)
    (tmp_path / "found" / "__init__.py").touch()
    (tmp_path / "found" / "part.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with watched() as seen:
        importlib.import_module("found.part")
    assert str(tmp_path / "found") not in seen
    for look in (os.listdir, os.scandir, lambda place: list(Path(place).iterdir())):
        with watched() as seen:
            look(tmp_path / "found")
        assert str(tmp_path / "found") in of_users(seen)
    monkeypatch.chdir(tmp_path / "found")
    with watched() as seen:
        list(os.scandir())
    assert str(tmp_path / "found") in of_users(seen)


def test_the_models_own_folder_counts_where_it_is_listed_and_not_where_packages_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "class-a").mkdir()
    with watched() as seen:
        assert not list(importlib.metadata.distributions(path=[str(tmp_path)]))
    assert str(tmp_path.resolve()) not in of_users(seen)
    with watched() as seen:
        assert list(tmp_path.iterdir())
    assert str(tmp_path.resolve()) in of_users(seen)


def test_installed_files_are_what_is_loaded_and_what_is_read_but_not_ours_and_not_the_users(tmp_path):
    place = tmp_path / "site-packages"
    place.mkdir()
    table, mine = place / "table.json", tmp_path / "mine.json"
    table.write_text("{}"), mine.write_text("{}")
    with watched() as seen:
        table.read_text(), mine.read_text()
    found = of_packages(seen)
    assert {str(table), json.__file__, importlib.metadata.__file__} <= set(found)
    assert str(mine) not in found
    assert of_packages.__code__.co_filename not in found
