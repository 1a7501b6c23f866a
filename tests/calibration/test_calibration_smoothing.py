"""Smoothed thresholds against the noise their readers really get."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import snnconvert
from snnconvert.calibration.statistics.channel_histogram import ChannelHistogram
from snnconvert.calibration.statistics.histogram import ValueHistogram
from snnconvert.calibration.thresholds.channels import choose_channel_threshold
from snnconvert.calibration.thresholds.choice import choose_threshold
from snnconvert.calibration.thresholds.smoothing import SpikeReader, smoothed
from snnconvert.calibration.thresholds.spike_readers import spike_readers
from snnconvert.config import ConversionConfig
from snnconvert.convert.weights import natural_scale, quantize
from snnconvert.neurons.registry import make_code
from snnconvert.preparation import prepare


def thresholds_of(values, code, readers, cap=None):
    """Thresholds of values [N, C, K]: one for all channels, one for each, and smoothed."""
    whole, channels = ValueHistogram(), ChannelHistogram(1)
    whole.update(values)
    channels.update(values)
    shared = choose_threshold(whole, code, "mse", 99.9, cap)
    separate = choose_channel_threshold(shared, channels, "mse", 99.9, cap)
    return shared, separate, smoothed(shared, separate, channels, readers, cap)


def noise_of(values, weight, threshold, bits):
    """What a linear layer loses by rounding its inputs and its weights, both really rounded."""
    steps = torch.tensor(threshold.channel_steps or [threshold.step] * values.shape[1], dtype=torch.float64)
    code = threshold.code
    words = (values.double() / steps[:, None]).round().clamp(code.minimum, code.maximum)
    folded = (weight.double() * steps).float()
    scale = natural_scale(folded, torch.zeros(len(folded)), bits)
    current = torch.einsum("oc,nck->nok", quantize(folded, scale, bits).double() * scale[:, None], words)
    return float((current - torch.einsum("oc,nck->nok", weight.double(), values.double())).square().mean())


def reader_of(weight, bits):
    index = np.broadcast_to(np.arange(weight.shape[1]), tuple(weight.shape))
    return SpikeReader(weight.unsqueeze(-1), index, bits)


@given(
    st.integers(0, 2**31),
    st.sampled_from([3, 4, 6]),
    st.sampled_from([3, 4, 8]),
    st.floats(0, 1.5),
    st.floats(-2.0, 1.0),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_smoothed_steps_lose_little_more_than_the_better_of_both(seed, bits, weight_bits, spread, balance, rectified):
    """Whatever the spread of channels, and of columns: large weights of large channels, or of small ones."""
    random = torch.Generator().manual_seed(seed)
    scales = torch.exp(spread * torch.randn(32, 1, generator=random))
    values = torch.randn(64, 32, 20, generator=random) * scales
    values = values.relu() if rectified else values
    weight = torch.randn(64, 32, generator=random) * scales.T**balance
    found = thresholds_of(values, make_code("packed", bits, 1), [reader_of(weight, weight_bits)])
    of_shared, of_separate, of_smoothed = (noise_of(values, weight, each, weight_bits) for each in found)
    assert of_smoothed < 1.6 * min(of_shared, of_separate)


def test_smoothed_steps_lie_between_where_both_ends_are_bad():
    """Channels of very different spread read with narrow weights: a step in between beats both ends clearly."""
    random = torch.Generator().manual_seed(0)
    scales = torch.logspace(-1, 1, 24).unsqueeze(1)
    values = torch.randn(64, 24, 20, generator=random).relu() * scales
    weight = torch.randn(16, 24, generator=random) / scales.T**0.5
    found = thresholds_of(values, make_code("packed", 4, 1), [reader_of(weight, 4)])
    of_shared, of_separate, of_smoothed = (noise_of(values, weight, each, 4) for each in found)
    assert of_smoothed < 0.8 * min(of_shared, of_separate)


def test_weights_that_see_one_channel_each_cannot_lose():
    """Depthwise readers: each channel's step is free."""
    random = torch.Generator().manual_seed(1)
    values = torch.randn(64, 12, 50, generator=random).relu() * torch.logspace(-2, 2, 12).unsqueeze(1)
    weight = torch.randn(12, 1, 9, generator=random)
    reader = SpikeReader(weight, np.arange(12)[:, None], 4)
    shared, separate, found = thresholds_of(values, make_code("packed", 4, 1), [reader])
    ratios = np.array(found.channel_steps) / np.array(separate.channel_steps)
    assert np.abs(np.log(ratios)).max() < 0.25
    assert min(found.channel_steps) < 0.01 * shared.step


def test_steps_respect_the_clip_of_the_rectifier():
    values = torch.rand(50, 8, 40, generator=torch.Generator().manual_seed(2)) * torch.linspace(0.1, 6, 8).unsqueeze(1)
    code = make_code("packed", 4, 1)
    reader = reader_of(torch.randn(5, 8, generator=torch.Generator().manual_seed(3)), 4)
    *_, found = thresholds_of(values, code, [reader], cap=6.0)
    assert max(found.channel_steps) * code.maximum <= 6.0 * (1 + 1e-9)


def test_spikes_that_no_weights_read_follow_their_channels():
    values = torch.randn(30, 6, 40, generator=torch.Generator().manual_seed(4)).relu()
    _, separate, found = thresholds_of(values, make_code("packed", 4, 1), [])
    assert found == separate


class _Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.grouped = nn.Conv2d(16, 12, 3, groups=4)

    def forward(self, x):
        first = self.first(x).relu()
        return self.grouped(torch.cat([first, first], 1))


def test_readers_know_the_channels_they_read():
    """A grouped convolution of a concatenation: column (o, i) reads channel (group·4 + i) mod 8 of the site."""
    torch.manual_seed(0)
    model = _Grouped().eval()
    config = ConversionConfig(threshold_granularity="smoothed")
    prepared = prepare(model, torch.randn(1, 3, 12, 12), config)
    (family,) = [
        key for key, (node,) in prepared.channels.sites.items() if prepared.channels.maps[node].index.size == 8
    ]
    (reader,) = spike_readers(prepared.graph, prepared.plan, prepared.channels, family)
    assert reader.weight.shape == (12, 4, 9)
    expected = [[(output // 3 * 4 + place) % 8 for place in range(4)] for output in range(12)]
    assert reader.channels.tolist() == expected
    squares = model.grouped.weight.detach().double().square().sum((2, 3)).numpy()
    totals = np.zeros(8)
    np.add.at(totals, np.array(expected), squares)
    assert reader.columns(8) == pytest.approx(totals)


def test_a_converted_network_is_nearer_than_with_either_end():
    """Two layers whose channels differ a hundredfold: smoothed thresholds bring the outputs closest at 4 bits."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3)).eval()
    with torch.no_grad():
        factors = torch.logspace(-1, 1, 16).view(-1, 1, 1, 1)
        model[0].weight *= factors
        model[2].weight /= factors.view(1, -1, 1, 1) ** 0.5
    images = torch.randn(32, 3, 16, 16)
    errors = {}
    for granularity in ("tensor", "channel", "smoothed"):
        config = ConversionConfig(
            bits=1, T=4, weight_bits=4, first_last_weight_bits=4, last_bits=4, threshold_granularity=granularity
        )
        network = snnconvert.convert(model, images, config, progress=False)
        with torch.no_grad():
            errors[granularity] = float((network(images) - model(images)).square().mean())
            assert torch.equal(network(images), network.simulate(images).output)
    assert errors["smoothed"] < 0.9 * min(errors["tensor"], errors["channel"])
