"""What `laurel train-proxy` does with a plan: train and answer, hand trials over, list them, or run one of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from laurel_cli.cli.apart import apart
from laurel_cli.cli.options import command_line
from laurel_cli.cli.typed import in_options
from laurel_cli.text import whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from laurel_cli.cli.destination import Destination
    from laurel_cli.settings.executors import ExecutorSettings
    from laurel_cli.settings.train import TrainSettings
    from laurel_cli.study.compare import Prepared
    from laurel_cli.study.plan import StudyPlan

OF_TRIAL = {"trial", "study", "resume", "data_root", "device", "keep_weights", "arm_file", "debug", "force"}
OF_TRIAL |= {"allow_versions", "allow_mixed_devices"}
"""Parameters that say something to one trial: all else of it stands in its study."""


def compare(plan: StudyPlan, tensorboard: Path | None, destination: Destination, debug: bool) -> None:
    """Train what is missing and write the answer; after Ctrl-C that of the trials that are there.

    Raises:
        typer.Exit: 6, some trials failed.
    """
    from laurel_cli.cli import stdio
    from laurel_cli.cli.live import Live
    from laurel_cli.study import compare as proxy
    from laurel_cli.study import folder as study
    from laurel_cli.study.executors import executor_of

    with Live(debug=debug, tensorboard=tensorboard) as live:
        prepared = prepared_of(plan, live.step)
        try:
            document = proxy.compare(plan, prepared, on_event=live.event, on_trials=live.trials)
        except KeyboardInterrupt:
            live.close()
            if executor_of(plan.executor).ELSEWHERE:
                stdio.say("note: what was handed over goes on; the same command comes back to it")
            if study.trials(prepared.folder):
                destination.write(proxy.judged(prepared, plan.command))
            raise
    destination.write(document)
    if any(arm["failed"] for arm in document["arms"]):
        raise typer.Exit(6)


def list_trials(plan: StudyPlan, destination: Destination, debug: bool) -> None:
    """Write the study down and list its missing trials, ARM:SEED a line."""
    from laurel_cli.cli import stdio
    from laurel_cli.cli.progress import Progress
    from laurel_cli.study import folder as study

    with Progress(debug) as progress:
        prepared = prepared_of(plan, progress)
    for warning in prepared.warnings:
        stdio.say(f"warning: {in_options(warning)}")
    stdio.say(f"study: {prepared.folder}")
    destination.put("".join(f"{arm}:{seed}\n" for arm, seed in study.missing(prepared.folder, prepared.study)))


def check_one(named: Mapping[str, bool], where: ExecutorSettings) -> None:
    """Refuse options that ask for two things at once.

    Args:
        named: options that ask for something else than training, and whether they are given.
        where: settings of the executor, which one trial alone has none of.

    Raises:
        UsageError: two of them are given, or an executor for one trial.
    """
    from laurel_cli.errors import UsageError

    given = [name for name, is_given in named.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} contradict each other.", hint="Leave one of them out.")
    if named["--trial"] and any(value and value != "local" for value in vars(where).values()):
        raise UsageError("--trial runs here.", "An executor runs the trials of a whole study.", "Leave --executor out.")


def check_beside(named: Mapping[str, bool], typed: Mapping[str, str], format: str) -> None:  # noqa: A002
    """Refuse options that say nothing to what is asked for; of one trial, which may be asked for as its study was, name
    them.

    Args:
        named: options that ask for something else than training, at most one of them given.
        typed: options that are typed, by the names of their parameters.
        format: of the answer.

    Raises:
        UsageError: something is typed that would be passed over in silence.
    """
    from laurel_cli.cli import stdio
    from laurel_cli.errors import UsageError

    what = next((name for name, is_given in named.items() if is_given), "")
    if what == "--trial":
        idle = [option if option.startswith("-") else "MODEL" for name, option in typed.items() if name not in OF_TRIAL]
        if idle:
            stdio.say(f"note: the trial is as its study has it; not looked at: {', '.join(idle)}")
        return
    why = {"--prepare": "It lists trials, one a line.", "--write-config": "It writes the file that it names."}
    mute = {"tensorboard"} if what else set()
    mute |= {"output"} if what == "--write-config" else set()
    mute |= {"format"} if what in why and format != "table" else set()
    for name, option in typed.items():
        if name in mute:
            raise UsageError(
                f"{option} says nothing beside {what}.", why.get(what, "It shows no trial."), "Leave it out."
            )


def hand_over(plan: StudyPlan, destination: Destination, debug: bool) -> None:
    """Submit what is missing, say where the study stands, and leave."""
    from laurel_cli.cli import stdio
    from laurel_cli.cli.progress import Progress
    from laurel_cli.study import compare as proxy
    from laurel_cli.study.status import status

    with Progress(debug) as progress:
        prepared = prepared_of(plan, progress)
        progress("handing its trials over")
        proxy.hand_over(plan, prepared)
    for warning in prepared.warnings:
        stdio.say(f"warning: {in_options(warning)}")
    stdio.say("the trials go on without this command; the same one, without --detach, comes back to them")
    destination.write(status(prepared.folder))


def show_status(folder: str | Path | None, destination: Destination, debug: bool) -> None:
    """Say where the study in a folder stands.

    Raises:
        UsageError: no folder is named.
    """
    from laurel_cli.cli import stdio
    from laurel_cli.errors import UsageError
    from laurel_cli.study.status import status

    stdio.reserve(debug)
    if folder is None:
        raise UsageError("--status needs --study.", "It looks at the folder of a study.", "Name it.")
    destination.write(status(Path(folder)))


def rehearse(plan: StudyPlan, destination: Destination, debug: bool) -> None:
    """Say what running a plan would come to; in a process of its own where it has a user's model."""
    from laurel_cli.cli.progress import Progress
    from laurel_cli.study.run import PATIENCE
    from laurel_cli.study.status import rehearsed

    users = _users_models(plan)
    with Progress(debug) as progress:
        if users:
            found = apart(lambda step: rehearsed(plan, step), users[0], on_progress=progress, patience=2 * PATIENCE)
        else:
            found = rehearsed(plan, progress)
    destination.write(found)


