"""What int8, ternary maps, pruning and 2:4 sparsity take from trained models, with LAuReL and without, seed by seed.

`python -m tests.bench.together STUDY > PAGE.md`, of a study of text that kept its weights; torchao is needed. Each
model is opened, changed, and evaluated on the study's held-out text. With `STUDY 150` there are changes after which it
is trained on for 150 steps too: ternary maps, and none.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torchao.prototype.quantized_training import bitnet_training
from torchao.quantization import Int8WeightOnlyConfig, quantize_

import laurel_cli as laurel
from laurel_cli.laurel.build import learned_parameters
from laurel_cli.proxy import batches
from laurel_cli.proxy.optimizers import optimizers, set_rate
from laurel_cli.study import folder as studies
from laurel_cli.tasks import open_task
from laurel_cli.verdict import paired
from laurel_cli.verdict.trials import BASELINE
from tests.laurel.test_pruned import two_of_four
from tests.study.test_kept import loss_of

Change = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Kept:
    """A trial's weights, and the loss that its record has."""

    arm: str
    seed: int
    place: Path
    loss: float


def kept(folder: Path) -> list[Kept]:
    """Of every trial of a study that kept them."""
    return [
        Kept(trial["arm"]["name"], trial["seed"], folder / trial["weights"]["folder"], trial["final"]["loss"])
        for trial in studies.trials(folder)
        if trial["status"] == "complete" and trial.get("weights")
    ]


def _linears(model: nn.Module, *, own: bool) -> list[nn.Linear]:
    """The model's linear maps, LAuReL's among them with `own`."""
    learned = set(map(id, learned_parameters(model)))
    return [one for one in model.modules() if isinstance(one, nn.Linear) and (own or id(one.weight) not in learned)]


def _quantised(model: nn.Module, config: object, *, own: bool) -> nn.Module:
    chosen = set(map(id, _linears(model, own=own)))
    quantize_(model, config, filter_fn=lambda one, _: id(one) in chosen)
    return model


def trained_on(model: nn.Module, study: studies.Study, seed: int, steps: int) -> nn.Module:
    """After more steps of the study's recipe, the rate falling to zero, on batches that all models of a seed see."""
    task = open_task(**vars(study.recipe.task))
    recipe = replace(study.recipe, steps=steps, warmup=0.0)
    own = optimizers(model.train(), recipe)
    for step in range(steps):
        inputs, targets = batches.batch(task, step, recipe.batch, 10_000 + seed)
        set_rate(own, recipe, step)
        model.zero_grad()
        output = model(inputs)
        F.cross_entropy(getattr(output, "logits", output).flatten(0, -2), targets.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for one in own:
            one.step()
    return model.eval()


def _halved(model: nn.Module, *, own: bool) -> nn.Module:
    for one in _linears(model, own=own):
        prune.l1_unstructured(one, "weight", amount=0.5)
        prune.remove(one, "weight")
    return model


def _two_of_four(model: nn.Module) -> nn.Module:
    for one in _linears(model, own=False):
        with torch.no_grad():
            one.weight.mul_(two_of_four(one.weight))
    return model


def changes(ids: torch.Tensor, go_on: Change, steps: int) -> dict[str, Change]:
    """By name; each changes the model that it is given, some train it on for so many steps."""
    int8, ternary = Int8WeightOnlyConfig(), bitnet_training()
    trained: dict[str, Change] = {
        f"none, {steps} steps": go_on,
        f"ternary, every linear map, {steps} steps": lambda model: go_on(_quantised(model, ternary, own=True)),
        f"ternary, LAuReL's maps left, {steps} steps": lambda model: go_on(_quantised(model, ternary, own=False)),
    }
    return {
        "folded": lambda model: laurel.fold(model, ids) if learned_parameters(model) else model,
        "int8, every linear map": lambda model: _quantised(model, int8, own=True),
        "int8, LAuReL's maps left": lambda model: _quantised(model, int8, own=False),
        "half of each map's weights zero": lambda model: _halved(model, own=True),
        "half of each map's weights zero, LAuReL's left": lambda model: _halved(model, own=False),
        "two of four weights zero, LAuReL's left": _two_of_four,
        **(trained if steps else {}),
    }


def rows(folder: Path, steps: int) -> Iterator[tuple[str, str, list[float], list[float]]]:
    """(change, arm, what it takes from the arm, what it takes from the baseline of the same seed), by seed."""
    study = studies.load(folder)
    ids = next(iter(batches.evaluation(open_task(**vars(study.recipe.task)), 2)))[0]
    found: dict[str, dict[str, dict[int, float]]] = {}
    for one in kept(folder):
        model = laurel.load(str(one.place)).module.eval()
        before = loss_of(model, study)
        if not math.isclose(before, one.loss, rel_tol=1e-5):
            raise SystemExit(f"{one.arm}, seed {one.seed}: opened it loses {before}, its record says {one.loss}")
        for name, change in changes(ids, partial(trained_on, study=study, seed=one.seed, steps=steps), steps).items():
            taken = loss_of(change(copy.deepcopy(model)), study) - before
            found.setdefault(name, {}).setdefault(one.arm, {})[one.seed] = taken
            print(name, one.arm, one.seed, taken, file=sys.stderr)
    for name, by_arm in found.items():
        for arm, by_seed in by_arm.items():
            seeds = sorted(by_seed.keys() & by_arm[BASELINE].keys())
            yield name, arm, [by_seed[seed] for seed in seeds], [by_arm[BASELINE][seed] for seed in seeds]


def page(folder: Path, steps: int) -> Iterator[str]:
    """The page, in markdown."""
    yield f"# What int8, {'ternary maps, ' if steps else ''}pruning and 2:4 sparsity take from trained models"
    yield ""
    yield f"Made by `python -m tests.bench.together {folder}{f' {steps}' if steps else ''}`: the loss in nats a token"
    yield "after the change less that before, means over seeds with their 95 % t-intervals; the last column is of"
    yield "differences within seeds. Maps are pruned by the size of their weights. The intervals are each alone: no"
    yield f"correction for their number. Nothing was trained on{', but where steps are named:' if steps else '.'}"
    if steps:
        yield "then by its recipe, the rate falling to zero, on the same batches for all models of a seed; *none*"
        yield "is the control of that. Ternary maps are BitNet b1.58's as torchao trains them."
    yield ""
    yield "| change | arm | seeds | takes | more than from the baseline |"
    yield "|---|---|--:|--:|--:|"
    for name, arm, ours, base in rows(folder, steps):
        beside = "-"
        if arm != BASELINE:
            found = paired.difference(ours, base)
            beside = _figure(found.mean, found.low, found.high)
        alone = paired.mean(ours)
        yield f"| {name} | `{arm}` | {len(ours)} | {_figure(alone.mean, alone.low, alone.high)} | {beside} |"


def _figure(mean: float, low: float, high: float) -> str:
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]" if math.isfinite(high) else f"{mean:+.4f}"


def main(words: Sequence[str]) -> None:
    """Write the page of the study that `words` names first; second, if at all, the steps."""
    folder, *more = words
    print("\n".join(page(Path(folder), int(more[0]) if more else 0)))


if __name__ == "__main__":
    main(sys.argv[1:])
