"""What `laurel reproduce` says and leaves, by what its commands answered: nothing is trained here."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from laurel_cli import devices, experiments
from laurel_cli.devices.presence import Presence
from laurel_cli.errors import ModelError, ResourceError, UsageError
from laurel_cli.experiments import run
from laurel_cli.experiments.beside import document
from laurel_cli.experiments.place import NAME, claim, follows_from, keep_timed, timed_before
from laurel_cli.experiments.run import commands
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.records import provenance
from laurel_cli.render import page_of, render
from laurel_cli.render.page import Table
from laurel_cli.reports.rows import JUDGED
from laurel_cli.schemas import DOCUMENTS
from laurel_cli.schemas.check import WHOLE, fault
from laurel_cli.verdict.document import document as study_document

from ..bench import paper_pages  # noqa: TID252  # tests are no installed package
from ..verdict.studies import ADDED, controlled  # noqa: TID252

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.parent.relative_to(ROOT) for path in (ROOT / "reports" / "reproduce").glob("*/paper.md"))
STUDIES = [folder for folder in PAGES if (ROOT / folder / folder.name / "study.json").exists()]


def made(trained, name="table5", scale="cpu", **answers):
    experiment = experiments.find(name)
    run = {"folder": "x", "command": "laurel reproduce", "lines": [], "cluster": []}
    found = document(experiment, experiment.scales[scale], **run, answers={**answers, "train-proxy": trained})
    assert fault(found, DOCUMENTS["laurel.reproduce/1"], WHOLE) == ""
    return found, {row["arm"]: row for row in found["arms"]}


def counted(parameters):
    """What analyze answers of some arms."""
    arms = [
        {"name": name, "parameters": value, "added_parameters": value - parameters["baseline"]}
        | {"added_parameters_percent": 100 * (value / parameters["baseline"] - 1)}
        for name, value in parameters.items()
    ]
    return {"model": {"reference": "paper-c4", "input": "input_ids: int64 [1, 128]"}, "arms": arms}


def tables(text, title):
    """The cells of a page's table, a dict a row."""
    lines = text[text.index(f"### {title}") :].splitlines()[2:]
    cells = []
    for line in lines:
        if not line.startswith("|"):
            break
        cells.append([cell.strip().strip("`*") for cell in line.strip("|").split(" | ")])
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_committed_page_says_of_gains_what_its_report_says(folder):
    """Each at its own level, of so many trials: the report is made by other code, of the same records."""
    report = (ROOT / folder / "report.md").read_text()
    known = {row["arm"]: row for title in ("Quality", "Controls") for row in tables(report, title)}
    shown = tables((ROOT / folder / "paper.md").read_text(), "Quality")
    assert {row["arm"] for row in shown} == set(known)
    levels = set()
    for row in shown:
        theirs = known[row["arm"]]
        gain = next(value for key, value in theirs.items() if key.startswith("gain"))
        assert next(value for key, value in row.items() if key.startswith("gain")) == gain
        assert (row["level"], row["trials"]) == (theirs["level"], theirs["trials"])
        levels.add(row["level"])
    if all(row["in words"] != "cannot tell" for row in shown):
        assert len(levels) > 2  # controls are tested alone, arms at the levels of Holm's steps
    else:
        assert levels == {"-", "95 %"}  # of controls alone


@pytest.mark.parametrize("folder", PAGES, ids=lambda folder: folder.name)
def test_a_committed_page_is_what_its_records_give(folder, monkeypatch):
    """But for the sentence on its scale: that of a scale which has been changed is of its next run."""
    monkeypatch.chdir(ROOT)

    def lines(text):
        return [line for line in text.splitlines() if not line.startswith("| scale |")]

    assert lines(paper_pages.page(folder)) == lines((folder / "paper.md").read_text())


