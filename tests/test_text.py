"""Numbers as text: nothing is lost, nothing that is not zero looks like zero."""

import math

import pytest

from laurel_cli import text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0 %"),
        (4.371337, "4.3713 %"),
        (100 * 32 / 25_557_032, "0.000125 %"),
        (1e-9, "0.000000001 %"),
        (0.00999, "0.00999 %"),
        (0.01, "0.0100 %"),
        (-0.5, "-0.5000 %"),
        (1234.5, "1,234.5000 %"),
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_percent(value, expected):
    assert text.percent(value) == expected


@pytest.mark.parametrize("exponent", range(-12, 6))
def test_a_percentage_that_is_not_zero_is_never_shown_as_zero(exponent):
    for mantissa in (1.0, 1.005, 4.9, 5.1, 9.996):
        value = mantissa * 10.0**exponent
        shown = float(text.percent(value).removesuffix(" %").replace(",", ""))
        assert shown == pytest.approx(value, rel=0.01)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (99_999, "99,999"),
        (999_999, "1.0000 M"),
        (4_089_184_256, "4.0892 G"),
        (-102_760_448, "-102.76 M"),
        (10**27, "1,000.0 Y"),
        (None, "-"),
    ],
)
def test_amount(value, expected):
    assert text.amount(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 B"), (9_999, "9,999 B"), (90_494_976, "86.303 MiB"), (2**40, "1.0000 TiB"), (None, "-")],
)
def test_size(value, expected):
    assert text.size(value) == expected


@pytest.mark.parametrize("digits", range(1, 22))
def test_amounts_are_within_five_digits(digits):
    value = int("987654321" * 3) // 10 ** (27 - digits)
    number, _, unit = text.amount(value).partition(" ")
    power = ("", "k", "M", "G", "T", "P", "E", "Z").index(unit)
    assert float(number.replace(",", "")) * 1000**power == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize(
    ("value", "expected"), [(1.8182, "1.82x"), (34_912.0, "34,912x"), (0.004, "0.004x"), (12.0, "12.00x"), (None, "-")]
)
def test_times(value, expected):
    assert text.times(value) == expected


def test_visible_escapes_what_cannot_be_printed():
    assert text.visible("a\x1b[31m\n\t\u202eé\udcff") == "a\\x1b[31m\\n\\t\\u202eé\\udcff"
    assert text.visible("plain [red] | <b>") == "plain [red] | <b>"


@pytest.mark.parametrize(
    ("value", "signed", "shown"),
    [
        (0.81234, False, "0.8123"),
        (2.5, True, "+2.5000"),
        (-0.00149, True, "-0.0015"),
        (-0.0000557, True, "-0.000056"),
        (0.0, True, "0.0000"),
        (math.inf, True, "-"),
        (math.nan, False, "-"),
        (None, False, "-"),
    ],
)
def test_a_loss_or_difference(value, signed, shown):
    assert text.figure(value, signed) == shown


def test_an_interval_without_an_end_is_none():
    assert text.interval(-0.02, 0.01, signed=True) == "[-0.0200, +0.0100]"
    assert text.interval(-math.inf, math.inf) == text.interval(None, None) == text.interval(0.0, None) == "-"


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (0.8642, 0.8123, 0.9187, "0.864 [0.812, 0.919]"),
        (1.3, 0.3, 5.9, "1.3 [0.3, 5.9]"),
        (1.04, 1e-9, 1.7e26, "1.0 [under 0.001, over 1,000]"),
        (1.2, 0.004, 9.0, "1.2 [0.004, 9.0]"),
        (1.2, 0.03, 9.0, "1.2 [0.03, 9.0]"),
        (2e5, 1.5e4, 1e7, "over 1,000 [over 1,000, over 1,000]"),
        (1.2136, None, 2.0, "1.21 [unknown]"),
        (1.2136, 0.0, math.inf, "1.21 [unknown]"),
        (5e12, None, None, "over 1,000 [unknown]"),
    ],
)
def test_factors(value, low, high, said):
    assert text.factor(value, low, high) == said
