"""Made ladders on disk: `ladder.json`, and records of studies with losses of `tests.bench.simulated_ladders`."""

from __future__ import annotations

import json
import math
from pathlib import Path

from laurel_cli.records.store import write
from laurel_cli.study.ladder import Ladder, LadderLook, Size
from laurel_cli.verdict.trend import Rung
from tests.bench.simulated_ladders import CONTROLS, WIDTHS, World
from tests.report.made import spec_of

POSITIVE = {"64": "baseline:width=1.125", "96": "baseline:width=1.1458"}
KINDS = {"baseline": "baseline", "naive+1": "naive", "x0": "rival"}
FLOPS = 1_000_000


def declared(world: World, *, sizes: int | None = None, looks: tuple[LadderLook, ...] = ()) -> Ladder:
    """The ladder of a simulated world."""
    widths = WIDTHS[world.sizes][:sizes]
    made = tuple(
        Size(str(width), width, None, 2, 12 * width**2, 3 * width, 240 * width**2, 1e12 * compute, 1000 * number)
        for number, (width, compute) in enumerate(zip(widths, world.computes, strict=False))
    )
    return Ladder(20.0, 3, (tuple(world.arms),), looks or (LadderLook(len(widths), world.seeds),), made)


def put(folder: Path, world: World, made: list[Rung], ladder: Ladder | None = None) -> Ladder:
    """Write the whole ladder: every rung with its study, the count of its arms and a record of each trial."""
    ladder = ladder or declared(world)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ladder.json").write_text(json.dumps(ladder.plain()))
    for size, rung in zip(ladder.sizes, made, strict=False):
        put_rung(folder / size.name, world, rung, size)
    return ladder


def put_rung(folder: Path, world: World, rung: Rung, size: Size) -> None:
    """One size."""
    (folder / "records").mkdir(parents=True, exist_ok=True)
    said = definition(world, rung, size)
    (folder / "study.json").write_text(json.dumps(said))
    names = {CONTROLS.positive: POSITIVE.get(rung.name, CONTROLS.positive)} if world.controls else {}
    arms = [{"name": "baseline", "flops": FLOPS, "spec": None, "added_flops": 0}]
    arms += [
        {"name": name, "flops": round(FLOPS * rung.ratios.get(name, 1.0)), "spec": None, "added_flops": 0}
        for name in world.arms
        if ":" not in name
    ]
    counted = {"schema": "laurel.analyze/1", "command": "laurel train-proxy", "model": model(size), "arms": arms}
    write(folder / "records", "analyze", "complete", counted)
    for name, losses in rung.losses.items():
        for seed, loss in losses.items():
            content = trial(names.get(name, name), seed, loss, size, said)
            write(folder / "records", "trial", "complete", content)


def definition(world: World, rung: Rung, size: Size) -> dict:
    """`study.json`."""
    positive = POSITIVE.get(rung.name, CONTROLS.positive) if world.controls else None
    recipe = list(CONTROLS.recipe) if world.controls else []
    plain = {
        "model": {"reference": "gpt2", "args": [], "layers": [2], "width": size.width, "stem": None, "unwidened": None},
        "task": dict.fromkeys(("image_size", "seq_len", "tokens", "train_limit", "evaluation_limit"))
        | {"reference": "text:books.txt", "tokenizer": "bytes"},
        "steps": size.steps,
        "batch": 16,
        "accumulate": 1,
        "optimizer": "adamw",
        "lr": 0.003,
        "warmup": 0.1,
        "weight_decay": 0.05,
        "momentum": 0.9,
        "laurel_lr": 1.0,
        "clip": 1.0,
        "dtype": "float32",
        "evaluations": 4,
        "evaluation_batch": 64,
        "flip": None,
        "channels_last": False,
        "compile": False,
        "device": "cpu",
        "threads": 1,
        "spec": {"rank": 4},
    }
    return {
        "schema": "laurel.study/2",
        "name": size.name,
        "sha256": "5" * 64,
        "task": "text:books.txt",
        "model": "gpt2",
        "steps": size.steps,
        "arms": ["baseline", *world.arms, *([positive] if positive else []), *recipe],
        "against": [],
        "seeds": list(range(size.first_seed, size.first_seed + world.seeds)),
        "data": "d" * 64,
        "code": {"code": "c" * 64},
        "rates": dict.fromkeys(["baseline", *world.arms], 1.0) | {"rw": 3.0},
        "declared": {
            "arms": [list(world.arms)],
            "first": world.seeds,
            "most": 0,
            "metric": "loss",
            "worth": None,
            "controls": {"positive": positive, "recipe": recipe, "budget": None, "positive_flops_ratio": 1.26},
            "control_seeds": min(3, world.seeds),
        },
        "recipe": plain,
    }


def model(size: Size) -> dict:
    """Of a size."""
    architecture = f"{size.width:064x}"
    named = {"reference": "gpt2", "source": "transformers", "architecture": architecture}
    return named | {"input": "input_ids: int64 [2, 64]"}


def trial(name: str, seed: int, loss: float, size: Size, said: dict) -> dict:
    """One record."""
    kind = "against" if ":" in name else KINDS.get(name, "laurel")
    spec = spec_of(name) if kind == "laurel" else {"rival": name} if kind == "rival" else None
    arm = {"name": name, "kind": kind, "blocks": int(kind == "naive"), "spec": spec, "lr_factor": 1.0}
    return {
        "schema": "laurel.trial/1",
        "command": f"laurel train-proxy gpt2 --ladder {size.name}",
        "study": {"name": size.name, "sha256": "5" * 64, "definition": said},
        "model": model(size),
        "arm": arm | {"width_factor": 1.125 if "width" in name else 1.0, "steps_factor": 1.0},
        "seed": seed,
        "status": "complete",
        "reason": None,
        "task": {"name": "text:books.txt", "kind": "text", "sha256": "d" * 64, "classes": 256, "unit": "tokens"},
        "metric": "loss",
        "chance_loss": math.log(256),
        "final": {"step": size.steps, "loss": loss, "accuracy": 0.5},
        "curve": [],
        "evaluations": [{"step": size.steps, "samples": size.tokens, "loss": loss, "accuracy": 0.5}],
        "parameters": {"total": size.parameters, "added": 0},
        "seconds": {"train": 1.0, "evaluation": 1.0},
        "hashes": {"data": "d" * 64, "code": "c" * 64, "start": "e" * 64},
        "device": {"name": "cpu", "threads": 1},
        "versions": {"python": "3.11.7", "torch": "2.15.0"},
    }
