"""Distillation: the model also learns from what a trained teacher answers to the same batch.

Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laurel_cli.models.inputs import Inputs
from laurel_cli.proxy.recipe import Distillation


@dataclass(frozen=True)
class Teacher:
    """A trained model that answers and does not learn.

    Attributes:
        model: in eval mode, without gradients.
        call: (model, batch) -> logits, of the shape of the student's.
        inputs: an example, in the form in which its own forward takes it.
        choice: how much its answers count.
    """

    model: nn.Module
    call: Callable[[Any, Tensor], Tensor]
    inputs: Inputs
    choice: Distillation

    @torch.no_grad()
    def answer(self, inputs: Tensor) -> Tensor:
        """Its logits for a batch of the student's inputs."""
        return self.call(self.model, inputs)


def loss(logits: Tensor, taught: Tensor, targets: Tensor, choice: Distillation) -> Tensor:
    """(1 - s) CE(z, y) + s T^2 KL(softmax(t / T) || softmax(z / T)), z the student's logits, t the teacher's.

    The paper has the cross-entropy with the teacher's probabilities in the place of the divergence: that is the same
    but for the teacher's entropy, which has no gradient. T^2 keeps the two terms' gradients in proportion.

    Args:
        logits, taught: (..., classes).
        targets: (...), the right classes.
        choice: T and s.

    Returns:
        A scalar in float32, the mean over all positions.
    """
    z, t = logits.flatten(0, -2).float(), taught.flatten(0, -2).float()
    hard = F.cross_entropy(z, targets.flatten())
    temperature, share = choice.temperature, choice.share
    soft = F.kl_div(
        (z / temperature).log_softmax(-1), (t / temperature).log_softmax(-1), reduction="batchmean", log_target=True
    )
    return (1 - share) * hard + share * temperature**2 * soft
