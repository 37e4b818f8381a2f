"""`laurel analyze`: find the residual connections, put LAuReL in their place, count exactly what it adds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
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

SCARCE = re.compile(
    r'(could not run|not counted|failed|left out)[^"]*([Mm]emory|alloc|OSError|Errno)'
)  # tomorrow it may


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
    cache: Annotated[
        bool,
        typer.Option(
            "--cache/--no-cache",
            help="Give the answer of before where nothing that it follows from has changed; LAUREL_CACHE says where.",
            rich_help_panel=OUTPUT,
        ),
    ] = True,
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
    from laurel_cli.answers.cache import answered
    from laurel_cli.answers.made_of import made_of, real
    from laurel_cli.answers.reads import of_packages, of_users, watched
    from laurel_cli.cli import stdio
    from laurel_cli.cli.apart import apart
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.progress import Progress
    from laurel_cli.models.reference import runs_users_code

    destination = Destination.checked(format, output, force)
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
        from laurel_cli.rivals.outside import source

        chosen = parse_arms(names, **spec)
        with watched() as seen:
            loaded = load(reference, **said)
            analysis = analyze_model(loaded, chosen, check=check, on_progress=progress)
        found = {"document": analysis.document(), "where": analysis.where(), "arms": foreign(chosen)}
        theirs = [source(arm.spec) for arm in chosen if arm.spec is not None]
        read = of_users(seen) + [real(file) for file in theirs if file is not None]
        read += ["the memory that was free"] * bool(SCARCE.search(json.dumps(found)))
        return {"answer": found, "read": read, "installed": of_packages(seen)}

    with Progress(debug) as progress:

        def fresh() -> tuple[dict[str, Any], list[str], list[str]]:
            with watched() as brought:  # arm files run here, and those that the environment names
                import_module("laurel_cli.rivals")
                files.bring()
            progress(f"loading {reference}")
            found = apart(work, reference, on_progress=progress) if runs_users_code(reference) else work(progress)
            return found["answer"], sorted({*found["read"], *of_users(brought)}), found["installed"]

        if cache:
            question = {
                "command": "analyze",
                "reference": reference,
                "arms": names,
                "spec": spec,
                "check": check,
            } | said
            made = partial(made_of, reference, files.known, said["model_args"])
            found = answered(question | {"arm files": files.known}, made, fresh, progress)
        else:
            found = json.loads(json.dumps(fresh()[0]))  # as one that was kept
    found["document"]["command"] = command_line()  # as it was typed now, whichever words asked the same before
    if save:
        asked = {"where": found["where"], "options": said, "spec_options": spec}
        _keep(found["document"] | asked, found["arms"], Path(kept.records or ""))
    destination.write(found["document"], connections=connections)


def _keep(content: dict[str, Any], arms: dict[str, str], folder: Path) -> None:
    from laurel_cli.cli import stdio
    from laurel_cli.records.provenance import code_sha256, versions
    from laurel_cli.records.store import write

    hashes = {"model": content["model"]["architecture"], "code": code_sha256(), **arms}
    path = write(folder, "analyze", "complete", content | {"versions": versions(), "hashes": hashes})
    stdio.say(f"record: {path}")
