"""LAuReL put in the place of a model's residual additions, in place."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from laurel_cli.errors import ModelError
from laurel_cli.laurel import rewrite
from laurel_cli.laurel.history import Carry, History, Schedule
from laurel_cli.laurel.layers import LaurelLayer, PartialSum, Sum
from laurel_cli.laurel.plan import Placement, plan
from laurel_cli.laurel.source import CannotRewriteError
from laurel_cli.laurel.spec import Spec
from laurel_cli.models.inputs import Inputs, as_inputs
from laurel_cli.models.run import running, try_run
from laurel_cli.residual import find_connections
from laurel_cli.residual.find import Connection, Place, ResidualMap, Site

SiteKey = tuple[str, Place, int]
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Placed:
    """What `place` did.

    Attributes:
        layers: a LAuReL layer for each placement.
        skipped: connections left as they were, with reasons.
        passed_by: connections that are learned in eval mode alone: in training mode their module adds elsewhere.
    """

    layers: tuple[tuple[Placement, LaurelLayer], ...] = ()
    skipped: tuple[tuple[Connection, str], ...] = ()
    passed_by: tuple[Connection, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user must know."""
        skipped = [f"{c.name} stays an ordinary residual connection: {reason}." for c, reason in self.skipped]
        reason = "its module adds on another line then"
        return (*skipped, *(f"{c.name} is ordinary in training mode: {reason}." for c in self.passed_by))


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
    placed = place(model, spec, residual_map, inputs, seed=seed)
    for warning in placed.warnings:
        warnings.warn(warning, stacklevel=2)
    return model


