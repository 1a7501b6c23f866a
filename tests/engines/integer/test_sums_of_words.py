"""A runtime that nobody watches adds up the words that it adds up while it is watched."""

import pytest
import torch
import torch.nn.functional as F
from integer_networks import RUNTIMES
from torch import nn

import snnconvert


class Sums(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form
        self.convs = nn.ModuleList(nn.Conv2d(3 if index == 0 else 8, 8, 3, padding=1) for index in range(4))
        self.wide, self.fc = nn.Conv2d(16, 8, 1), nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.form(self, x).mean((2, 3)))

    def fire(self, index, x):
        return torch.relu(self.convs[index](x))


def of_three(net, x):
    a = net.fire(0, x)
    b = net.fire(1, a)
    return net.fire(3, a + b + net.fire(2, b))


def behind_a_concat(net, x):
    a = net.fire(0, x)
    return torch.relu(torch.relu(net.wide(torch.cat([a, net.fire(1, a)], 1))) + a)


def fired_twice(net, x):
    a = net.fire(0, x)
    total = a + net.fire(1, a)
    return torch.relu(torch.relu(total) + net.convs[2](torch.relu(total))) + total


def of_a_pool(net, x):
    """Channels of a pooled current, each in its own unit, that neurons and a sum read."""
    pooled = F.avg_pool2d(net.fire(0, x), 8)
    return torch.relu(net.convs[1](pooled) + pooled)


def of_a_pooled_branch(net, x):
    a = F.max_pool2d(net.fire(0, x), 2)
    return torch.relu(net.convs[1](torch.relu(F.max_pool2d(net.convs[2](net.fire(3, a)), 3, 1, 1)) + a))


def of_its_like(net, x):
    """Sums in a row, the words of which only sums read."""
    a = net.fire(0, x)
    b = torch.relu(net.convs[1](a) + net.convs[2](a))
    return torch.relu(b + net.convs[3](a)) + b


def matches_unobserved(engine, form, config, seed=0):
    torch.manual_seed(seed)
    ann, images = Sums(form).eval(), torch.randn(16, 3, 8, 8)
    snn = snnconvert.convert(ann, images[:8], config, progress=False)
    expected = snn(images)
    found = snn.compile(engine, threads=1, cache=False)(images)
    return float((found - expected).abs().max()) < 1e-5 * float(expected.std())


@pytest.mark.parametrize("residuals", ["currents", "spikes"])
@pytest.mark.parametrize("form", [of_three, behind_a_concat, of_a_pooled_branch, of_its_like])
@pytest.mark.parametrize("engine", RUNTIMES)
def test_words_that_only_a_sum_reads_are_rounded(engine, form, residuals):
    pytest.importorskip(engine)
    config = snnconvert.ConversionConfig(bits=3, T=1, weight_bits=4, shortcut_bits=3, residuals=residuals)
    assert matches_unobserved(engine, form, config)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("engine", RUNTIMES)
def test_words_that_fire_again_are_clipped_as_they_are(engine, seed):
    """The second neuron's gain is near 1: clipped before it is multiplied, its largest word would lose one step."""
    pytest.importorskip(engine)
    config = snnconvert.ConversionConfig(bits=2, T=2, shortcut_bits=2, residuals="spikes")
    assert matches_unobserved(engine, fired_twice, config, seed)


@pytest.mark.parametrize("engine", RUNTIMES)
def test_pooled_currents_with_units_per_channel_are_read_twice(engine):
    pytest.importorskip(engine)
    config = snnconvert.ConversionConfig(threshold_granularity="channel", potential_correction=True)
    assert matches_unobserved(engine, of_a_pool, config)


class LinearSums(nn.Module):
    """Residual sums behind linear layers, which add up nothing in their kernels."""

    def __init__(self):
        super().__init__()
        self.first, self.up, self.down = nn.Linear(3, 32), nn.Linear(32, 48), nn.Linear(48, 32)
        self.across, self.last, self.head = nn.Linear(32, 32), nn.Linear(32, 32, bias=False), nn.Linear(32, 5)

    def forward(self, x):
        a = torch.relu(self.first(x.flatten(2).transpose(1, 2)))
        b = torch.relu(self.down(torch.relu(self.up(a))) + a)
        return self.head(torch.relu(self.last(torch.relu(self.across(b))) + b).mean(1))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("engine", RUNTIMES)
def test_sums_behind_linear_layers_are_rounded(engine, seed):
    pytest.importorskip(engine)
    torch.manual_seed(seed)
    ann, images = LinearSums().eval(), 6 * torch.randn(16, 3, 8, 8)
    snn = snnconvert.convert(ann, images, snnconvert.ConversionConfig(residuals="spikes"), progress=False)
    expected = snn(images)
    found = snn.compile(engine, threads=1, cache=False)(images)
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.std())
