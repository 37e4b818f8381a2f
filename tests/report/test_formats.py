"""Every format says what the document says, and no name comes alive in any of them."""

import csv
import io
import itertools
import json
import re
import subprocess
from html.parser import HTMLParser

import pytest

from laurel_cli.render import Look, render
from laurel_cli.reports import figures
from laurel_cli.reports.figures.captions import caption
from laurel_cli.text import visible
from tests import latex
from tests.report.made import ARMS, HOSTILE, controlled, document, paper, profile, put, study, trial

FORMATS = ("table", "markdown", "html", "latex", "csv", "json")
TEX = latex.found()


def rendered(made, format_name, drawn=False):
    """The report's text; drawing takes longer than all else, so an empty picture stands in unless `drawn`."""
    pictures = {name: "<svg></svg>" if format_name == "html" else f"figures/{name}.pdf" for name in figures.names(made)}
    return render(made, format_name, look=Look(), pictures=figures.inline(made) if drawn else pictures)


@pytest.fixture
def hostile(tmp_path):
    """A study and a profile in which every name that comes from outside attacks."""
    arms = [("baseline", "baseline", 0, 1.0), (HOSTILE, "against", 5000, 0.95), ("rw", "laurel", 32, 0.96)]
    task = {"name": HOSTILE, "kind": "image", "sha256": "d" * 64, "unit": HOSTILE}
    model = {"reference": HOSTILE, "source": HOSTILE, "architecture": "a" * 64, "input": HOSTILE}
    versions = {HOSTILE: HOSTILE}
    study(tmp_path, arms, seeds=3, task=task, command=HOSTILE, model=model, versions=versions)
    failed = {"final": None, "status": "failed", "reason": HOSTILE}
    put(tmp_path, trial("pa", "laurel", 0, task=task, model=model, **failed), status="failed")
    device = {"name": HOSTILE, "threads": 2}
    profile(tmp_path, {HOSTILE: (1.1, 1.0, 1.2), "rw": (1.01, 1.0, 1.02)}, device=device, model=model, command=HOSTILE)
    put(tmp_path, {"schema": HOSTILE}, "profile")
    return document(tmp_path)


