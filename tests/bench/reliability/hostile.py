"""Files that should be records, studies and checkpoints and are not: what can be read is shown, the rest is named."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from laurel_cli.devices.cpu import Cpu
from laurel_cli.errors import RecordError
from laurel_cli.proxy import checkpoint, trial
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.parallel import Group
from laurel_cli.proxy.start import start
from laurel_cli.records.store import sha256_of
from laurel_cli.study import folder as study
from laurel_cli.study.folder import Study
from tests.bench.reliability.laid_out import MODULES, alone
from tests.bench.reliability.tally import Part, Round, Tally
from tests.commands import Commands
from tests.faults.test_studies import OWNER, edited, rewritten, trained
from tests.proxy.small import cnn_recipe, decoder_recipe, text_task
from tests.records.test_malformed import check_mutated, good
from tests.schemas.mutated import mutated

LIMIT = 120.0  # seconds for a command; more is a hang
LARGE = 100 * 2**20  # bytes
COMMANDS = (
    ("report", "--records", "kept", "--format", "json"),
    ("report", "--records", "kept", "--format", "html", "--output", "out.html", "--force"),
    ("records", "kept", "--format", "json"),
    ("records", "kept", "--into", "into", "--format", "json"),
    ("recommend", "resnet20", "--records", "kept", "--format", "json"),
)
NAME = "trial-{:016x}.json"


def whole(path: Path, draw: random.Random) -> bytes:
    """A good record's bytes: of none that was laid there, such as a link to /dev/zero."""
    laid = NAME.format(0).removesuffix("0.json")
    good = [one for one in path.parent.glob("*-????????????????.json") if not one.name.startswith(laid)]
    return draw.choice(sorted(good)).read_bytes()


def wrapped(content: Any, kind: str = "trial") -> bytes:
    """A record whose checksum is right, whatever it holds."""
    said = {"schema": "laurel.record/1", "kind": kind, "status": "complete", "sha256": sha256_of(content)}
    return json.dumps(said | {"content": content}).encode()


def listening(path: Path) -> None:
    """A socket."""
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path may be no longer than a hundred characters
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


FILES: dict[str, Callable[[Path, random.Random], Any]] = {
    "a pipe": lambda path, draw: os.mkfifo(path),
    "/dev/zero": lambda path, draw: path.symlink_to("/dev/zero"),
    "/dev/tty": lambda path, draw: path.symlink_to("/dev/tty"),
    "a socket": lambda path, draw: listening(path),
    "a folder": lambda path, draw: path.mkdir(),
    "a link to itself": lambda path, draw: path.symlink_to(path.name),
    "a link to nothing": lambda path, draw: path.symlink_to("nowhere"),
    "a link to its folder": lambda path, draw: path.symlink_to("."),
    "nothing": lambda path, draw: path.write_bytes(b""),
    "a torn record": lambda path, draw: path.write_bytes(whole(path, draw)[: draw.randrange(1, 2000)]),
    "a flipped byte": lambda path, draw: path.write_bytes(flipped(whole(path, draw), draw)),
    "another name": lambda path, draw: path.write_bytes(whole(path, draw)),
    "random bytes": lambda path, draw: path.write_bytes(draw.randbytes(5000)),
    "UTF-16": lambda path, draw: path.write_bytes(whole(path, draw).decode().encode("utf-16")),
    "a later schema": lambda path, draw: path.write_bytes(
        whole(path, draw).replace(b"laurel.record/1", b"laurel.record/9", 1)
    ),
    "100,000 brackets": lambda path, draw: path.write_bytes(b"[" * 100_000),
    "100,000 nested objects": lambda path, draw: path.write_bytes(b'{"a":' * 100_000),
    "a number of 5,000 digits": lambda path, draw: path.write_bytes(b'{"schema": ' + b"9" * 5000 + b"}"),
    "100 MB of zeros": lambda path, draw: os.truncate(path, LARGE) if path.touch() is None else None,
    "a record of 100 MB": lambda path, draw: path.write_bytes(wrapped({"a": "x" * LARGE})),
    "100 MB of records' fields": lambda path, draw: path.write_bytes(wrapped({"curve": [{"step": 1}] * 5_000_000})),
    "a kind that is unknown": lambda path, draw: path.write_bytes(wrapped({"a": 1}, "wonder")),
    "a kind that is a path": lambda path, draw: path.write_bytes(wrapped({"a": 1}, "../../evil")),
}
HEAVY = [name for name in FILES if "100 MB" in name]


