"""`laurel convert`: a model with its trained weights, given LAuReL or a rival, in a folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from laurel_cli.laurel.formula import Formula


def convert(
    model: ModelSetting,
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="A folder to be made.", rich_help_panel=OUTPUT)
    ],
    variants: VariantSettings,
    arms: ArmSettings,
    files: ArmFileSettings,
    formula: FormulaSettings,
    example: ExampleSettings,
    model_args: ModelArgSettings,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Trained weights: a file of safetensors, or a folder of them.", rich_help_panel=ARMS
        ),
    ] = None,
    fold: Annotated[
        bool,
        typer.Option(
            "--fold",
            help="For inference: fold what MODEL, a folder of this command, has learned into its weights, and write "
            "one file, model.pt2, that torch.export.load opens.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    format: Format = "table",  # noqa: A002 - the option's name
    force: Annotated[
        bool,
        typer.Option("--force", help="Write into --output though there is something in it.", rich_help_panel=OUTPUT),
    ] = False,
    debug: Debug = False,
) -> None:
    """Give a trained model LAuReL, and write weights and places to a folder that laurel_cli.load opens again.

    One formula is named, by --variant and --rank or by --arms, which takes rivals too. The default start leaves what
    the model computes as it was; how far its outputs moved is measured on the example inputs, and said. Training goes
    on from there; with --fold the trained one becomes a file for inference.

    Examples:

        laurel convert resnet50 --weights resnet50.safetensors --variant rw+lr --rank 16 --output resnet50-laurel

        laurel convert hf:./my-gpt2 --weights ./my-gpt2 --arms layerscale --output my-gpt2-layerscale

        laurel convert ./resnet50-laurel --fold --output resnet50-folded
    """
    from laurel_cli.cli import stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.progress import Progress

    destination = Destination.checked(format, None, False)
    files.bring()
    reference = str(model.model)
    options = example.sizes | {"inputs": list(example.inputs), "model_args": model_args.model_args}
    if fold:
        formed = variants.variant or variants.rank or arms.arms or formula.of_spec != FormulaSettings().of_spec
        _refuse(weights is not None, bool(formed))
        make = _folded(reference, options, output)
    else:
        make = _given(reference, weights, _formula(variants, arms, formula), options, output)
    is_new = not output.exists()
    _make_empty(output, force)
    stdio.reserve(debug)
    try:
        with Progress(debug) as progress:
            document = make(progress)
    except BaseException:
        if is_new:
            with suppress(OSError):  # there is something in it
                output.rmdir()
        raise
    destination.write({"schema": document.pop("schema"), "command": command_line(), "model": reference} | document)


Work = Callable[[Callable[[str], None]], dict[str, Any]]


def _given(reference: str, weights: Path | None, chosen: Formula, options: dict[str, Any], output: Path) -> Work:
    """What puts a formula into a model with trained weights."""
    from laurel_cli.cli.apart import apart
    from laurel_cli.errors import UsageError
    from laurel_cli.models.reference import PICKLES, runs_users_code

    if weights is None:
        raise UsageError("There are no weights.", "A trained model has some.", "Name them: --weights FILE.safetensors.")
    if weights.suffix.lower() in PICKLES:
        why = "Reading a pickle could run code."
        raise UsageError(
            f"{str(weights)!r} is no file of safetensors.", why, "Write it with safetensors.torch.save_file."
        )

    def work(progress: Callable[[str], None]) -> dict[str, Any]:
        from laurel_cli.laurel.convert import convert as make

        made = make(reference, weights, chosen, output, options=options)
        return vars(made) | {"warnings": list(made.warnings)}

    def run(progress: Callable[[str], None]) -> dict[str, Any]:
        progress(f"converting {reference}")
        made = apart(work, reference, on_progress=progress) if runs_users_code(reference) else work(progress)
        said = {"schema": "laurel.convert/1", "arm": chosen.name, "weights": str(weights), "folder": str(output)}
        return said | made

    return run


def _folded(reference: str, options: dict[str, Any], output: Path) -> Work:
    """What makes one file of a folder, its LAuReL folded."""
    from laurel_cli.errors import UsageError
    from laurel_cli.laurel.keep import built
    from laurel_cli.models.load import DESCRIPTION, is_learned

    if not is_learned(reference):
        raise UsageError(
            f"{reference!r} is no folder of a model with LAuReL.",
            f"--fold takes what `laurel convert` or laurel_cli.save wrote, with {DESCRIPTION} in it.",
            "A model of your own code is folded by laurel_cli.fold(model, inputs).",
        )

    def run(progress: Callable[[str], None]) -> dict[str, Any]:
        from laurel_cli.api.opened import load
        from laurel_cli.laurel.build import laurel_layers
        from laurel_cli.laurel.deploy import PROGRAM, deploy

        progress(f"folding {reference}")
        asked = {key: value for key, value in options.items() if value}  # what else the model needs the folder says
        kept = built(Path(reference))["options"].get("inputs")
        if not kept and not (asked.keys() & {"inputs", "input_shape"}):
            asked["batch"] = max(2, options["batch"])  # a file that has seen one sample alone takes no more
        elif options["batch"] == 1:  # as where nobody says how many
            del asked["batch"]
        loaded = load(reference, **asked)
        layers = laurel_layers(loaded.module)
        if not layers:
            raise UsageError(f"The model in {reference!r} has no LAuReL.", "There is nothing to fold.")
        arm = next(iter(layers.values())).spec.name
        made = deploy(loaded.module, loaded.inputs, output)
        said = {"schema": "laurel.deploy/1", "arm": arm, "file": str(output / PROGRAM), "warnings": []}
        return said | vars(made) | {"left": list(made.left)}

    return run


def _formula(variants: VariantSettings, arms: ArmSettings, formula: FormulaSettings) -> Formula:
    """The one formula that was asked for."""
    from laurel_cli.arms import parse_arms
    from laurel_cli.errors import UsageError

    names, spec = arm_names(arms, variants, formula.of_spec)
    found = parse_arms(names, **spec)
    placed = [arm.spec for arm in found if arm.kind.is_placed and arm.spec is not None]
    others = [arm.name for arm in found if not arm.kind.is_placed and not arm.kind.is_baseline]
    if arms.arms is not None and others:  # without --arms naive+1 is there unasked
        raise UsageError(f"{others[0]!r} is no formula.", "It stands at no residual connection.", "Try --arms rw+lr.")
    if len(placed) != 1:
        why = f"These are {len(placed)}: {', '.join(one.name for one in placed) or 'none'}."
        raise UsageError("One formula is needed.", why, "Try --variant rw+lr.")
    return placed[0]


def _refuse(has_weights: bool, has_formula: bool) -> None:
    """--fold stands without weights and formula: the folder has both."""
    from laurel_cli.errors import UsageError

    for given, name in ((has_weights, "--weights"), (has_formula, "--variant, --arms or setting of a formula")):
        if given:
            raise UsageError(f"--fold takes no {name}.", "The folder says what stands where.", "Leave it out.")


def _make_empty(output: Path, force: bool) -> None:
    from laurel_cli.errors import UsageError
    from laurel_cli.records.store import make_folder

    if output.exists() and not force and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(
            f"{str(output)!r} exists already.", hint="Add --force to write into it, or name another folder."
        )
    make_folder(output, "output")
