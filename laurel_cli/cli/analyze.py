"""`laurel analyze`: find the residual connections, put LAuReL in their place, count exactly what it adds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from laurel_cli.cli.options import Debug, Force, Format, Output, command_line, say_unused
from laurel_cli.settings.shared import (
    OUTPUT,
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


def analyze(
    model: ModelSetting,
    variants: VariantSettings,
    arms: ArmSettings,
    files: ArmFileSettings,
    formula: FormulaSettings,
    example: ExampleSettings,
    model_args: ModelArgSettings,
    connections: Annotated[
        bool,
        typer.Option(
            "--connections",
            help="List every residual connection, and every addition that was refused, with the reason.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check",
            help="Count again with fvcore and thop, and name the operators where they differ.",
            rich_help_panel=OUTPUT,
        ),
    ] = True,
    save: Annotated[
        bool, typer.Option("--save", help="Leave a record of the answer in --records.", rich_help_panel=OUTPUT)
    ] = False,
    *,
    kept: RecordSettings,
    format: Format = "table",  # noqa: A002 - the option's name
    output: Output = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Find a model's residual connections, put LAuReL in their place, count exactly what it adds.

    Shows parameters, MACs, FLOPs and memory of every arm: the baseline, one more block (naive+1) and the variants.

    Examples:

        laurel analyze resnet50 --variant rw+lr --rank 16

        laurel analyze resnet50 --variant lr,rw+lr --rank 8,16,32

        laurel analyze llama-3-8b --arms baseline,naive+1,rw,rw+lr@64 --per block

        laurel analyze my_model.py:build --model-arg depth=12 --connections

        laurel analyze hf:./my-config --seq-len 512 --format json --output answer.json

        laurel analyze resnet50 --save && laurel report
    """
    from laurel_cli.cli import stdio
    from laurel_cli.cli.apart import apart
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.progress import Progress
    from laurel_cli.models.reference import runs_users_code

    destination = Destination.checked(format, output, force)
    files.bring()
    names, spec = arm_names(arms, variants, formula.of_spec)
    say_unused(arms, variants)
    said = example.sizes | {"inputs": list(example.inputs), "model_args": model_args.model_args}
    stdio.reserve(debug)
    reference = str(model.model)

    def work(progress: Callable[[str], None]) -> dict[str, Any]:
        # Only now, so that a mistake in the options is answered at once, without torch.
        from laurel_cli.analysis import analyze as analyze_model
        from laurel_cli.arms import foreign, parse_arms
        from laurel_cli.models import load

        chosen = parse_arms(names, **spec)
        loaded = load(reference, **said)
        analysis = analyze_model(loaded, chosen, check=check, command=command_line(), on_progress=progress)
        record = analysis.record() if save else None
        return {"document": analysis.document(), "record": record, "arms": foreign(chosen)}

    with Progress(debug) as progress:
        progress(f"loading {reference}")
        found = apart(work, reference, on_progress=progress) if runs_users_code(reference) else work(progress)
    if save:
        _keep(found["record"] | {"options": said, "spec_options": spec}, found["arms"], Path(kept.records or ""))
    destination.write(found["document"], connections=connections)


def _keep(content: dict[str, Any], arms: dict[str, str], folder: Path) -> None:
    from laurel_cli.cli import stdio
    from laurel_cli.records.provenance import code_sha256, versions
    from laurel_cli.records.store import write

    hashes = {"model": content["model"]["architecture"], "code": code_sha256(), **arms}
    path = write(folder, "analyze", "complete", content | {"versions": versions(), "hashes": hashes})
    stdio.say(f"record: {path}")
