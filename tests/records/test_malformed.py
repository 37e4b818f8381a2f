"""A record that is whole and holds what it must not: it is left out and named, and the others are shown."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from laurel_cli.errors import RecordError
from laurel_cli.records.folder import gather
from laurel_cli.records.store import load, write
from laurel_cli.render import render
from laurel_cli.reports.document import report
from laurel_cli.reports.recommend import recommend
from laurel_cli.study import folder as study
from laurel_cli.study.folder import Study
from tests.proxy.small import cnn_recipe
from tests.report import made
from tests.schemas.mutated import mutated

FORMATS = ("table", "markdown", "csv", "latex", "json")


def good(folder: Path) -> list[Path]:
    """A study with its controls, a count and a profile."""
    made.controlled(folder, made.ARMS[:4], seeds=3)
    made.analysis(folder, made.ARMS[:4])
    made.profile(folder, {"naive+1": (1.05, 1.04, 1.06), "rw": (1.02, 1.01, 1.03)})
    return sorted(folder.rglob("*.json"))


def shown(folder: Path, format_name: str) -> Any:
    """What report, recommend and records make of a folder: the report."""
    gathered = gather([folder])
    document = report(gathered, command="laurel report")
    json.dumps(document, allow_nan=False)
    render(document, format_name)
    for body in document["comparisons"]:
        render(recommend([body], {"latency": 3.0}), format_name)
    return document


def spread(folder: Path, rng: random.Random, number: int) -> tuple[list[Path], list[Path]]:
    """(good ones, mutated ones with right checksums)."""
    paths = good(folder)
    bad = []
    for _ in range(number):
        record = load(rng.choice(paths))
        content = mutated(record.content, rng)
        bad.append(write(folder / "records", record.kind, "complete", content))  # type: ignore[arg-type]
    return paths, [path for path in dict.fromkeys(bad) if path not in paths]


def check_mutated(folder: Path, seed: int, number: int, each: int) -> Counter[str]:
    """Put mutants among good records, `each` at a time."""
    rng, said = random.Random(seed), Counter[str]()
    for batch in range(number // each):
        place = folder / str(batch)
        paths, bad = spread(place, rng, each)
        names = {path.name for path in paths}
        gathered = gather([place])
        assert names <= {record.name for record in gathered.records}
        for problem in gathered.problems:
            assert problem.path.name in problem.what
        told = {problem.path for problem in gathered.problems}
        said += Counter("left out" if path in told else "read" for path in bad)
        try:
            document = shown(place, FORMATS[batch % len(FORMATS)])
        except RecordError:
            said["refused"] += 1  # one trial of another task, say: which is not ours to choose
        else:
            assert document["comparisons"]
            assert document["unreadable"] == len(told)
    return said


def test_mutated_records_among_good_ones(tmp_path: Path) -> None:
    said = check_mutated(tmp_path, seed=7, number=40, each=4)
    assert said["left out"] > 10
    assert said["read"] > 3


@pytest.mark.slow
def test_five_hundred_mutated_records_among_good_ones(tmp_path: Path) -> None:
    said = check_mutated(tmp_path, seed=11, number=500, each=5)
    assert said["left out"] > 200
    assert said["read"] > 50


def test_the_file_and_the_field_are_named_and_the_rest_is_shown(laurel: Any, tmp_path: Path) -> None:
    good(tmp_path / "reports")
    bad = made.trial("rw", seed=9) | {"evaluations": [{"step": "last"}]}
    path = made.put(tmp_path / "reports", bad)
    for words in (["report"], ["recommend", "resnet20"], ["records"]):
        done = laurel(*words)
        assert done.returncode == 0, done.stderr
        assert f"{path.name}' cannot be used" in done.stderr
        assert 'Its evaluations[0].step is "last", where a whole number belongs' in done.stderr


def test_where_nothing_can_be_read_it_is_4(laurel: Any, tmp_path: Path) -> None:
    made.put(tmp_path / "reports", made.trial() | {"seed": "zero"})
    for words in (["report"], ["recommend", "resnet20"]):
        done = laurel(*words, "--format", "json")
        assert done.returncode == 4, done.stderr
        assert json.loads(done.stdout)["error"]["code"] == 4


@pytest.fixture
def begun(tmp_path: Path) -> Study:
    plan = Study("s", cnn_recipe(), ("baseline", "rw"), (), (0, 1), "data", {"torch": "2.15", "laurel": "abc"}, {})
    return study.begin(tmp_path, plan, resume=False)


def test_a_mutated_study_is_read_or_refused(tmp_path: Path, begun: Study) -> None:
    rng, said = random.Random(3), Counter[str]()
    path = tmp_path / "study.json"
    plain = json.loads(path.read_text())
    for _ in range(300):
        path.write_text(json.dumps(mutated(plain, rng, nan=True)))
        try:
            found = study.load(tmp_path)
            _ = found.keys, found.definition(), study.begin(tmp_path, begun, resume=True)
        except RecordError:  # exit code 4; any other error fails the test
            said["refused"] += 1
        else:
            said["read"] += 1
    assert said["refused"] > 150
    assert said["read"] > 5


def test_a_study_beside_its_records_that_is_malformed_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    made.controlled(folder, made.ARMS[:4], seeds=3)
    (folder / "study.json").write_text(json.dumps({"sha256": "5" * 64, "declared": {"arms": 3}}))
    (body,) = report(gather([folder]))["comparisons"]
    assert any("study.json' cannot be read (its declared.arms is 3, where a list belongs)" in n for n in body["notes"])
