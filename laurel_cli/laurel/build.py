"""Give a model what a layout says: layers, histories, rewritten methods."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count

import torch
from torch import nn

from laurel_cli.laurel import rewrite
from laurel_cli.laurel.addition import LearnedSum, PartialSum
from laurel_cli.laurel.edits import Edit
from laurel_cli.laurel.history import Carry, History, Schedule
from laurel_cli.laurel.layout import Layout, Member, Slot
from laurel_cli.laurel.source import CannotRewriteError

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
LAYOUT = "laurel_layout"  # attribute of the model
FAST_PATH = "laurel_fast_path"  # attribute of an encoder layer: what its own one was
BARE = "the model is a bare container that adds its own elements, and its LAuReL would become one of them"


def laurel_layers(model: nn.Module) -> dict[str, LearnedSum]:
    """The layers of a model that stand in the place of additions, by module path."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LearnedSum)}


def learned_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of these layers, each once; none of a model without any."""
    return list(dict.fromkeys(p for layer in laurel_layers(model).values() for p in layer.parameters()))


def install(model: nn.Module, layout: Layout, undo: ExitStack, *, seed: int = 0) -> dict[Member, nn.Module]:
    """Build, start and register all layers of `layout`, and rewrite the methods that call them; `undo` takes it back.

    Args:
        seed: of the random stream from which A is drawn.

    Raises:
        CannotRewriteError: the source is not what it was when the layout was made.
    """
    modules = dict(model.named_modules())
    histories = [History(course.length, course.lags, begins=course.method is not None) for course in layout.courses]
    edits: dict[str, list[Edit]] = defaultdict(list)
    built = _build(model, layout, histories, seed)
    for slot in layout.slots:
        attribute = _free_name(modules[slot.owner], "laurel")
        layers = [built[member] for member in slot.members]
        _register(modules, slot.owner, attribute, layers[0] if len(layers) == 1 else nn.ModuleList(layers), undo)
        for path, flip in ((slot.path, False), *slot.others):
            edits[slot.owner].append(Edit("sum", path, attribute, slot.run, slot.rest, flip))
    shared = {call[0] for member in built for call in member.calls if call is not None and len(member.calls) > 1}
    for number, course in enumerate(layout.courses):
        home = modules[course.home]
        if course.method is not None:
            attribute = _free_name(home, "laurel_history")
            _hold(home, attribute, histories[number], undo)
            edits[course.home].append(Edit("pass", (course.method,), attribute))
        elif number in shared:
            undo.callback(home.register_forward_pre_hook(histories[number].restart).remove)
    for owner, path in layout.checkpoints:
        edits[owner].append(Edit("checkpoint", path))
    for owner, group in edits.items():
        undo.callback(rewrite.undo, rewrite.rewrite(modules[owner], group))
    undo.callback(rewrite.undo, rewrite.rebind(modules.values()))
    undo.callback(rewrite.undo, rewrite.knows_laurel(model))
    _stop_fast_path(modules.values(), undo)
    _hold(model, LAYOUT, layout, undo)
    return built


def layers_by_slot(model: nn.Module) -> Iterator[tuple[Slot, list[nn.Module]]]:
    """Every slot of a model's layout, with the modules that stand there for its members."""
    groups: dict[str, list[Slot]] = defaultdict(list)
    for slot in vars(model)[LAYOUT].slots:
        groups[slot.owner].append(slot)
    for owner, slots in groups.items():
        module = model.get_submodule(owner)
        names = [name for name in {**vars(module), **module._modules} if re.fullmatch(r"laurel\d+", name)]
        for name, slot in zip(sorted(names, key=lambda name: int(name[6:])), slots, strict=True):
            value = getattr(module, name)
            yield slot, list(value) if isinstance(value, nn.ModuleList) else [value]


def layout_now(model: nn.Module) -> Layout:
    """The layout of a model whose layers may have been brought to another dtype since it was made."""
    slots = {}
    for slot, layers in layers_by_slot(model):
        pairs = zip(slot.members, layers, strict=True)
        slots[slot] = replace(slot, members=tuple(replace(one, dtype=_dtype(layer, one)) for one, layer in pairs))
    layout: Layout = vars(model)[LAYOUT]
    return replace(layout, slots=tuple(slots[slot] for slot in layout.slots))


