"""Figures of a report as words: gains in the unit of their metric, p-values, intervals, lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from laurel_cli import text
from laurel_cli.verdict.trials import STEPS

UNITS = {"loss": "nats", "accuracy": "points"}
UNKNOWN = "not known"
NO_INTERVAL = "(no interval)"  # measured, but in too few processes to tell how far off it is
LONGER = "Arms with :steps=FACTOR were trained so many times as long, which no cost here holds."
NOT_ALL = "(not all counted)"  # it has operators that no rule counts, beyond those of the baseline


def scaled(value: float, metric: str) -> float:
    """A figure as it is shown: accuracy in percent."""
    return 100 * value if metric == "accuracy" else value


def quality(found: Mapping[str, Any] | None, metric: str) -> str:
    """`75.20 +- 0.15` of a mean with its interval."""
    if found is None:
        return text.NOTHING
    middle = scaled(found["mean"], metric)
    if found["low"] is None:
        return f"{middle:.5g} {text.UNKNOWN_INTERVAL}"
    return text.plus_minus(middle, scaled(found["high"] - found["low"], metric) / 2)


def gain(effect: Mapping[str, Any] | None, metric: str, *, unit: bool = False) -> str:
    """`+0.25 [0.10, 0.40]` of a comparison, positive is better; with the unit `+0.25 nats [0.10, 0.40]`."""
    if effect is None:
        return text.NOTHING
    middle, low, high = (None if effect[k] is None else scaled(effect[k], metric) for k in ("gain", "low", "high"))
    said = f" {UNITS[metric]}" if unit else ""
    if middle is None or low is None or high is None:
        return text.NOTHING if middle is None else f"{middle:+.4g}{said} {text.UNKNOWN_INTERVAL}"
    half = (high - low) / 2
    ends = f"[{text.significant(low, half)}, {text.significant(high, half)}]"
    sign = "+" if middle >= 0 else ""
    return f"{sign}{text.significant(middle, half)}{said} {ends}"


def size(value: float, metric: str) -> str:
    """`0.24 nats`, `1.3 points`."""
    return f"{scaled(value, metric):.2g} {UNITS[metric]}"


def visible(found: Mapping[str, float], metric: str) -> str:
    """`0.16 to 0.38 nats, by arm (0.097 to 1.1 over the 95 % interval of the spread)`."""

    def both(least: str, most: str) -> str:
        ends = [f"{scaled(found[key], metric):.2g}" for key in (least, most)]
        return " to ".join(dict.fromkeys(ends))

    outer = both("low", "high")
    return f"{both('smallest', 'largest')} {UNITS[metric]}, by arm ({outer} over the 95 % interval of the spread)"


def ratio(found: Mapping[str, Any] | None) -> str:
    """`0.981 [0.962, 0.999]`, `0.981 (no interval)`: of times."""
    if found is None:
        return text.NOTHING
    low, high = found["low"], found["high"]
    ends = f"[{low:.3f}, {high:.3f}]" if low is not None and high is not None else NO_INTERVAL
    return f"{found['median']:.3f} {ends}"


def gain_at(effect: Mapping[str, Any] | None, metric: str) -> str:
    """`+0.25 nats [0.10, 0.40] at 98.8 %`."""
    said = gain(effect, metric, unit=True)
    known = effect is not None and effect["low"] is not None and effect["high"] is not None
    return f"{said} at {level(effect['level'])}" if effect is not None and known else said


def p_value(p: float | None) -> str:
    """`p = 0.48`, `p < 0.001`."""
    return "p = -" if p is None else f"p {short_p(p, '= ')}"


def short_p(p: float | None, equals: str = "") -> str:
    """`0.48`, `< 0.001`."""
    if p is None:
        return text.NOTHING
    return "< 0.001" if p < 0.001 else f"{equals}{p:.2g}" if p < 0.9995 else f"{equals}1"


def cost(found: Mapping[str, Any] | None) -> str:
    """`+1.6800 %` of what is exact; `+1.7 % [0.1, 3.4]` of what was measured, `+1.7 % (no interval)` in one process."""
    if found is None or found.get("percent") is None:
        return text.NOTHING
    return " ".join(filter(None, _cost(found)))


def price(found: Mapping[str, Any], name: str) -> str:
    """`+1.6800 % parameters`, `+6.1 % latency ([3.1, 9.1] at 95 %)`, `+29 % latency (no interval)`."""
    if found.get("percent") is None:
        return f"{text.NOTHING} {name}"
    middle, ends = _cost(found)
    ends = f"({ends} at {level(found['level'])})" if ends.startswith("[") else ends
    return " ".join(filter(None, (middle, name, ends)))


def _cost(found: Mapping[str, Any]) -> tuple[str, str]:
    """A figure in percent, and its interval: "" of what is exact."""
    middle = float(found["percent"])
    low, high = found.get("low"), found.get("high")
    if low == middle == high:
        return signed_percent(middle), ""
    if low is None or high is None:
        return f"{middle:+.2f} %", NOT_ALL if found.get("lower_bound") else NO_INTERVAL
    middle_text, *ends = (text.significant(value, (high - low) / 2) for value in (middle, low, high))
    return f"{_sign(middle)}{middle_text} %", f"[{', '.join(ends)}]"


def milliseconds(value: float | None) -> str:
    """`4.719`, `1,113`."""
    return text.NOTHING if value is None else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def signed_percent(value: float | None) -> str:
    """`+1.6800 %`, `0 %`."""
    return text.NOTHING if value is None else _sign(value) + text.percent(value)


def share(found: Mapping[str, Any] | None) -> str:
    """`60 % [35, 92] at 96.4 %` of the gain of another arm."""
    if found is None:
        return UNKNOWN
    said = f"{100 * found['value']:.0f} %"
    if found["low"] is None or found["high"] is None:
        return said
    return f"{said} [{100 * found['low']:.0f}, {100 * found['high']:.0f}] at {level(found['level'])}"


def saving(found: Mapping[str, Any] | None) -> str:
    """`2.60x (at least 1.07x)`, `1.56x [1.04x, 2.08x]`, `at least 1.83x`; else `not known`."""
    if found is None:
        return UNKNOWN
    middle = text.times(found["times"])
    low, high = (None if found[key] is None else text.times(found[key]) for key in ("low", "high"))
    if high is None and low == middle:
        return f"at least {low}"
    middle += " or more" if found["at_least"] else ""
    if high is None:
        return f"{middle} (at least {low})"
    return f"{middle} [{low}, {high}]" if found["low"] else f"{middle} (at most {high})"


def steps(found: Mapping[str, Any] | None) -> str:
    """`35 [10, 61]`, `at least 10`: steps of training that the baseline would need beyond its own."""
    if found is None:
        return UNKNOWN
    lead = "more than " if found["at_least"] else ""
    low, high = found["low"], found["high"]
    ends = f", at least {low:,.0f}" if high is None and low is not None else ""
    ends = f" [{low:,.0f}, {high:,.0f}]" if high is not None and low is not None else ends
    return f"{lead}{found['mean']:,.0f}{ends}"


def level(value: float | None) -> str:
    """`98.8 %`: of an interval."""
    return text.NOTHING if value is None else f"{100 * value:.4g} %"


def trials(counts: Mapping[str, int]) -> str:
    """`5`, `3, 2 diverged`."""
    parts = [str(counts.get("complete", 0))]
    parts += [f"{counts[state]} {state}" for state in ("diverged", "failed") if counts.get(state)]
    return ", ".join(parts)


def listed(items: Sequence[str], most: int = 8) -> str:
    """`a, b and c`; `a, b and 5 more` where there are many."""
    shown = list(items)
    if len(shown) > most:
        shown = [*shown[: most - 1], f"{len(items) - most + 1:,} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "none"


def _sign(value: float) -> str:
    return "+" if value > 0 else ""


def trained_longer(names: Iterable[str]) -> list[str]:
    """What is to be said beside the costs of these arms where some of them had more steps than the baseline."""
    return [LONGER] if any(STEPS in name for name in names) else []
