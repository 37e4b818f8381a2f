"""Numbers of thousands of digits, superscripts, names longer than a file system takes: wrong usage, said in a line."""

from __future__ import annotations

import shlex

import pytest

import laurel_cli as laurel
from laurel_cli.cli import main
from laurel_cli.errors import LaurelError
from laurel_cli.tasks import open_task
from laurel_cli.text import readable, shortened, whole_number

D = "@@@"
COMMANDS = [
    f"analyze resnet18 --input-shape {D}",
    f"analyze resnet18 --input x=float32:{D}",
    f"analyze resnet18 --rank {D}",
    f"analyze resnet18 --arms rw@{D}",
    f"analyze resnet18 --arms rw+lr@-{D}",
    f"analyze resnet18 --arms naive+{D}",
    f"analyze resnet18 --arms ihc@{D}",
    f"analyze resnet18 --arms attnres-block@{D}",
    f"analyze resnet18 --lags {D}",
    f"analyze resnet18 --image-size {D}",
    f"analyze {D}",
    f"analyze timm:{D}",
    f"analyze hf:{D}",
    f"models {D}",
    f"profile resnet18 --threads {D}",
    f"train-proxy --layers {D}",
    f"train-proxy --width {D}",
    f"train-proxy --epochs {D}",
    f"train-proxy --tokenizer bpe:{D}",
    f"train-proxy --task hf:{D}",
    f"train-proxy --task cifar10:{D}",
    f"train-proxy --arms baseline:lr={D}",
    f"train-proxy --arms baseline:seeds={D}",
    f"train-proxy --positive-control {D}",
    f"train-proxy --trial rw:{D}",
    f"train-proxy --study s --trial rw:{D}",
    f"train-proxy --study {D} --trial rw:0",
    f"report --study {D}",
    f"report --fail-if 'gain>{D}x'",
    f"recommend resnet18 --max-params {D}x",
]
NUMBERS = {"5000": "1" * 5000, "400": "9" * 400, "superscript": "²", "inf": "1e999"}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda text: text.replace(D, "D"))
def test_it_is_wrong_usage_in_a_line(command: str, number: str, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code = main._guarded(shlex.split(command.replace(D, number)))
    said = capsys.readouterr()
    assert code in (2, 3, 4, 5), said.err
    assert not said.out
    assert "bug" not in said.err
    assert len(said.err) < 900, len(said.err)


@pytest.mark.parametrize("size", ["3000000", "9999999999", "999999999999999"])
@pytest.mark.parametrize(
    "words",
    [
        "--image-size {}",
        "--input-shape 1x3x{}x{}",
        "--input x=float32:1x3x{}x{}",
        "--input x=int64:{}x{}",
        "--batch {}",
    ],
)
def test_inputs_that_no_memory_holds_are_5(words: str, size: str, capsys) -> None:
    code = main._guarded(["analyze", "resnet18", *words.replace("{}", size).split()])
    said = capsys.readouterr().err
    assert code == 5, said
    assert "does not fit into memory" in said


LONG = "n" * 5000
NAMED = {
    "a factory": lambda: laurel.load(f"{LONG}:build"),
    "a file": lambda: laurel.load(f"{LONG}.py:build"),
    "a folder of a file": lambda: laurel.load(f"{LONG}/a.py:build"),
    "a hub id": lambda: laurel.load(f"hf:{LONG}"),
    "a path of many parts": lambda: laurel.load(f"hf:{'a/' * 3000}"),
    "a task": lambda: open_task(LONG),
    "a text": lambda: open_task(f"text:{LONG}"),
    "texts": lambda: open_task(f"text:*{LONG}"),
    "images": lambda: open_task(f"imagefolder:{LONG}"),
    "a data set": lambda: open_task(f"hf:{LONG}"),
    "a tokenizer": lambda: open_task(f"text:{__file__}", tokenizer="\0.json"),
    "records": lambda: laurel.report(LONG),
    "a study": lambda: laurel.report(study=LONG),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_name_that_no_file_can_have_is_an_error_of_ours_in_python_too(name: str, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LAUREL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(LaurelError) as caught:
        NAMED[name]()
    assert caught.value.exit_code in (2, 3, 4)


@pytest.mark.parametrize("columns", ["²", "1" * 5000, "-3", "many"])
def test_a_width_that_is_none_is_as_if_nothing_were_said(laurel, columns: str) -> None:
    found = [laurel("arms", env={"COLUMNS": value}) for value in (None, columns)]
    assert [done.returncode for done in found] == [0, 0]
    assert found[0].stdout == found[1].stdout


def test_ranks_of_torchrun_that_are_none(laurel) -> None:
    done = laurel("train-proxy", "--study", "s", "--trial", "rw:0", env={"WORLD_SIZE": "two"})
    assert done.returncode in (2, 4), done.stderr
    assert "bug" not in done.stderr


@pytest.mark.parametrize(
    ("text", "number"), [("16", 16), (" 007 ", 7), ("", None), ("-1", None), ("1.0", None), ("²", None), ("1_0", None)]
)
def test_whole_numbers(text: str, number: int | None) -> None:
    assert whole_number(text) == number


def test_the_largest_number_has_18_digits() -> None:
    assert whole_number("0" * 9 + "9" * 18) == 10**18 - 1
    assert whole_number("1" + "0" * 18) is None
    assert whole_number("0" * 40_000 + "7") == 7
    assert whole_number("0" * 40_000) == 0


def test_a_terminal_whose_width_begins_with_endless_zeros(laurel) -> None:
    done = laurel("models", "paper-c4", env={"COLUMNS": "0" * 40_000 + "60"})
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 60


def test_long_words_are_shown_by_their_beginning() -> None:
    assert shortened("a" * 60) == "a" * 60
    assert shortened("a" * 61) == "a" * 60 + "..."
    assert readable("/" + "p" * 390 + " is missing.") == "/" + "p" * 390 + " is missing."
    assert readable("No " + "x" * 5000 + " here.") == "No " + "x" * 60 + "... (5,000 characters) here."
