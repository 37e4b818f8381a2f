"""LAuReL put in the place of a model's residual additions, in place."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import nn

from laurel_cli.errors import ModelError
from laurel_cli.laurel import rewrite
from laurel_cli.laurel.history import Carry, History
from laurel_cli.laurel.layers import LaurelLayer, PartialSum, Sum
from laurel_cli.laurel.plan import Placement, plan
from laurel_cli.laurel.source import CannotRewrite
from laurel_cli.laurel.spec import Spec
from laurel_cli.models.inputs import Inputs, as_inputs
from laurel_cli.residual import find_connections
from laurel_cli.residual.find import Connection, Place, ResidualMap, Site
from laurel_cli.residual.trace import running


@dataclass(frozen=True)
class Placed:
    """What `place` did: a LAuReL layer for each placement, and the connections left as they were, with reasons."""

    layers: tuple[tuple[Placement, LaurelLayer], ...]
    skipped: tuple[tuple[Connection, str], ...]


def apply_laurel(
    model: nn.Module,
    spec: Spec | str,
    example_inputs: Any = None,
    *,
    residual_map: ResidualMap | None = None,
    seed: int = 0,
) -> nn.Module:
    """Replace the residual additions of `model` by learned ones, in place (arXiv 2411.07501v4, Eqs. 2 to 6).

    The model stays a plain module: parameter names of its own remain, LAuReL's stand beside them
    ("layer1.0.laurel0.weights"). With the default start its outputs are those that it had.

    Args:
        model: on any device, the meta device included; trained or not.
        spec: a `Spec` or its short form, "rw+lr@16".
        example_inputs: what to trace the model with: a tensor, a tuple, a dict or `Inputs`.
        residual_map: the result of `find_connections`, to spare the trace.
        seed: of the random stream from which A is drawn; the global one is not touched.

    Returns:
        `model` itself.

    Raises:
        ModelError: it cannot be traced, has no residual connection, has LAuReL already, or none of its additions
            can be replaced. A warning names those that cannot, where others can.
        UsageError: a spec that means nothing.
    """
    if isinstance(spec, str):
        spec = Spec.parse(spec)
    inputs = None if example_inputs is None else as_inputs(example_inputs)
    if residual_map is None:
        if inputs is None:
            raise TypeError("apply_laurel needs example_inputs or a residual_map.")
        residual_map = find_connections(model, inputs)
    placed = place(model, spec, residual_map, seed=seed)
    if inputs is not None:
        verify(model, placed, inputs)
    for connection, reason in placed.skipped:
        warnings.warn(f"{connection.name} stays an ordinary residual connection: {reason}.", stacklevel=2)
    return model


def laurel_layers(model: nn.Module) -> dict[str, LaurelLayer]:
    """The LAuReL layers of a model by module path."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LaurelLayer)}


def place(model: nn.Module, spec: Spec, residual: ResidualMap, *, seed: int = 0) -> Placed:
    """Put the layers of `spec` at the connections of `residual`. `apply_laurel` is the public way.

    Raises:
        ModelError: as `apply_laurel`.
    """
    if laurel_layers(model):
        raise ModelError("This model has LAuReL already.", hint="Build it again, or copy it before.")
    if not residual.connections:
        raise ModelError(
            "This model has no residual connection.",
            f"{len(residual.refused)} additions were looked at and refused.",
            "See them with: laurel analyze MODEL --connections",
        )
    modules = dict(model.named_modules())
    placements, skipped = _rewritable(plan(residual, spec), modules)
    if not placements:
        connection, reason = skipped[0]
        raise ModelError("None of the model's residual additions can be replaced.", f"{connection.name}: {reason}.")
    at = _build(placements, spec, model, seed)
    edits: dict[str, list[rewrite.Edit]] = defaultdict(list)
    for owner, sites in _by_place(placements):
        attribute = _free_name(modules[owner])
        layers = [at.get((owner, sites[0].place, turn), Sum()) for turn in range(sites[0].turns)]
        _register(model, modules, owner, attribute, nn.ModuleList(layers) if len(layers) > 1 else layers[0])
        edits[owner].append(rewrite.Edit(sites[0].place, attribute, len(layers) > 1))
    for owner, group in edits.items():
        rewrite.rewrite(modules[owner], group)
    _stop_fast_path(modules.values())
    layer_of = {placement.site.key: at[placement.site.key] for placement in placements}
    return Placed(tuple((p, layer_of[p.site.key]) for p in placements), tuple(skipped))  # type: ignore[misc]


def verify(model: nn.Module, placed: Placed, inputs: Inputs) -> None:
    """Run the model once on fake tensors and see every LAuReL layer called as often as planned.

    Raises:
        ModelError: a layer was passed by, or its model no longer runs.
    """
    expected = Counter(id(layer) for _, layer in placed.layers)
    called: Counter[int] = Counter()
    hooks = [
        layer.register_forward_hook(lambda layer, *_: called.update([id(layer)]))
        for layer in {id(layer): layer for _, layer in placed.layers}.values()
    ]
    try:
        with running(model, inputs) as given:
            given.call(model)
    finally:
        for hook in hooks:
            hook.remove()
    wrong = next((p.connection.name for p, layer in placed.layers if called[id(layer)] != expected[id(layer)]), None)
    if wrong is not None:
        raise ModelError(f"The LAuReL layer at {wrong} is not run by the model's forward.")