def test_what_was_counted_and_what_was_trained_are_not_mixed():
    trained = study_document(*controlled({"naive+1": -0.06, "rw": -0.07}), command="laurel train-proxy")
    found, rows = made(trained, analyze=counted({"baseline": 157_204_224, "rw": 157_204_272, "lr@32": 158_383_872}))
    assert (rows["rw"]["parameters"], rows["rw"]["added_parameters"]) == (157_204_272, 48)
    assert (rows["rw"]["trained_parameters"], rows["rw"]["trained_added_parameters"]) == (100_032, ADDED["rw"])
    assert rows["naive+1"]["parameters"] is None
    assert rows["lr@32"]["trained_parameters"] is None
    assert found["models"]["train-proxy"]["reference"] == "proxy-cnn"
    assert found["models"]["analyze"] == {
        "reference": "paper-c4",
        "options": "",
        "parameters": 157_204_224,
        "input": "input_ids: int64 [1, 128]",
    }
    columns = render(found, "csv").splitlines()[0].split(",")
    assert {"parameters", "trained_parameters", "counted_model", "timed_model", "trained_model"} <= set(columns)
    titles = [block.title for block in page_of(found).blocks if isinstance(block, Table)]
    assert titles == [
        "Parameters: paper-c4, input_ids: int64 [1, 128]",
        "Quality: proxy-cnn, 100,000 parameters, x",
    ]
    printed = {row["arm"]: row["paper: parameters"] for row in tables(render(found, "markdown"), "Parameters")}
    assert printed == {"baseline": "157.20 M", "rw": "157.20 M", "lr@32": "158.40 M"}


def test_a_gain_of_which_nothing_may_be_claimed_is_not_printed():
    """One arm has a trial that diverged; a control's gain and a judged arm's are there, each at its own level."""
    definition, trials = controlled({"naive+1": -0.06, "rw": -0.07})
    trials = [
        one | {"status": "diverged", "final": None, "reason": "it diverged"}
        if (one["arm"]["name"], one["seed"]) == ("rw", 2)
        else one
        for one in trials
    ]
    trained = study_document(definition, trials, command="laurel train-proxy")
    own = {arm["name"]: arm for arm in trained["arms"]}
    assert own["rw"]["verdict"] not in JUDGED
    assert own["rw"]["difference"] is not None
    found, rows = made(trained)
    assert rows["rw"]["gain"] is rows["rw"]["gain_level"] is None
    assert rows["rw"]["trials"] == {"complete": 4, "diverged": 1}
    shown = {row["arm"]: row for row in tables(render(found, "markdown"), "Quality")}
    assert (shown["rw"]["gain, nats"], shown["rw"]["level"], shown["rw"]["trials"]) == ("-", "-", "4, 1 diverged")
    for name in ("naive+1", "baseline:lr=0.5", "baseline:width=1.125"):
        assert rows[name]["gain"] == -own[name]["difference"]["mean"]
        assert shown[name]["level"] == f"{100 * own[name]['difference']['confidence']:.4g} %"


def test_accuracy_stands_beside_the_papers_accuracy():
    trained = study_document(*controlled({"naive+1": -0.06, "rw": -0.07}), command="laurel train-proxy")
    found, rows = made(trained, "table1")
    shown = {row["arm"]: row for row in tables(render(found, "markdown"), "Quality")}
    assert rows["rw"]["accuracy"] == pytest.approx(0.7)
    assert (shown["rw"]["accuracy %"], shown["rw"]["paper: accuracy %"]) == ("70.00", "75.10")
    assert shown["rw"]["loss"] == f"{rows['rw']['quality']:.4f}"
    assert "accuracy %" not in tables(render(made(trained)[0], "markdown"), "Quality")[0]


def test_a_percentage_that_is_printed_gives_no_count_and_one_of_counts_says_so():
    trained = study_document(*controlled({"rw": -0.07}), command="laurel train-proxy")
    for name, said in (("table1", "paper: added %"), ("table5", "paper: added % (by its counts)")):
        found, rows = made(trained, name, analyze=counted({"baseline": 10**8, "rw": 10**8 + 32}))
        assert said in tables(render(found, "markdown"), "Parameters")[0]
        assert (rows["rw"]["paper"]["parameters"] is None) == (name == "table1")
    assert made(trained, "table1")[1]["rw"]["paper"]["added_percent"] == 0.003


def test_every_arm_whose_formula_the_paper_prints_stands_beside_it():
    """Whatever the rank: a figure is not left out because a smaller model has smaller ranks."""
    for name in experiments.names():
        experiment = experiments.find(name)
        formulas = {printed.partition("@")[0] for printed in experiment.printed} - {"baseline"}
        for scale in experiment.scales.values():
            steps = [step for command, step in scale.steps.items() if command != "analyze" and "arms" in step]
            arms = {one.name for step in steps for one in parse_contenders(step["arms"])}
            for arm in arms:
                if arm.partition("@")[0] in formulas:
                    assert scale.beside.get(arm, arm) in experiment.printed, (name, scale.name, arm)


