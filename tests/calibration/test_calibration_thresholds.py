import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_cases import mostly_slow

from snnconvert.calibration.statistics.histogram import SAMPLES_PER_IMAGE, ValueHistogram
from snnconvert.calibration.thresholds.choice import choose_threshold
from snnconvert.calibration.thresholds.mse import quantization_mse
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.threshold import Threshold

CODES = [PackedCode(1, 1), PackedCode(2, 1), PackedCode(1, 3), PackedCode(2, 2), PackedCode(2, 3), PackedCode(2, 4)]


def histogram_of(values):
    histogram = ValueHistogram()
    histogram.update(torch.as_tensor(values, dtype=torch.float32).reshape(-1, 1000))
    return histogram


def sample_mse(values, step, code):
    quantized = step * np.clip(np.rint(values / step), code.minimum, code.maximum)
    return float(((values - quantized) ** 2).mean())


def draw(kind, seed=0, count=100_000):
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(count)
    return (
        {
            "gaussian relu": np.maximum(normal, 0),
            "half-normal": np.abs(normal) * 3,
            "exponential": rng.exponential(0.1, count),
            "lognormal": np.exp(1.5 * normal),
            "student": np.abs(rng.standard_t(3, count)),
            "uniform": rng.uniform(0, 5, count),
            "constant": np.full(count, 0.7),
            "sparse": np.where(rng.uniform(size=count) < 0.95, 0, np.abs(normal)),
            "gaussian": normal,
            "uniform signed": rng.uniform(-1, 1, count),
            "laplace": rng.laplace(0, 1, count),
        }[kind]
        .astype(np.float32)
        .astype(np.float64)
    )


UNSIGNED = ["gaussian relu", "half-normal", "exponential", "lognormal", "student", "uniform", "sparse"]
SIGNED = ["gaussian", "uniform signed", "laplace"]


@given(
    st.integers(0, 2**31),
    st.sampled_from(CODES),
    st.floats(0.02, 3),
    st.sampled_from(["gaussian relu", "gaussian", "lognormal", "uniform"]),
)
@settings(max_examples=40, deadline=None)
def test_error_of_the_histogram_is_that_of_the_samples(seed, code, span, kind):
    values = draw(kind, seed % 1000, 50_000)
    offset = seed % code.levels if kind == "gaussian" else 0
    code = PackedCode(code.bits, code.T, offset)
    step = span * float(np.abs(values).max()) / code.levels
    estimate = quantization_mse(histogram_of(values), Threshold(step, code))
    assert estimate == pytest.approx(sample_mse(values, step, code), rel=0.04, abs=1e-12)


