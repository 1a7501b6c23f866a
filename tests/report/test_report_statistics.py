import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.report.statistics import decibels, paired_difference_ci95, proportion_ci95

COUNTS = st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500)).filter(lambda c: sum(c) > 0)


def test_two_networks_that_never_disagree():
    """(c − b) = 0, half width 1.96·√1 / 102."""
    low, high = paired_difference_ci95(0, 0, 100)
    assert low == pytest.approx(-0.0192153, abs=1e-7)
    assert high == pytest.approx(0.0192153, abs=1e-7)


def test_the_approval_ratings_of_agresti_and_min():
    """1600 people, 150 changed to disapproval and 86 to approval: 64/1602 ± 1.96·√(237 − 64²/1602)/1602."""
    low, high = paired_difference_ci95(86, 150, 1600)
    assert low == pytest.approx(0.0212172, abs=2e-6)
    assert high == pytest.approx(0.0586829, abs=2e-6)


def test_the_interval_ends_at_one():
    low, high = paired_difference_ci95(0, 1, 1)
    assert high == 1.0
    assert low == pytest.approx(1 / 3 - 1.959964 * math.sqrt(5 / 3) / 3, abs=1e-6)


@given(COUNTS)
def test_swapping_the_networks_turns_the_sign(counts):
    b, c, rest = counts
    low, high = paired_difference_ci95(b, c, b + c + rest)
    swapped = paired_difference_ci95(c, b, b + c + rest)
    assert swapped == pytest.approx((-high, -low))


@given(COUNTS)
def test_the_interval_lies_around_the_shrunken_difference(counts):
    b, c, rest = counts
    total = b + c + rest
    low, high = paired_difference_ci95(b, c, total)
    centre = Fraction(c - b, total + 2)
    assert -1 <= low < centre < high <= 1


def test_more_images_narrow_the_interval():
    widths = [high - low for low, high in (paired_difference_ci95(n, n, 20 * n) for n in (1, 10, 100, 1000))]
    assert widths == sorted(widths, reverse=True)
    assert widths[2] / widths[3] == pytest.approx(math.sqrt(10), rel=0.05)


@pytest.mark.parametrize(
    ("both", "only_first", "only_second", "images"),
    [(0.9, 0.02, 0.01, 1000), (0.8, 0.1, 0.05, 200), (0.5, 0.1, 0.1, 60), (0.97, 0.01, 0.0, 300)],
)
def test_it_covers_the_truth_about_as_often_as_it_says(both, only_first, only_second, images):
    """Drawn tables: the true difference lies inside in at least 93 % of 4,000 experiments."""
    cells = [both, only_first, only_second, 1 - both - only_first - only_second]
    tables = np.random.default_rng(5).multinomial(images, cells, size=4000)
    truth = only_second - only_first
    inside = 0
    for _, b, c, _ in tables:
        low, high = paired_difference_ci95(int(b), int(c), images)
        inside += low <= truth <= high
    assert 0.93 <= inside / len(tables) <= 0.995


@pytest.mark.parametrize(("signal", "noise", "expected"), [(100, 1, 20), (1, 1, 0), (1, 1000, -30), (2, 1, 3.0103)])
def test_decibels_of_known_ratios(signal, noise, expected):
    assert decibels(signal, noise) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("signal", "noise"), [(0, 1), (1, 0), (0, 0)])
def test_decibels_without_signal_or_noise(signal, noise):
    assert decibels(signal, noise) is None


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.floats(1e-3, 1e3))
def test_decibels_do_not_depend_on_the_unit(signal, noise, unit):
    assert decibels(signal, noise) == pytest.approx(decibels(signal * unit, noise * unit), abs=1e-9)


class TestProportion:
    def test_known_values(self):
        """Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
        known = {
            (81, 263): (0.2553, 0.3662),
            (15, 148): (0.0624, 0.1605),
            (0, 20): (0, 0.1611),
            (1, 29): (0.0061, 0.1718),
        }
        for (successes, total), (low, high) in known.items():
            assert proportion_ci95(successes, total) == pytest.approx((low, high), abs=5e-5)

    @given(st.integers(1, 10_000), st.data())
    def test_holds_the_proportion_and_mirrors(self, total, data):
        successes = data.draw(st.integers(0, total))
        low, high = proportion_ci95(successes, total)
        assert 0 <= low <= successes / total + 1e-12
        assert successes / total - 1e-12 <= high <= 1
        assert low < high
        assert proportion_ci95(total - successes, total) == pytest.approx((1 - high, 1 - low))
