"""Rendering: every format says what the document says, and nothing in it comes alive."""

import csv
import html
import io
import json
import re

import pytest
from markdown_it import MarkdownIt

from laurel_cli.render import Look, render
from laurel_cli.render.markdown import prose
from laurel_cli.text import visible

WIDTHS = [None, 10, 20, 40, 60, 80, 100, 120, 200]


def read_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("connections", [False, True])
def test_every_number_is_whole_at_every_width(document, width, ascii_only, connections):
    text = render(document, "table", connections=connections, look=Look(width, ascii_only=ascii_only))
    for arm in document["arms"][:-1]:
        for key in ("parameters", "added_parameters"):
            assert re.search(rf"(?<![\d,]){arm[key]:,}(?![\d,])", text)
    for whole in ("4.3713 %", "0.000125 %", "34,912x", "2.31x", "8.1784 G", "86.303 MiB", "1.1498 GiB", "25,557,032"):
        assert whole in text
    assert ("1x256x56x56" in text) == connections
    assert text.isascii() or not ascii_only
    assert "…" not in text
    assert "..." not in text


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_a_table_keeps_within_the_terminal(document, width):
    document["arms"] = document["arms"][:4]
    document["connections"].pop()
    document["refused"] = []
    document["model"]["notes"] = [
        "A sentence that is longer than the terminal is wide, so that it has to be wrapped. " * 3
    ]
    text = render(document, "table", connections=True, look=Look(width))
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [None, 20, 80, 200])
@pytest.mark.parametrize("color", [False, True])
def test_hostile_names_are_inert_in_a_table(document, hostile, width, color):
    text = render(document, "table", connections=True, look=Look(width, color=color))
    without_style = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert all(char.isprintable() or char == "\n" for char in without_style)
    assert "\x1b[31m" not in text
    assert visible(hostile) in without_style
    assert ("\x1b" in text) == color or width == 20


def test_a_name_beyond_ascii_is_escaped_for_a_terminal_that_cannot_show_it(document):
    document["model"]["reference"] = "modèle"
    assert "modèle" in render(document, "table")
    assert "mod\\xe8le" in render(document, "table", look=Look(ascii_only=True))


def test_json_is_the_document(document):
    text = render(document, "json")
    document["arms"][4]["added_parameters_percent"] = None
    assert json.loads(text) == document
    assert list(json.loads(text)) == list(document)
    assert text.isascii()
    assert render(document, "json", connections=True) == text


def test_csv_is_the_arms_exactly(document):
    rows = read_csv(render(document, "csv"))
    assert len(rows) == len(document["arms"])
    for row, arm in zip(rows, document["arms"], strict=True):
        assert row["model"] == "resnet50"
        for key, value in arm.items():
            if isinstance(value, bool):
                assert row[key] == str(value).lower()
            elif isinstance(value, int):
                assert int(row[key]) == value
            elif isinstance(value, float):
                assert row[key] == "" if value != value else float(row[key]) == value
            elif isinstance(value, str):
                assert row[key].removeprefix("'") == visible(value)
            elif value is None:
                assert row[key] == ""
            else:
                assert json.loads(row[key]) == value


def test_csv_is_the_connections_where_they_are_asked_for(document):
    rows = read_csv(render(document, "csv", connections=True))
    assert [row["found"] for row in rows] == ["true", "true", "false"]
    assert rows[0]["shape"] == "1x256x56x56"
    assert rows[2]["reason"].startswith("the skip is no ancestor")


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@x", "\tx", "\rx"])
def test_csv_runs_no_formula(document, name):
    document["arms"][0]["name"] = name
    cell = read_csv(render(document, "csv"))[0]["name"]
    assert cell == "'" + visible(name)


def table_rows(text):
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]


def test_markdown_rows_have_their_headers_columns(document):
    text = render(document, "markdown", connections=True)
    blocks = [table_rows(block) for block in text.split("###")]
    tables = [block for block in blocks if block]
    assert len(tables) == 8
    for table in tables:
        assert {len(row) for row in table} == {len(table[0])}
    arms = [cell.strip() for row in tables[1][2:] for cell in row]
    for arm in document["arms"][:-1]:
        assert f"{arm['parameters']:,}" in arms
    assert "4.3713 %" in arms
    assert "0.000125 %" in arms


