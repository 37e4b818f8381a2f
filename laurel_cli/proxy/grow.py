"""Progressive growth: a trial's early steps run a part of the model's blocks, so that it has more steps for its FLOPs.

Two methods, both on the whole model, in which a block that does not run hands its input on:

- stack: progressive stacking. The model starts with a quarter of its blocks, then has half of them, then all, for 1/8,
  7/40 and 7/10 of its steps. Where it grows, its last blocks are copied on top, with LAuReL's parameters in them, and
  the optimizer starts anew. Source: Gong et al., "Efficient training of BERT by progressively stacking", ICML 2019,
  and their published commands: 3 layers for 50,000 updates and 6 for 70,000, the optimizer reset, then 12; the shares
  here are of 400,000. Where the depth does not double the last blocks alone are copied, as in gradual stacking (Reddi
  et al. 2023, Agarwal et al. 2024).
- subnets: random subnetworks. Each step runs a random choice of the blocks, in their order, 1/2, 2/3, 5/6 and then all
  of them, each for a quarter of the steps; the model's first and last block always run. Source: Panigrahi et al.,
  "Efficient stagewise pretraining via progressive subnetworks" (RaPTr), arXiv 2402.05913: 6, 8, 10 and 12 layers of
  BERT. Exactly so many blocks run, so that the steps of a stage cost the same. A block that does not run in a step is
  left as it is by it, the optimizer's memory too. What runs is not scaled up for what does not.

Blocks of equal form in a row are a run; a model's runs (stages of a ResNet) grow together. Other blocks always run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

from torch import Tensor, nn

from laurel_cli.arms.naive import equal_runs
from laurel_cli.errors import ModelError, UsageError
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.run import try_run
from laurel_cli.residual.find import ResidualMap

TRAINED = 3  # FLOPs of a training step over those of its forward pass


@dataclass(frozen=True)
class Method:
    """Shares of the blocks that run, and of the steps for which they do, stage by stage."""

    blocks: tuple[Fraction, ...]
    steps: tuple[Fraction, ...]


STACK, SUBNETS = "stack", "subnets"
METHODS = {
    STACK: Method((Fraction(1, 4), Fraction(1, 2), Fraction(1)), (Fraction(1, 8), Fraction(7, 40), Fraction(7, 10))),
    SUBNETS: Method((Fraction(1, 2), Fraction(2, 3), Fraction(5, 6), Fraction(1)), (Fraction(1, 4),) * 4),
}


@dataclass(frozen=True)
class Parts:
    """What of a model can grow.

    Attributes:
        runs: paths of blocks of equal form in a row.
        ends: paths of the model's first and last block, in runs or not.
    """

    runs: tuple[tuple[str, ...], ...]
    ends: tuple[str, str]


@dataclass(frozen=True)
class Stage:
    """Steps that run equally many blocks.

    Attributes:
        blocks: how many of each run.
        steps: updates of the weights.
        flops: of one of them, three times those of its forward pass, and a teacher's.
    """

    blocks: tuple[int, ...]
    steps: int
    flops: int


@dataclass(frozen=True)
class Growth:
    """How a trial grows.

    Attributes:
        method: "stack" or "subnets".
        runs: paths of blocks in a row.
        fixed: paths of the blocks that run in every step.
        stages: in their order; the last one runs all blocks.
        budget: FLOPs of the arm trained in the usual way.
    """

    method: str
    runs: tuple[tuple[str, ...], ...]
    fixed: frozenset[str]
    stages: tuple[Stage, ...]
    budget: int

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def flops(self) -> int:
        """Of all stages: at most the budget, and less by less than a step of the whole model."""
        return sum(stage.steps * stage.flops for stage in self.stages)

    def stage(self, step: int) -> int:
        """Which stage `step` is of, both from 0."""
        ends = accumulate(stage.steps for stage in self.stages)
        return next(number for number, end in enumerate(ends) if step < end)

    def left_out(self, step: int, seed: int) -> tuple[str, ...]:
        """Paths of the blocks that do not run in `step`: they follow from both numbers alone."""
        counts = self.stages[self.stage(step)].blocks
        if self.method == STACK:
            return tuple(path for run, kept in zip(self.runs, counts, strict=True) for path in run[kept:])
        found: list[str] = []
        for number, (run, kept) in enumerate(zip(self.runs, counts, strict=True)):
            free = [index for index, path in enumerate(run) if path not in self.fixed]
            free.sort(key=lambda index: hashlib.sha256(f"{seed} {step} {number} {index}".encode()).digest())
            found += [run[index] for index in sorted(free[: len(run) - kept])]
        return tuple(found)

    def not_yet(self, step: int) -> tuple[str, ...]:
        """Paths of the blocks that the model does not have in `step`: where subnetworks are trained, none."""
        return self.left_out(step, 0) if self.method == STACK else ()

    def begins(self, step: int) -> bool:
        """Whether the model is stacked before `step`."""
        return self.method == STACK and step > 0 and self.stage(step) > self.stage(step - 1)

    def stack(self, model: nn.Module, step: int) -> None:
        """Copy the last blocks of the stage before `step` on top of them, in place: parameters and buffers."""
        now = self.stage(step)
        for run, before, after in zip(self.runs, self.stages[now - 1].blocks, self.stages[now].blocks, strict=True):
            for index in range(before, after):
                source = model.get_submodule(run[index - (after - before)])
                model.get_submodule(run[index]).load_state_dict(source.state_dict())

    def plain(self) -> dict[str, Any]:
        """As the record has it."""
        stages = [asdict(stage) | {"blocks": list(stage.blocks)} for stage in self.stages]
        found: dict[str, Any] = {"method": self.method, "runs": [list(run) for run in self.runs], "stages": stages}
        return found | {"flops": self.flops, "budget": self.budget}

    def mark(self, step: int) -> dict[str, Any]:
        """What a checkpoint after `step` updates says of it."""
        return self.plain() | {"stage": self.stage(step - 1)}


@contextmanager
def bypassed(model: nn.Module, paths: Iterable[str]) -> Iterator[None]:
    """Let the blocks at `paths` hand on what they are given, and compute nothing."""
    blocks = [model.get_submodule(path) for path in paths]
    held = [vars(block).get("forward") for block in blocks]  # of its own, beside its class's
    try:
        for block in blocks:
            vars(block)["forward"] = _first
        yield
    finally:
        for block, own in zip(blocks, held, strict=True):
            if own is None:
                vars(block).pop("forward", None)
            else:
                vars(block)["forward"] = own


def parts_of(model: nn.Module, residual: ResidualMap) -> Parts:
    """The rows of equal blocks that lie in no other row's blocks; `residual` is the model's map.

    Raises:
        ModelError: there is none, or a block's sum is made outside of it: then its skip goes past it, and what it is
            given would be added to itself.
    """
    found = [tuple(f"{path}.{name}" if path else name for name in run) for path, run in equal_runs(model, residual)]
    inside = tuple(f"{path}." for run in found for path in run)
    runs = tuple(run for run in found if not run[0].startswith(inside))
    if not runs:
        raise ModelError("The model has no two equal blocks in a row, so it has none to grow by.")
    rows = {path for run in runs for path in run}
    for one in residual.connections:
        if one.block in rows and not f"{one.owner}.".startswith(f"{one.block}."):
            raise ModelError(
                f"The block {one.block} cannot be left out.",
                f"Its sum is made outside of it, in {one.owner or 'the model itself'}: without the block its skip "
                "would be added to itself.",
                "Leave `:grow` out.",
            )
    return Parts(runs, (residual.blocks[0], residual.blocks[-1]))


def planned(
    model: nn.Module,
    method: str,
    parts: Parts,
    inputs: Inputs,
    flops: Callable[[nn.Module], int],
    *,
    steps: int,
    scale: Fraction,
    beside: int = 0,
) -> Growth:
    """The stages that cost what `steps` updates of the whole model do, as nearly as whole steps can.

    Args:
        model: the arm's, with what it adds; left as it was.
        method: of `METHODS`.
        parts: its blocks, as they are without LAuReL.
        inputs: what it is called with.
        flops: counts a forward pass on them.
        steps: of the arm trained in the usual way.
        scale: examples of a batch over those of `inputs`.
        beside: FLOPs of a step, on `inputs`, that do not grow: a teacher's.

    Raises:
        ModelError: a block takes or gives something else than one tensor of one shape, so that nothing can be handed
            on in its place; blocks cannot be copied, or none may be left out.
        UsageError: the steps are too few for every stage to have one.
    """
    runs = parts.runs
    _check(model, runs, inputs, alike=method == STACK)
    fixed = frozenset(parts.ends) if method == SUBNETS else frozenset()
    counts = [tuple(_count(method, share, run, fixed) for run in runs) for share in METHODS[method].blocks]
    if counts[0] == counts[-1]:
        raise ModelError(
            f"The model has too few blocks for grow={method}.",
            f"Its runs of equal blocks have {', '.join(str(len(run)) for run in runs)}, of which none may be left out.",
            "Name more `layers`.",
        )
    bare = Growth(method, runs, fixed, tuple(Stage(blocks, 1, 0) for blocks in counts), 0)
    costs = []
    for number in range(len(counts)):
        with bypassed(model, bare.left_out(number, 0)):
            costs.append(math.floor((TRAINED * flops(model) + beside) * scale))
    budget = steps * costs[-1]
    return replace(bare, stages=_stages(METHODS[method], counts, costs, budget), budget=budget)


def _count(method: str, share: Fraction, run: Sequence[str], fixed: frozenset[str]) -> int:
    """Of a run's blocks: rounded up where it is stacked, so that it has one and never more than doubles."""
    if method == STACK:
        return math.ceil(share * len(run))
    return max(math.floor(share * len(run) + Fraction(1, 2)), 1, len(fixed & set(run)))


