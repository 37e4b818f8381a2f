"""What the functions of the public API answer with: arms by name, a frame, a document, a table in a notebook."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from laurel_cli.records.canonical import plain

if TYPE_CHECKING:
    from dataclasses import Field

    import pandas as pd


class Named(Protocol):
    """Figures of something that has a name: a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def name(self) -> str:
        """What it is asked for by."""


F = TypeVar("F", bound=Named)


class Result(Generic[F]):
    """An answer. A class of answers has its `document` and its `figures`; the rest follows."""

    def document(self) -> dict[str, Any]:
        """The JSON document of the command of the same name."""
        raise NotImplementedError

    def figures(self) -> Sequence[F]:
        """What the frame has a row of each, in the order of the tables."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The document as JSON values: None for what is not known or no number."""
        document: dict[str, Any] = plain(self.document())
        return document

    def to_json(self) -> str:
        """The document as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_frame(self) -> pd.DataFrame:
        """A row each, by name; the columns are the figures."""
        from pandas import DataFrame

        return DataFrame([asdict(one) for one in self.figures()]).set_index("name")

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html())


class ResultOfArms(Result[F]):
    """An answer on arms."""

    def arm(self, name: str) -> F:
        """The figures of one arm.

        Args:
            name: as the tables have it, "rw+lr@16".

        Raises:
            KeyError: there is no such arm, or more than one.
        """
        figures = self.figures()
        found = [one for one in figures if one.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise KeyError(f"{name!r} stands in several comparisons: ask for one model or study")
        raise KeyError(f"{name!r} is none of {', '.join(dict.fromkeys(one.name for one in figures))}")
