"""`laurel convert`: a model with its trained weights, given LAuReL or a rival, in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from laurel_cli.cli.options import Debug, Format, command_line
from laurel_cli.settings.shared import (
    ARMS,
    OUTPUT,
    ArmFileSettings,
    ArmSettings,
    ExampleSettings,
    FormulaSettings,
    ModelArgSettings,
    ModelSetting,
    VariantSettings,
    arm_names,
)


def convert(
    model: ModelSetting,
    weights: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Trained weights: a file of safetensors, or a folder of them.", rich_help_panel=ARMS
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="A folder to be made.", rich_help_panel=OUTPUT)
    ],
    variants: VariantSettings,
    arms: ArmSettings,
    files: ArmFileSettings,
    formula: FormulaSettings,
    example: ExampleSettings,
    model_args: ModelArgSettings,
    format: Format = "table",  # noqa: A002 - the option's name
    force: Annotated[
        bool,
        typer.Option("--force", help="Write into --output though there is something in it.", rich_help_panel=OUTPUT),
    ] = False,
    debug: Debug = False,
) -> None:
    """Give a trained model LAuReL, and write weights and places to a folder that laurel_cli.load opens again.

    The default start leaves what the model computes as it was; how far its outputs moved is measured on the example
    inputs, and said. Training goes on from there.

    Examples:

        laurel convert resnet50 --weights resnet50.safetensors --variant rw+lr --rank 16 --output resnet50-laurel

        laurel convert hf:./my-gpt2 --weights ./my-gpt2 --arms layerscale --output my-gpt2-layerscale
    """
    from laurel_cli.arms import parse_arms
    from laurel_cli.cli import stdio
    from laurel_cli.cli.apart import apart
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.progress import Progress
    from laurel_cli.errors import UsageError
    from laurel_cli.models.reference import PICKLES, runs_users_code
    from laurel_cli.records.store import make_folder

    destination = Destination.checked(format, None, False)
    files.bring()
    names, spec = arm_names(arms, variants, formula.of_spec)
    placed = [arm.spec for arm in parse_arms(names, **spec) if arm.kind.is_placed and arm.spec is not None]
    if len(placed) != 1:
        why = f"These are {len(placed)}: {', '.join(one.name for one in placed) or 'none'}."
        raise UsageError("One formula is needed.", why, "Try --variant rw+lr.")
    chosen = placed[0]
    if weights.suffix.lower() in PICKLES:
        why = "Reading a pickle could run code."
        raise UsageError(
            f"{str(weights)!r} is no file of safetensors.", why, "Write it with safetensors.torch.save_file."
        )
    if output.exists() and not force and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(
            f"{str(output)!r} exists already.", hint="Add --force to write into it, or name another folder."
        )
    make_folder(output, "output")
    stdio.reserve(debug)
    reference = str(model.model)
    options = example.sizes | {"inputs": list(example.inputs), "model_args": model_args.model_args}

    def work(progress: Callable[[str], None]) -> dict[str, Any]:
        from laurel_cli.laurel.convert import convert as make

        made = make(reference, weights, chosen, output, options=options)
        return vars(made) | {"warnings": list(made.warnings)}

    with Progress(debug) as progress:
        progress(f"converting {reference}")
        made = apart(work, reference, on_progress=progress) if runs_users_code(reference) else work(progress)
    about = {"schema": "laurel.convert/1", "command": command_line(), "model": reference, "arm": chosen.name}
    destination.write(about | {"weights": str(weights), "folder": str(output)} | made)
