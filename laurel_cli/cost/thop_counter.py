"""thop's count: hooks on the modules whose type it knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from laurel_cli.cost.answer import Answer, Ours, Reason

ELSEWHERE = {
    "convolution": "thop counts convolution modules alone, not functional convolutions or subclasses",
    "linear": "thop counts nn.Linear modules alone: products with bare parameters, functional.linear and matmul, "
    "einsum and the projections of nn.MultiheadAttention are missed",
    "matmul": "thop sees no matmul, bmm or einsum",
    "attention": "thop sees no attention",
    "recurrent": "thop does not know this recurrent layer",
}
"""Where products stand that thop does not see, by family."""

_LINEAR = ("mm", "addmm", "_int_mm", "_scaled_mm", "_addmm_activation", "linear", "mv", "addmv")


def family(operator: str) -> str:
    """The family in which one of our operators stands here."""
    name = operator.rpartition(".")[2]
    if "convolution" in name or "conv2d" in name:
        return "convolution"
    if "attention" in name:
        return "attention"
    if "rnn" in name:
        return "recurrent"
    return "linear" if name in _LINEAR else "matmul"


def run(model: nn.Module, tensors: tuple[torch.Tensor, ...]) -> Answer:
    """Count with thop; raises whatever thop raises. Leaves attributes in `model`."""
    from thop import profile
    from thop.profile import register_hooks

    compared = tuple(kind for kind in register_hooks if _family_of_type(kind) is not None)
    silenced = {kind: _nothing for kind in register_hooks if kind not in compared}
    _, parameters, tree = profile(model, tensors, custom_ops=silenced, verbose=False, ret_layer_info=True)
    places = dict(_places(tree))
    macs: Counter[str] = Counter()
    for path, (figure, _) in places.items():
        name = _family_of_type(type(model.get_submodule(path)))
        if name is not None:
            macs[name] += figure
    return Answer(dict(macs), int(parameters), places)


def _nothing(module: nn.Module, inputs: Any, output: Any) -> None:
    """Stands for thop's figures of normalisations, pooling and activations, which are not compared."""


def _family_of_type(kind: type[nn.Module]) -> str | None:
    if issubclass(kind, nn.modules.conv._ConvNd):
        return "convolution"
    if issubclass(kind, nn.Linear):
        return "linear"
    return "recurrent" if issubclass(kind, (nn.RNNBase, nn.RNNCellBase)) else None


def _places(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, tuple[int, int]]]:
    """(path, (MACs, parameters)) of the modules that have none below them in thop's tree."""
    for name, (figure, parameters, below) in tree.items():
        if below:
            yield from _places(below, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", (int(figure), int(parameters))


def modules(model: nn.Module) -> list[str]:
    """Paths of the modules that thop counts products in, each module once."""
    from thop.profile import register_hooks

    known = {kind for kind in register_hooks if _family_of_type(kind) is not None}
    return [path for path, module in model.named_modules() if type(module) in known]


def explain(ours: Ours, theirs: Answer) -> Iterator[Reason]:
    """What stands outside of thop's modules, what it counts again at every place, and its own formulas."""
    inside: Counter[str] = Counter()
    again: Counter[str] = Counter()
    own: Counter[tuple[str, str]] = Counter()
    by_module: dict[int, list[str]] = {}
    for path in theirs.places:
        by_module.setdefault(id(ours.model.get_submodule(path)), []).append(path)
    for path, figure in ours.inside.items():
        module = ours.model.get_submodule(path)
        name = _family_of_type(type(module)) or ""
        inside[name] += figure
        found = [theirs.places[place][0] for place in by_module.get(id(module), ())]
        if len(found) > 1 and found[0] == len(found) * figure:  # it is hooked once for every place, and added at each
            again[name] += sum(found) - figure
        elif found:
            own[name, _own_formula(module)] += figure - sum(found)
    for name, total in ours.macs.items():
        yield Reason(name, total - inside[name], ELSEWHERE[name])
    for name, figure in again.items():
        yield Reason(name, -figure, "thop counts a shared module again for every place")
    for (name, text), figure in own.items():
        if text:
            yield Reason(name, figure, text)


def _own_formula(module: nn.Module) -> str:
    """In what thop's figure for a module is known not to be its multiply-adds."""
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return "thop counts transposed convolutions by their output"
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return "thop counts the gates and biases of recurrent layers too"
    return ""


def recurrent(ours: Ours) -> int:
    """Our MACs within recurrent modules that stand there as other products, step by step."""
    kinds = (nn.RNNBase, nn.RNNCellBase)
    within = sum(n for path, n in ours.inside.items() if isinstance(ours.model.get_submodule(path), kinds))
    return within - ours.macs.get("recurrent", 0)


def explain_parameters(ours: Ours, theirs: Answer) -> str:
    """Which parameters thop misses, and which it counts again; empty where that is not the difference."""
    counted: dict[int, int] = {}  # id(parameter) -> how often
    for path, (_, number) in theirs.places.items():
        for parameter in ours.model.get_submodule(path).parameters() if number else ():
            counted[id(parameter)] = counted.get(id(parameter), 0) + 1
    names = dict(ours.model.named_parameters())
    missed = {name: p.numel() for name, p in names.items() if id(p) not in counted}
    again = sum((counted[id(p)] - 1) * p.numel() for p in names.values() if id(p) in counted)
    if sum(p.numel() for p in names.values()) - theirs.parameters != sum(missed.values()) - again:
        return ""
    said = []
    if missed:
        first = next(iter(missed)).removeprefix("model.")
        said.append(
            f"thop counts those of module types that it knows and misses {sum(missed.values()):,} of bare parameters, "
            f"embeddings and other modules, {first} first"
        )
    if again:
        said.append(f"thop counts {again:,} of shared modules again at every place")
    return " and ".join(said)