def test_what_table_5_does_not_mention_is_a_vector_a_map_and_a_sum():
    """Of 24 blocks the first has a history of one, the second of two; the sentence and the figures are one rule."""
    extra = experiments.find("table5").unwritten
    maps, sums = 1 + 2 + 3 * 22, 24
    assert extra.arms == {"lr@32": 24, "pa": sums, "rw+lr@32": 24, "rw+lr+pa@32": maps + sums}
    assert f"{maps} such maps and {sums} sums" in extra.why
    assert "where there is none" not in extra.why


def test_trials_at_once_are_the_studys_alone(tmp_path):
    size = experiments.find("table5").scales["cpu"]
    lines = {one.name: one.words for one in commands(size, tmp_path, {"processes": 2})}
    assert "--processes" not in lines["profile"]
    assert lines["train-proxy"][lines["train-proxy"].index("--processes") + 1] == "2"
    timed = experiments.find("table6").scales["cpu"]
    assert "profile" in timed.steps
    with pytest.raises(UsageError, match="`processes=2` says nothing to the scale cpu"):
        commands(timed, tmp_path, {"processes": 2})


def test_a_folder_is_one_experiments_at_one_scale(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = experiments.find("table5")
    cpu, gpu = ours.scales["cpu"], ours.scales["gpu"]
    for place in ("a", "b"):
        Path(place).mkdir()
        Path(place, "mine.toml").write_text("[train-proxy]\n")
    first, second = (experiments.find(f"{place}/mine.toml") for place in ("a", "b"))
    folder = Path("out")
    folder.mkdir()
    claim(folder, first, cpu)
    claim(folder, experiments.find(str(tmp_path / "a" / "mine.toml")), cpu)  # the same file
    for other, scale in ((second, cpu), (first, gpu), (replace(ours, name="mine"), cpu)):
        with pytest.raises(UsageError, match=r"out' is the folder of \.\./a/mine.toml at the scale cpu"):
            claim(folder, other, scale)
    assert json.loads((folder / NAME).read_text())["experiment"] == "../a/mine.toml"
    # What a version before left is not said to be a user's; one that comes with laurel goes on with it.
    old = Path("old")
    (old / "records").mkdir(parents=True)
    with pytest.raises(UsageError, match="another experiment"):
        claim(old, first, cpu)
    claim(old, ours, cpu)
    with pytest.raises(UsageError, match="table5 at the scale cpu"):
        claim(old, first, cpu)


FAKE = """
import shutil
from laurel_cli.experiments import run

def call(words):
    with open("calls.txt", "a") as log:
        log.write(" ".join(words) + "\\n")
    shutil.copy(f"{words[0]}-answer", words[words.index("--output") + 1])
    return 6 if words[0] == "train-proxy" else 0

run._call = call
from laurel_cli.cli.main import run as main
main()
"""
MINE = """
[profile]
model = "net.py:Net"
[train-proxy]
arms = ["rw"]
"""
NET = "from torch import nn\n\n\nclass Net(nn.Module):\n    width = 8\n"


@pytest.fixture
def reproduce(laurel_env, tmp_path):
    """`laurel reproduce` with commands that answer what lies there, a study of which some trials failed."""
    trained = study_document(*controlled({"rw": -0.07}), command="laurel train-proxy") | {"warnings": ["half asleep"]}
    arm = {"name": "baseline", "ratio": None, "peak_bytes": 8}
    model = {"reference": "net.py:Net", "input": "x"}
    timed = {"status": "complete", "model": model, "mode": "infer", "arms": [arm], "warnings": ["busy"]}
    answers = {"train-proxy": trained, "profile": timed, "report": {}}
    for name, answer in answers.items():
        (tmp_path / f"{name}-answer").write_text(json.dumps(answer))
    (tmp_path / "mine.toml").write_text(MINE)
    (tmp_path / "net.py").write_text(NET)

    def run(*words):
        log = tmp_path / "calls.txt"
        log.unlink(missing_ok=True)
        command = [sys.executable, "-c", FAKE, "reproduce", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=laurel_env, capture_output=True, text=True, check=False, timeout=120
        )
        return done, [shlex.split(line) for line in log.read_text().splitlines()] if log.exists() else []

    return run


@pytest.mark.parametrize(
    ("code", "error"),
    [(3, ModelError), (5, ResourceError), (-9, ResourceError), (143, ResourceError), (130, KeyboardInterrupt)],
)
def test_how_a_command_ended_is_how_all_of_it_ends(code, error, tmp_path, monkeypatch):
    """One that the system kills, as where memory runs out, is no bug of laurel's, which exit code 1 would say."""
    monkeypatch.setattr(run, "_call", lambda words: code)
    chosen = experiments.find("table2")
    planned = commands(chosen.scales["cpu"], tmp_path, {})
    with pytest.raises(error):
        run.run(chosen, planned, tmp_path, again=False, debug=False, on_line=lambda _: None, on_note=lambda _: None)


@pytest.mark.slow
def test_what_failed_and_what_was_warned_of_reach_the_end(reproduce, tmp_path):
    done, calls = reproduce("mine.toml", "--format", "json", "--debug")
    assert done.returncode == 6, done.stderr
    found = json.loads(done.stdout)
    assert found["timed_before"] == ""
    assert found["warnings"] == ["busy", "half asleep"]
    assert fault(found, DOCUMENTS["laurel.reproduce/1"], WHOLE) == ""
    folder = tmp_path / "reports" / "reproduce" / "mine-as-written"
    assert "half asleep" in (folder / "paper.md").read_text()
    assert fault(json.loads((folder / NAME).read_text()), DOCUMENTS["laurel.reproduce-folder/1"], WHOLE) == ""
    assert [call[0] for call in calls] == ["profile", "train-proxy", "report"]
    assert all(call[-1] == "--debug" for call in calls)
    again, calls = reproduce("mine.toml", "--format", "json")
    at = json.loads(again.stdout)["timed_before"]
    assert [call[0] for call in calls] == ["train-proxy", "report"]
    assert f"as it was timed at {at}" in again.stderr
    assert f"taken over: of {at}" in (folder / "paper.md").read_text()
    dry, calls = reproduce("mine.toml", "--dry-run", "--format", "json")
    assert (dry.returncode, json.loads(dry.stdout)["schema"], calls) == (2, "laurel.error/1", [])


def test_times_are_taken_over_where_all_that_they_follow_from_is_the_same(tmp_path, monkeypatch):
    """What a timing follows from is changed, one thing after the other."""
    monkeypatch.chdir(tmp_path)
    answer = Path("profile.json")
    answer.write_text("{}")
    Path("net.py").write_text(NET)
    claim(Path(), experiments.find("table5"), experiments.find("table5").scales["cpu"])

    def now(line="laurel profile net.py:Net"):
        return follows_from(line, {"model": "net.py:Net", "device": "cpu", "model_args": ["width=8"]})

    assert timed_before(Path(), answer, now()) == ("", "")
    keep_timed(Path(), answer, now())
    at, why = timed_before(Path(), answer, now())
    assert (at == json.loads(Path(NAME).read_text())["timed"]["at"], why) == (True, "")
    versions = provenance.versions()
    for part, home, name, value in (
        ("versions", provenance, "versions", versions | {"torch": "0.1"}),
        ("code", provenance, "code_sha256", "0" * 64),
        ("device", devices, "presence", Presence(True, "another processor")),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(home, name, lambda *_, value=value: value)
            assert timed_before(Path(), answer, now()) == ("", f"changed since {at}: {part}")
    assert timed_before(Path(), answer, now("laurel profile net.py:Net --batch 2"))[1].endswith(": command")
    Path("net.py").write_text(NET.replace("8", "16"))
    assert timed_before(Path(), answer, now())[1].endswith(": files")
    Path("net.py").write_text("import time\n" + NET)  # it may follow from more than its text
    assert now() is None
    assert "cannot be told" in timed_before(Path(), answer, now())[1]
    Path("net.py").write_text(NET)
    assert timed_before(Path(), answer, now())[0] == at
    answer.write_text("{ }")
    assert timed_before(Path(), answer, now())[1].endswith(": profile.json")
    keep_timed(Path(), answer, None)
    assert "timed" not in json.loads(Path(NAME).read_text())
