"""`laurel report` and `laurel recommend` as processes: no torch, exit codes, files, faults."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from laurel_cli.reports.document import report
from laurel_cli.reports.recommend import recommend
from tests.report.made import ARMS, RATIOS, analysis, controlled, everything, profile, put, study, trial
from tests.schemas.test_documents import committed

REPORTS = Path(__file__).parents[2] / "reports"
FORMATS = ("table", "markdown", "html", "latex", "csv", "json")


@pytest.fixture
def made(tmp_path):
    """The default place of records, with a study in its folder."""
    controlled(tmp_path / "reports" / "studies" / "s")
    analysis(tmp_path / "reports")
    profile(tmp_path / "reports", RATIOS)
    return tmp_path


def test_without_torch(laurel_env, made):
    script = (
        "import sys\nfrom laurel_cli.cli.main import run\n"
        "try: run(sys.argv[1:])\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    )
    for words in (["report", "--format", "html", "--cost", "flops"], ["recommend", "resnet20"], ["records"]):
        command = [sys.executable, "-c", script, *words]
        done = subprocess.run(command, env=laurel_env, cwd=made, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr.splitlines()[-1] == "False"


@pytest.fixture
def small(tmp_path):
    """Records of which one figure is drawn."""
    study(tmp_path / "reports", ARMS[:4], seeds=2, evaluations=[], coefficients=[])
    return tmp_path


@pytest.mark.parametrize("format_name", FORMATS)
def test_two_runs_write_the_same_bytes(laurel, small, format_name):
    answers, pictures = [], []
    for _ in range(2):
        words = ["report", "--format", format_name, "--output", "answer", "--force"]
        done = laurel(*words)
        assert done.returncode == 0, done.stderr
        answers.append((small / "answer").read_bytes())
        pictures.append({path.name: path.read_bytes() for path in sorted(small.glob("answer-figures/*"))})
    assert answers[0] == answers[1]
    assert pictures[0] == pictures[1]
    kinds = {"markdown": {"svg"}, "latex": {"pdf"}}
    assert {name.rpartition(".")[2] for name in pictures[0]} == kinds.get(format_name, set())


def test_markdown_finds_its_figures(laurel, made):
    (made / "out").mkdir()
    assert laurel("report", "--format", "markdown", "--output", "out/report.md").returncode == 0
    text = (made / "out/report.md").read_text()
    linked = re.findall(r"\]\(([^)]*)\)", text)
    assert len(linked) >= 4
    assert all((made / "out" / link).is_file() for link in linked)
    assert laurel("report", "--format", "markdown").stdout.count("](") == 0  # no file, no figures


def test_figures_in_every_format(laurel, small):
    done = laurel("report", "--figures", "pictures")
    assert done.returncode == 0, done.stderr
    assert {path.suffix for path in (small / "pictures").iterdir()} == {".png", ".svg", ".pdf"}
    assert laurel("report", "--figures", "pictures").returncode == 2  # they exist
    assert laurel("report", "--figures", "pictures", "--force").returncode == 0


def test_a_study_alone_with_what_is_known_of_its_model(laurel, made):
    study(made / "reports" / "studies" / "other", seeds=2, study="other")
    for place in ("s", "reports/studies/s"):
        document = json.loads(laurel("report", "--study", place, "--format", "json").stdout)
        (body,) = document["comparisons"]
        assert body["study"]["name"] == "s"
        assert {panel["name"] for panel in body["panels"]} == {"parameters", "flops", "latency", "memory"}
    assert len(json.loads(laurel("report", "--format", "json").stdout)["comparisons"]) == 2
    assert laurel("report", "--study", "nowhere").returncode == 4


def test_no_records_is_4(laurel, tmp_path):
    done = laurel("report")
    assert (done.returncode, done.stdout) == (4, "")
    assert "laurel analyze" in done.stderr
    assert json.loads(laurel("report", "--format", "json").stdout)["error"]["code"] == 4
    (tmp_path / "empty").mkdir()
    assert laurel("report", "--records", "empty").returncode == 4
    assert laurel("report", "--records", "nowhere").returncode == 4
    assert laurel("recommend", "resnet20").returncode == 4


def test_a_corrupt_record_is_named_and_the_rest_is_shown(laurel, made):
    path = next((made / "reports/records").glob("profile-*"))
    path.write_text(path.read_text()[:500])
    done = laurel("report")
    assert done.returncode == 0
    assert path.name in done.stderr
    assert path.name in done.stdout
    assert "rw+lr@16" in done.stdout
    (only,) = json.loads(laurel("report", "--records", "reports", "--format", "json").stdout)["comparisons"]
    assert "latency" not in {panel["name"] for panel in only["panels"]}


def test_nothing_but_corrupt_records_is_4(laurel, tmp_path):
    path = put(tmp_path / "reports", trial())
    path.write_text("")
    done = laurel("report")
    assert (done.returncode, done.stdout) == (4, "")
    assert path.name in done.stderr


def test_an_unfinished_study_says_partial(laurel, tmp_path):
    study(tmp_path / "reports", seeds=3)
    assert "partial" in laurel("report").stdout


def test_gates(laurel, made):
    passed = laurel("report", "--fail-if", "added_parameters_percent > 3")
    assert passed.returncode == 0
    tripped = laurel("report", "--format", "json", "--fail-if", "added_parameters_percent > 2", "--fail-if", "gain > 9")
    assert tripped.returncode == 7
    assert json.loads(tripped.stdout)["schema"] == "laurel.report/2"
    assert "rw+lr+pa@16 has 2.4" in tripped.stderr
    assert laurel("report", "--fail-if", "added > 2").returncode == 2
    assert laurel("report", "--fail-if", "nonsense").stdout == ""


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["--format", "htm"], "html"),
        (["--cost", "parameter"], "parameters"),
        (["--quality", "accurracy"], "accuracy"),
        (["--model", "resnet2"], "resnet20"),
    ],
)
def test_wrong_names_get_the_nearest(laurel, made, words, near):
    done = laurel("report", *words)
    assert done.returncode in (2, 4)
    assert near in done.stderr


def test_an_output_that_exists_is_kept(laurel, made):
    (made / "report.html").write_text("mine")
    assert laurel("report", "--format", "html", "--output", "report.html").returncode == 2
    assert (made / "report.html").read_text() == "mine"


def test_recommend(laurel, made):
    done = laurel("recommend", "resnet20", "--max-params", "2%", "--max-latency", "15%", "--format", "json")
    assert json.loads(done.stdout)["advice"]["arm"] == "rw+lr@16"
    text = laurel("recommend", "resnet20", "--max-params", "2%").stdout
    assert "rw+lr@16" in text
    assert "rests on" in text
    nothing = laurel("recommend", "resnet20", "--max-params", "0.001%").stdout
    assert "none: keep the plain residual" in nothing
    assert laurel("recommend", "vgg11").returncode == 4
    assert laurel("recommend", "resnet20", "--max-params", "many").returncode == 2


def test_a_narrow_dumb_terminal(laurel, made):
    done = laurel("report", env={"COLUMNS": "20", "TERM": "dumb", "LC_ALL": "C", "NO_COLOR": "1", "HOME": None})
    assert done.returncode == 0, done.stderr
    assert "1,017,000" in done.stdout
    assert done.stdout.isascii()


@pytest.mark.slow
def test_a_thousand_records(laurel, tmp_path):
    """33 studies of 30 trials: all of them are there. tests/bench/report_speed.py says how long it takes."""
    for number in range(33):
        study(tmp_path / "reports" / "studies" / str(number), study=f"study {number}")
    everything(tmp_path / "reports")
    document = json.loads(laurel("report", "--format", "json").stdout)
    assert sum(document["records"].values()) == 33 * 30 + 41 + 3
    assert len(document["comparisons"]) == 34


def test_all_studies_of_a_model_are_asked(laurel, made):
    """The newest study does not hide one that contradicts it."""
    null = [(name, kind, added, 1.0) for name, kind, added, _ in ARMS]
    controlled(made / "reports" / "studies" / "t", null, named={"name": "t", "sha256": "7" * 64})
    document = json.loads(laurel("recommend", "resnet20", "--format", "json").stdout)
    assert document["advice"] is None
    assert {study["name"] for study in document["studies"]} == {"s", "t"}
    assert any("The studies disagree on rw:" in said for said in document["disagreements"])


@pytest.mark.skipif(not (REPORTS / "studies").is_dir(), reason="the committed studies are not here")
def test_the_committed_studies_can_be_read_and_none_is_contradicted(laurel, tmp_path):
    (tmp_path / "reports").symlink_to(REPORTS)
    document = json.loads(laurel("report", "--format", "json").stdout)
    named = {body["study"]["name"] for body in document["comparisons"] if body["study"]}
    # By its folder a study is called when it begins; trials of a search of learning rates are compared with nothing.
    begun = [path for path in REPORTS.rglob("study.json") if path.parent.name != "search"]
    assert named == {json.loads(path.read_text())["name"] for path in begun}
    for reference in {body["model"]["reference"] for body in document["comparisons"]}:
        found = recommend(report(committed(), model=reference)["comparisons"], {})  # what the command answers
        bodies = [b for b in document["comparisons"] if b["model"]["reference"] == reference and b["study"]]
        assert {study["name"] for study in found["studies"]} == {body["study"]["name"] for body in bodies}
        if found["advice"] is not None:
            verdicts = {
                arm["verdict"] for b in bodies for arm in b["arms"] if arm["name"] == found["advice"]["arm"]
            } - {"not trained", "withheld", "cannot tell"}
            assert "better" in verdicts
            assert verdicts <= {"better", "better, without controls"}
