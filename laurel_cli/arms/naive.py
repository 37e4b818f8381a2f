"""Naive scaling: more of the model's own blocks, freshly initialised."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, groupby
from typing import TYPE_CHECKING, Any

from laurel_cli.arms.base import About, Arm, Kind, Site
from laurel_cli.errors import ModelError, UsageError
from laurel_cli.text import whole_number

if TYPE_CHECKING:
    from torch import nn

    from laurel_cli.models.inputs import Inputs
    from laurel_cli.residual.find import ResidualMap

DEPTHS = re.compile(r"^(num|n)_?(hidden_|decoder_|encoder_)?(layers?|blocks?)$|^(depth|layers)$")


def _parse(name: str, options: Mapping[str, Any]) -> Arm | None:
    if not name.startswith("naive"):
        return None
    blocks = whole_number(name.removeprefix("naive+"))
    if not blocks:
        raise UsageError(f"Arm {name!r} is unknown.", "Naive scaling adds whole blocks.", "Try naive+1.")
    return Arm(f"naive+{blocks}", NAIVE, blocks=blocks)


def _build(arm: Arm, site: Site) -> tuple[str, ...]:
    add_blocks(site.model, site.residual, site.inputs, arm.blocks, seed=site.seed, fresh=site.fresh)
    return ()


def _read(name: str, plain: Mapping[str, Any]) -> Arm:
    return Arm(name, NAIVE, blocks=int(plain["blocks"]))


NAIVE = Kind(
    name="naive",
    parse=_parse,
    read=_read,
    about=lambda: (
        About(
            "naive+N", "N more blocks, as the model's own", "N blocks, whole", "no", needs="two equal blocks in a row"
        ),
    ),
    build=_build,
    optional=True,
    is_scaling=True,
)


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
        ModelError: no two equal blocks, or the model's forward does not run what is added; the model is left as it was.
    """
    from laurel_cli.models.copies import copied

    path, run = _longest_run(model, residual)
    container = model.get_submodule(path)
    children = dict(container.named_children())
    drawn = fresh().get_submodule(path) if fresh else None
    added: list[nn.Module] = []
    for number in range(blocks):
        row = [*(children[name] for name in run), *added]
        place = list(children).index(run[-1]) + 1 + number
        source = len(row) - _period(row)
        block = copied(row[source])
        _renumber(block, place - len(row) + source, place)
        if drawn is None:
            _initialise(block, model, seed + number)
        else:
            block.load_state_dict(drawn.get_submodule(run[-1 - number % len(run)]).state_dict())
        added.append(block)
    called = set(children) if _is_list(container) else _called(model, inputs, path, children)
    for way in (_inserted, _in_a_row):
        paths, undo = way(model, path, run[-1], added)
        # All children: a forward that counts its layers would run the new one and leave out the last.
        wanted = {*(_joined(path, name) for name in called), *paths}
        if way is _inserted:  # its children may have moved
            wanted |= {_joined(path, name) for name in list(container._modules) if name not in children}
        if _runs(model, inputs, wanted):
            return paths
        changed = _deepen_configuration(model, len(children), blocks)
        if changed and _runs(model, inputs, wanted):
            return paths
        for holder, name, value in changed:
            setattr(holder, name, value)
        undo()
    raise ModelError(f"The model's forward does not run a block added to {path or 'it'}.")


def _inserted(
    model: nn.Module, path: str, last: str, added: Sequence[nn.Module]
) -> tuple[list[str], Callable[[], None]]:
    """Put `added` behind the child `last` of the module at `path`: their paths, and what takes them away again.

    In a list those behind move up; other containers get children with the next free names.
    """
    container = model.get_submodule(path)
    before = dict(container._modules)
    entries: list[tuple[str, nn.Module | None]] = []
    paths = []
    for name, child in before.items():
        entries.append((name, child))
        if name == last:
            fresh = _next_names(last, before, len(added))
            entries += zip(fresh, added, strict=True)
    if _is_list(container):
        entries = [(str(index), child) for index, (_, child) in enumerate(entries)]
    container._modules.clear()
    container._modules.update(entries)
    paths = [_joined(path, name) for name, child in entries if any(child is block for block in added)]

    def undo() -> None:
        container._modules.clear()
        container._modules.update(before)

    return paths, undo


