"""The sheet of a study: every format says what the document says, at any width, and nothing in it comes alive."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from laurel_cli.render import Look, render
from laurel_cli.text import visible
from laurel_cli.verdict.document import document

from ..verdict.studies import arm, study, trial  # noqa: TID252  # tests are no installed package


@pytest.fixture
def said():
    """Better, worse, not separated, failed; one trial diverged."""
    effects = {"naive+1": -0.06, "rw": -0.07, "lr@16": 0.08, "pa": 0.0, "copy": 0.0, "lost": 0.0}
    defined, trials = study(effects)
    trials = [
        item for item in trials if item["arm"]["name"] != "lost" and (item["arm"]["name"], item["seed"]) != ("pa", 2)
    ]
    trials += [trial("lost", seed, None, status="failed") for seed in range(5)]
    trials += [trial("pa", 2, None, status="diverged")]
    return document(defined, trials, command="laurel train-proxy")


def test_a_table_says_the_verdicts_first(said):
    text = render(said, "table")
    rows = {
        line.split()[0]: line for line in text.partition("Loss against the baseline")[2].splitlines() if line.strip()
    }
    for name, word in (
        ("rw", "better than"),
        ("lr@16", "worse"),
        ("lost", "failed: 5 of 5"),
        ("pa", "unstable: 1 of 5"),
    ):
        assert re.search(rf"^{re.escape(name)}\s.*\b{word}", text, re.MULTILINE)
    assert "positive control         none" in text
    assert f"{100 * arm(said, 'rw')['difference']['confidence']:.4g} %" in text
    assert f"{arm(said, 'rw')['difference']['mean']:.4f}" in text
    assert (
        text.index("Loss against the baseline") < text.index("Loss against that of naive+1") < text.index("All trials")
    )
    assert rows["baseline"]
    assert "pa diverged at step 7" in text
    assert "keeps the sign of such effects better" in text
    assert "noise floor" in text


@pytest.mark.parametrize("width", [None, 10, 20, 40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_every_number_is_whole_at_every_width(said, width, ascii_only):
    text = render(said, "table", look=Look(width, ascii_only=ascii_only))
    for item in said["arms"]:
        for entry in item["trials"]:
            assert (f"{entry['loss']:.4f}" if entry["loss"] is not None else entry["status"]) in text
    shown = [tuple(map(float, ends)) for ends in re.findall(r"\[([-+.\d]+), ([-+.\d]+)\]", text)]
    for item in said["arms"]:
        if item["difference"]:
            ends = (item["difference"]["low"], item["difference"]["high"])
            assert any(ends == pytest.approx(found, rel=0.01, abs=6e-5) for found in shown)
    assert "100,032" in text
    assert text.isascii() or not ascii_only
    assert "…" not in text
    assert "..." not in text


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_it_keeps_within_the_terminal(said, width):
    assert max(map(len, render(said, "table", look=Look(width)).splitlines())) <= width


def test_colour_only_where_it_is_wanted(said):
    assert "\x1b" in render(said, "table", look=Look(200, color=True))
    assert "\x1b" not in render(said, "table", look=Look(200))


def test_json_is_the_document_with_null_for_what_is_not_known(said):
    found = json.loads(render(said, "json"))
    assert list(found) == list(said)
    assert found["schema"] == "laurel.train-proxy/2"
    assert arm(found, "rw")["difference"] == arm(said, "rw")["difference"]
    one = json.loads(render(document(*study({"rw": 0.0}, seeds=1)), "json"))
    assert arm(one, "rw")["difference"]["low"] is None


def test_csv_is_the_arms_exactly(said):
    rows = list(csv.DictReader(io.StringIO(render(said, "csv"))))
    assert [row["name"] for row in rows] == [item["name"] for item in said["arms"]]
    for row, item in zip(rows, said["arms"], strict=True):
        assert (row["model"], row["task"], row["learned"]) == ("proxy-cnn", "digits", "true")
        assert row["verdict"] == (item["verdict"] or "")
        for key in ("mean", "low", "high"):
            assert row[key] == "" if item[key] is None or item[key] == float("inf") else float(row[key]) == item[key]
        if item["difference"]:
            assert float(row["difference.p"]) == item["difference"]["p"]
        if item["smallest_visible"]:
            assert float(row["smallest_visible.value"]) == item["smallest_visible"]["value"]


def test_markdown_has_whole_tables(said):
    text = render(said, "markdown")
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert "better than the baseline (no control of the recipe was run)" in text
    assert "### Warnings" in text


@pytest.mark.parametrize("format_", ["table", "markdown", "csv", "json"])
@pytest.mark.parametrize("effects", [{}, {"rw": 0.0}])
@pytest.mark.parametrize("trials", [0, 1])
def test_studies_with_next_to_nothing(format_, effects, trials):
    defined, records = study(effects, seeds=1)
    assert render(document(defined, records[:trials]), format_)


def test_hostile_names_are_inert():
    hostile = "[red]a|b`c`<script>alert(1)</script>\x1b[31m\n=cmd()\u202e\\input{x}"
    defined, trials = study({"rw": 0.0})
    trials[-1] = trial("rw", 4, None, status="failed", reason=hostile)
    for item in trials:
        item["model"]["reference"] = hostile
    said = document(defined | {"name": hostile}, trials)
    text = render(said, "table")
    assert all(char.isprintable() or char == "\n" for char in text)
    assert visible(hostile) in text
    assert "<script>" not in re.sub(r"`+[^`]*`+|``.*?``(?!`)", "", render(said, "markdown"))


@pytest.mark.parametrize("count", [4, 8, 10])
def test_the_gain_at_the_end_is_shown_and_none_of_an_arm_of_which_nothing_is_claimed(count):
    defined, trials = study({"rw": -0.07, "pa": 0.0})
    trials = [item for item in trials if (item["arm"]["name"], item["seed"]) != ("pa", 2)]
    trials += [trial("pa", 2, None, status="diverged")]
    for item in trials:
        if item["final"]:
            loss = item["final"]["loss"]
            item["evaluations"] = [
                {"step": 600 * k // count, "loss": loss + 0.1 * (count - k), "accuracy": 0.5}
                for k in range(1, count + 1)
            ]
    table = render(document(defined, trials), "markdown").partition("Gain over the baseline at each evaluation")[2]
    head, _, *rows = [line for line in table.splitlines() if line.startswith("|")]
    assert "step 600" in head
    assert "step 300" in head  # what the trend is held against
    assert rows[0].startswith("| `rw`")
    assert not any(line.startswith("| `pa`") for line in rows[:2])