def write_config(path: Path, asked: TrainSettings, force: bool) -> None:
    """Write the study that is asked for, or that its folder holds, as a file of settings.

    Raises:
        UsageError, ResourceError: the file is there already, or cannot be written; or an option holds what TOML has no
            word for.
    """
    from laurel_cli.cli import stdio
    from laurel_cli.records.files import check_writable, write_whole
    from laurel_cli.settings import files
    from laurel_cli.settings.train import TrainSettings
    from laurel_cli.study import folder as study
    from laurel_cli.study import written
    from laurel_cli.study.asked import plan_of

    check_writable(path, force)
    place = None if asked.study is None else Path(asked.study)
    if place is not None and (place / "study.json").exists():
        stdio.say(f"note: as {place / 'study.json'} has it; options beside --study are not looked at")
        found = written.of_study(study.load(place))
        found |= {"keep_weights": any("weights" in trial for trial in study.trials(place))}
    else:
        found = written.of_plan(plan_of(asked, command=command_line(), versions={}, elsewhere=True))
    found |= {"arm_file": asked.arm_file}
    text = files.text({"train-proxy": found}, {"train-proxy": [TrainSettings]}, written.LEFT_OUT)
    write_whole(path, text, force)
    stdio.settle()
    stdio.say(f"wrote {path}")


