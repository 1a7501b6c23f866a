"""Thresholds of logarithmic words: exact errors against sums over values, and the step of the least one."""

import numpy as np
import pytest
import torch

from snnconvert.calibration.statistics.histogram import ValueHistogram
from snnconvert.calibration.thresholds.choice import Evidence, choose_threshold
from snnconvert.calibration.thresholds.mse import minimal_mse, quantization_mse, spanning
from snnconvert.neurons.logarithmic import LogarithmicCode
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.threshold import Threshold

CODES = [LogarithmicCode(1, width, base=base) for width in (2, 3, 4, 6, 8) for base in ("2", "sqrt2")]


def attention(tokens=100, spread=2.0):
    """Values of a softmax over Gaussian scores, [rows, tokens]."""
    scores = torch.randn(300, tokens, generator=torch.Generator().manual_seed(tokens)) * spread
    return scores.softmax(-1)


def histogram_of(values):
    histogram = ValueHistogram()
    histogram.update(values)
    return histogram


def error_of(values, step, words):
    table = np.array(words, dtype=np.float64)
    u = values.double().numpy().ravel() / step
    above = np.clip(np.searchsorted(table, u), 1, len(table) - 1)
    distance = np.minimum(np.abs(u - table[above - 1]), np.abs(u - table[above]))
    return float(np.square(distance * step).mean())


@pytest.mark.parametrize("code", CODES, ids=str)
def test_the_error_is_that_of_the_values(code):
    values = attention()
    histogram = histogram_of(values)
    for top in (0.1, 0.4, 1.3):
        step = top / code.words[-1]
        expected = error_of(values, step, code.words)
        within_a_bin = (np.float64(values.max()) * 2.0**-6) ** 2 * 1e-3
        assert quantization_mse(histogram, Threshold(step, code)) == pytest.approx(expected, rel=0.05, abs=within_a_bin)


@pytest.mark.parametrize("code", CODES, ids=str)
def test_the_chosen_step_errs_least(code):
    values = attention()
    histogram = histogram_of(values)
    found = minimal_mse(histogram.bins(), histogram.extremes, code)
    assert found.code == code
    top = float(values.max())
    others = [error_of(values, top * ratio / code.words[-1], code.words) for ratio in np.geomspace(0.01, 2.0, 200)]
    assert error_of(values, found.step, code.words) <= 1.03 * min(others)


@pytest.mark.parametrize("method", ["mse", "gaussian", "balanced", "entropy", "fisher"])
def test_methods_of_equal_steps_give_way_to_the_squared_error(method):
    histogram, code = histogram_of(attention()), LogarithmicCode(1, 4)
    expected = minimal_mse(histogram.bins(), histogram.extremes, code)
    assert choose_threshold(histogram, code, method, 99.9, evidence=Evidence()) == expected


def test_max_and_percentile_span_the_values():
    values = attention()
    histogram, code = histogram_of(values), LogarithmicCode(1, 4, base="sqrt2")
    assert choose_threshold(histogram, code, "max", 99.9) == spanning(0.0, histogram.extremes[1], code)
    percentile = choose_threshold(histogram, code, "percentile", 99.0)
    assert percentile.step * code.words[-1] == pytest.approx(float(values.quantile(0.99)), rel=0.02)


@pytest.mark.parametrize(("tokens", "spread", "least"), [(50, 2.0, 2), (200, 3.0, 1.8), (1000, 2.0, 5)])
def test_peaked_maps_lose_less_than_in_equal_steps(tokens, spread, least):
    """Σ_j p_j·v_j of 4-bit words: powers of √2 against integers of the same number of bits."""
    values = attention(tokens, spread)
    other_side = torch.randn(tokens, 16, generator=torch.Generator().manual_seed(1))
    histogram = histogram_of(values)

    def lost(code):
        threshold = minimal_mse(histogram.bins(), histogram.extremes, code)
        words = code.quantize_(values.double() / threshold.step, code.maximum) * threshold.step
        return float(((words - values) @ other_side.double()).square().mean())

    assert lost(PackedCode(1, 4)) > least * lost(LogarithmicCode(1, 4, base="sqrt2"))