def flipped(data: bytes, draw: random.Random) -> bytes:
    """One byte is another."""
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def among_records(commands: Commands, place: Path, draw: random.Random, said: Tally) -> None:
    """A few hostile files among good records: every command that reads them."""
    kept = place / "kept"
    paths = good(kept)
    chosen = draw.sample([name for name in FILES if name not in HEAVY], 4)
    chosen += [draw.choice(HEAVY)] if draw.random() < 0.3 else []
    for number, name in enumerate(chosen):
        FILES[name](kept / "records" / NAME.format(number), draw)
    words = draw.choice(COMMANDS)
    done = commands.run(words, place, LIMIT, whole=False)
    told = done.stdout + done.stderr
    wrong = [] if alone(place) else ["a process outlives the command"]
    if done.returncode is None:
        wrong.append(f"did not end within {LIMIT:g} s")
    elif done.returncode != 0:
        wrong.append(f"ended with {done.returncode}: {told.strip()[-300:]}")
    elif "Traceback" in told or "bug" in told:
        wrong.append(f"says {told.strip()[-300:]}")
    else:
        if "into" in words:
            missing = {path.name for path in paths} - {path.name for path in (place / "into").iterdir()}
            wrong += [f"{len(missing)} good records are missing"] if missing else []
        silent = [name for number, name in enumerate(chosen) if NAME.format(number) not in told]
        fine = ("a folder", "a link to its folder", "a kind that is unknown", "another name")
        wrong += [f"nothing is said of {name}" for name in silent if name not in fine]
    said.count("files among records", tried=len(chosen), told=len(chosen), wrong=len(wrong))
    said.problems += [f"laurel {' '.join(words)}, among the records {', '.join(chosen)}: {text}" for text in wrong]


def malformed_records(commands: Commands, place: Path, draw: random.Random, said: Tally) -> None:
    """Records whose content was changed and whose checksum is right."""
    found = check_mutated(place, seed=draw.getrandbits(32), number=20, each=5)
    said.count("records with a right checksum", tried=found["left out"] + found["read"], told=found["left out"])


def malformed_studies(commands: Commands, place: Path, draw: random.Random, said: Tally) -> None:
    """study.json with fields changed; no checksum protects it."""
    begun = Study("s", cnn_recipe(), ("baseline", "rw"), (), (0, 1), "data", {"torch": "2.15", "laurel": "abc"}, {})
    begun = study.begin(place, begun, resume=False)
    path = place / "study.json"
    plain = json.loads(path.read_text())
    for _ in range(60):
        path.write_text(json.dumps(mutated(plain, draw, nan=True)))
        said.count("study.json", tried=1)
        try:
            found = study.load(place)
            _ = found.keys, found.definition(), study.begin(place, begun, resume=True)
        except RecordError:
            said.count("study.json", told=1)


@cache
def saved(place: Path) -> Path:
    """A checkpoint of the smallest trial, at its fifth step."""
    place.mkdir()
    with suppress(trial.Stopped):
        trained(place / "a.pt", until=5)
    return place / "a.pt"


def malformed_checkpoints(commands: Commands, place: Path, draw: random.Random, said: Tally) -> None:
    """Checkpoints with fields changed under a right checksum, or with bytes changed: refused, or gone on from."""
    source, path = saved(place.parent / "saved"), place / "a.pt"
    whole = torch.load(source, weights_only=True)
    del whole["sha256"]
    recipe, task, group = decoder_recipe(), text_task(), Group(Cpu())
    for number in range(20):
        if number % 4:
            rewritten(path, edited(whole, draw))
        else:
            path.write_bytes(flipped(source.read_bytes(), draw))
        said.count("checkpoints", tried=1)
        begun = start(parse_contenders("rw")[-1], recipe, task, 1)
        try:
            trial.train(begun, recipe, task, 1, group=group, path=path, owner=OWNER, stop=lambda: True)
        except RecordError:
            said.count("checkpoints", told=1)
        except trial.Stopped:
            pass
        checkpoint_of_others(path, whole, said)


def checkpoint_of_others(path: Path, whole: dict[str, Any], said: Tally) -> None:
    """A whole checkpoint, but of another study, arm, seed or recipe."""
    for key in OWNER:
        rewritten(path, whole | {"owner": whole["owner"] | {key: "another"}})
        said.count("checkpoints of other trials", tried=1)
        try:
            checkpoint.restore(path, OWNER)
        except RecordError:
            said.count("checkpoints of other trials", told=1)
        else:
            said.count("checkpoints of other trials", wrong=1)
            said.problems.append(f"a checkpoint of another {key} was taken")


KINDS = (among_records, malformed_records, malformed_studies, malformed_checkpoints)


@contextmanager
def opened(place: Path, said: Tally) -> Iterator[Round]:
    """Rounds of each kind, in turn."""
    with Commands(*MODULES) as commands:

        def one(number: int, draw: random.Random, said: Tally) -> None:
            folder = place / f"{number}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            kind = KINDS[number % len(KINDS)]
            try:
                kind(commands, folder, draw, said)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                said.count(kind.__name__.replace("_", " "), wrong=1)
                said.problems.append(f"{kind.__name__}: {type(error).__name__}: {str(error)[:300]}")
            shutil.rmtree(folder)

        yield one


PART = Part(
    name="hostile",
    title="Hostile files",
    what="Among good records lie pipes, devices, sockets, links that lead nowhere, torn and forged records, 100 MB of "
    "zeros: each command shows the good ones, names the others and comes to its end. Records, studies and "
    "checkpoints with fields changed, taken away or of another type, under a right checksum, are left out or "
    "refused (4), or can be used.",
    columns=(("tried", "files"), ("told", "named or refused"), ("wrong", "anything else")),
    share=0.15,
    opened=opened,
)
