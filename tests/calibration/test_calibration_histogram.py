import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.calibration.statistics.histogram import BINS, SAMPLES_PER_IMAGE, ValueHistogram, bin_edges


def histogram_of(*batches):
    histogram = ValueHistogram()
    for batch in batches:
        histogram.update(batch)
    return histogram


def same(left, right):
    return torch.equal(left.counts, right.counts) and (left.minimum, left.maximum, left.finite) == (
        right.minimum,
        right.maximum,
        right.finite,
    )


def samples(seed, count=12, size=(3, 5)):
    generator = torch.Generator().manual_seed(seed)
    scale = 10.0 ** torch.empty(count, 1, 1).uniform_(-4, 4, generator=generator)
    return torch.randn(count, *size, generator=generator) * scale


@given(st.integers(0, 2**31), st.permutations(range(12)), st.lists(st.integers(1, 5), min_size=12, max_size=12))
@settings(max_examples=50, deadline=None)
def test_neither_order_nor_batches_matter(seed, order, sizes):
    values = samples(seed)
    shuffled = values[list(order)]
    parts, start = [], 0
    for size in sizes:
        if start < len(values):
            parts.append(shuffled[start : start + size])
            start += size
    assert same(histogram_of(values), histogram_of(*parts))
    merged = histogram_of(parts[0])
    for part in parts[1:]:
        merged.merge(histogram_of(part))
    assert same(merged, histogram_of(values))


def test_neither_order_nor_batches_matter_beyond_the_sample_limit():
    values = torch.randn(6, 3, 100, 100, generator=torch.Generator().manual_seed(0))
    whole = histogram_of(values)
    assert 6 <= int(whole.counts.sum()) <= 6 * SAMPLES_PER_IMAGE
    assert same(whole, histogram_of(*values.flip(0).split(1)))
    assert (whole.minimum, whole.maximum) == (float(values.min()), float(values.max()))


@pytest.mark.parametrize("size", [1, 16384, 16385, 30030, 32768, 64 * 56 * 56, 150528])
def test_a_sample_is_thinned_evenly(size):
    values = torch.arange(size, dtype=torch.float32).repeat(2, 1)
    histogram = histogram_of(values)
    total = int(histogram.counts.sum())
    assert total <= 2 * SAMPLES_PER_IMAGE
    assert total >= min(2 * size, 2 * 1500)
    if size > 1:
        assert histogram.quantile(0.5) == pytest.approx(size / 2, rel=0.03)


def test_every_channel_is_seen():
    # the last dimension is the channel: a stride that divides it would see few channels only
    channels, length = 64, 4096
    for channel in range(0, channels, 7):
        values = torch.zeros(1, length, channels)
        values[..., channel] = 1.0
        _, high, counts = histogram_of(values).bins()
        share = counts[high > 0.5].sum() / counts.sum()
        assert share == pytest.approx(1 / channels, rel=0.1)


@given(
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.001, 0.05, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0]),
    st.sampled_from(["normal", "relu", "lognormal", "negative"]),
)
@settings(max_examples=80, deadline=None)
def test_quantiles_lie_within_a_bin_of_the_samples(seed, share, kind):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((20, 50)).astype(np.float32)
    values = {
        "normal": values,
        "relu": np.maximum(values, 0),
        "lognormal": np.exp(3 * values),
        "negative": -np.exp(values),
    }[kind]
    exact = float(np.quantile(values, share, method="inverted_cdf"))
    estimate = histogram_of(torch.from_numpy(values)).quantile(share)
    edges = bin_edges()
    index = np.searchsorted(edges, abs(exact), side="right")
    width = edges[index] - edges[index - 1]
    assert exact - 1e-12 <= estimate <= exact + width


def test_bins_are_narrow_and_cover_the_floats():
    edges = bin_edges()
    assert len(edges) == BINS + 1
    assert edges[0] == 0
    assert (np.diff(edges) > 0).all()
    assert (np.diff(edges[1:]) / edges[1:-1]).max() <= 1 / 64
    assert (edges[1], edges[-1]) == (2.0**-126, 2.0**127)


def test_every_value_falls_into_its_bin():
    rng = np.random.default_rng(0)
    for value in np.concatenate(
        [rng.standard_normal(200) * 10.0 ** rng.integers(-8, 8, 200), [0.0, 1.0, -1.0, 2.0**-30]]
    ):
        single = np.float32(value)
        low, high, counts = histogram_of(torch.full((1, 1), float(single))).bins()
        assert counts.tolist() == [1]
        assert low[0] <= single <= high[0]


def test_memory_does_not_grow():
    histogram = ValueHistogram()
    before = histogram.counts.nelement()
    for scale in (1e-20, 1.0, 1e20):
        histogram.update(torch.randn(50, 1000) * scale)
    assert histogram.counts.nelement() == before == 2 * BINS
    assert int(histogram.counts.sum()) == 150_000
    tensors = [value for value in vars(histogram).values() if isinstance(value, torch.Tensor)]
    assert sum(tensor.nelement() for tensor in tensors) == before


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_values_are_noticed(bad):
    values = torch.randn(4, 10)
    values[2, 3] = bad
    assert not histogram_of(values).finite
    assert not histogram_of(torch.randn(4, 10), values, torch.randn(4, 10)).finite
    merged = histogram_of(torch.randn(4, 10))
    assert merged.finite
    merged.merge(histogram_of(values))
    assert not merged.finite


@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32))
@settings(max_examples=100, deadline=None)
def test_extremes_enclose_the_values_closely(a, b):
    low, high = sorted((a, b))
    floor, ceiling = histogram_of(torch.tensor([[low, high]])).extremes
    for exact, rounded, outward in ((low, floor, -1), (high, ceiling, 1)):
        assert outward * (rounded - exact) >= 0
        assert abs(rounded - exact) <= abs(exact) / 63 + 2.0**-30


def test_extremes_of_huge_values():
    floor, ceiling = histogram_of(torch.tensor([[-5e9, 5e9]])).extremes
    assert floor <= -5e9
    assert ceiling >= 5e9


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_other_float_types(dtype):
    values = torch.tensor([[0.5, -0.25, 3.0, 0.0]], dtype=dtype)
    assert same(histogram_of(values), histogram_of(values.float()))
