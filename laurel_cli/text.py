"""Values as people read them: no number cut short, nothing shown as zero that is not, no hostile character live."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from math import floor, isfinite, log10

NOTHING = "-"
UNKNOWN_INTERVAL = "[unknown]"  # beside a figure that stands alone, so that nobody takes it for an exact one
_ENDLESS = re.compile(r"\S{401,}")  # longer than paths are


def visible(text: str) -> str:
    """`text` with control, bidirectional and other unprintable characters escaped: `\\x1b`, `\\n`, `\\u202e`."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def message(error: BaseException) -> str:
    """What an exception says; "" where asking it fails, since a user's class may do anything."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - its own __str__ may raise or exit
        return ""


def first_line(error: BaseException) -> str:
    """The error's type and the first line that says something, with the next one where it ends in a colon."""
    lines = [line.strip() for line in message(error).splitlines() if line.strip()]
    said = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def whole_number(text: str) -> int | None:
    """The number that digits write out, spaces around them or not; None where it is none that anything is counted by.

    Of digits of other scripts and of superscripts, which `str.isdigit` takes, `int` reads some; of more than 18 digits
    nothing here has as many.
    """
    text = text.strip()
    digits = text.lstrip("0")  # `int` refuses thousands of zeros as it does other digits
    return int(digits or "0") if text.isascii() and text.isdigit() and len(digits) <= 18 else None


def signed_number(text: str) -> int | None:
    """As `whole_number`, with a minus before it or not."""
    digits = text.strip()
    number = whole_number(digits.removeprefix("-"))
    return -number if number is not None and digits.startswith("-") else number


def shortened(text: str, most: int = 60) -> str:
    """`text` where it has so many characters at most, else its beginning."""
    return text if len(text) <= most else text[:most] + "..."


def readable(sentence: str) -> str:
    """A sentence without its endless words: what was typed or is a file's name may have thousands of characters."""
    return _ENDLESS.sub(lambda word: f"{shortened(word[0])} ({len(word[0]):,} characters)", sentence)


def ascii_only(text: str) -> str:
    """`text` with everything beyond ASCII escaped."""
    return text.encode("ascii", "backslashreplace").decode("ascii")


def words(value: object) -> str:
    """Any value as it is, a dash for nothing."""
    return NOTHING if value is None or value == "" else str(value)


def count(value: float | None) -> str:
    """A whole number, exact, with thousands separators."""
    if value is None or not isfinite(value):
        return NOTHING
    return f"{value:,}" if value == int(value) else f"{value:,.2f}"


def amount(value: float | None) -> str:
    """A large number with five significant digits: 4.0892 G; exact below 100,000."""
    if value is None or not isfinite(value) or abs(value) < 100_000:
        return count(value)
    return _scaled(value, 1000, ("", "k", "M", "G", "T", "P", "E", "Z", "Y"))


def size(value: float | None) -> str:
    """A number of bytes: 86.301 MiB; exact below 10,000."""
    if value is None or not isfinite(value) or abs(value) < 10_000:
        return count(value) if value is None else f"{count(value)} B"
    return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))


def percent(value: float | None) -> str:
    """A percentage, four decimals, more where they would hide what it is: 4.3713 %, 0.000125 %."""
    if value is None or not isfinite(value):
        return NOTHING
    return f"{_digits(value, 4)} %"


def times(value: float | None) -> str:
    """A ratio: 1.82x, 34,912x."""
    if value is None or not isfinite(value):
        return NOTHING
    return f"{value:,.0f}x" if abs(value) >= 1000 else f"{_digits(value, 2)}x"


def figure(value: float | None, signed: bool = False) -> str:
    """A loss or a difference: four decimals; two significant digits below 0.001: 0.8123, +0.0021, -0.000056."""
    if value is None or not isfinite(value):
        return NOTHING
    plain = f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else format(Decimal(f"{value:.2g}"), "f")
    return ("+" if signed and value > 0 else "") + plain


def interval(low: float | None, high: float | None, signed: bool = False) -> str:
    """[0.8012, 0.8190]; nothing where an end is infinite."""
    if low is None or high is None or not (isfinite(low) and isfinite(high)):
        return NOTHING
    return f"[{figure(low, signed)}, {figure(high, signed)}]"


def shape(value: Sequence[object] | str | None) -> str:
    """A tensor's shape: 1x256x56x56."""
    if value is None:
        return NOTHING
    return value if isinstance(value, str) else "x".join(str(size) for size in value)


def plus_minus(value: float, half: float) -> str:
    """A mean with half of its interval, both to the second digit of the half: 2.9531 +- 0.0042."""
    if not isfinite(half) or half <= 0:
        return f"{value:.5g}"
    decimals = digits_after_point(half)
    return f"{value:,.{decimals}f} +- {half:,.{decimals}f}"


def factor(value: float, low: float | None, high: float | None) -> str:
    """A ratio with its interval: `0.86 [0.81, 0.92]`; a thousand or a thousandth is as far as figures go."""
    if low is None or high is None or not (isfinite(low) and isfinite(high)):
        return f"{value:.3g} {UNKNOWN_INTERVAL}" if value <= 1000 else f"over 1,000 {UNKNOWN_INTERVAL}"
    half = min((high - low) / 2, 5.0)
    return f"{_bounded(value, half)} [{_bounded(low, half)}, {_bounded(high, half)}]"


def _bounded(value: float, unit: float) -> str:
    if value > 1000:
        return "over 1,000"
    if 0 < value < unit / 20:  # `significant` would show a zero
        return f"{value:.1g}" if value >= 0.001 else "under 0.001"
    return significant(value, unit)


def significant(value: float, unit: float) -> str:
    """`value` with as many decimals as two digits of `unit`, its uncertainty, have."""
    return f"{value:,.{digits_after_point(unit)}f}"


def digits_after_point(unit: float) -> int:
    """Decimals that two significant digits of `unit` take, at most 12."""
    if not isfinite(unit) or unit == 0:
        return 4
    return min(12, max(0, 1 - floor(log10(abs(unit)))))


def _scaled(value: float, base: int, units: Sequence[str]) -> str:
    power = 0
    # 999,999 is to become 1 M, not 1000 k.
    while abs(float(f"{value / base**power:.5g}")) >= base and power < len(units) - 1:
        power += 1
    scaled = value / base**power
    decimals = max(0, 4 - (len(str(int(abs(scaled)))) - 1))
    return f"{scaled:,.{decimals}f} {units[power]}"


def _digits(value: float, decimals: int) -> str:
    """Fixed decimals, or three significant digits where fewer than three would be left."""
    if value == 0:
        return "0"
    if abs(value) >= 10.0 ** (2 - decimals):
        return f"{value:,.{decimals}f}"
    return format(Decimal(f"{value:.3g}").normalize(), "f")