def _stages(method: Method, counts: Sequence[tuple[int, ...]], costs: Sequence[int], budget: int) -> tuple[Stage, ...]:
    """Steps by their shares; the last stage has what is left of the budget, in whole steps."""
    total = budget / sum(share * cost for share, cost in zip(method.steps, costs, strict=True))
    early = [round(total * share) for share in method.steps[:-1]]
    left = budget - sum(steps * cost for steps, cost in zip(early, costs, strict=False))
    every = [*early, left // costs[-1]]
    if min(every) < 1:
        raise UsageError(
            "There are too few steps to grow in.",
            f"Each of {len(every)} stages needs one.",
            "Name more `steps`, or leave `:grow` out.",
        )
    return tuple(Stage(*stage) for stage in zip(counts, every, costs, strict=True))


def _check(model: nn.Module, runs: Sequence[Sequence[str]], inputs: Inputs, *, alike: bool) -> None:
    """Whether every block takes a tensor first and gives one like it; `alike`: and holds what its neighbours hold."""
    seen: dict[str, list[bool]] = {}

    def watch(path: str) -> Any:
        def hook(block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
            given = _first(*args, **kwargs)
            tensors = isinstance(given, Tensor) and isinstance(output, Tensor)
            same = tensors and (given.shape, given.dtype) == (output.shape, output.dtype)
            seen.setdefault(path, []).append(same)

        return hook

    paths = [path for run in runs for path in run]
    hooks = [model.get_submodule(path).register_forward_hook(watch(path), with_kwargs=True) for path in paths]
    try:
        try_run(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    unfit = next((path for path in paths if not all(seen.get(path, [False]))), None)
    if unfit is not None:
        raise ModelError(
            f"The block {unfit} cannot be left out.",
            "It does not take one tensor and give one of the same shape, so there is nothing to hand on in its place.",
            "Leave `:grow` out.",
        )
    for before, after in ((a, b) for run in runs if alike for a, b in pairwise(run)):
        own, other = (
            {name: value.shape for name, value in model.get_submodule(path).state_dict().items()}
            for path in (before, after)
        )
        if own != other:
            raise ModelError(f"The block {before} cannot be copied to {after}: what they hold has other shapes.")


def _first(*args: Any, **kwargs: Any) -> Any:
    return args[0] if args else next(iter(kwargs.values()), None)
