"""Conditions under which a report fails, for CI: `added_parameters_percent > 2`, `rw+lr@16: gain < 0.01`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from laurel_cli.arms import kind_of
from laurel_cli.errors import UsageError
from laurel_cli.reports.rows import columns, is_of_studies
from laurel_cli.text import shortened

OPERATORS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_SIGN = re.compile(">=|<=|==|!=|>|<")


@dataclass(frozen=True)
class FailCondition:
    """One condition; `arm` None is every LAuReL, rival and other model: no baseline, naive scaling or control."""

    text: str
    arm: str | None
    column: str
    sign: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> FailCondition:
        """Read `[ARM:] COLUMN OPERATOR NUMBER`.

        Raises:
            UsageError: it reads as something else.
        """
        signs = list(_SIGN.finditer(text))
        left, right = (text[: signs[-1].start()], text[signs[-1].end() :]) if signs else ("", "")
        arm, colon, column = left.rpartition(":")
        arm, column, limit = arm.strip(), column.strip(), _number(right.strip().removesuffix("%"))
        if limit is None or not re.fullmatch(r"\w+", column) or (colon and not arm):
            shown = shortened(text)
            raise UsageError(
                f"`fail_if={shown!r}` is no condition.",
                "It is COLUMN OPERATOR NUMBER, with ARM: before it for one arm alone.",
                "Try `fail_if='added_parameters_percent > 2'`.",
            )
        return cls(text.strip(), arm or None, column, signs[-1].group(), limit)

    def tripped(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """A phrase for each arm that meets the condition.

        Raises:
            UsageError: no row has that column, no arm that name, or the figure is not known of an arm that it should be
                known of: of none at all, or, of a figure of studies, of one that was trained.
        """
        known = columns(list(rows))
        if self.column not in known:
            close = get_close_matches(self.column, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else "They are the columns of the report as CSV."
            raise UsageError(f"`fail_if`: there is no column {self.column!r} with numbers in this report.", hint=hint)
        if self.arm is None:
            chosen = [row for row in rows if _is_asked(row) and row["role"] in (None, "arm")]
        else:
            chosen = [row for row in rows if row["arm"] == self.arm]
            if not chosen:
                close = get_close_matches(self.arm, [row["arm"] for row in rows], n=1)
                hint = f"Did you mean {close[0]}?" if close else ""
                raise UsageError(f"`fail_if`: there is no arm {self.arm!r} in this report.", hint=hint)
        valued = [row for row in chosen if row.get(self.column) is not None]
        if not valued:
            raise UsageError(
                f"`fail_if`: {self.column} is not known of {self.arm or 'any arm'}.",
                "A gate must not pass unseen.",
            )
        compare = OPERATORS[self.sign]
        found = [f"{row['arm']} has {row[self.column]:.6g}" for row in valued if compare(row[self.column], self.limit)]
        unseen = [row for row in chosen if row["role"] == "arm" and row.get(self.column) is None]
        if unseen and not found and is_of_studies(self.column):
            said = ", ".join(f"{row['arm']} ({row['words'] or row['verdict']})" for row in unseen)
            raise UsageError(f"`fail_if`: {self.column} is not known of {said}.", "A gate must not pass unseen.")
        return found


def _number(text: str) -> float | None:
    """A finite number: every comparison with nan is false, so that such a gate would always pass."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _is_asked(row: Mapping[str, Any]) -> bool:
    """Whether an arm is one of those that a study asks about: no baseline, no copy, no naive scaling."""
    kind = kind_of(row["kind"])
    return not (kind.is_baseline or kind.is_scaling)
