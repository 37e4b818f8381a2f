"""Which matrices of a model are maps inside it: neither embeddings nor what gives its logits, whatever module has them.

A trace of a forward pass says what a parameter is multiplied with, so that a map counts whether it is an `nn.Linear`,
the Conv1D of transformers' GPT-2, or a parameter that code of its own multiplies.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from laurel_cli.models.inputs import Inputs
from laurel_cli.models.run import fake_or_real
from laurel_cli.residual.channels import RECURRENT
from laurel_cli.residual.operators import CONVOLUTIONS, PRODUCTS
from laurel_cli.residual.trace import trace

MAPS = PRODUCTS | CONVOLUTIONS | RECURRENT


class _Answering(nn.Module):
    """A model that gives its logits alone."""

    def __init__(self, model: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.call = model, call

    def forward(self, batch: Tensor) -> Tensor:
        return self.call(self.model, batch)


def hidden(model: nn.Module, call: Callable[[nn.Module, Tensor], Tensor], example: Tensor) -> frozenset[str]:
    """Names of the matrices, (out, in) or (in, out), that are multiplied with activations and used in no other way.

    The last products before the logits are left out, and so is an embedding that gives the logits too.

    Args:
        model: left as it was.
        call: gives its logits of a batch.
        example: a batch.

    Raises:
        Exception: what the model raises on it.
    """
    whole, inputs = _Answering(model, call), Inputs((example,))
    found, _ = fake_or_real(whole, lambda real: trace(whole, inputs, real=real))
    nodes = found.nodes
    last: set[int] = set()
    waiting = list(found.kept)
    while waiting:  # back from the logits, to the first products on every way
        index = waiting.pop()
        if index not in last:
            last.add(index)
            waiting += () if nodes[index].op in MAPS else nodes[index].inputs
    inside: set[str] = set()
    others: set[str] = set()
    for node in nodes:
        if node.active:
            names = (name for i in node.inputs for name in nodes[i].parameters)
            (inside if node.op in MAPS and node.index not in last else others).update(names)
    matrices = {name for name, own in whole.named_parameters() if own.dim() == 2}
    return frozenset(name.removeprefix("model.") for name in matrices & (inside - others))