class Page(HTMLParser):
    """Tags and text of a page; what a browser would see."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._skip = [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._skip += tag in ("style", "script")

    def handle_endtag(self, tag):
        self._skip -= tag in ("style", "script")

    def handle_data(self, data):
        if not self._skip:
            self.text.append(data)


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_same_records_give_the_same_bytes(made, format_name):
    assert rendered(document(made), format_name) == rendered(document(made), format_name)


@pytest.mark.parametrize("format_name", FORMATS[:4])
def test_every_format_says_the_papers_figures(tmp_path, format_name):
    paper(tmp_path)
    text = rendered(document(tmp_path), format_name)
    text = re.sub(r"\\num\{([^}]*)\}", r"\1", text).replace("{-}", "-").replace("\\%", "%").replace("\\", "")
    for said in ("2.60x", "1.82x", "60 %", "p = 0.48", "not established"):
        assert said in text, said


@pytest.mark.parametrize("format_name", FORMATS[:4])
def test_sections(made, format_name):
    text = rendered(document(made), format_name).replace("\\", "").replace("{-}", "-")
    for said in (
        "is better than the baseline",
        "Quality against parameters added",
        "Controls",
        "the baseline at twice the rate",
        "Gates",
        "the baseline 1.125 times as wide: separated from the baseline",
        "Gain over the baseline at each evaluation",
        "lasting",
        "Against naive+1",
        "What the arms cost",
        "Read with care",
        "How the figures are made",
        "Devices and versions",
        "laurel train-proxy cifar10",
        "1000000" if format_name == "latex" else "1,000,000",
    ):
        assert said in text, said


def test_no_control_character_in_any_format(hostile):
    for format_name in FORMATS:
        text = rendered(hostile, format_name)
        assert all(char.isprintable() or char == "\n" for char in text), format_name


def test_html_is_one_file_that_loads_and_runs_nothing_of_a_name(hostile):
    text = rendered(hostile, "html", drawn=True)
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    linked = [attrs.get(key) for _, attrs in page.tags for key in ("src", "href", "xlink:href", "action")]
    assert all(link is None or link.startswith("#") for link in linked)
    assert "default-src 'none'" in text
    assert visible(HOSTILE) in "".join(page.text)
    assert {"table", "figure", "svg", "th", "button"} <= {tag for tag, _ in page.tags}
    opened = re.findall(r"<(table|tbody|thead|tr|figure|div|ul|section)\b", text)
    closed = re.findall(r"</(table|tbody|thead|tr|figure|div|ul|section)>", text)
    assert sorted(opened) == sorted(closed)


def test_html_allows_its_own_script_alone(made):
    import base64
    import hashlib

    text = rendered(document(made), "html")
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_html_cells_sort_by_their_number(made):
    page = Page(rendered(document(made), "html"))
    values = [attrs["data-value"] for tag, attrs in page.tags if tag == "td" and "data-value" in attrs]
    assert all(value == "" or float(value) is not None for value in values)
    assert "44000" in values


def test_markdown_tables_are_whole_and_names_inert(hostile):
    text = rendered(hostile, "markdown")
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    width = 0
    for i, row in enumerate(rows):
        if i + 1 < len(rows) and set("".join(rows[i + 1]).replace(" ", "")) <= set("-:"):
            width = len(row)
        assert len(row) == width
    outside_code = re.sub(r"(`+).*?(?<!`)\1(?!`)", "", text.replace("\\`", ""))
    assert "<script" not in outside_code
    assert "[red]" not in outside_code
    assert "![Quality" in text


def test_latex_escapes_every_name(hostile):
    text = rendered(hostile, "latex")
    assert "\\input" not in text
    assert "\\textbackslash{}input" in text.replace("\\allowbreak{}", "")
    body = text.partition("\\begin{document}")[2]
    commands = set(re.findall(r"\\[a-zA-Z]+", body))
    known = {"begin", "end", "textbf", "texttt", "section", "subsection", "item", "num", "toprule", "midrule"}
    known |= {"endhead", "bottomrule", "linewidth", "textheight", "includegraphics", "detokenize", "together"}
    known |= {"parbox", "shortstack", "small", "bfseries", "ttfamily", "par", "medskip", "pm", "ge", "LARGE", "sloppy"}
    known |= {"allowbreak", "textbackslash", "textless", "textgreater", "textbar", "textquotedbl", "textquotesingle"}
    known |= {"textasciigrave", "textasciicircum", "textasciitilde"}
    assert {command[1:] for command in commands} <= known
    plain = re.sub(r"\\[\\{}$&#%_]", "", body)
    assert plain.count("{") == plain.count("}")
    assert "#" not in plain
    assert "%" not in plain
    assert {"\\toprule", "\\midrule", "\\bottomrule"} <= commands
    assert "siunitx" in text


@pytest.mark.skipif(TEX is None, reason="pdflatex, or a package that our pages load, is not installed")
def test_latex_compiles(hostile, tmp_path):
    folder = tmp_path / "tex"
    (folder / "figures").mkdir(parents=True)
    for name, content in figures.pictures(hostile, ("pdf",)):
        (folder / "figures" / name).write_bytes(content)
    (folder / "report.tex").write_text(rendered(hostile, "latex"), encoding="utf-8")
    words = [TEX, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "report.tex"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, errors="replace", check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "report.pdf").stat().st_size > 10_000


def test_csv_is_a_row_an_arm_with_exact_values(made):
    found = document(made)
    rows = list(csv.DictReader(io.StringIO(rendered(found, "csv"))))
    arms = found["comparisons"][0]["arms"]
    assert [row["arm"] for row in rows] == [arm["name"] for arm in arms]
    for row, arm in zip(rows, arms, strict=True):
        assert int(row["added_parameters"]) == arm["costs"]["parameters"]["added"]
        assert float(row["quality"]) == arm["quality"]["mean"]
        assert row["gain_low"] == ("" if arm["gain"] is None else repr(arm["gain"]["low"]))
    assert rows[3]["rank"] == ""
    assert rows[4]["rank"] == "16"


@pytest.mark.parametrize("name", ["=cmd()", "+cmd()", "-1+cmd()", "@SUM(1)"])
def test_csv_runs_no_formula(tmp_path, name):
    study(tmp_path, [("baseline", "baseline", 0, 1.0), (name, "against", 5, 0.9)], seeds=2)
    rows = list(csv.DictReader(io.StringIO(rendered(document(tmp_path), "csv"))))
    assert rows[1]["arm"] == "'" + name


def test_json_is_the_document(made):
    found = document(made)
    assert json.loads(rendered(found, "json")) == found


@pytest.mark.parametrize("width", [20, 40, 80, 120])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_terminal_of_any_width_shows_every_figure(made, width, ascii_only):
    text = render(document(made), "table", look=Look(width, ascii_only=ascii_only))
    joined = " ".join(text.split())
    for said in ("1,017,000", "+1.7000 %", "+12.0 % [10.0, 14.0]", "not separated", "dominated"):
        assert said in joined
    assert text.isascii() or not ascii_only


def table(text, title):
    """The rows of a markdown table by their first cell, each without it."""
    lines = text.partition(f"### {title}")[2].strip().splitlines()
    body = [line for line in itertools.takewhile(lambda line: line.startswith("|"), lines) if line.startswith("| `")]
    return {line.split("|")[1].strip(" `"): line for line in body}


def test_bold_is_what_is_better_than_the_baseline_and_its_controls_and_it_is_said(tmp_path):
    arms = [*ARMS[:4], ("rw+lr@16", "laurel", 17_000, 1.0)]
    controlled(tmp_path / "one", arms)
    text = rendered(document(tmp_path / "one"), "markdown")
    bold = {name for name, row in table(text, "Quality").items() if "**" in row}
    assert bold == {"naive+1", "rw"}
    assert "Bold: better than the baseline and than every control of its recipe." in text
    assert not any("**" in row for row in table(text, "Controls").values())
    study(tmp_path / "two", arms)  # without controls nothing is
    text = rendered(document(tmp_path / "two"), "markdown")
    assert not any("**" in row for row in table(text, "Quality").values())
    assert "Bold: better" not in text


def test_every_interval_stands_beside_its_level(made):
    text = rendered(document(made), "markdown")
    for title in ("Quality", "Controls", "Against naive+1", "Arms against each other", "Cost: latency added"):
        lines = text.partition(f"### {title}")[2].strip().splitlines()
        head = next(line for line in lines if line.startswith("|"))
        assert "level" in head, title
    assert "99.1 %" in table(text, "Quality")["naive+1"]


@pytest.mark.parametrize("name", ["rw", "rw:steps=2"])
def test_an_arm_that_was_trained_longer_is_told_apart_from_one_that_was_not(tmp_path, name):
    """Parameters and FLOPs of `rw:steps=2` are those of `rw`, which paid for half of its training."""
    controlled(tmp_path, [*ARMS[:3], (name, "laurel", 32, 0.9)])
    made = document(tmp_path)
    said = "were trained so many times as long" in rendered(made, "markdown")
    shown = "were trained so many times as long" in caption("frontier", made["comparisons"][0])
    assert said == shown == (name == "rw:steps=2")


def test_no_probability_and_no_volume(made):
    for format_name in FORMATS:
        text = rendered(document(made), format_name)
        assert "P(frontier)" not in text
        assert not re.search("hypervolume|probability", text, re.IGNORECASE)


def test_what_naive_scaling_would_cost_is_not_known_in_words(tmp_path):
    controlled(tmp_path, [(n, k, a, 1.0 if k == "naive" else loss) for n, k, a, loss in ARMS])
    for format_name in FORMATS[:4]:
        text = rendered(document(tmp_path), format_name).replace("{-}", "-")
        assert "What naive scaling would cost for the same quality is not known" in text
        assert "times less than naive" not in text


def test_accuracy_is_shown_and_the_verdict_is_by_loss(made):
    text = rendered(document(made, metric="accuracy"), "markdown")
    assert "verdict by loss" in text
    assert "accuracy %, 95 % interval" in text
    assert "gain over the baseline, nats" in text
    rows = table(text, "Quality")
    assert rows["rw"].rstrip("| ").endswith("**better**")


def test_a_failed_cell_says_so(hostile):
    for format_name in ("table", "markdown", "html", "latex"):
        assert "FAILED" in rendered(hostile, format_name)


def test_no_percent_that_is_not_zero_is_shown_as_zero(tmp_path):
    study(tmp_path, [("baseline", "baseline", 0, 1.0), ("rw", "laurel", 1, 0.9)], seeds=2)
    for format_name in ("table", "markdown", "html"):
        assert "0.0001 %" in rendered(document(tmp_path), format_name)