def laurel_layers(model: nn.Module) -> dict[str, LaurelLayer]:
    """The LAuReL layers of a model by module path."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LaurelLayer)}


def place(
    model: nn.Module, spec: Spec, residual: ResidualMap, inputs: Inputs | None = None, *, seed: int = 0
) -> Placed:
    """Put the layers of `spec` at the connections of `residual`. `apply_laurel` is the public way.

    Args:
        inputs: to run the model once and see that each layer is called as planned; None trusts the plan.

    Raises:
        ModelError: as `apply_laurel`; the model is left as it was.
    """
    if laurel_layers(model):
        raise ModelError("This model has LAuReL already.", hint="Build it again, or copy it before.")
    if not residual.connections:
        raise residual.nothing_found("This model")
    if spec.is_identity:  # the additions are what they should be: nothing to replace, nothing to pay
        return Placed()
    placements, skipped = _rewritable(plan(residual, spec), dict(model.named_modules()))
    while placements:
        with ExitStack() as undo:
            layers = _put(model, spec, placements, seed, undo)
            aliased = verify(model, placements, layers, inputs) if inputs is not None else set()
            if not aliased:
                passed_by = _passed_by_in_training(model, placements, layers, inputs) if inputs is not None else ()
                undo.pop_all()
                return Placed(tuple((p, layers[p.site.key]) for p in placements), tuple(skipped), tuple(passed_by))
        reason = "it adds in place, and its old value is read under another name"
        skipped += [(p.connection, reason) for p in placements if p.site.key in aliased]
        placements = [p for p in placements if p.site.key not in aliased]
    connection, reason = skipped[0]
    raise ModelError("None of the model's residual additions can be replaced.", f"{connection.name}: {reason}.")


def _put(
    model: nn.Module, spec: Spec, placements: list[Placement], seed: int, undo: ExitStack
) -> dict[SiteKey, LaurelLayer]:
    """Build the layers, register them, rewrite their owners; `undo` takes it all back."""
    modules = dict(model.named_modules())
    at = _build(placements, spec, model, seed, undo)
    edits: dict[str, list[rewrite.Edit]] = defaultdict(list)
    for owner, sites in _by_place(placements):
        attribute = _free_name(modules[owner])
        run = [at.get((owner, sites[0].place, turn), Sum()) for turn in range(sites[0].turns)]
        _register(modules, owner, attribute, nn.ModuleList(run) if len(run) > 1 else run[0], undo)
        edits[owner].append(rewrite.Edit(sites[0].place, attribute, len(run) > 1))
    for owner, group in edits.items():
        undo.callback(setattr, modules[owner], "__class__", type(modules[owner]))
        rewrite.rewrite(modules[owner], group)
    _stop_fast_path(modules.values(), undo)
    return {key: layer for key, layer in at.items() if isinstance(layer, LaurelLayer)}


def verify(
    model: nn.Module, placements: list[Placement], layers: dict[SiteKey, LaurelLayer], inputs: Inputs
) -> set[SiteKey]:
    """Run the model once and see every layer called as often as planned.

    Returns:
        Sites that added in place where something reads the overwritten tensor later: replaced, they would leave
        it as it was.

    Raises:
        ModelError: a layer was passed by, or the model no longer runs.
    """
    watch = _Watch({id(layers[p.site.key]): p.site.key for p in placements if p.site.in_place})
    hooks = []
    for layer in layers.values():
        hooks += [layer.register_forward_pre_hook(watch.enter), layer.register_forward_hook(watch.leave)]
    try:
        try_run(model, inputs, watch)
    finally:
        for hook in hooks:
            hook.remove()
    expected = Counter(id(layers[p.site.key]) for p in placements)
    wrong = next(
        (p for p in placements if watch.calls[id(layers[p.site.key])] != expected[id(layers[p.site.key])]), None
    )
    if wrong is not None:
        raise ModelError(f"The LAuReL layer at {wrong.connection.name} is not run by the model's forward.")
    return watch.aliased


def _passed_by_in_training(
    model: nn.Module, placements: list[Placement], layers: dict[SiteKey, LaurelLayer], inputs: Inputs
) -> list[Connection]:
    """Connections whose module runs in training mode without its LAuReL layer, as far as fake tensors can tell."""
    asking = [p for p in placements if any("training" in call.code.co_names for call in p.site.calls)]
    if not asking:
        return []
    called: Counter[int] = Counter()
    watched = {layers[p.site.key] for p in asking} | {model.get_submodule(p.site.owner) for p in asking}
    hooks = [module.register_forward_pre_hook(lambda module, _: called.update([id(module)])) for module in watched]
    try:
        with running(model, inputs, training=True) as given:
            given.call(model)
    except Exception:  # noqa: BLE001 - the model's own code, e.g. which layers are dropped depends on values
        return []
    finally:
        for hook in hooks:
            hook.remove()
    ran = [p for p in asking if called[id(model.get_submodule(p.site.owner))]]
    return [p.connection for p in ran if not called[id(layers[p.site.key])]]


class _Watch(TorchDispatchMode):
    """Counts the calls of LAuReL layers, and sees who reads what an addition would have overwritten."""

    def __init__(self, in_place: dict[int, SiteKey]) -> None:
        super().__init__()
        self._in_place = in_place

    def __enter__(self) -> Any:
        self.calls: Counter[int] = Counter()
        self.aliased: set[SiteKey] = set()
        self._overwritten: dict[int, tuple[SiteKey, torch.Tensor]] = {}
        self._inside = 0
        return super().__enter__()

    def enter(self, layer: nn.Module, operands: Any) -> None:
        """Forward pre-hook of a LAuReL layer."""
        self.calls[id(layer)] += 1
        self._inside += 1

    def leave(self, layer: nn.Module, operands: Any, _: Any) -> None:
        """Forward hook of a LAuReL layer."""
        self._inside -= 1
        if id(layer) in self._in_place:
            left = operands[0]
            self._overwritten[left.untyped_storage()._cdata] = (self._in_place[id(layer)], left)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self._inside and self._overwritten:
            for leaf in tree_leaves((args, kwargs)):
                if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata in self._overwritten:
                    self.aliased.add(self._overwritten[leaf.untyped_storage()._cdata][0])
        return func(*args, **(kwargs or {}))


def _rewritable(
    placements: list[Placement], modules: dict[str, nn.Module]
) -> tuple[list[Placement], list[tuple[Connection, str]]]:
    """Placements whose additions can all be replaced, and the connections of the others with the reason."""
    good: list[Placement] = []
    skipped: list[tuple[Connection, str]] = []
    together: dict[str, dict[Place, None]] = defaultdict(dict)  # of each module
    for placement in placements:
        sites = (*placement.partial, placement.site)
        try:
            for site in sites:
                if site.obstacle:
                    raise CannotRewriteError(site.obstacle)
                rewrite.check(modules[site.owner], [site.place])
                rewrite.check(modules[site.owner], list(together[site.owner] | {site.place: None}))
        except CannotRewriteError as reason:
            skipped.append((placement.connection, str(reason)))
        else:
            good.append(placement)
            for site in sites:
                together[site.owner][site.place] = None
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
    placements: list[Placement], spec: Spec, model: nn.Module, seed: int, undo: ExitStack
) -> dict[SiteKey, LaurelLayer | PartialSum]:
    """The module for every site, started, with the histories and carries that connect them."""
    generator = torch.Generator().manual_seed(seed)
    histories = {p.connection.stream: History(p.length, spec.lags) for p in placements}
    shared: dict[SiteKey, list[Placement]] = defaultdict(list)  # a module that is called again brings its layer again
    for placement in placements:
        shared[placement.site.key].append(placement)
    built: dict[SiteKey, LaurelLayer | PartialSum] = {}
    for key, calls in shared.items():
        connection, partial = calls[0].connection, calls[0].partial
        layer = LaurelLayer(
            spec,
            connection.width,
            connection.shape,
            connection.channel_dim,
            connection.sites[-1].skip,
            lags=max(call.lags for call in calls),
            device=_device(model, connection.owner),
            dtype=connection.dtype,
        )
        layer.reset_parameters(generator)
        layer.train(model.training)
        if spec.pa:
            layer.schedule = Schedule(tuple((histories[c.connection.stream], c.position) for c in calls))
            if len(calls) > 1:
                undo.callback(_begin_with(model, calls, layer.schedule).remove)
        if partial:
            layer.carry = Carry()
            for number, site in enumerate(partial):
                built[site.key] = PartialSum(site.skip, layer.carry, first=number == 0)
        built[key] = layer
    return built


def _begin_with(model: nn.Module, calls: list[Placement], schedule: Schedule) -> RemovableHandle:
    """Start `schedule` anew whenever the module runs that makes all the calls."""
    paths = [call.connection.outer for call in calls]
    common = [module for module, activation in paths[0] if all((module, activation) in path for path in paths)]
    return model.get_submodule(common[0] if common else "").register_forward_pre_hook(schedule.begin)


def _device(model: nn.Module, owner: str) -> torch.device:
    """Where the nearest parameter lies: the owner's own, or its parents'."""
    path = owner
    while True:
        parameter = next(model.get_submodule(path).parameters(), None)
        if parameter is not None:
            return parameter.device
        if not path:
            return torch.device("cpu")
        path = path.rpartition(".")[0]


def _free_name(module: nn.Module) -> str:
    return next(name for name in (f"laurel{n}" for n in count()) if not hasattr(module, name))


def _register(modules: dict[str, nn.Module], owner: str, attribute: str, layer: nn.Module, undo: ExitStack) -> None:
    """Make `layer` an attribute of its owner, without becoming an element where the owner runs all its children."""
    module, home = modules[owner], owner
    while isinstance(modules[home], CONTAINERS) and home:
        home = home.rpartition(".")[0]
    if isinstance(modules[home], CONTAINERS):
        raise ModelError(
            "The model is a bare container that adds its own elements.", "Its LAuReL would become one of them."
        )
    name = attribute
    if home != owner:
        name = f"{owner.removeprefix(home).strip('.').replace('.', '_')}_{attribute}"
        module.__dict__[attribute] = layer
        undo.callback(module.__dict__.pop, attribute)
    modules[home].add_module(name, layer)
    undo.callback(delattr, modules[home], name)


def _stop_fast_path(modules: Iterable[nn.Module], undo: ExitStack) -> None:
    """`nn.TransformerEncoderLayer` has a fused kernel for inference that would add by itself."""
    for module in modules:
        if isinstance(module, nn.TransformerEncoderLayer) and laurel_layers(module):
            undo.callback(setattr, module, "activation_relu_or_gelu", module.activation_relu_or_gelu)
            module.activation_relu_or_gelu = 0