def test_error_is_exact_for_values_spread_evenly_over_a_bin():
    # one bin, [1, 1 + 1/64): brute force over a fine grid of it
    values = np.linspace(1, 1 + 1 / 64, 100_001)[:-1]
    for step in (0.003, 0.1, 0.4, 0.673, 2.1):
        code = PackedCode(2, 2)
        estimate = quantization_mse(histogram_of(values[:100_000]), Threshold(step, code))
        assert estimate == pytest.approx(sample_mse(values, step, code), rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("code", CODES, ids=lambda code: f"{code.word_bits}bit")
@pytest.mark.parametrize("kind", UNSIGNED)
def test_mse_is_as_good_as_a_grid_search(kind, code):
    values = draw(kind)
    chosen = choose_threshold(histogram_of(values), code, "mse", 99.9)
    assert chosen.code == code
    top = float(values.max())
    grid = np.geomspace(1e-3 * top, 1.1 * top, 300) / (code.levels - 1)
    best = min(grid, key=lambda step: sample_mse(values, step, code))
    best = min(best * np.linspace(0.97, 1.03, 25), key=lambda step: sample_mse(values, step, code))
    tolerance = 1.02 if kind == "sparse" else 1.01  # few positive samples: their noise exceeds 1 %
    assert sample_mse(values, chosen.step, code) <= tolerance * sample_mse(values, best, code)


@pytest.mark.parametrize("code", mostly_slow(CODES[2:], keep=1), ids=lambda code: f"{code.word_bits}bit")
@pytest.mark.parametrize("kind", SIGNED)
def test_mse_of_symmetric_values_is_as_good_as_a_grid_search(kind, code):
    values = draw(kind, count=50_000)
    chosen = choose_threshold(histogram_of(values), code, "mse", 99.9)
    # the zero point follows the extremes of the sample, which are never quite symmetric
    assert sample_mse(values, chosen.step, chosen.code) <= 1.04 * best_of_all_offsets(values, code)


def best_of_all_offsets(values, code):
    """Brute force over steps and zero points."""
    span = float(values.max() - values.min())
    best = math.inf
    for offset in sorted({round(code.levels * share / 32) for share in range(33)} | {code.levels // 2, 1, 2, 3}):
        if offset < code.levels:
            shifted = PackedCode(code.bits, code.T, offset)
            grid = np.geomspace(0.01, 1.5, 120) * span / (code.levels - 1)
            best = min(best, *(sample_mse(values, step, shifted) for step in grid))
    return best


@pytest.mark.parametrize("word_bits", [4, 6, 8])
def test_mse_of_skewed_values(word_bits):
    # GELU of heavy-tailed pre-activations: negatives end at -0.17, positives don't
    pre = np.random.default_rng(0).standard_t(3, 50_000)
    values = pre * 0.5 * (1 + np.vectorize(math.erf)(pre / math.sqrt(2)))
    code = PackedCode(1, word_bits)
    chosen = choose_threshold(histogram_of(values), code, "mse", 99.9)
    assert sample_mse(values, chosen.step, chosen.code) <= 1.01 * best_of_all_offsets(values, code)


@pytest.mark.parametrize("outlier", [6.0, 8.0, 10.0, 12.0, 20.0])
def test_mse_of_signed_values_with_outliers_of_one_sign(outlier):
    values = draw("gaussian", count=50_000)
    values[:2] = outlier
    code = PackedCode(1, 4)
    chosen = choose_threshold(histogram_of(values), code, "mse", 99.9)
    assert sample_mse(values, chosen.step, chosen.code) <= 1.1 * best_of_all_offsets(values, code)


def test_mse_with_an_outlier_that_is_not_counted():
    size = 4 * SAMPLES_PER_IMAGE
    values = torch.randn(4, size, generator=torch.Generator().manual_seed(0)).relu()
    values[0, 1] = 5000.0  # extremes see every value, counts only some of them
    histogram = ValueHistogram()
    histogram.update(values)
    code = PackedCode(1, 8)
    assert histogram.quantile(1.0) < 10
    error = quantization_mse(histogram, choose_threshold(histogram, code, "mse", 99.9))
    best = min(quantization_mse(histogram, Threshold(top / 255, code)) for top in np.linspace(2, 8, 100))
    assert error <= 1.01 * best


def closed_form_threshold(levels):
    """Fixed point of the published closed form for N(0, 1) through a clipped uniform quantizer 0..n."""
    n, theta = levels, 1.0
    index = np.arange(1, n + 1)
    odd = 2 * index - 1
    erf = np.vectorize(math.erf)
    for _ in range(20_000):
        z = odd * theta / (2 * n) / math.sqrt(2)
        denominator = n**2 - (odd * erf(z)).sum()
        k = n / (math.sqrt(math.pi / 2) * theta) * np.exp(-(z**2)).sum() / denominator
        theta *= k
        if abs(k - 1) < 1e-12:
            break
    return theta


def test_published_optima_of_a_rectified_gaussian():
    assert closed_form_threshold(4) == pytest.approx(2.135, abs=5e-4)
    assert closed_form_threshold(15) == pytest.approx(2.899, abs=5e-4)


@pytest.mark.parametrize(("bits", "T"), [(1, 1), (1, 2), (3, 1), (2, 2), (1, 5)])
def test_threshold_of_a_rectified_gaussian_is_the_closed_forms(bits, T):
    values = np.maximum(np.random.default_rng(1).standard_normal(2_000_000), 0)
    code = PackedCode(bits, T)
    chosen = choose_threshold(histogram_of(values), code, "mse", 99.9)
    assert chosen.step * (code.levels - 1) == pytest.approx(closed_form_threshold(code.levels - 1), rel=0.01)


@pytest.mark.parametrize("code", CODES, ids=lambda code: f"{code.word_bits}bit")
@pytest.mark.parametrize("kind", [*UNSIGNED, *SIGNED, "constant"])
def test_max_clips_nothing(kind, code):
    values = draw(kind, count=20_000)
    chosen = choose_threshold(histogram_of(values), code, "max", 99.9)
    slack = 0.5 if values.min() < 0 else 0  # the zero point is rounded to a level
    assert chosen.step * (chosen.code.maximum + slack) >= values.max() * (1 - 1e-12)
    assert chosen.step * (chosen.code.minimum - slack) <= values.min()
    widened = 1.15 if code.levels >= 128 and values.min() < 0 else 1.02  # zero points near the middle are moved there
    assert chosen.step * (code.levels - 1) <= widened * (values.max() - min(values.min(), 0))


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9])
@pytest.mark.parametrize("kind", ["half-normal", "lognormal", "uniform"])
def test_percentile_of_unsigned_values(kind, percentile):
    values = draw(kind)
    chosen = choose_threshold(histogram_of(values), PackedCode(2, 4), "percentile", percentile)
    assert chosen.code.offset == 0
    assert chosen.step * 255 == pytest.approx(np.percentile(values, percentile), rel=0.02)


def test_percentile_of_signed_values_is_central():
    values = draw("gaussian")
    chosen = choose_threshold(histogram_of(values), PackedCode(2, 4), "percentile", 99.0)
    low, high = np.percentile(values, [0.5, 99.5])
    assert chosen.step * chosen.code.maximum == pytest.approx(high, rel=0.02)
    assert chosen.step * chosen.code.minimum == pytest.approx(low, rel=0.02)


def test_hundredth_percentile_is_the_maximum():
    values = draw("lognormal")
    code = PackedCode(2, 4)
    assert choose_threshold(histogram_of(values), code, "percentile", 100.0).step == pytest.approx(
        choose_threshold(histogram_of(values), code, "max", 100.0).step, rel=1e-9
    )


@pytest.mark.parametrize("method", ["mse", "max", "percentile"])
def test_a_silent_site_gets_a_usable_threshold(method):
    chosen = choose_threshold(histogram_of(np.zeros(1000)), PackedCode(2, 2), method, 99.9)
    assert chosen.step > 0
    assert math.isfinite(chosen.step)
    assert chosen.code.offset == 0


def rarely_active():
    values = np.zeros(100_000)
    values[:5] = 2.0
    return values


@pytest.mark.parametrize("method", ["mse", "max"])
def test_a_site_that_is_rarely_active(method):
    values = rarely_active()
    chosen = choose_threshold(histogram_of(values), PackedCode(2, 2), method, 99.0)
    assert sample_mse(values, chosen.step, chosen.code) < 1e-6


@pytest.mark.parametrize("percentile", [60.0, 99.0])
def test_percentile_of_a_site_that_is_rarely_active(percentile):
    values = rarely_active()
    chosen = choose_threshold(histogram_of(values), PackedCode(2, 2), "percentile", percentile)
    assert chosen.step * 15 == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("method", ["mse", "max", "percentile"])
@pytest.mark.parametrize("kind", SIGNED)
def test_negative_values_get_an_offset(kind, method):
    values = draw(kind, count=20_000)
    chosen = choose_threshold(histogram_of(values), PackedCode(2, 4), method, 99.9)
    assert 64 < chosen.code.offset < 192
    one_sided = choose_threshold(histogram_of(-np.abs(values)), PackedCode(2, 4), method, 99.9)
    assert one_sided.code.offset == 254
    assert one_sided.code.maximum == 1


@given(st.floats(1e-4, 1e4), st.sampled_from(["mse", "max", "percentile"]))
@settings(max_examples=30, deadline=None)
def test_thresholds_scale_with_the_values(factor, method):
    values = draw("half-normal", count=20_000)
    code = PackedCode(2, 2)
    plain = choose_threshold(histogram_of(values), code, method, 99.0).step
    scaled = choose_threshold(histogram_of(values * factor), code, method, 99.0).step
    assert scaled / plain == pytest.approx(factor, rel=0.04)


def test_thresholds_by_powers_of_two_are_exactly_proportional():
    values = draw("lognormal", count=20_000)
    for method in ("mse", "max", "percentile"):
        plain = choose_threshold(histogram_of(values), PackedCode(2, 3), method, 99.0).step
        assert choose_threshold(histogram_of(values * 8), PackedCode(2, 3), method, 99.0).step == pytest.approx(
            8 * plain, rel=1e-9
        )
