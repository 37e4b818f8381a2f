"""What may stand in the place of a residual connection's addition, LAuReL's formulas and others: as data, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch

    from laurel_cli.laurel.addition import LearnedSum
    from laurel_cli.laurel.plan import Placement
    from laurel_cli.residual.find import Connection

Starts = Literal["exact", "near", "to scale", "no"]


@dataclass(frozen=True)
class Added:
    """What one call of a layer adds to its addition: parameters, FLOPs of products (2 a multiply-add), elementwise."""

    parameters: int
    flops: int
    elementwise_flops: int

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return self.flops // 2


class Formula(Protocol):
    """How the two operands of an addition become one value, with all that fixes its parameters and their start.

    Attributes:
        name: of the arm; `family` of all arms that differ in a rank or a setting alone: one colour in figures.
        form: equal for formulas that cost the same.
        plain: the same formula with what does not matter to it at its default, so that equal formulas are equal.
        described: what `laurel analyze` says of it.
        is_identity: whether it is the ordinary residual, so that nothing is replaced.
        reads_history: whether it reads what was remembered at earlier connections of its stream.
        lags: how many connections its cost depends on, the current one among them; None for all of the stream.
        keeps: entries of the history at one time, the current one among them; None for all.
        per: one layer for every connection or one for every block.
        numbered: whether it depends on the connection's number, so that places which share a layer cannot have it.
        nowhere: what a model lacks in which it has no place at all.
        starts: as the baseline: exactly, "near" it, but for a scale that norms take away ("to scale"), or not; `note`
            says so where it does not start exactly as the baseline.
    """

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def form(self) -> tuple[Any, ...]: ...
    @property
    def plain(self) -> Formula: ...
    @property
    def described(self) -> dict[str, Any]: ...
    @property
    def is_identity(self) -> bool: ...
    @property
    def reads_history(self) -> bool: ...
    @property
    def lags(self) -> int | None: ...
    @property
    def keeps(self) -> int | None: ...
    @property
    def per(self) -> Literal["connection", "block"]: ...
    @property
    def numbered(self) -> bool: ...
    @property
    def nowhere(self) -> str: ...
    @property
    def starts(self) -> Starts: ...
    @property
    def note(self) -> str: ...

    def lags_at(self, position: int) -> int:
        """History entries that the connection at `position` of its stream (from 0) reads; the first have fewer."""
        ...

    def held(self, position: int) -> int:
        """Tensors of the sum's size that the history holds before that connection, beyond its own input."""
        ...

    def places(self, connections: Sequence[Connection]) -> Mapping[str, Formula | str]:
        """What of it stands at which connections, by their names.

        Args:
            connections: all that can be replaced.

        Returns:
            The formula there; a reason, in words that end a sentence, where it should stand and cannot; nothing of a
            connection that it leaves ordinary by its nature.
        """
        ...

    def parameters(self, width: int, lags: int) -> int:
        """Parameters of one layer, by its equation."""
        ...

    def added(self, placement: Placement, lags: int) -> Added:
        """What one call of the layer at `placement` adds, by its equation; the layer holds parameters for `lags`."""
        ...

    def layer(
        self,
        width: int,
        shape: tuple[int, ...],
        channel_dim: int,
        skip: int,
        *,
        lags: int,
        number: int,
        scores: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> LearnedSum:
        """The layer itself, not yet started; `number` counts the connections of its stream from 1."""
        ...

    def remarks(self, placements: Sequence[Placement]) -> list[str]:
        """What the user must know of these placements."""
        ...


def has_channels(connection: Connection) -> bool:
    """Whether a dimension is known to hold the channels, and the skip, which may be broadcast, has all of them."""
    if connection.channels != "known":
        return False
    skip, dim = connection.skip_shape, connection.channel_dim
    if len(skip) != len(connection.shape) and dim != len(connection.shape) - 1:
        return False
    return bool(skip) and skip[dim - len(connection.shape)] == connection.width
