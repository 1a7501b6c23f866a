"""Factors that units have in common are found, and what they are found for is exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.artifact.common_factor import common_factor


@given(
    st.lists(st.tuples(st.integers(1, 511), st.integers(-6, 0)), min_size=2, max_size=40),
    st.floats(1.0, 2.0),
    st.integers(-300, 300),
)
def test_gains_of_few_bits_times_a_step(gains, step, power):
    numbers = np.array([whole * 2.0**shift for whole, shift in gains])
    values = numbers * (step * 2.0**power)
    found = common_factor(values)
    assert found is not None
    assert found[0].dtype == np.float16
    assert (found[0].astype(np.float64) * found[1]).tobytes() == values.tobytes()


@given(st.lists(st.floats(allow_nan=True), max_size=12))
def test_whatever_is_found_is_exact(drawn):
    values = np.array(drawn, dtype=np.float64)
    with np.errstate(all="raise"):
        found = common_factor(values)
    if found is not None:
        assert (found[0].astype(np.float64) * found[1]).tobytes() == values.tobytes()


def test_the_shape_stays():
    numbers, factor = common_factor(np.full((2, 3, 1), 0.1))
    assert numbers.shape == (2, 3, 1)
    assert (numbers.astype(np.float64) * factor == 0.1).all()


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).random(50),
        np.array([0.1, -0.1]),
        np.array([0.0, 0.1]),
        np.array([1.0, np.inf]),
        np.array([1.0, np.nan]),
        np.array([1.0, 2.0**-40]),
        np.array([1e-310, 1e-310]),
        np.array(0.1),
        np.zeros(0),
    ],
)
def test_values_without_a_factor(values):
    assert common_factor(values) is None
