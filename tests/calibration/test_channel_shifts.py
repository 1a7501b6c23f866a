"""Zero points per channel against searches of their own on the values themselves."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.calibration.statistics.channel_histogram import ChannelHistogram
from snnconvert.calibration.statistics.histogram import ValueHistogram
from snnconvert.calibration.thresholds.channels import choose_channel_threshold
from snnconvert.calibration.thresholds.choice import choose_threshold
from snnconvert.calibration.thresholds.shifts import choose_shifted_threshold, middles_of
from snnconvert.calibration.thresholds.smoothing import SpikeReader, smoothed
from snnconvert.config import CHANNEL_METHODS
from snnconvert.convert.weights import nearest_representable
from snnconvert.neurons.registry import make_code


def chosen(values, code, method="mse", percentile=99.9):
    """Thresholds of values [N, C, K]: for all channels, for each, and for each with a shift; and the statistics."""
    whole, channels = ValueHistogram(), ChannelHistogram(1)
    whole.update(values)
    channels.update(values)
    shared = choose_threshold(whole, code, method, percentile)
    separate = choose_channel_threshold(shared, channels, method, percentile)
    return shared, separate, choose_shifted_threshold(shared, separate, channels, method, percentile), channels


def decoded(values, threshold):
    """s + Δ·z of values [N, C, K], float64."""
    steps = torch.tensor(threshold.channel_steps, dtype=torch.float64)[:, None]
    shifts = torch.tensor(threshold.channel_shifts or [0.0] * len(steps), dtype=torch.float64)[:, None]
    words = ((values.double() - shifts) / steps).round().clamp(threshold.code.minimum, threshold.code.maximum)
    return words * steps + shifts


def errors_of(values, threshold):
    """E[(x − s − Δ·z)²] of each channel."""
    return (values - decoded(values, threshold)).square().mean((0, 2)).numpy()


def noise_of(values, weight, threshold, bits):
    """What a linear layer loses by rounding x and W: ‖Ŵ·(x̂ − s) + W·s − W·x‖²."""
    steps = torch.tensor(threshold.channel_steps, dtype=torch.float64)
    shifts = torch.tensor(threshold.channel_shifts or [0.0] * len(steps), dtype=torch.float64)
    folded = (weight.double() * steps).float()
    rounded = nearest_representable(folded, torch.zeros(len(folded)), bits) / steps
    lost = torch.einsum("oc,nck->nok", rounded, decoded(values, threshold) - shifts[:, None])
    return float((lost - torch.einsum("oc,nck->nok", weight.double(), values - shifts[:, None])).square().mean())


def random_values(seed, offset, *, samples=60, channels=12, skewed=False):
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(samples, channels, 40, generator=random)
    values = values.exp() if skewed else values
    scales = torch.exp(torch.randn(channels, 1, generator=random))
    return scales * (values + offset * torch.randn(channels, 1, generator=random))


@given(st.integers(0, 2**31), st.floats(0, 4), st.booleans(), st.sampled_from([(1, 2), (1, 4), (3, 2), (8, 1)]))
@settings(max_examples=20, deadline=None)
def test_shifted_channels_lose_no_more(seed, offset, skewed, shape):
    values = random_values(seed, offset, skewed=skewed)
    _, separate, shifted, _ = chosen(values, make_code("packed", *shape))
    without, found = errors_of(values, separate), errors_of(values, shifted)
    assert found.sum() <= 1.03 * without.sum()
    assert (found <= 1.3 * without).all()


@pytest.mark.parametrize("offset", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("skewed", [False, True])
def test_ends_are_near_the_best_there_are(offset, skewed):
    """Every pair of ends on a grid, tried on the values themselves."""
    values = random_values(3, offset, samples=200, channels=4, skewed=skewed)
    code = make_code("packed", 1, 4)
    *_, shifted, _ = chosen(values, code)
    found = errors_of(values, shifted)
    for channel, error in enumerate(found):
        x = values[:, channel].flatten().double()
        lows, highs = (
            torch.quantile(x, torch.linspace(0, 0.3, 25).double()),
            torch.quantile(x, torch.linspace(0.7, 1, 25).double()),
        )
        best = np.inf
        for low in lows:
            steps = (highs - low)[:, None] / 15
            words = ((x - low) / steps).round().clamp(0, 15)
            best = min(best, float((x - low - words * steps).square().mean(1).min()))
        assert error <= 1.12 * best


@pytest.mark.parametrize("method", CHANNEL_METHODS)
def test_steps_know_nothing_of_offsets(method):
    """Channels as far from zero as they are wide: steps near those of channels about zero."""
    values = random_values(0, 0.0, samples=2000)
    moved = values + 2 * values.amax((0, 2)).unsqueeze(1)
    _, separate, _, _ = chosen(values, make_code("packed", 4, 2), method)
    _, farther, shifted, _ = chosen(moved, make_code("packed", 4, 2), method)
    steps, own, wide = (np.array(found.channel_steps) for found in (shifted, separate, farther))
    assert (steps < 1.1 * own).all()
    assert (steps < 0.75 * wide).all()
    assert (errors_of(moved, shifted) < 0.7 * errors_of(moved, farther)).all()


@pytest.mark.parametrize("method", CHANNEL_METHODS)
def test_far_channels_cost_little_more(method):
    """A hundred times farther from zero than they are wide, which the statistics tell as one bin with two ends."""
    values = random_values(0, 0.0, samples=2000)
    moved = values + 100 * values.amax((0, 2)).unsqueeze(1)
    _, farther, shifted, _ = chosen(moved, make_code("packed", 4, 2), method)
    assert (errors_of(moved, shifted) < errors_of(moved, farther) / 400).all()


def test_the_largest_range_clips_nothing():
    values = random_values(1, 3.0)
    *_, shifted, _ = chosen(values, make_code("packed", 2, 2), "max")
    distance = (values - decoded(values, shifted)).abs().amax((0, 2)).numpy()
    assert all(shifted.channel_shifts)
    assert (distance <= 0.502 * np.array(shifted.channel_steps)).all()


@pytest.mark.parametrize("method", CHANNEL_METHODS)
def test_channels_that_never_change(method):
    """One that is always zero stays as it is; one that is always something else is that, to a tiny step."""
    values = random_values(2, 1.0)
    values[:, 3], values[:, 5] = 0.0, -7.25
    shared, separate, shifted, _ = chosen(values, make_code("packed", 1, 4), method)
    assert shifted.channel_shifts[3] == 0.0
    assert shifted.channel_steps[3] == separate.channel_steps[3]
    assert decoded(values, shifted)[0, 5, 0] == pytest.approx(-7.25, abs=shared.step / 200)


def test_values_that_are_nowhere_negative():
    """Unsigned words of channels that never come near zero start where these start."""
    values = random_values(4, 0.0).abs() + torch.linspace(0, 9, 12)[:, None]
    _, separate, shifted, _ = chosen(values, make_code("packed", 1, 4))
    assert shifted.code.offset == 0
    assert errors_of(values, shifted)[-4:].sum() < errors_of(values, separate)[-4:].sum() / 3


@given(st.integers(0, 2**31), st.sampled_from([(1, 4), (3, 2)]), st.sampled_from([3, 8]))
@settings(max_examples=15, deadline=None)
def test_smoothed_shifts_lose_less(seed, shape, weight_bits):
    """With steps between one for all and one for each the middles stay: less noise than without shifts."""
    values = random_values(seed, 2.0)
    weight = torch.randn(20, 12, generator=torch.Generator().manual_seed(seed))
    reader = SpikeReader(weight.unsqueeze(-1), np.broadcast_to(np.arange(12), (20, 12)), weight_bits)
    shared, separate, shifted, channels = chosen(values, make_code("packed", *shape))
    noise = [
        noise_of(values, weight, smoothed(shared, each, channels, [reader]), weight_bits)
        for each in (separate, shifted)
    ]
    assert noise[1] < 0.9 * noise[0]


def test_middles_are_those_of_the_ranges():
    values = random_values(6, 2.0)
    *_, shifted, _ = chosen(values, make_code("packed", 1, 4), "max")
    expected = (values.amax((0, 2)) + values.amin((0, 2))) / 2
    assert middles_of(shifted) == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-3)
