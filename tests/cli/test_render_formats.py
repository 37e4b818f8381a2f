"""Every command in every format: what comes from outside is text in all of them, and LaTeX compiles."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from laurel_cli.arms import KINDS
from laurel_cli.experiments import Experiment, Scale, Unwritten
from laurel_cli.experiments.beside import document as reproduced_document
from laurel_cli.experiments.run import commands, on_a_cluster
from laurel_cli.render import FORMATS, Look, render
from laurel_cli.reports.ladder import report as report_of_ladder
from laurel_cli.reports.recommend import recommend
from laurel_cli.schemas import DOCUMENTS
from laurel_cli.schemas.check import fault
from laurel_cli.verdict.document import document as study_document
from tests import latex
from tests.bench.ladder_statistics import PLANTED
from tests.bench.simulated_ladders import World, constant, rungs, usual_controls
from tests.report import made
from tests.report.ladders import put

from ..verdict.studies import study  # noqa: TID252  # tests are no installed package

HOSTILE = made.HOSTILE + " & 100 % $x$ #1 ~^ =cmd()"
TEX = latex.found()
COMMANDS = (
    *("analyze", "profile", "train-proxy", "report", "recommend", "records", "arms", "models", "env", "reproduce"),
    *("reproduce --list", "train-proxy --status", "train-proxy --dry-run", "report of a ladder"),
    *("convert", "convert --fold", "evaluate"),
)


def ratio(median):
    ends = {"median": median, "low": median - 0.01, "high": median + 0.01, "confidence": 0.9917}
    return ends | {"p": 0.0123, "p_holm": 0.0246, "verdict": "slower"}


def profiled():
    names = {"baseline": None, "copy": 1.0, "naive+1": 1.1234, "rw": 1.0567, HOSTILE: 1.25}
    arms = [
        {
            "name": name,
            "ratio": None if times is None else ratio(times),
            "to_naive": ratio(times - 0.1) if name in ("rw", HOSTILE) else None,
            "milliseconds": ratio(1233.5) | {"low": 960.2, "high": 1583.0},
            "throughput": 51.91,
            "first_call_seconds": 2.92,
            "peak_bytes": 2_299_826_176,
            "static_bytes": 1_493_258_000,
            "predicted_bytes": 2_074_201_000,
            "page_faults": 3.0,
            "system_share": 0.002,
        }
        for name, times in names.items()
    ]
    return {
        "schema": "laurel.profile/1",
        "command": f"laurel profile {HOSTILE}",
        "status": "complete",
        "model": {"reference": HOSTILE, "source": HOSTILE, "input": HOSTILE},
        "device": {"name": "cpu", "threads": 2},
        "mode": "infer",
        "dtype": "float32",
        "compile": False,
        "channels_last": False,
        "allocator": {"name": "keep"},
        "unit": "images",
        "protocol": {"processes": 3, "placements": 12, "rounds": 60, "alpha": 0.05},
        "noise_floor": ratio(1.0),
        "arms": arms,
        "notes": [HOSTILE],
        "warnings": [HOSTILE],
    }


def reported(folder):
    arms = [("baseline", "baseline", 0, 1.0), (HOSTILE, "against", 5000, 0.95), ("rw", "laurel", 32, 0.96)]
    model = {"reference": HOSTILE, "source": HOSTILE, "architecture": "a" * 64, "input": HOSTILE}
    made.study(folder, arms, seeds=3, model=model, command=HOSTILE)
    return made.document(folder)


def reproduced():
    trained = study_document(*study({"naive+1": -0.06, "rw": -0.07, HOSTILE: 0.08}), command=f"laurel {HOSTILE}")
    figures = {"quality": 3.0, "parameters": 1_000_000, "step": 0.1, "memory": 11.65}
    step = {"width": 8, "steps": 3}
    scale = Scale("paper", {"train-proxy": step}, HOSTILE, cluster=step)
    experiment = Experiment(
        HOSTILE,
        HOSTILE,
        HOSTILE,
        "loss",
        {"baseline": figures, HOSTILE: figures | {"quality": 2.9}},
        Unwritten(768, {HOSTILE: 2}, HOSTILE),
        {"paper": replace(scale, beside={HOSTILE: HOSTILE}, papers_model=True)},
        (HOSTILE,),
    )
    answers = {"profile": profiled(), "train-proxy": trained}
    scale, folder = experiment.scales["paper"], Path(HOSTILE)
    lines = [one.line for one in commands(scale, folder, {})]
    more = {"folder": str(folder), "command": HOSTILE, "lines": lines, "cluster": on_a_cluster(scale, folder, {})}
    return reproduced_document(experiment, scale, answers=answers, **more)


def ladder(folder):
    world = World({"rw": constant(1.1), "x0": PLANTED["shrinks"]}, controls=usual_controls())
    put(folder, world, rungs(world, np.random.default_rng(0)))
    found = json.dumps(report_of_ladder(folder, command=f"laurel {HOSTILE}"))
    for name in ("x0", "gpt2", "text:books.txt"):
        found = found.replace(json.dumps(name), json.dumps(HOSTILE))
    return json.loads(found)


def small(command):
    """Documents that are short."""
    found = {"model": HOSTILE, "arm": HOSTILE, "dtype": "float32", "difference": 1e-8, "warnings": [HOSTILE]}
    found |= {"command": HOSTILE, "connections": 3}
    if command == "convert":
        counts = {"parameters": 1_234_567, "added": 89, "architecture": HOSTILE}
        return {"schema": "laurel.convert/1", **found, "weights": HOSTILE, "folder": HOSTILE, **counts}
    if command == "convert --fold":
        counts = {"folded": 2, "plain": 1, "left": [HOSTILE], "batch": 0}
        return {"schema": "laurel.deploy/1", **found, "file": HOSTILE, **counts}
    if command == "reproduce --list":
        item = {"name": HOSTILE, "title": HOSTILE, "source": HOSTILE, "scales": ["cpu", HOSTILE]}
        return {"schema": "laurel.experiments/1", "experiments": [item, item | {"scales": []}]}
    if command == "train-proxy --status":
        trial = {"arm": HOSTILE, "seed": 3, "state": "failed", "step": 12, "steps": 650, "loss": 2.5, "seconds": 14.2}
        trial |= {"attempt": 2, "host": "3f00", "reason": HOSTILE}
        waiting = dict.fromkeys(trial) | {"arm": "rw", "seed": 4, "state": "waiting"}
        return {"schema": "laurel.study-status/1", "folder": HOSTILE, "name": HOSTILE, "trials": [trial, waiting]}
    if command == "train-proxy --dry-run":
        counts = {"trials": 12, "finished": 3, "jobs": 12, "hours": 1.25, "known": 3, "most_hours": 48.0}
        asked = [{"what": HOSTILE, "value": HOSTILE}]
        what = {"folder": HOSTILE, "executor": "slurm", "asked": asked, "warnings": [HOSTILE]}
        return {"schema": "laurel.dry-run/1", **counts, **what}
    assert command == "evaluate"
    metric = {"metric": "acc", "filter": HOSTILE, "value": 0.4321, "stderr": 0.0123, "higher_is_better": True}
    row = {"task": HOSTILE, "is_group": False, "version": HOSTILE, "shots": 5, "samples": 100, "of": 1234}
    row |= {"hash": "a" * 64, "metrics": [metric, metric | {"metric": HOSTILE, "value": None, "stderr": None}]}
    what = {"command": HOSTILE, "model": HOSTILE, "arm": HOSTILE, "parameters": 124_439_808, "dtype": "float32"}
    what |= {"device": "cpu", "weights_sha256": "b" * 64, "tokenizer": HOSTILE, "tokenizer_sha256": "c" * 64}
    what |= {"batch": 8, "limit": 100, "seeds": {"random_seed": 0}, "versions": {"lm_eval": "0.4.13"}}
    return {"schema": "laurel.evaluate/1", **what, "rows": [row], "warnings": [HOSTILE]}


@pytest.fixture
def said(request, document, tmp_path):
    """The document of a command, with hostile names in it."""
    command = request.param
    if command == "analyze":
        return document
    if command == "profile":
        return profiled()
    if command == "train-proxy":
        return study_document(*study({"naive+1": -0.06, "rw": -0.07, HOSTILE: 0.08}), command=f"laurel {HOSTILE}")
    if command == "report":
        return reported(tmp_path / "records")
    if command == "recommend":
        return recommend(reported(tmp_path / "records")["comparisons"], {})
    if command == "records":
        item = {"kind": "trial", "status": "complete", "model": HOSTILE, "what": HOSTILE, "device": "cpu"}
        item |= {"recorded": "2026-11-21T21:08:16Z", "file": f"reports/{HOSTILE}/trial-0c1e5f73c3a116ab.json"}
        answer = {
            "records": [item, item],
            "problems": [{"file": HOSTILE, "what": HOSTILE}],
            "copies": 1,
            "leftovers": 1,
        }
        return {"schema": "laurel.records/1", "folders": [HOSTILE], "merged": None} | answer
    if command == "arms":
        about = [{"kind": kind.name, **asdict(item)} for kind in KINDS.values() for item in kind.about()]
        return {"schema": "laurel.arms/1", "arms": [*about, about[0] | {"name": HOSTILE, "needs": HOSTILE}]}
    if command == "models":
        return {"schema": "laurel.models/1", "pattern": None, "models": [{"reference": HOSTILE, "source": HOSTILE}]}
    if command == "reproduce":
        return reproduced()
    if command == "report of a ladder":
        return ladder(tmp_path / "ladder")
    if command != "env":
        found = small(command)
        assert fault(found, DOCUMENTS[found["schema"]]) == ""
        return found
    devices = [{"name": "cpu", "available": True, "detail": HOSTILE}]
    return {"schema": "laurel.env/1", "versions": {HOSTILE: HOSTILE, "torch": None}, "devices": devices}


every_command = pytest.mark.parametrize("said", COMMANDS, indirect=True)


@every_command
@pytest.mark.parametrize("format_name", FORMATS)
def test_no_control_character_comes_through(said, format_name):
    text = render(said, format_name)
    assert text.endswith("\n")
    assert all(char.isprintable() or char == "\n" for char in text)


@every_command
def test_a_page_of_html_holds_the_name_as_text_alone(said):
    text = render(said, "html")
    assert len(re.findall("<script", text)) == 1
    assert "\\x1b[31m" in html.unescape(text)
    assert "<script>alert" in html.unescape(text)


@every_command
def test_json_and_csv_are_read_back(said):
    assert json.loads(render(said, "json"))["schema"] == said["schema"]
    rows = list(csv.reader(io.StringIO(render(said, "csv"))))
    assert len(rows) > 1
    assert {len(row) for row in rows} == {len(rows[0])}
    assert not any(cell.startswith(("=", "@", "+", "\t")) for row in rows for cell in row)


@every_command
@pytest.mark.parametrize("width", [10, 20, 40, 60])
def test_a_narrow_terminal_says_what_a_wide_one_says(said, width):
    def numbers(text):
        return sorted(set(re.findall(r"\d[\d,.]*\d", text)))

    narrow = render(said, "table", look=Look(width, ascii_only=True))
    assert numbers(narrow) == numbers(render(said, "table", look=Look(ascii_only=True)))
    assert narrow.isascii()


@pytest.mark.skipif(TEX is None, reason="pdflatex, or a package that our pages load, is not installed")
@every_command
def test_latex_compiles(said, tmp_path):
    (tmp_path / "page.tex").write_text(render(said, "latex"), encoding="utf-8")
    words = [TEX, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "page.tex"]
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2000:]
    too_wide = [float(found) for found in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", done.stdout)]
    assert max(too_wide, default=0.0) < 20, too_wide
    assert (tmp_path / "page.pdf").stat().st_size > 10_000