def test_hostile_names_are_inert_in_markdown(document):
    text = render(document, "markdown", connections=True)
    assert all(char.isprintable() or char == "\n" for char in text)
    outside_code = re.sub(r"(`+).*?(?<!`)\1(?!`)", "", text.replace("\\`", ""))
    assert "<" not in outside_code
    assert "|b" not in text.partition("###")[2].replace("\\|b", "")


def test_warnings_stand_in_markdown_and_json(document):
    assert "no counter knows" in render(document, "markdown")
    assert "no counter knows" in render(document, "json")


def test_the_same_document_gives_the_same_bytes(document):
    for format_name in ("table", "json", "markdown", "csv"):
        assert render(document, format_name) == render(document, format_name)


def test_a_document_without_rows_is_no_crash(document):
    document |= {"connections": [], "refused": [], "arms": [], "warnings": []}
    for format_name in ("table", "json", "markdown", "csv"):
        for connections in (False, True):
            assert render(document, format_name, connections=connections)


def test_table_text_of_wide_characters_keeps_its_columns(document):
    document["arms"][-1]["name"] = "模型"
    lines = render(document, "table").splitlines()
    assert any("模型" in line for line in lines)


def test_a_lower_bound_is_marked_in_every_format(document):
    for format_name in ("table", "markdown"):
        text = render(document, format_name)
        assert ">= 2" in text.replace("&gt;", ">")
        assert "lower bound" in text
        assert "98.2500 %" in text
    assert json.loads(render(document, "json"))["arms"][4]["uncounted"][0]["calls"] == 3
    assert read_csv(render(document, "csv"))[4]["coverage"] == "0.9825"


def test_checks_name_the_operators_that_differ(document):
    text = render(document, "table", look=Look())
    assert "1,234,567 here, 0 there" in text
    assert re.search(r"fvcore\s+agrees\s+baseline, naive\+1, rw, rw\+lr@16", text)
    assert re.search(r"fvcore\s+did not run", text)


def test_an_arm_that_failed_says_why(document):
    assert "naive+2: nothing to repeat" in render(document, "table")


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("width", [None, 120])
def test_plain_tables_are_drawn_as_the_coloured_ones_are(document, ascii_only, width):
    plain = render(document, "table", connections=True, look=Look(width, ascii_only=ascii_only))
    coloured = render(document, "table", connections=True, look=Look(width, color=True, ascii_only=ascii_only))
    assert plain == "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", coloured).split("\n"))


@pytest.mark.parametrize(
    "text",
    [
        *("LAuReL: quality", "timm:resnet18", "a_b_c", "_a_ b", "__init__", "*x*", "**y**", "`c`", "[l](http://x)"),
        *(
            "![i](u)",
            "<b>x</b>",
            "<!--",
            "a|b",
            "~~s~~",
            "&amp;",
            "\\*",
            "a\\",
            "===",
            "---",
            "-",
            "- a",
            "+ b",
            "1. c",
        ),
        *("12) d", "1986. A year", "# h", "> q", "-0.1", "+5 %", "0.5 nats", "(a)", "rw+lr@4", "$a$", "{a}", "a!"),
    ],
)
def test_markdown_says_what_the_text_says(text):
    """Read by markdown-it, which knows nothing of how it was written."""
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    shown = html.escape(text, quote=False)
    assert reader.render(f"- {prose(text)}\n") == f"<ul>\n<li>{shown}</li>\n</ul>\n"
    assert f"<td>{shown}</td>" in reader.render(f"| a |\n| --- |\n| {prose(text)} |\n")


def test_markdown_links_and_calls_nobody():
    assert prose("http://x.org :smile: www.x.org me@x.org @user") == (
        r"http\://x.org \:smile: www\.x.org me\@x.org \@user"
    )
    assert prose("LAuReL: rw+lr@4 (+0.1 nats, n = 5)") == "LAuReL: rw+lr@4 (+0.1 nats, n = 5)"