def _rewritable(
    placements: list[Placement], modules: dict[str, nn.Module]
) -> tuple[list[Placement], list[tuple[Connection, str]]]:
    """Placements whose additions can all be replaced, and the connections of the others with the reason."""
    good, skipped = [], []
    for placement in placements:
        try:
            for site in (*placement.partial, placement.site):
                rewrite.check(modules[site.owner], site.place)
        except CannotRewrite as reason:
            skipped.append((placement.connection, str(reason)))
        else:
            good.append(placement)
    return good, skipped


def _by_place(placements: list[Placement]) -> Iterator[tuple[str, list[Site]]]:
    """(owner, sites) for every expression to be rewritten in every module, in the order of execution."""
    groups: dict[tuple[str, Place], list[Site]] = defaultdict(list)
    for placement in placements:
        for site in (*placement.partial, placement.site):
            groups[site.owner, site.place].append(site)
    for (owner, _), sites in groups.items():
        yield owner, sites


def _build(
    placements: list[Placement], spec: Spec, model: nn.Module, seed: int
) -> dict[tuple[str, Place, int], LaurelLayer | PartialSum]:
    """The module for every site, started, with the histories and carries that connect them."""
    generator = torch.Generator().manual_seed(seed)
    calls = Counter(placement.site.key for placement in placements)
    rolling = {p.connection.stream for p in placements if calls[p.site.key] > 1}
    histories: dict[int, History] = {}
    built: dict[tuple[str, Place, int], LaurelLayer | PartialSum] = {}
    most = {key: max(p.lags for p in placements if p.site.key == key) for key in calls if calls[key] > 1}
    for placement in placements:
        connection, stream, site = placement.connection, placement.connection.stream, placement.site
        if site.key in built:
            continue
        device, dtype = _kind_of_parameters(model, site.owner, connection.dtype)
        layer = LaurelLayer(
            spec,
            connection.width,
            connection.shape,
            connection.channel_dim,
            site.skip,
            lags=most.get(site.key, placement.lags),
            position=placement.position,
            device=device,
            dtype=dtype,
        )
        layer.reset_parameters(generator)
        layer.train(model.training)
        if spec.pa:
            if stream not in histories:
                histories[stream] = History(placement.length, spec.lags, rolling=stream in rolling)
            layer.history = histories[stream]
        if placement.partial:
            layer.carry = Carry()
            for number, partial in enumerate(placement.partial):
                built[partial.key] = PartialSum(partial.skip, layer.carry, first=number == 0)
        built[site.key] = layer
    for stream in rolling & histories.keys():
        _begin_with(model, [p for p in placements if p.connection.stream == stream], histories[stream])
    return built


def _begin_with(model: nn.Module, placements: list[Placement], history: History) -> None:
    """Start `history` anew whenever the module runs that holds all its layers' calls."""
    paths = [placement.connection.outer for placement in placements]
    common = [module for module, activation in paths[0] if all((module, activation) in path for path in paths)]
    model.get_submodule(common[0] if common else "").register_forward_pre_hook(history.begin)


def _kind_of_parameters(model: nn.Module, owner: str, dtype: torch.dtype) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of the nearest floating-point parameter: the owner's, or its parents'."""
    path = owner
    while True:
        for parameter in model.get_submodule(path).parameters():
            if parameter.is_floating_point():
                return parameter.device, parameter.dtype
        if not path:
            return torch.device("cpu"), dtype
        path = path.rpartition(".")[0]


def _free_name(module: nn.Module) -> str:
    return next(name for name in (f"laurel{n}" for n in count()) if not hasattr(module, name))


def _register(model: nn.Module, modules: dict[str, nn.Module], owner: str, attribute: str, layer: nn.Module) -> None:
    """Make `layer` an attribute of its owner, without becoming an element where the owner runs all its children."""
    module, path = modules[owner], owner
    if not isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        module.add_module(attribute, layer)
        return
    while isinstance(modules[path], nn.Sequential | nn.ModuleList | nn.ModuleDict) and path:
        path = path.rpartition(".")[0]
    name = f"{owner.removeprefix(path).strip('.').replace('.', '_')}_{attribute}"
    if isinstance(modules[path], nn.Sequential | nn.ModuleList | nn.ModuleDict):
        raise ModelError(
            "The model is a bare container that adds its own elements.", "Its LAuReL would become one of them."
        )
    modules[path].add_module(name, layer)
    module.__dict__[attribute] = layer


def _stop_fast_path(modules: Iterable[nn.Module]) -> None:
    """`nn.TransformerEncoderLayer` has a fused kernel for inference that would add by itself."""
    for module in modules:
        if isinstance(module, nn.TransformerEncoderLayer) and laurel_layers(module):
            module.activation_relu_or_gelu = 0
