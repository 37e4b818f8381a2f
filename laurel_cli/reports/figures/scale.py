"""The axis of a cost: 0, 0.003 % and 4.37 % on one line, each at its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import Locator

WIDE = 30.0  # above this ratio of the largest to the smallest cost the axis is logarithmic beyond the smallest
TICKS = 6


def cost_axis(axes: Axes, values: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> None:
    """Scale, limits and ticks for costs in percent; intervals may be infinite.

    Linear around zero up to the decade of the smallest positive cost, logarithmic beyond it; linear alone where the
    costs are of one size or negative ones are among them.
    """
    ends = [end for end in (*values, *lows, *highs) if math.isfinite(end)]
    positive = [value for value in values if value > 0]
    if not positive or min(ends) < 0 or max(positive) / min(positive) < WIDE:
        low, high = min([0.0, *ends]), max([0.0, *ends])
        margin = 0.08 * (high - low or 1.0)
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(_nice())
        axes.xaxis.set_major_formatter(lambda value, _: plain(value))
        return
    least, most = 10.0 ** math.floor(math.log10(min(positive))), max(ends)
    axes.set_xscale("symlog", linthresh=least, linscale=0.7)
    axes.set_xlim(-0.35 * least, most * 2.2)
    decades = range(round(math.log10(least)), math.floor(math.log10(most)) + 1)
    step = math.ceil(len(decades) / TICKS)
    ticks = [0.0, *(10.0**k for k in decades if (decades[-1] - k) % step == 0)]
    axes.set_xticks(ticks, [plain(tick) for tick in ticks])
    axes.minorticks_off()


def plain(value: float) -> str:
    """`0.0001`, never `1e-04`; no digit that is rounding."""
    rounded = Decimal(f"{value:.6g}")
    return format(rounded.normalize(), "f") if rounded else "0"


def _nice() -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(TICKS, steps=[1, 2, 2.5, 5, 10])
