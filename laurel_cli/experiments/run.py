"""An experiment is run by the commands that users have, one after the other, each as a process of its own."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from laurel_cli.errors import LaurelError, ResourceError, UsageError, of_code
from laurel_cli.experiments import COMMANDS, Experiment, Scale, place
from laurel_cli.records.files import read_whole
from laurel_cli.settings import files

SOME_FAILED = 6  # the exit code of a study in which some trials failed: its answer is there
INTERRUPTED, TERMINATED = 130, 143
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Command:
    """One command of an experiment.

    Attributes:
        name: "analyze", "profile", "train-proxy" or "report".
        words: what is typed after `laurel`.
        answer: the file that it writes.
        asked: its options by field.
    """

    name: str
    words: tuple[str, ...]
    answer: Path
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """As it is typed."""
        return shlex.join(["laurel", *self.words])


@dataclass(frozen=True)
class Finished:
    """What came of the commands.

    Attributes:
        answers: documents by command, but for the report's.
        some_failed: some trials of the study failed.
        timed_before: when the times were taken that were taken over; "" for new ones.
    """

    answers: Mapping[str, Document]
    some_failed: bool
    timed_before: str


def commands(scale: Scale, folder: Path, asked: Mapping[str, Any]) -> list[Command]:
    """What a scale comes to.

    Args:
        scale: of an experiment.
        folder: where everything goes.
        asked: options by field that are to be the user's own: "task", "device", "processes" (trials at once); None for
            the scale's.

    Raises:
        UsageError: it needs data that are not named, or an option says nothing to any of its commands.
    """
    taken = set().union(*map(_taken, scale.steps))
    taken |= {"task"} if scale.cluster is not None else set()
    if idle := [key for key, value in asked.items() if value is not None and key not in taken]:
        what = f"`{idle[0]}={asked[idle[0]]!r}` says nothing to the scale {scale.name}."
        raise UsageError(what, f"It is made of {', '.join(scale.steps)}.", "Leave it out.")
    if scale.data and asked.get("task") is None and "train-proxy" in scale.steps:
        raise UsageError(f"The scale {scale.name} needs data.", hint=f"Add `task={scale.data!r}` with your folder.")
    found = []
    called = folder.name if folder.name not in ("", "..") else folder.resolve().name
    study = folder / called  # by its folder a study is called
    for name, options in scale.steps.items():
        answer = folder / f"{name}.json"
        own = _with(options, asked, name)
        more = {"analyze": ["--save"], "train-proxy": ["--study", str(study), "--resume"]}.get(name, [])
        kept = [] if name == "train-proxy" else ["--records", str(folder / "records")]
        written = ["--format", "json", "--output", str(answer), "--force"]
        found.append(Command(name, (name, *files.words(own, COMMANDS[name]), *more, *kept, *written), answer, own))
    told = ["--study", str(study)] if "train-proxy" in scale.steps else []
    told += ["--records", str(folder / "records")] if {"analyze", "profile"} & set(scale.steps) else []
    page = folder / "report.md"
    return [
        *found,
        Command("report", ("report", *told, "--format", "markdown", "--output", str(page), "--force"), page),
    ]


def on_a_cluster(scale: Scale, folder: Path, asked: Mapping[str, Any]) -> list[str]:
    """The lines that make a scale's study on other machines: write it down, then a job for each of its trials."""
    if scale.cluster is None:
        return []
    own = _with({"task": scale.data or None} | dict(scale.cluster), {"task": asked.get("task")}, "train-proxy")
    study = ["--study", str(folder / "cluster")]
    prepare = shlex.join(["laurel", "train-proxy", *files.words(own, COMMANDS["train-proxy"]), *study, "--prepare"])
    trial = shlex.join(["laurel", "train-proxy", *study, "--trial"])
    return [f"{prepare} > trials.txt", f'{trial} "$TRIAL"    # for every line TRIAL of trials.txt, a job']


def run(
    experiment: Experiment,
    planned: list[Command],
    folder: Path,
    *,
    again: bool,
    debug: bool,
    on_line: Callable[[str], None],
    on_note: Callable[[str], None],
) -> Finished:
    """Run the commands.

    Args:
        experiment: whose they are; `planned` its commands, `folder` where they leave everything.
        again: time anew what was timed before, though all that the times follow from is as it was.
        debug: let each command show tracebacks, timings and libraries' warnings.
        on_line: told each command as it starts; `on_note` what to know of it.

    Raises:
        LaurelError: a command failed; of the class that its exit code says.
        KeyboardInterrupt: after the command under way has ended, or where it was interrupted alone.
    """
    found: dict[str, Document] = {}
    some_failed, at = False, ""
    for command in planned:
        now = place.follows_from(command.line, command.asked) if command.name == "profile" else None
        if command.name == "profile" and not again:
            at, why = place.timed_before(folder, command.answer, now)
            if at and (before := _read(command.answer)) is not None:
                on_note(f"as it was timed at {at}: {command.answer}; `again=True` times it anew")
                found[command.name] = before
                continue
            at = ""
            if why:
                on_note(f"timed anew: {why}")
        on_line(command.line)
        code = _call((*command.words, *(["--debug"] if debug else [])))
        some_failed = some_failed or code == SOME_FAILED
        if code not in (0, SOME_FAILED):
            raise _ended(f"{experiment.name}: {command.name}", code)
        if command.name != "report":
            document = _read(command.answer)
            if document is None:
                raise LaurelError(f"{experiment.name}: {command.name} left no answer in {str(command.answer)!r}.")
            found[command.name] = document
        if command.name == "profile":
            place.keep_timed(folder, command.answer, now)
    return Finished(found, some_failed, at)


def _ended(what: str, code: int) -> BaseException:
    """Of a command that gave no answer; one that was ended from outside is no bug of ours."""
    if code == INTERRUPTED:
        return KeyboardInterrupt()
    if code < 0 or code == TERMINATED:
        why = f"Signal {-code if code < 0 else code - 128} came from outside, as it does where memory runs out."
        return ResourceError(f"{what} was ended.", why, "Give the same command again: it goes on where it was.")
    return of_code(code)(f"{what} ended with exit code {code}.", "What it said is above.")


def _with(options: Mapping[str, Any], asked: Mapping[str, Any], command: str) -> dict[str, Any]:
    """The options of a command, with the user's own in their place."""
    known = _taken(command)
    return {**options, **{key: value for key, value in asked.items() if value is not None and key in known}}


def _taken(command: str) -> set[str]:
    """Names of the options that may be the user's own; what profile calls processes are not trials."""
    known = {item.name for one in COMMANDS[command] for item in fields(one)}
    return known - ({"processes"} if command == "profile" else set())


def _call(words: tuple[str, ...]) -> int:
    """The exit code of a command, which speaks on our standard error; Ctrl-C reaches it too, and it is waited for."""
    process = subprocess.Popen([sys.executable, "-m", "laurel_cli", *words], stdin=subprocess.DEVNULL, stdout=2)
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal sent it to both: the command writes its checkpoints
        process.wait()
        raise
    except BaseException:  # SIGTERM came to us alone
        process.terminate()
        process.wait()
        raise


def _read(path: Path) -> Document | None:
    try:
        document = json.loads(read_whole(path))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
