"""Steps per channel against the steps each channel would get alone, and the statistics they come from."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import snnconvert
from snnconvert.calibration.statistics.channel_histogram import CHANNEL_BINS, ChannelHistogram
from snnconvert.calibration.statistics.histogram import ValueHistogram
from snnconvert.calibration.thresholds.channels import choose_channel_threshold
from snnconvert.calibration.thresholds.choice import choose_threshold
from snnconvert.errors import ConfigurationError
from snnconvert.neurons.registry import make_code

METHODS = ["mse", "max", "percentile"]


def chosen(values, code, method="mse", cap=None, axis=1):
    """Thresholds of values [N, C, ...], per tensor and per channel."""
    whole, channels = ValueHistogram(), ChannelHistogram(axis)
    whole.update(values)
    channels.update(values)
    shared = choose_threshold(whole, code, method, 99.0, cap)
    return shared, choose_channel_threshold(shared, channels, method, 99.0, cap)


def error_of(values, step, code):
    return float((values - step * torch.clamp(torch.round(values / step), code.minimum, code.maximum)).square().mean())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_each_channel_gets_nearly_what_it_would_get_alone(method, bits):
    generator = torch.Generator().manual_seed(bits)
    scales = torch.tensor([1.0, 30.0, 0.1, 7.0]).view(1, -1, 1)
    values = torch.randn(50, 4, 300, generator=generator).relu() * scales
    code = make_code("packed", bits, 1)
    shared, found = chosen(values, code, method)
    least = shared.step * 12 * code.span**2 / 1024 / (12 * code.span**2 / 1024 + 50 * 300)
    for channel in range(4):
        alone, _ = chosen(values[:, channel : channel + 1], code, method)
        assert found.channel_steps[channel] >= least * (1 - 1e-9)
        if alone.step < 1.1 * least:
            assert found.channel_steps[channel] < 1.2 * least
            continue
        if method == "percentile":
            assert found.channel_steps[channel] == pytest.approx(alone.step, rel=0.04)
            continue
        best = error_of(values[:, channel], alone.step, code)
        assert error_of(values[:, channel], found.channel_steps[channel], code) < 1.06 * best
        if method == "max":
            assert found.channel_steps[channel] == pytest.approx(alone.step, rel=1e-12)


@given(st.integers(0, 2**31), st.sampled_from(METHODS), st.booleans(), st.sampled_from(["packed", "if", "ternary"]))
@settings(max_examples=12, deadline=None)
def test_equal_channels_get_the_threshold_of_the_tensor(seed, method, signed, neuron):
    """Channels of the same statistics share one step, the tensor's up to the coarser grid."""
    generator = torch.Generator().manual_seed(seed)
    one = torch.randn(40, 1, 200, generator=generator) * 10 ** (4 * torch.rand((), generator=generator) - 2)
    values = (one if signed else one.relu()).expand(-1, 5, -1)
    code = make_code(neuron, 1, 6)
    shared, found = chosen(values, code, method)
    assert len(set(found.channel_steps)) == 1
    one_level = 1 / code.largest_value if signed else 0.0  # that a zero point rounds up or down
    tolerance = 1e-12 if method == "max" and not signed else 0.3 + one_level
    assert found.step == pytest.approx(shared.step, rel=tolerance)
    assert found.code.signed == shared.code.signed
    assert abs(found.code.offset - shared.code.offset) <= max(1, 0.15 * code.largest_value)


def test_channels_without_values_get_the_threshold_of_the_tensor():
    values = torch.rand(4, 3, 100)
    values[:, 1] = 0
    for method in METHODS:
        shared, found = chosen(values, make_code("packed", 2, 2), method)
        assert found.channel_steps[1] == shared.step
        nothing, all_zero = chosen(torch.zeros(4, 3, 10), make_code("packed", 2, 2), method)
        assert all_zero.channel_steps == (nothing.step,) * 3


@pytest.mark.parametrize("method", METHODS)
def test_no_channel_reaches_beyond_the_cap(method):
    values = (torch.randn(30, 6, 200) * torch.logspace(-1, 1, 6).view(1, -1, 1)).clamp(0, 6)
    for neuron in ("packed", "if"):
        code = make_code(neuron, 1, 4)
        _, found = chosen(values, code, method, cap=6.0)
        assert max(found.channel_steps) * code.maximum <= 6.0
        assert found.channel_steps[0] < found.channel_steps[-1]


def test_one_zero_point_serves_all_channels():
    """Constant channels of either sign, as class tokens have them, aren't cut to zero by the others."""
    centre = torch.tensor([3.0, -2.0, 0.5, -0.1]).view(1, -1, 1)
    values = centre * (1 + 1e-3 * torch.randn(20, 4, 50))
    for method in METHODS:
        _, found = chosen(values, make_code("packed", 2, 4), method)
        assert 0 < found.code.offset < 255
        for channel, step in enumerate(found.channel_steps):
            assert error_of(values[:, channel], step, found.code) < 5e-3 * float(centre[0, channel].square())


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(0, 2))
@settings(max_examples=20, deadline=None)
def test_statistics_are_the_same_in_any_order(seed, parts, axis_from_end):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(12, 5, 6, 7, generator=generator) ** 3
    axis = 3 - axis_from_end
    once, split = ChannelHistogram(axis), ChannelHistogram(axis)
    once.update(values)
    for part in torch.chunk(values[torch.randperm(12, generator=generator)], parts):
        split.update(part)
    assert torch.equal(once.counts, split.counts)
    assert torch.equal(once.negative_counts, split.negative_counts)
    assert torch.equal(once.minimum, split.minimum)
    assert torch.equal(once.maximum, split.maximum)
    assert once.counts.shape == (values.shape[axis], CHANNEL_BINS)
    total = once.counts.sum(1) + once.negative_counts.sum(1)
    assert (total == values.numel() // values.shape[axis]).all()


def test_large_samples_are_thinned_out_evenly():
    histogram = ChannelHistogram(1)
    histogram.update(torch.rand(2, 96, 56, 56))
    counted = histogram.counts.sum(1)
    assert histogram.counts.sum() <= 2 * 65536
    assert counted.min() > 0.9 * counted.max()


def test_quantiles_are_those_of_the_values():
    values = torch.randn(40, 3, 500) * torch.tensor([1.0, 10.0, 0.01]).view(1, -1, 1)
    histogram = ChannelHistogram(1)
    histogram.update(values)
    for share in (0.01, 0.3, 0.5, 0.999):
        exact = np.quantile(values.transpose(0, 1).flatten(1).numpy(), share, axis=1)
        spread = values.std((0, 2)).numpy()
        assert (np.abs(histogram.quantiles(share) - exact) < 0.12 * spread).all()


def test_other_methods_are_refused():
    with pytest.raises(ConfigurationError, match="tensor, channel"):
        snnconvert.ConversionConfig(threshold_granularity="pixel")
