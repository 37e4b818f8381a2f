"""What must hold of every value: properties that hypothesis tries to break."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import math
import random
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import wraps
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from laurel_cli import text
from laurel_cli.arms import parse_arms
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.records import store
from laurel_cli.records.places import Places
from laurel_cli.render import render
from laurel_cli.settings import read
from tests import latex
from tests.bench.reliability.tally import Part, Round, Tally
from tests.report.test_frontier import FRONTIER, brute_force, statuses

EXAMPLES = 100  # of a property, a round
TEX = latex.found()
FINITE = st.floats(allow_nan=False, allow_infinity=False)
UNITS = {" k": 3, " M": 6, " G": 9, " T": 12, " P": 15, " E": 18, " Z": 21, " Y": 24}
NAMES = st.one_of(
    st.text(min_size=1, max_size=40),
    st.text(alphabet="[]{}<>&|`*_#$%^~\\\"'=+-@(),;:!/ \n\t\r\x1b\u202e\u2028\xa0", min_size=1, max_size=30),
    st.sampled_from(
        ["\\input{/etc/passwd}", "=cmd()", "<script>alert(1)</script>", "\\write18{x}", "^^5cinput", "]]>", "-->"]
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def number_of(shown: str) -> float:
    """What a person reads in `4.0892 G`, `1.82x` or `0.000125 %`."""
    unit = next((power for word, power in UNITS.items() if shown.endswith(word)), 0)
    plain = re.sub(r"[ ,%xkMGTPEZY]", "", shown)
    return float(Decimal(plain).scaleb(unit))


def of(*values: Any) -> Callable[[Any], Any]:
    """Say from what values a property is to hold."""

    def marked(law: Any) -> Any:
        law.values = values
        return law

    return marked


@of(FINITE)
def numbers(value: float) -> None:
    """What is not zero is not shown as zero, nor with another sign; what is shown is near it."""
    for show, near in ((text.percent, 0.006), (text.times, 0.006), (text.figure, 0.06), (text.amount, 0.006)):
        shown = show(value)
        found = number_of(shown)
        assert (found == 0) == (value == 0) or show is text.amount, f"{value!r} is shown as {shown}"
        assert found * value >= 0, f"{value!r} is shown as {shown}"
        if show is not text.amount:
            assert math.isclose(found, value, rel_tol=near, abs_tol=0.0), f"{value!r} is shown as {shown}"


@of(st.integers(-(10**30), 10**30))
def whole_numbers(value: int) -> None:
    """Counts are exact; a number that is written out is read as it is."""
    assert int(text.count(value).replace(",", "")) == value
    if abs(value) < 10**18:
        assert text.signed_number(str(value)) == value
        assert math.isclose(number_of(text.amount(value)), value, rel_tol=1e-4)


@of(FINITE.filter(lambda value: 1e-300 < abs(value) < 1e300))
def percentages(value: float) -> None:
    """A percentage that is not zero is never 0.00, in any cell that shows one."""
    assert re.search("[1-9]", text.percent(value)), text.percent(value)
    assert read.percentage("--max-params", text.percent(abs(value)).replace(",", "")) > 0


@of(st.lists(st.integers(1, 10**9), min_size=1, max_size=6))
def shapes(sizes: list[int]) -> None:
    """A shape that is shown is read back."""
    assert read.dimensions("input_shape", text.shape(sizes)) == tuple(sizes)
    assert read.dimensions("input_shape", ",".join(map(str, sizes))) == tuple(sizes)


ARMS = st.lists(
    st.sampled_from(
        ["rw", "lr", "pa", "rw+lr", "lr+pa", "rw+lr+pa", "naive+1", "naive+3", "copy", "rezero", "layerscale"]
    )
    | st.tuples(st.sampled_from(["lr", "rw+lr", "rw+lr+pa"]), st.integers(1, 4096)).map(
        lambda pair: f"{pair[0]}@{pair[1]}"
    ),
    max_size=6,
)


@of(ARMS, st.sampled_from(["", ":lr=0.5", ":width=1.25", ":steps=0.7:init=zero"]))
def grammar(names: list[str], settings: str) -> None:
    """The names that arms get are read again as the same arms; the baseline is first; none is there twice."""
    arms = parse_arms(",".join(names))
    assert parse_arms(",".join(arm.name for arm in arms)) == arms
    assert arms[0].name == "baseline"
    assert len({arm.name for arm in arms}) == len(arms)
    found = parse_contenders(",".join(name + settings for name in names))
    assert parse_contenders(",".join(one.name for one in found)) == found


@of(st.dictionaries(st.text(max_size=10), JSON, max_size=6))
def records(content: dict[str, Any]) -> None:
    """A record is read as it was written; written again it is the same file."""
    with tempfile.TemporaryDirectory() as folder:
        path = store.write(Path(folder), "analyze", "complete", content)
        found = store.read(path)["content"]
        assert found == Places().without(store.plain(content))
        # Read and written again its content is the same, byte for byte.
        assert path.name == f"analyze-{store.sha256_of(found)[:16]}.json"


POINT = st.tuples(st.integers(0, 5), st.integers(0, 5))


@of(st.lists(POINT, min_size=1, max_size=7, unique=True))
def frontier(points: list[tuple[int, int]]) -> None:
    """Without uncertainty, who is on the frontier is who nobody dominates."""
    said = statuses(points, half=1e-9)
    assert [word == FRONTIER for word in said] == brute_force(points), said


class Tags(html.parser.HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[Any] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, [name for name, _ in attrs]))

    def handle_comment(self, data: str) -> None:
        self.tags.append("comment")

    def handle_data(self, data: str) -> None:
        self.text += data


def listed(names: list[str]) -> dict[str, Any]:
    """An answer that holds names in all of its places."""
    one = {"kind": "trial", "status": "complete", "device": "cpu", "recorded": "2026-11-21T21:08:16Z"}
    records = [one | {"model": name, "what": name, "file": name} for name in names]
    problems = [{"file": name, "what": name} for name in names]
    answer = {"records": records, "problems": problems, "copies": 0, "leftovers": 0, "merged": None}
    return {"schema": "laurel.records/1", "folders": names, "warnings": names} | answer


@of(st.lists(NAMES, min_size=1, max_size=3))
def names(found: list[str]) -> None:
    """A name changes no format's structure: the elements of HTML, the commands of LaTeX, the columns of the others."""
    hostile, plain = listed(found), listed(["name"] * len(found))
    pages = {
        name: (render(hostile, name), render(plain, name))
        for name in ("table", "markdown", "html", "csv", "json", "latex")
    }
    for page, _ in pages.values():
        assert all(char.isprintable() or char == "\n" for char in page)
    assert json.loads(pages["json"][0])["records"][0]["model"] == found[0]
    assert Tags(pages["html"][0]).tags == Tags(pages["html"][1]).tags
    rows = list(csv.reader(io.StringIO(pages["csv"][0])))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert len(rows) == len(found) + 1
    assert not any(cell.startswith(("=", "@", "+", "-", "\t", "\r")) for row in rows for cell in row)
    for page in pages["markdown"]:
        cells = [len(re.findall(r"(?<!\\)\|", line)) for line in page.splitlines() if line.startswith("|")]
        assert len(set(cells)) <= 2, page
    outside = re.sub(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)", "", pages["markdown"][0])  # what is no code
    assert not re.search(r"(?<!\\)<", outside), pages["markdown"][0]
    assert live(pages["latex"][0]) <= live(pages["latex"][1]) | HARMLESS, live(pages["latex"][0]) - live(
        pages["latex"][1]
    )


