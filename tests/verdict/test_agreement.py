"""One judgement: every command says of the same records what the others say, whatever is wrong with the records."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from laurel_cli.errors import UsageError
from laurel_cli.records.folder import gather
from laurel_cli.records.store import write
from laurel_cli.reports.document import report
from laurel_cli.reports.gate import FailCondition
from laurel_cli.reports.recommend import recommend
from laurel_cli.reports.rows import JUDGED, rows
from laurel_cli.verdict.document import document
from tests.bench.simulated import CONTROLS, NO_CONTROLS

ARMS = ("naive+1", "rw", "lr@4", "rw+lr@4")
STEPS = 600
CASES = 48


def spec(name: str) -> dict[str, Any] | None:
    if name.startswith(("baseline", "copy", "naive")):
        return None
    variant, _, rank = name.partition("@")
    parts = variant.split("+")
    plain = {"lags": 3, "history": "auto", "normalize": "2softmax", "vector_weights": False, "init": "xavier"}
    return {part: part in parts for part in ("rw", "lr", "pa")} | plain | {"rank": int(rank or 16), "per": "connection"}


def kind(name: str) -> str:
    if name in ("baseline", "copy"):
        return name
    return "against" if ":" in name else "naive" if name.startswith("naive") else "laurel"


def record(name: str, seed: int, status: str, loss: float, study: dict[str, Any], chance: float | None):
    """One trial as a study leaves it."""
    steps = round(0.7 * STEPS) if name == CONTROLS["budget"] else STEPS
    return {
        "schema": "laurel.trial/1",
        "command": "laurel train-proxy",
        "study": {"name": "made", "sha256": "5" * 64, "definition": study},
        "model": {"reference": "resnet20", "source": "file", "architecture": "a" * 64, "input": "x: float32 [2, 3]"},
        "arm": {"name": name, "kind": kind(name), "blocks": int(kind(name) == "naive"), "spec": spec(name)},
        "seed": seed,
        "status": status,
        "reason": None if status == "complete" else f"it {status}",
        "task": {"name": "t", "kind": "image", "sha256": "d" * 64, "classes": 10, "unit": "images"},
        "metric": "loss",
        "chance_loss": chance,
        "final": {"step": steps, "loss": loss, "accuracy": 1 - loss / 3} if status == "complete" else None,
        "evaluations": [
            {"step": step, "samples": step, "loss": loss + (600 - step) / 600, "accuracy": 0.5}
            for step in (150, 300, 450, 600)
        ],
        "parameters": {"total": 1_000 + len(name), "added": len(name)},
        "device": {"name": "cpu", "threads": 1},
        "versions": {},
        "hashes": {"data": "d" * 64, "code": "c" * 64},
    }


def study(draw: random.Random) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A study with anything that may be the matter with one: (what study.json holds, contents of its records)."""
    arms = list(ARMS[: draw.randint(1, 4)])
    controls = draw.choice([CONTROLS, CONTROLS, NO_CONTROLS, CONTROLS | {"recipe": []}, CONTROLS | {"positive": None}])
    first, most = draw.choice([(3, 0), (5, 0), (5, 0), (3, 12)])
    seeds = draw.choice([first, first, first + 2, 2 * first, max(1, first - 1)])
    families = [arms] if len(arms) < 3 or draw.random() < 0.6 else [arms[:2], arms[2:]]
    declared = {"arms": families, "first": first, "most": most, "metric": "loss", "control_seeds": 3}
    declared |= {"worth": draw.choice([None, 0.02]), "controls": controls}
    extra = ["copy"] if draw.random() < 0.3 else []
    names = ["baseline", *extra, *arms, *filter(None, [controls["positive"], *controls["recipe"], controls["budget"]])]
    defined = {"name": "made", "sha256": "5" * 64, "arms": names, "seeds": list(range(seeds)), "steps": STEPS}
    if draw.random() < 0.8:  # else a study of before declarations were written down
        defined["declared"] = declared
    chance = draw.choice([math.log(10)] * 6 + [None, 0.9])
    apart = draw.random() < 0.1
    effects = {name: draw.choice([0.0, -0.05, -0.1, 0.08]) for name in names} | {"baseline": 0.0}
    if draw.random() < 0.7:  # controls as they should be
        effects |= dict.fromkeys(controls["recipe"], 0.15) | (
            {positive: -0.15} if (positive := controls["positive"]) else {}
        )
    shared = [draw.gauss(0.8, 0.05) for _ in range(seeds)]
    found = []
    broken = draw.random()
    for number, name in enumerate(names):
        few = name in controls["recipe"] or name == controls["budget"]
        for seed in range(min(seeds, 3) if few else seeds):
            loss = shared[seed] + effects[name] + draw.gauss(0, 0.01)
            status = "complete"
            if broken < 0.4 and draw.random() < 0.1:
                status = draw.choice(["diverged", "failed", "missing"])
            if status == "missing":
                continue
            at = 100 * number + seed if apart else seed
            found.append(record(name, at, status, loss, defined, chance))
            if draw.random() < 0.05:  # the same trial once more
                found.append(record(name, at, draw.choice(["complete", "failed"]), loss + 0.01, defined, chance))
    return defined, found


