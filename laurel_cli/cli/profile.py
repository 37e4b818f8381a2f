"""`laurel profile`: the time and the memory of every arm on this machine, beside the baseline's."""

from __future__ import annotations

from pathlib import Path

import typer

from laurel_cli.cli.options import Debug, Force, Format, Output, command_line, say_unused
from laurel_cli.cli.typed import in_options
from laurel_cli.settings.base import joined
from laurel_cli.settings.profile import ProfileSettings, TimingSettings
from laurel_cli.settings.shared import (
    ArmFileSettings,
    ArmSettings,
    ExampleSettings,
    FormulaSettings,
    ModelArgSettings,
    ModelSetting,
    RecordSettings,
    VariantSettings,
    arm_names,
)


def profile(
    model: ModelSetting,
    variants: VariantSettings,
    arms: ArmSettings,
    files: ArmFileSettings,
    timing: TimingSettings,
    formula: FormulaSettings,
    example: ExampleSettings,
    model_args: ModelArgSettings,
    kept: RecordSettings,
    format: Format = "table",  # noqa: A002 - the option's name
    output: Output = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Time every arm on this machine, as a ratio to the baseline with its interval; measure its memory.

    Every arm is timed once a round in random order, in several fresh processes, together with a copy of the baseline,
    which shows the noise. Verdicts and intervals are corrected for the number of arms (Holm), against the baseline and
    against naive+1 apart. A record with every sample is left in --records.

    Examples:

        laurel profile resnet50 --variant rw+lr --rank 16 --batch 32

        laurel profile gpt2 --variant rw,rw+lr --mode train --dtype bf16 --compile

        laurel profile my_model.py:build --arms baseline --against my_model.py:other --precision 0.5%
    """
    from laurel_cli.cli import stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.progress import Progress
    from laurel_cli.records.store import make_folder

    destination = Destination.checked(format, output, force)
    files.bring()
    arm_names(arms, variants, formula.of_spec)  # a mistake is answered at once, without torch
    say_unused(arms, variants)
    folder = Path(kept.records or "")
    make_folder(folder)
    stdio.reserve(debug)
    with Progress(debug, every=30.0) as progress:
        progress(f"looking at {model.model}")
        from laurel_cli.latency.asked import keep, plan_of
        from laurel_cli.latency.profile import profile as measure

        def note(text: str) -> None:
            progress.clear()
            stdio.say(f"note: {in_options(text)}")

        parts = (model, variants, arms, files, timing, formula, example, model_args, kept)
        plan = plan_of(joined(ProfileSettings, *parts, on_note=note))
        if timing.device == "auto":
            stdio.say(f"device: {plan.job.device}")

        measured = measure(plan, command=command_line(), began=progress.started, on_progress=progress, on_note=note)
    stdio.say(f"record: {keep(measured, folder)}")
    destination.write(measured.document())
    if measured.interrupted:
        raise typer.Exit(130)
