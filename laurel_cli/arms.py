"""The arms that every command compares: the baseline, a copy of it, naive scaling, LAuReL. A rival is a new arm."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from laurel_cli.errors import ModelError, UsageError
from laurel_cli.laurel.spec import Spec

if TYPE_CHECKING:
    from torch import nn

    from laurel_cli.models.inputs import Inputs
    from laurel_cli.residual.find import ResidualMap

DEPTHS = re.compile(r"^(num|n)_?(hidden_|decoder_|encoder_)?(layers?|blocks?)$|^(depth|layers)$")


@dataclass(frozen=True)
class Arm:
    """One way to build the model.

    Attributes:
        name: "baseline", "copy", "naive+1", "rw+lr@16".
        kind: what it is; `blocks` added by "naive", `spec` of "laurel"; "against" is another model, as it is.
    """

    name: str
    kind: Literal["baseline", "copy", "naive", "laurel", "against"]
    blocks: int = 0
    spec: Spec | None = None


def parse_arms(text: str, **spec_options: Any) -> list[Arm]:
    """Read "baseline,naive+1,rw,rw+lr@16". The baseline comes first, named or not.

    Args:
        text: names, separated by commas.
        spec_options: further fields of every `Spec`.

    Raises:
        UsageError: an unknown name.
    """
    arms = [Arm("baseline", "baseline")]
    for name in filter(None, (part.strip().lower() for part in text.split(","))):
        naive = re.fullmatch(r"naive\+(\d+)", name)
        if name == "copy":
            arms.append(Arm(name, "copy"))
        elif naive and int(naive[1]):
            arms.append(Arm(f"naive+{int(naive[1])}", "naive", blocks=int(naive[1])))
        elif name.startswith("naive"):
            raise UsageError(f"Arm {name!r} is unknown.", "Naive scaling adds whole blocks.", "Try naive+1.")
        elif name != "baseline":
            spec = Spec.parse(name, **spec_options)
            arms.append(Arm(spec.name, "laurel", spec=spec))
    return list(dict.fromkeys(arms))


def build(
    arm: Arm,
    model: nn.Module,
    residual: ResidualMap,
    inputs: Inputs,
    *,
    seed: int = 0,
    fresh: Callable[[], nn.Module] | None = None,
) -> tuple[str, ...]:
    """Turn a copy of the baseline into `arm`, in place.

    Args:
        model: on any device; `residual` its map and `inputs` what it runs on.
        seed: of what the arm adds.
        fresh: as for `add_blocks`.

    Returns:
        Warnings for the user.

    Raises:
        ModelError: it cannot be built from this model.
    """
    from laurel_cli.laurel.apply import place

    if arm.kind == "naive":
        add_blocks(model, residual, inputs, arm.blocks, seed=seed, fresh=fresh)
    if arm.spec is not None:
        return place(model, arm.spec, residual, inputs, seed=seed).warnings
    return ()


def add_blocks(
    model: nn.Module,
    residual: ResidualMap,
    inputs: Inputs,
    blocks: int,
    *,
    seed: int = 0,
    fresh: Callable[[], nn.Module] | None = None,
) -> list[str]:
    """Naive scaling, in place: repeat a block of the model's longest run of equal blocks, freshly initialised.

    Args:
        model: on any device; `residual` its map and `inputs` what it runs on.
        blocks: how many to add, at the run's end; where the run alternates, the pattern goes on.
        seed: of the new blocks' start; the global random stream is left as it was. Parameters that stand bare in
            a module without `reset_parameters` start as in the block that is repeated.
        fresh: builds the baseline again from other random numbers: new blocks start as its blocks do, which is how
            their library starts them.

    Returns:
        Paths of the new blocks.

    Raises:
        ModelError: no two equal blocks, or the model's forward does not run what is added.
    """
    path, start, end = _longest_run(model, residual)
    container = model.get_submodule(path)
    drawn = fresh().get_submodule(path) if fresh else None
    new: list[str] = []
    for number in range(blocks):
        index = end + number
        source = index - _period(list(container.children())[start:index])
        block = copy.deepcopy(container[source])  # type: ignore[index]
        _renumber(block, source, index)
        if drawn is None:
            _initialise(block, model, seed + number)
        else:
            block.load_state_dict(drawn[end - 1 - number % (end - start)].state_dict())  # type: ignore[index]
        container.insert(index, block)  # type: ignore[operator]
        new.append(_joined(path, str(index)))
    # All of them: a forward that counts its layers would run the new one and leave out the last.
    children = [_joined(path, name) for name, _ in container.named_children()]
    if not _runs(model, inputs, children):
        _deepen_configuration(model, len(container) - blocks, blocks)  # type: ignore[arg-type]
        if not _runs(model, inputs, children):
            raise ModelError(f"The model's forward does not run a block added to {path or 'it'}.")
    return new


def _longest_run(model: nn.Module, residual: ResidualMap) -> tuple[str, int, int]:
    """(container, start, end) of the most blocks in a row that have the same class and the same parameters."""
    runs: list[tuple[str, int, int]] = []
    for path in dict.fromkeys(block.rpartition(".")[0] for block in residual.blocks):
        runs.extend((path, start, end) for start, end in _equal_neighbours(model, path, set(residual.blocks)))
    if not runs:
        raise ModelError("The model has no two equal blocks in a row, so naive scaling has nothing to repeat.")
    return max(runs, key=lambda run: run[2] - run[1])


def _equal_neighbours(model: nn.Module, path: str, blocks: set[str]) -> Iterator[tuple[int, int]]:
    children = list(model.get_submodule(path).named_children())
    start = 0
    for index in range(1, len(children) + 1):
        if index == len(children) or _form(children[index][1]) != _form(children[start][1]):
            if index - start > 1 and any(_joined(path, name) in blocks for name, _ in children[start:index]):
                yield start, index
            start = index


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _form(block: nn.Module) -> Any:
    return type(block), tuple((name, parameter.shape) for name, parameter in block.named_parameters())


def _period(run: list[nn.Module]) -> int:
    """After how many blocks the run repeats, settings included; 1 where it does not."""
    from laurel_cli.residual.depth import sign

    signs = [sign(block, index) for index, block in enumerate(run)]
    for period in range(1, len(run) // 2 + 1):
        if all(signs[i] == signs[i - period] for i in range(period, len(run))):
            return period
    return 1


def _renumber(block: nn.Module, old: int, new: int) -> None:
    from laurel_cli.residual.depth import LAYER_NUMBERS

    for module in block.modules():
        for name, value in list(vars(module).items()):
            if type(value) is int and value == old and LAYER_NUMBERS.match(name):
                setattr(module, name, new)


def _initialise(block: nn.Module, model: nn.Module, seed: int) -> None:
    import torch

    if any(parameter.is_meta for parameter in block.parameters()):
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in block.modules():
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(reset):
                reset()
        own = getattr(model, "_init_weights", None)
        if callable(own):
            with torch.no_grad():
                block.apply(own)


def _runs(model: nn.Module, inputs: Inputs, paths: list[str]) -> bool:
    """Whether the model's forward calls all modules at `paths`."""
    from laurel_cli.models.run import try_run

    called: set[str] = set()
    hooks = [model.get_submodule(path).register_forward_hook(lambda *_, path=path: called.add(path)) for path in paths]
    try:
        try_run(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return called == set(paths)


def _deepen_configuration(model: nn.Module, depth: int, blocks: int) -> None:
    """For a forward that asks its configuration how many layers there are."""
    seen: set[int] = set()
    for module in model.modules():
        for holder in (module, getattr(module, "config", None)):
            if holder is None or id(holder) in seen:
                continue
            seen.add(id(holder))
            for name, value in list(vars(holder).items()):
                if type(value) is int and value == depth and DEPTHS.match(name):
                    setattr(holder, name, depth + blocks)