HARMLESS = {f"text{name}" for name in ("backslash", "asciicircum", "asciitilde", "less", "greater", "bar", "quotedbl")}
HARMLESS |= {
    "textquotesingle",
    "textasciigrave",
    "allowbreak",
    "{",
    "}",
    "$",
    "&",
    "#",
    "%",
    "_",
    "-",
    " ",
    "\\",
    "slash",
}
HARMLESS |= {"hspace", "hskip", "penalty", "discretionary", "linebreak", "nobreak", "char", "symbol", "texttt", "num"}


def live(page: str) -> set[str]:
    """The commands of a LaTeX page."""
    return set(re.findall(r"\\([A-Za-z]+|.)", page))


def compiled(draw: random.Random, said: Tally) -> None:
    """Two hundred names on one page, through pdflatex."""
    found = [draw_name(draw) for _ in range(200)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "page.tex").write_text(render(listed(found), "latex"), encoding="utf-8")
        words = [str(TEX), "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "page.tex"]
        try:
            done = subprocess.run(words, cwd=folder, capture_output=True, check=False, timeout=300)
        except subprocess.TimeoutExpired:
            raise AssertionError("pdflatex does not come to its end") from None
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-600:]
    said.count("LaTeX compiled", examples=len(found))


def draw_name(draw: random.Random) -> str:
    """Printable and other characters, those that mean something to LaTeX most of all."""
    pool = "\\{}$&#%_^~<>|\"'`-" * 3 + "".join(map(chr, range(1, 0x180))) + "\u202e\u4e2d\U0001f600\u0301\u20ac"
    return "".join(draw.choice(pool) for _ in range(draw.randint(1, 40)))


PROPERTIES: dict[str, Callable[[], None]] = {
    "numbers as they are shown": numbers,
    "whole numbers": whole_numbers,
    "percentages": percentages,
    "shapes": shapes,
    "the grammar of arms": grammar,
    "records, written and read": records,
    "the frontier and brute force": frontier,
    "names in every format": names,
}


@contextmanager
def opened(place: Path, said: Tally) -> Iterator[Round]:
    """Rounds of a property each, in turn."""
    if TEX is None:
        said.notes.append("There is no pdflatex here: no page was compiled.")

    def one(number: int, draw: random.Random, said: Tally) -> None:
        names = [*PROPERTIES, *(["LaTeX compiled"] if TEX else [])]
        name = names[number % len(names)]
        try:
            if name == "LaTeX compiled":
                compiled(draw, said)
            else:
                tried(PROPERTIES[name], draw.getrandbits(64), name, said)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
            said.count(name, wrong=1)
            more = " ".join(getattr(error, "__notes__", [])).replace("\n", " ")
            said.problems.append(f"{name}: {type(error).__name__}: {str(error)[:300]} {more[:300]}")

    yield one


def tried(law: Any, number: int, name: str, said: Tally) -> None:
    """A property with examples from a seed."""

    @wraps(law)
    def counted(**values: Any) -> None:
        said.count(name, examples=1)
        law(**values)

    quiet = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    seeded(number)(quiet(given(*law.values)(counted)))()


PART = Part(
    name="properties",
    title="Properties",
    what="Hypothesis looks for values that break what must always hold: a number that is not zero is not shown as "
    "zero; shapes and the names of arms are read again as they were; a record is read as it was written and is "
    "the same file when written again; the frontier is that of the definition; a name changes nothing of a "
    "format's structure.",
    columns=(("examples", "examples"), ("wrong", "broken")),
    share=0.1,
    opened=opened,
)
