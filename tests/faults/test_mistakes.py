"""What a new user mistypes, with the exact words that answer: `mistakes.md` is a page that should read well.

python -m tests.faults.test_mistakes        # writes the page again; read what has changed before committing it
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGE = Path(__file__).with_name("mistakes.md")
HEAD = """\
# Mistakes, and what laurel says

Each command is typed in a folder that holds the files which it names. What it says goes to stderr; the number is its
exit code. `python -m tests.faults.test_mistakes` writes this page.
"""
MISTAKES = """\
laurel analyse resnet50
laurel analyze
laurel analyze torchvision:resnet5O
laurel analyze bert-base-uncased
laurel analyze meta-llama/Llama-3.2-1B
laurel analyze resnet50 --variant rw lr
laurel analyze resnet50 --variant rl
laurel analyze resnet50 --arms rw,resnet101
laurel analyze resnet50 --rank 0
laurel analyze resnet50 --rank sixteen
laurel analyze resnet50 --rnak 16
laurel analyze resnet50 --batch 0
laurel analyze resnet50 --batch ²
laurel analyze resnet50 --input-shape 3x224
laurel analyze resnet50 --input x=float99:1x3x224x224
laurel analyze resnet50 --seq-len 128
laurel analyze gpt2 --image-size 32
laurel analyze gpt2 --seq-len 4096
laurel analyze resnet50 --format yaml
laurel analyze resnet50 --output page.md
laurel analyze resnet50 --output nowhere/page.md
laurel analyze resnet50 --model-arg width
laurel analyze resnet50 --model-arg layers=5
laurel analyze alexnet
laurel analyze hf:nowhere
laurel analyze hf:photos
laurel analyze hf:remote.json
laurel analyze hf:endless.json
laurel analyze hf:elsewhere.json
laurel analyze pytroch:resnet50
laurel analyze model.py
laurel analyze model.py:
laurel analyze model.py:biuld
laurel analyze model.py:needs_width
laurel analyze nowhere.py:build
laurel analyze notebook.ipynb
laurel analyze weights.pt
laurel profile resnet18 --device quantum
laurel profile resnet18 --warmup 10
laurel profile resnet18 --precision tight
laurel profile resnet18 --max-time -1
laurel profile resnet18 --mode sideways
laurel train-proxy --lr -1
laurel train-proxy --steps 1.5
laurel train-proxy --seeds 0
laurel train-proxy --seeds 1,2,3
laurel train-proxy --task senes
laurel train-proxy --task imagefolder:one-class
laurel train-proxy --task imagefolder:empty-class
laurel train-proxy --task imagefolder:measured
laurel train-proxy --task imagefolder:nowhere
laurel train-proxy --task cifar10:too-high
laurel train-proxy --task text:utf16.txt --tokenizer bpe
laurel train-proxy --task text:nowhere.txt
laurel train-proxy --task text:photos
laurel train-proxy --task text:short.txt
laurel train-proxy --tokenizer nonsense --task text:short.txt
laurel train-proxy --arms rw+lr+px
laurel train-proxy --batch 0
laurel report
laurel report --records nowhere
laurel report --study nowhere
laurel report --format pdf
laurel report --fail-if nonsense
laurel report --fail-if "gain > nan"
laurel report --cost money
laurel recommend
laurel records nowhere
laurel records --verfy
laurel --versoin
""".splitlines()


def made(folder: Path) -> None:
    """The files that the commands name."""
    from PIL import Image

    for name in ("photos", "one-class/train/cats", "too-high/more/cifar-10-batches-py"):
        (folder / name).mkdir(parents=True)
    for part in ("train", "test"):
        for name in ("cats", "dogs"):
            (folder / "empty-class" / part / name).mkdir(parents=True)
            (folder / "measured" / part / name).mkdir(parents=True)
            Image.new("F", (8, 8), 1.5).save(folder / "measured" / part / name / "1.tiff")
    Image.new("RGB", (8, 8)).save(folder / "one-class/train/cats/1.png")
    for part in ("train", "test"):
        Image.new("RGB", (8, 8)).save(folder / "empty-class" / part / "cats" / "1.png")
    (folder / "too-high/more/cifar-10-batches-py/data_batch_1").write_bytes(b"x")
    (folder / "utf16.txt").write_text("to be or not to be\n" * 1000, encoding="utf-16")
    (folder / "short.txt").write_text("to be\n")
    (folder / "page.md").write_text("mine\n")
    (folder / "weights.pt").write_bytes(b"PK")
    (folder / "notebook.ipynb").write_text("{}")
    (folder / "model.py").write_text(
        "import torch\n\n\ndef build():\n    return torch.nn.Linear(2, 2)\n\n\n"
        "def needs_width(width):\n    return torch.nn.Linear(width, width)\n"
    )
    small = {"model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 32}
    for name, values in (
        ("remote.json", small | {"auto_map": {"AutoModel": "modeling.Mine"}}),
        ("endless.json", small | {"n_layer": 10**12}),
        ("elsewhere.json", {"model_type": "upernet", "backbone": "microsoft/resnet-50"}),
    ):
        (folder / name).write_text(json.dumps(values))


def answer(command: str) -> str:
    """What a command says, with its exit code, as the page shows it."""
    from laurel_cli.cli import main

    out, err = io.StringIO(), io.StringIO()
    code: object = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main.run(shlex.split(command)[1:])
        except SystemExit as stop:
            code = stop.code
    said = err.getvalue().replace(str(Path.cwd()), "FOLDER").strip()
    said = re.sub(r"\b\d+\.\d+\.\d+(\.\w+|\+\w+)*", "VERSION", said)
    assert not out.getvalue().strip(), f"{command}: an error's words are on stdout"
    return f"    $ {command}\n" + "".join(f"    {line}\n" for line in said.splitlines()) + f"    [{code}]\n"


@contextlib.contextmanager
def typed(folder: Path) -> Iterator[None]:
    """In a folder that holds the files, in a terminal of 200 columns."""
    made(folder)
    before = Path.cwd(), dict(os.environ)
    os.environ |= {"COLUMNS": "200", "NO_COLOR": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before[0])
        os.environ.clear()
        os.environ.update(before[1])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    blocks = PAGE.read_text(encoding="utf-8").removeprefix(HEAD).strip("\n").split("\n\n")
    with typed(tmp_path_factory.mktemp("typed")):
        yield {block.splitlines()[0].removeprefix("    $ "): block + "\n" for block in blocks}


@pytest.mark.slow
@pytest.mark.parametrize("command", MISTAKES)
def test_the_answer_is_the_one_on_the_page(command: str, page: dict[str, str]) -> None:
    pytest.importorskip("transformers")
    assert answer(command) == page[command]


def test_the_page_shows_all_of_them_and_no_other() -> None:
    shown = [line[6:] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("    $ ")]
    assert shown == MISTAKES
    assert len(shown) >= 60


def test_no_answer_is_a_success_a_bug_or_a_traceback() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert {int(code) for code in re.findall(r"^    \[(\d+)\]$", text, re.MULTILINE)} <= {2, 3, 4, 5}
    assert "Traceback" not in text
    assert "bug in laurel" not in text


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, typed(Path(folder)):
        PAGE.write_text(HEAD + "\n" + "\n".join(map(answer, MISTAKES)), encoding="utf-8")