def _in_a_row(
    model: nn.Module, path: str, last: str, added: Sequence[nn.Module]
) -> tuple[list[str], Callable[[], None]]:
    """Let the child `last` hand its result to the first of `added`, that one to the next: for blocks called by name."""
    block, paths, undone = model.get_submodule(_joined(path, last)), [_joined(path, last)], []
    for follower in added:
        name = next(name for n in count() if not hasattr(block, name := f"naive{n}"))
        block.add_module(name, follower)
        hook = block.register_forward_hook(partial(_go_on, name), with_kwargs=True)
        undone.append((block, name, hook))
        paths.append(f"{paths[-1]}.{name}")
        block = follower

    def undo() -> None:
        for module, name, hook in undone:
            hook.remove()
            del module._modules[name]

    return paths[1:], undo


def _go_on(name: str, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """Forward hook: the block called `name` takes the result, and the other arguments, of the one that it follows."""
    state = output[0] if isinstance(output, (tuple, list)) else output
    if args:
        return getattr(block, name)(state, *args[1:], **kwargs)
    first = next(iter(kwargs))
    return getattr(block, name)(**{**kwargs, first: state})


def _is_list(container: nn.Module) -> bool:
    return list(container._modules) == [str(index) for index in range(len(container._modules))]


def _next_names(last: str, taken: Collection[str], number: int) -> list[str]:
    """`number` names that go on from `last`: b4, b5 after b3; with a suffix where those are taken."""
    stem, digits = re.fullmatch(r"(.*?)(\d*)", last).groups()  # type: ignore[union-attr]
    going_on = [f"{stem}{int(digits or 0) + n}" for n in range(1, number + 1)]
    return [f"{last}_naive{n}" for n in range(number)] if set(going_on) & set(taken) else going_on


def equal_runs(model: nn.Module, residual: ResidualMap) -> list[tuple[str, list[str]]]:
    """(container, children) of all blocks in a row that have the same class and the same parameters, two at least."""
    runs: list[tuple[str, list[str]]] = []
    for path in dict.fromkeys(block.rpartition(".")[0] for block in residual.blocks):
        runs.extend((path, run) for run in _equal_neighbours(model, path, set(residual.blocks)))
    return runs


def _longest_run(model: nn.Module, residual: ResidualMap) -> tuple[str, list[str]]:
    """The run of the most blocks."""
    runs = equal_runs(model, residual)
    if not runs:
        raise ModelError("The model has no two equal blocks in a row, so naive scaling has nothing to repeat.")
    return max(runs, key=lambda run: len(run[1]))


def _equal_neighbours(model: nn.Module, path: str, blocks: set[str]) -> Iterator[list[str]]:
    children = list(model.get_submodule(path).named_children())
    for _, group in groupby(children, key=lambda child: _form(child[1])):
        names = [name for name, _ in group]
        if len(names) > 1 and any(_joined(path, name) in blocks for name in names):
            yield names


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


def _called(model: nn.Module, inputs: Inputs, path: str, children: Iterable[str]) -> set[str]:
    """The children of the module at `path` that the model's forward calls.

    Raises:
        ModelError: the model does not run.
    """
    from laurel_cli.models.run import try_run

    called: set[str] = set()
    places = {name: model.get_submodule(_joined(path, name)) for name in children}
    hooks = [child.register_forward_hook(lambda *_, name=name: called.add(name)) for name, child in places.items()]
    try:
        try_run(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return called


def _runs(model: nn.Module, inputs: Inputs, paths: Collection[str]) -> bool:
    """Whether the model's forward runs and calls all modules at `paths`."""
    try:
        return _called(model, inputs, "", paths) == set(paths)
    except ModelError:
        return False


def _deepen_configuration(model: nn.Module, depth: int, blocks: int) -> list[tuple[Any, str, int]]:
    """For a forward that asks its configuration how many layers there are: what was changed, with its old value."""
    seen: set[int] = set()
    changed = []
    for module in model.modules():
        for holder in (module, getattr(module, "config", None)):
            if holder is None or id(holder) in seen:
                continue
            seen.add(id(holder))
            for name, value in list(getattr(holder, "__dict__", {}).items()):
                if type(value) is int and value == depth and DEPTHS.match(name):
                    changed.append((holder, name, value))
                    setattr(holder, name, depth + blocks)
    return changed