def _dtype(layer: nn.Module, member: Member) -> str:
    """Of the layer's parameters; what the member says where it has none."""
    found = [parameter.dtype for parameter in layer.parameters() if parameter.is_floating_point()]
    return str(found[0]).removeprefix("torch.") if found else member.dtype


def _build(model: nn.Module, layout: Layout, histories: list[History], seed: int) -> dict[Member, nn.Module]:
    """The module for every member, started, with the histories and carries that connect them."""
    generator = torch.Generator().manual_seed(seed)
    carries: dict[int, Carry] = defaultdict(Carry)
    members = [(member, slot) for slot in layout.slots for member in slot.members]
    built: dict[Member, nn.Module] = {}
    for member, slot in sorted(members, key=lambda item: item[0].number):
        if member.spec is None:
            built[member] = PartialSum(member.skip, carries[member.carry], first=member.first)
            continue
        layer = member.spec.layer(
            member.width,
            member.shape,
            member.channel_dim,
            member.skip,
            lags=member.lags,
            number=member.order,
            scores=member.scores,
            device=_device(model, slot),
            dtype=getattr(torch, member.dtype),
        )
        layer.reset_parameters(generator)
        if not any(one.is_meta for one in layer.parameters()):
            for part in layer.modules():
                vars(part)["_is_hf_initialized"] = True  # what transformers' `init_weights` asks, of its modules too
        layer.train(model.training)
        if member.calls:
            calls = tuple(None if call is None else (histories[call[0]], call[1]) for call in member.calls)
            layer.schedule = Schedule(calls, member.number)
        if member.carry >= 0:
            layer.carry = carries[member.carry]
        built[member] = layer
    connect(layer for layer in built.values() if isinstance(layer, LearnedSum))
    return built


def connect(layers: Iterable[LearnedSum]) -> None:
    """Let each history know its layers, where every place of it has one of its own."""
    places: dict[History, dict[int, LearnedSum]] = defaultdict(dict)
    for layer in layers:
        calls = () if layer.schedule is None else layer.schedule.calls
        for call in calls:
            if call is not None:
                places[call[0]][call[1] if len(calls) == 1 else -1] = layer
    for history, by_place in places.items():
        whole = sorted(by_place) == list(range(history.length))
        history.hand_to([by_place[place] for place in range(history.length)] if whole else [])


def _device(model: nn.Module, slot: Slot) -> torch.device:
    """Where the nearest parameter lies: the owner's own, or its parents'."""
    path = slot.owner
    while True:
        parameter = next(model.get_submodule(path).parameters(), None)
        if parameter is not None:
            return parameter.device
        if not path:
            return torch.device("cpu")
        path = path.rpartition(".")[0]


def _free_name(module: nn.Module, stem: str) -> str:
    return next(name for name in (f"{stem}{n}" for n in count()) if not hasattr(module, name))


def _hold(module: nn.Module, name: str, value: object, undo: ExitStack) -> None:
    module.__dict__[name] = value
    undo.callback(module.__dict__.pop, name)


def _register(modules: dict[str, nn.Module], owner: str, attribute: str, layer: nn.Module, undo: ExitStack) -> None:
    """Make `layer` an attribute of its owner, without becoming an element where the owner runs all its children."""
    home = check_owner(modules, owner)
    name = attribute
    if home != owner:
        name = f"{owner.removeprefix(home).strip('.').replace('.', '_')}_{attribute}"
        _hold(modules[owner], attribute, layer, undo)
    modules[home].add_module(name, layer)
    undo.callback(delattr, modules[home], name)


def check_owner(modules: dict[str, nn.Module], owner: str) -> str:
    """The path of the module that a layer of `owner` can be registered with.

    Raises:
        CannotRewriteError: there is none.
    """
    home = owner
    while isinstance(modules[home], CONTAINERS) and home:
        home = home.rpartition(".")[0]
    if isinstance(modules[home], CONTAINERS):
        raise CannotRewriteError(BARE)
    return home


def _stop_fast_path(modules: Iterable[nn.Module], undo: ExitStack) -> None:
    """`nn.TransformerEncoderLayer` has a fused kernel for inference that would add by itself."""
    for module in modules:
        if isinstance(module, nn.TransformerEncoderLayer) and laurel_layers(module):
            undo.callback(setattr, module, "activation_relu_or_gelu", module.activation_relu_or_gelu)
            _hold(module, FAST_PATH, module.activation_relu_or_gelu, undo)
            module.activation_relu_or_gelu = 0
