import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.report.view.numbers import cost, count, decimal, digits, energy, percent, points, ratio, scale, times

PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "m": 1e-3, "µ": 1e-6, "n": 1e-9, "p": 1e-12}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (640, "640"), (999.6, "1,000"), (999_600, "1.00 M"), (999_400, "999 k"), (29_325_312, "29.3 M"),
        (1.402, "1.40"), (-1500, "−1.50 k"), (0.0369, "0.0369"),
    ],
)  # fmt: skip
def test_counts(value, text):
    assert count(value) == text


def test_units():
    assert count(55_296, "B") == "55.3 kB"
    assert count(12, "B") == "12 B"
    assert energy(24.9e6) == "24.9 µJ"
    assert energy(999.96e3) == "1.00 µJ"
    assert energy(0.25) == "250 fJ" or energy(0.25) == "0.250 pJ"
    assert energy(0) == "0 J"
    assert cost(2.5e6, "pJ") == "2.50 µJ"
    assert cost(2.5e6, "bit pairs") == "2.50 M"
    assert scale(24.9e6, "pJ") == (pytest.approx(1e6), "µJ")
    assert scale(29.3e6, "bit pairs") == (pytest.approx(1e6), "M bit pairs")
    assert scale(0, "pJ")[1] == "J"


@given(st.floats(1e-3, 1e17))
def test_counts_keep_three_digits(value):
    found = re.fullmatch(r"([\d,.]+) ?([kMGTP]?)", count(value))
    assert float(found[1].replace(",", "")) * PREFIXES[found[2]] == pytest.approx(value, rel=0.0051)


@given(st.floats(1e-2, 1e17))
def test_energies_keep_three_digits(picojoules):
    found = re.fullmatch(r"([\d,.]+) ([pnµmkMGT]?)J", energy(picojoules))
    assert float(found[1]) * PREFIXES[found[2]] == pytest.approx(picojoules * 1e-12, rel=0.0051)


def test_only_all_and_nothing_read_so():
    assert [percent(share, 2) for share in (0, 1e-7, 0.5, 1 - 1e-7, 1)] == [
        "0 %", "< 0.01 %", "50.00 %", "> 99.99 %", "100 %"
    ]  # fmt: skip
    assert percent(None) == "–"
    assert percent(0.0004) == "< 0.1 %"


@given(st.floats(0, 1), st.integers(0, 3))
def test_percentages_are_right(share, places):
    text = percent(share, places)
    value = float(re.search(r"[\d.]+", text)[0])
    edge = 10.0**-places
    if text.startswith("<"):
        assert 0 < 100 * share < value == edge
    elif text.startswith(">"):
        assert value < 100 * share < 100
    else:
        assert math.isclose(value, 100 * share, abs_tol=0.5001 * edge)


def test_signs_and_missing_values():
    assert points(-0.0037) == "−0.37"
    assert points(0.0037) == "+0.37"
    assert decimal(None, 1) == "–"
    assert decimal(-3.04, 1) == "−3.0"
    assert digits(math.inf) == "∞"
    assert digits(4.1e-7) == "4.10e−07"
    assert times(ratio(3, 2)) == "1.50×"
    assert times(ratio(3, 0)) == "–"