def run_one(
    trial: str,
    folder: Path | None,
    *,
    allowed: Sequence[str] = (),
    keep: bool = False,
    device: str | None = None,
) -> None:
    """Run one trial for a scheduler, or as one of the processes that torchrun has started for it.

    A trial that has a result is told of at once. Whatever ends another one leaves a record, but for a process that is
    killed, a trial that goes on (stopped by a signal, run by another process) and one that may not be run here.

    Raises:
        UsageError: `trial` is not ARM:SEED, or no folder is named.
        typer.Exit: 128 and the signal that ended it; its checkpoint is written, and the same command goes on with it.
    """
    from laurel_cli.errors import HeldError, RecordError, UsageError

    arm, colon, seed = trial.rpartition(":")
    number = whole_number(seed)
    if not colon or number is None:
        raise UsageError(f"--trial {trial!r} is not ARM:SEED.", hint="Try --trial rw:0.")
    if folder is None:
        raise UsageError("--trial needs --study.", "It runs one trial of a study that is written down.")
    from laurel_cli.cli import stdio
    from laurel_cli.study import folder as studies

    study = studies.load(folder)
    models = study.contender(arm).recipe(study.recipe).references
    content = studies.finished(folder, study, arm, number)
    if content is None:
        try:
            content = _ran(folder, arm, number, models, allowed=allowed, keep=keep, device=device)
        except (typer.Exit, UsageError, RecordError, HeldError):
            raise
        except Exception as error:
            _leave_failure(folder, arm, number, error)
            raise
    stdio.settle()  # its record is the answer
    stdio.say(f"{trial}: {content['status']}, loss {(content['final'] or {}).get('loss')}")


def _ran(folder: Path, arm: str, seed: int, models: Sequence[str], **options: Any) -> dict[str, Any]:
    """The trial, run; in a process of its own where its model, or its teacher, is a user's."""
    from laurel_cli.models.reference import runs_users_code
    from laurel_cli.study.run import PATIENCE

    users = [name for name in models if runs_users_code(name)]
    if not users:
        return _run(folder, arm, seed, **options)
    ran: dict[str, Any] = apart(lambda step: _run(folder, arm, seed, **options), users[0], patience=PATIENCE)
    return ran


def _leave_failure(folder: Path, arm: str, seed: int, error: Exception) -> None:
    """A record of what ended a trial; of several processes that train it together the first one leaves it."""
    from laurel_cli.proxy.parallel import rank
    from laurel_cli.study.executors.local import leave_failure
    from laurel_cli.text import first_line

    if rank() == 0:
        leave_failure(folder, (arm, seed), first_line(error), command_line())


def _run(folder: Path, arm: str, seed: int, **options: Any) -> dict[str, Any]:
    import signal

    from laurel_cli.proxy.trial import Stopped
    from laurel_cli.study.worker import run_trial

    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number) if not asked else _at_once(number))
    try:
        return run_trial(folder, arm, seed, command=command_line(), stop=lambda: bool(asked), **options)
    except Stopped:
        raise typer.Exit(128 + (asked[0] if asked else signal.SIGTERM)) from None  # the signal came to another process


def prepared_of(plan: StudyPlan, on_progress: Callable[[str], None]) -> Prepared:
    """The plan's study, prepared; in a process of its own where it has a user's model."""
    from laurel_cli.study import folder as study
    from laurel_cli.study.compare import Prepared, prepare
    from laurel_cli.study.run import PATIENCE

    users = _users_models(plan)
    if not users:
        return prepare(plan, on_progress)

    def work(step: Callable[[str], None]) -> dict[str, Any]:
        made = prepare(plan, step)
        return {"folder": str(made.folder), "warnings": made.warnings}

    made = apart(work, users[0], on_progress=on_progress, patience=2 * PATIENCE)
    folder = Path(made["folder"])
    return Prepared(folder, study.load(folder), tuple(made["warnings"]))


def _users_models(plan: StudyPlan) -> list[str]:
    from laurel_cli.models.reference import runs_users_code

    return [name for name in (*plan.recipe.references, *plan.against) if runs_users_code(name)]


def _at_once(number: int) -> None:
    raise KeyboardInterrupt