def put(folder: Path, defined: dict[str, Any], contents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write them down; the contents as they are read again."""
    (folder / "study.json").write_text(json.dumps(defined), encoding="utf-8")
    for content in contents:
        write(folder / "records", "trial", "complete", content)
    return [item.content for item in gather([folder]).records]


@pytest.mark.parametrize("number", range(CASES))
def test_every_command_gives_the_same_verdicts(tmp_path: Path, number: int) -> None:
    defined, contents = study(random.Random(number))
    contents = put(tmp_path, defined, contents)
    said = document(defined, contents)
    trained = {arm["name"]: arm for arm in said["arms"]}
    reported = report(gather([tmp_path]))["comparisons"]
    assert len(reported) == 1
    arms = {arm["name"]: arm for arm in reported[0]["arms"]}
    flat = {row["arm"]: row for row in rows({"comparisons": reported})}
    advised = {item["arm"]: item for item in recommend(reported, {})["candidates"]}
    for name, arm in trained.items():
        if arm["role"] != "arm" or not any(trial["status"] != "missing" for trial in arm["trials"]):
            continue
        assert arms[name]["verdict"] == arm["verdict"], name
        assert arms[name]["words"] == arm["words"], name
        assert flat[name]["verdict"] == arm["verdict"], name
        if arm["difference"] is not None and math.isfinite(arm["difference"]["high"]):
            gain = arms[name]["gain"]
            assert (-gain["high"], -gain["low"]) == (arm["difference"]["low"], arm["difference"]["high"])
            gate = FailCondition.parse(f"{name}: gain_low < {gain['low'] + 1e-9}")
            if arm["verdict"] in JUDGED:
                assert gate.tripped(list(flat.values()))
            else:  # a gate must not pass on a figure of which nothing may be claimed
                with pytest.raises(UsageError):
                    gate.tripped(list(flat.values()))
        if name in advised:
            assert any(item["verdict"] == arm["verdict"] for item in advised[name]["verdicts"]), name


def test_the_cases_hold_every_verdict() -> None:
    """What is generated is not one kind of study alone."""
    seen = set()
    for number in range(CASES):
        defined, contents = study(random.Random(number))
        seen |= {arm["verdict"] for arm in document(defined, contents)["arms"] if arm["role"] == "arm"}
    wanted = {"better", "better, without controls", "worse", "not separated", "unstable", "failed", "withheld"}
    assert not wanted - seen, wanted - seen


def test_another_metric_undoes_nothing(tmp_path: Path) -> None:
    """`--quality accuracy` shows accuracies; the verdicts are those of the metric that was declared."""
    for number in itertools.islice((n for n in range(100) if study(random.Random(n))[1]), 5):
        defined, contents = study(random.Random(number))
        folder = tmp_path / str(number)
        folder.mkdir()
        put(folder, defined, contents)
        try:
            shown = report(gather([folder]), metric="accuracy")["comparisons"][0]["arms"]
        except Exception as error:  # noqa: BLE001 - a study of which no trial is complete has no accuracy
            assert "was not measured" in str(error)  # noqa: PT017
            continue
        plain = report(gather([folder]))["comparisons"][0]["arms"]
        assert [arm["verdict"] for arm in shown] == [arm["verdict"] for arm in plain]
