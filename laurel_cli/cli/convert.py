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
    wanted = [name for name in names.split(",") if name not in ("baseline", "naive+1")]
    if len(wanted) != 1:
        raise UsageError(
            "One formula is needed.", f"These are {len(wanted)}: {', '.join(wanted)}.", "Try --variant rw+lr."
        )
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
    options: dict[str, Any] = {"batch": example.batch, "seq_len": example.seq_len, "image_size": example.image_size}
    options |= {"input_shape": example.shape, "inputs": list(example.inputs), "model_args": model_args.model_args}

    def work(progress: Callable[[str], None]) -> dict[str, Any]:
        from laurel_cli.arms import parse_arm
        from laurel_cli.laurel.convert import convert as make

        formula = parse_arm(wanted[0], **spec).spec
        if formula is None:
            raise UsageError(f"{wanted[0]} is no formula that could be learned.", hint="Try --variant rw+lr.")
        made = make(reference, weights, formula, output, options=options)
        return vars(made) | {"warnings": list(made.warnings)}

    with Progress(debug) as progress:
        progress(f"converting {reference}")
        made = apart(work, reference, on_progress=progress) if runs_users_code(reference) else work(progress)
    about = {"schema": "laurel.convert/1", "command": command_line(), "model": reference, "arm": wanted[0]}
    destination.write(about | {"weights": str(weights), "folder": str(output)} | made)
