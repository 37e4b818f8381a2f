"""What is typed, read by the functions that read it: a value or an error of ours, in a time linear in the text."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from laurel_cli.arms import parse_arms
from laurel_cli.errors import LaurelError
from laurel_cli.models.given import parse_inputs
from laurel_cli.models.reference import parse as parse_reference
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.reports.gate import FailCondition
from laurel_cli.settings import read
from laurel_cli.tasks.reading import tokenizers
from laurel_cli.text import readable, visible, whole_number
from tests.bench.reliability.tally import Part, Round, Tally

PARSERS: dict[str, tuple[Callable[[str], Any], tuple[str, ...]]] = {
    "--arms": (
        parse_arms,
        ("baseline,naive+1,rw,rw+lr@16", "lr+pa@4,rezero,copy", "attnres-block@3,ihc@2,hc@4", "lr@-1"),
    ),
    "--arms of a study": (
        parse_contenders,
        ("rw:lr=0.5,lr@2:width=1.125", "baseline:steps=.7:init=zero", "copy,naive+2:lr=1e-3"),
    ),
    "MODEL": (
        parse_reference,
        ("resnet50", "timm:vit", "hf:org/name", "hf:./x", "a.py:build", "a.b:c", "w.pt", "n.ipynb"),
    ),
    "--input": (lambda text: parse_inputs([text]), ("x=float32:1x3x8x8", "int64:2x4", "mask=bool:scalar", "1,3,4")),
    "--input-shape": (lambda text: read.dimensions("input_shape", text), ("1x3x224x224", "1,3,8,8", "128")),
    "--rank": (lambda text: read.ranks("rank", [text]), ("4,8,16", "-1", " 7 ")),
    "--lags": (lambda text: read.lags("lags", text), ("all", "3")),
    "--max-params": (lambda text: read.percentage("--max-params", text), ("1%", "0.5 %", "2", ".5")),
    "--model-arg": (
        lambda text: read.keywords("model_args", [text]),
        ("width=8", "a=[1, (2, {3: 'x'})]", "b='x'", "c=-1e3", "d=True"),
    ),
    "--format": (lambda text: read.one_of("format", text, ("table", "markdown", "json")), ("table", "JSON")),
    "--fail-if": (FailCondition.parse, ("added_parameters_percent > 2", "rw+lr@16: gain_low < 0", "a!=1%", "a >= nan")),
    "--tokenizer": (tokenizers.parse, ("bytes", "bpe", "bpe:512")),
    "COLUMNS": (whole_number, ("80", " 007 ")),
    "text in a terminal": (visible, ("[red]", "\x1b[31m", "\u202e")),
    "text of an error": (readable, ("/a/b/c", "x" * 500)),
}
STRANGE = (
    "",
    " ",
    "\n",
    "\0",
    "²",
    "٣",
    "é",
    "\ud800",
    "\u202e",
    "\x1b[31m",
    "1e999",
    "nan",
    "-0",
    "inf",
    "9" * 30,
    "1" * 5000,
)
STRANGE += (
    "(" * 50,
    "[" * 300,
    "{",
    "}",
    "%",
    "=",
    ":",
    ",",
    "@",
    "+",
    "-",
    ".",
    "/",
    "\\",
    "x",
    "0x1",
    "1_0",
    "None",
    "..",
    "~",
)
EACH = 4_000  # texts a round
LENGTH, TIMES = 1 << 11, 16
SLOWER, SECONDS = 80, 0.3  # that much longer for sixteen times the text, and so long at least: not linear


@contextmanager
def opened(place: Path, said: Tally) -> Iterator[Round]:
    """Rounds of a parser each, in turn: many texts, and one that grows."""

    def one(number: int, draw: random.Random, said: Tally) -> None:
        name = list(PARSERS)[number % len(PARSERS)]
        parse, corpus = PARSERS[name]
        for _ in range(EACH):
            text = changed(draw, corpus)
            if name == "--input" and is_large(text):
                continue
            said.count(name, texts=1)
            wrong = tried(parse, text)
            said.count(name, **{wrong if wrong in ("value", "refused") else "wrong": 1})
            if wrong not in ("value", "refused"):
                said.problems.append(f"{name} {text[:200]!r}: {wrong}")
        growing(name, parse, draw, corpus, said)

    yield one


def changed(draw: random.Random, corpus: tuple[str, ...]) -> str:
    """A text that may be read, with a few changes; sometimes one of nothing but changes."""
    text = draw.choice(corpus) if draw.random() < 0.9 else ""
    for _ in range(draw.choice((0, 1, 1, 2, 3, 5))):
        at = draw.randint(0, len(text))
        to = draw.choice((at, at, at + 1, at + draw.randint(0, 4)))
        what = (
            draw.choice(STRANGE),
            chr(draw.randrange(0x21, 0x7F)),
            draw.choice(corpus),
            text[:to],
            chr(draw.randrange(0x3000)),
        )
        text = text[:at] + draw.choice(what) + text[to:]
    return text


def is_large(text: str) -> bool:
    """Whether an input of such a shape would really be made and take memory; what no memory holds is tried."""
    sizes = [int(number) for number in re.findall(r"\d{1,30}", text) if int(number)]
    return 10**5 < prod(sizes) < 10**15


def tried(parse: Callable[[str], Any], text: str) -> str:
    """What comes of it: "value", "refused", or what is wrong."""
    try:
        parse(text)
    except LaurelError as error:
        return "refused" if error.exit_code in (2, 3, 5) and error.what else f"exit code {error.exit_code}: {error}"
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "value"


def growing(name: str, parse: Callable[[str], Any], draw: random.Random, corpus: tuple[str, ...], said: Tally) -> None:
    """A text that repeats itself, sixteen times longer: whether it takes much more than sixteen times as long."""
    base = draw.choice(corpus)
    at, part = draw.randint(0, len(base)), changed(draw, corpus)[: draw.randint(1, 6)] or ","
    if name == "--input":
        part = draw.choice(("=", ":", "x", ",", " ", "a"))
    seconds = []
    for length in (LENGTH, LENGTH * TIMES):
        text = base[:at] + part * (length // len(part)) + base[at:]
        began = time.process_time()
        wrong = tried(parse, text)
        seconds.append(time.process_time() - began)
        if wrong not in ("value", "refused"):
            said.problems.append(f"{name}, {part!r} {length // len(part)} times in {base!r}: {wrong}")
            said.count(name, wrong=1)
    said.count(name, long=1)
    if seconds[1] > SECONDS and seconds[1] > SLOWER * seconds[0]:
        said.count(name, wrong=1)
        said.problems.append(
            f"{name}: {part!r} in {base!r} takes {seconds[0]:.3f} s for {LENGTH:,} characters, {seconds[1]:.3f} s for "
            f"{LENGTH * TIMES:,}"
        )


PART = Part(
    name="parsers",
    title="Texts that are typed",
    what="Texts that can be read, with random changes: digits of other scripts, numbers of thousands of digits, "
    "brackets hundreds deep, control characters, halves of surrogate pairs. Each gives a value or an error with "
    "exit code 2, 3 or 5. In every round one text grows sixteenfold, and must not take much more than sixteen "
    "times as long.",
    columns=(
        ("texts", "texts"),
        ("value", "read"),
        ("refused", "refused"),
        ("long", "grown"),
        ("wrong", "anything else"),
    ),
    share=0.1,
    opened=opened,
)
