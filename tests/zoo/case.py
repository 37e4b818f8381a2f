"""A model of the zoo: how to build it for real, small, and what to call it with."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from laurel_cli.models.fake import faked
from laurel_cli.models.inputs import Inputs

BATCH = 2  # one sample would leave batch norms nothing to normalise
FAMILIES = ("torchvision", "timm", "transformers", "outside")


@dataclass(frozen=True)
class Candidate:
    """One way to build and call a model: the first that runs is taken, so the smallest inputs come first."""

    build: Callable[[], nn.Module]
    inputs: Callable[[nn.Module], Inputs]


@dataclass(frozen=True)
class Case:
    """A model of the sweep.

    Attributes:
        name: "family:model", unique in the sweep.
        candidates: ways to build and call it.
        note: in what it is not the library's own default.
    """

    name: str
    candidates: Callable[[], Iterator[Candidate]]
    note: str = ""

    @property
    def family(self) -> str:
        """The library that it comes from."""
        return self.name.partition(":")[0]


class DoesNotRunError(Exception):
    """No candidate of a case runs: a fault of the sweep, not of what it checks."""


def first_that_runs(case: Case) -> tuple[nn.Module, Inputs]:
    """Build the first candidate whose forward runs in training mode, and what to call it with.

    Raises:
        DoesNotRunError: none does; every candidate's own error is given.
    """
    reasons = []
    for candidate in case.candidates():
        try:
            model, inputs = _rehearse(candidate)
        except Exception as error:  # noqa: BLE001 - whatever a forward may raise on an image too small
            first_line = (str(error).strip().splitlines() or [""])[0]
            reasons.append(f"{type(error).__name__}: {first_line}")
            continue
        return model, inputs
    raise DoesNotRunError("; ".join(dict.fromkeys(reasons)) or "no candidate")


def image(size: int, channels: int = 3) -> torch.Tensor:
    """A batch of square images."""
    return noise(BATCH, channels, size, size)


def noise(*shape: int) -> torch.Tensor:
    """Normal numbers, the same every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def tokens(length: int, vocabulary: int, seed: int = 1, lowest: int = 3) -> torch.Tensor:
    """A batch of token ids, the same every time, none of them a special one."""
    return torch.randint(lowest, vocabulary, (BATCH, length), generator=torch.Generator().manual_seed(seed))


def _rehearse(candidate: Candidate) -> tuple[nn.Module, Inputs]:
    """Build the model for real, after a run on fake tensors; where those do not do, it is run for real."""
    meta = _on_meta(candidate)
    if meta is not None:
        inputs = candidate.inputs(meta)
        try:
            with torch.no_grad(), faked(meta.train(), inputs) as given:
                given.call(meta)
            return _build(candidate), inputs
        except Exception as error:  # a forward may raise anything on an image too small
            if not _needs_values(error):
                raise
    model = _build(candidate)
    inputs = candidate.inputs(model)
    with torch.no_grad():
        inputs.call(model.train())
    return model, inputs


def _needs_values(error: Exception) -> bool:
    """Whether a run failed for being fake: its control flow or its shapes depend on values, or it moves its layers."""
    fake = (DataDependentOutputException, DynamicOutputShapeException)
    return isinstance(error, fake) or "Couldn't swap" in str(error)


def _on_meta(candidate: Candidate) -> nn.Module | None:
    try:
        with torch.device("meta"):
            return _build(candidate)
    except Exception:  # noqa: BLE001 - some constructors read their weights
        return None


def _build(candidate: Candidate) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        return candidate.build()
