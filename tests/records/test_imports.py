"""What counts as the code of a trial: at least what a real trial has in memory, and no room that only judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.records.imports import file_of, reached
from laurel_cli.records.provenance import trained_by
from laurel_cli.study.compare import prepare
from laurel_cli.study.plan import StudyPlan

TRIAL = """
import json, sys
from pathlib import Path
from laurel_cli.study.worker import run_trial
run_trial(Path(sys.argv[1]), "attnres", 0, command="")
print(json.dumps([name for name in sys.modules if name.partition(".")[0] == "laurel_cli"]))
"""
# What a trial's process has besides: the study on disk, its declaration, the store of records.
AROUND = ("laurel_cli.study", "laurel_cli.verdict", "laurel_cli.records")


def test_a_real_trial_has_nothing_in_memory_that_is_not_counted(tmp_path: Path, cache: Path, python: Any) -> None:
    task = TaskChoice("stdlib", seq_len=8, train_limit=2048, evaluation_limit=64)
    recipe = Recipe(ModelChoice("paper-c4", layers=(1,), width=16), task, steps=2, batch=2, evaluations=1)
    prepared = prepare(StudyPlan(recipe, "attnres", seeds=1, folder=tmp_path / "study", controls=False))
    ran = python(TRIAL, prepared.folder)
    loaded = set(json.loads(ran.stdout))
    assert {"laurel_cli.rivals.attnres", "laurel_cli.tasks.stdlib", "laurel_cli.devices.cpu"} <= loaded
    beyond = loaded - set(reached("proxy"))
    assert not {name for name in beyond if not name.startswith(AROUND)}


def test_registries_are_followed_and_judges_are_none_of_it() -> None:
    found = reached("proxy")
    for name in ("devices.cuda", "devices.xla", "tasks.cifar", "rivals.hc", "arms.naive", "latency.workload"):
        assert f"laurel_cli.{name}" in found
    rooms = {name.split(".")[1] for name in found if "." in name}
    assert not rooms & {"reports", "render", "cli", "verdict", "study", "settings", "api", "cost"}


def test_a_byte_of_what_is_imported_late_is_another_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before, place = trained_by(), file_of("laurel_cli.tasks.cifar")
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"#" if path == place else b""))
    assert trained_by() != before
