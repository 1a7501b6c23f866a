"""Thresholds per channel: where they can be, and that folding them into what reads the spikes changes no function."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from engine_networks import NETWORKS, Net, captured, conv, settled
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.api import calibrate, prepare
from snnconvert.conversion import collector_of
from snnconvert.convert.channels import Steps, spike_channels
from snnconvert.convert.currents import folded_parameters
from snnconvert.convert.insert import insert_neurons
from snnconvert.finishing import thresholds_of
from snnconvert.neurons.threshold import Threshold

PER_CHANNEL = {"threshold_granularity": "channel"}
SHARED = {
    "attention": "spikes meet spikes in a product",
    "layouts": "a layout merges its channels with other axes",
}


def db(reference, value):
    noise = (reference - value).double().square().sum()
    return float(10 * torch.log10(reference.double().square().sum() / noise))


@pytest.mark.parametrize("name", NETWORKS)
def test_any_steps_keep_the_function(name):
    """Steps of each channel enlarged at random: as long as nothing is clipped, 8 bits stay near the network."""
    prepared, images = captured(name)
    config = snnconvert.ConversionConfig(bits=8, T=1, weight_bits=8, threshold="max", **PER_CHANNEL)
    wanted = dataclasses.replace(prepared, config=config)
    collector = collector_of(wanted)
    collector.update((images,))
    thresholds, _ = thresholds_of(wanted, collector.statistics())
    random = np.random.default_rng(0)
    caps = {site.node: site.cap or np.inf for site in wanted.plan.sites}
    for family, nodes in wanted.channels.sites.items():
        found = thresholds[family]
        steps = np.array(found.channel_steps) * random.uniform(1, 3, len(found.channel_steps))
        cap = np.concatenate([np.full(len(wanted.channels.maps[node].index), caps[node]) for node in nodes])
        steps = np.minimum(steps, cap / found.code.maximum)
        thresholds[family] = Threshold.per_channel(steps, found.code)
    network, _ = insert_neurons(wanted.graph, wanted.plan, thresholds, wanted.channels)
    with torch.no_grad():
        assert db(wanted.graph(images), network(images)) > 27


@pytest.mark.parametrize("name", NETWORKS)
def test_equal_steps_are_one_step(name):
    """Δ_c = Δ for all channels gives the same network, bit for bit."""
    prepared, images = captured(name)
    config = snnconvert.ConversionConfig(bits=2, T=2, **PER_CHANNEL)
    wanted = dataclasses.replace(prepared, config=config)
    collector = collector_of(wanted)
    collector.update((images,))
    plain, _ = thresholds_of(
        dataclasses.replace(wanted, config=snnconvert.ConversionConfig(bits=2, T=2)), collector.statistics()
    )
    maps, sites = wanted.channels.maps, wanted.channels.sites
    sizes = {family: sum(len(maps[node].index) for node in nodes) for family, nodes in sites.items()}
    equal = {
        family: Threshold.per_channel([found.step] * sizes[family], found.code) if family in sizes else found
        for family, found in plain.items()
    }
    one, _ = insert_neurons(wanted.graph, wanted.plan, plain)
    many, _ = insert_neurons(wanted.graph, wanted.plan, equal, wanted.channels)
    assert one.state_dict().keys() == many.state_dict().keys()
    for key, value in one.state_dict().items():
        assert torch.equal(value, many.state_dict()[key]), key


@pytest.mark.parametrize("name", SHARED)
def test_what_keeps_a_site_shared_is_said(name):
    prepared, _ = captured(name)
    channels = spike_channels(prepared.graph, prepared.plan)
    assert SHARED[name] in channels.shared.values()
    assert "neurons encode the input" in channels.shared.values()
    (note,) = channels.notes()
    assert SHARED[name] in note
    separate = sum(map(len, channels.sites.values()))
    assert f"{separate} of {separate + len(channels.shared)} sites" in note


def test_sites_that_meet_have_channels_one_after_the_other():
    """Behind a concat each place belongs to a channel of the site it comes from; clips are each site's own."""
    prepared, images = captured("clips")
    config = snnconvert.ConversionConfig(bits=1, T=4, weight_bits=8, threshold="max", **PER_CHANNEL)
    wanted = dataclasses.replace(prepared, config=config)
    (nodes,) = [nodes for nodes in wanted.channels.sites.values() if len(nodes) == 2]
    assert [wanted.channels.maps[node].index.tolist() for node in nodes] == [[0, 1, 2], [3, 4, 5, 6]]
    assert [3, 4, 5, 6, 0, 1, 2] in [found.index.tolist() for found in wanted.channels.maps.values()]
    collector = collector_of(wanted)
    collector.update((images,))
    thresholds, _ = thresholds_of(wanted, collector.statistics())
    (found,) = [threshold for threshold in thresholds.values() if len(threshold.channel_steps) == 7]
    largest = np.array(found.channel_steps) * found.code.maximum
    assert max(largest[:3]) <= 6 * (1 + 1e-9)
    assert max(largest[3:]) > 6


def test_layouts_are_followed():
    """Flattened, permuted and padded channels keep their numbers; padding has none."""

    def forward(n, x):
        x = F.relu(n.stem(x))
        return n.head(F.pad(x, (1, 0)).permute(0, 2, 3, 1).roll(1, 3)) + n.other(x.mean((2, 3)))[:, None, None]

    net, images = settled(
        Net(forward, stem=conv(3, 4), head=nn.Linear(4, 2), other=nn.Linear(4, 2)), torch.randn(2, 3, 6, 6)
    )
    prepared = prepare(net, images)
    channels = spike_channels(prepared.graph, prepared.plan)
    maps = {name: channels.maps[name] for name in channels.maps}
    rolled = next(found for found in maps.values() if found.index.tolist() == [3, 0, 1, 2])
    assert rolled.axis == 3


@given(st.integers(0, 2**31), st.sampled_from([1, 2, 4]), st.booleans())
@settings(max_examples=6, deadline=None)
def test_folded_weights_of_any_convolution(seed, groups, transposed):
    """conv(Δ·z; W) = conv(z; W·Δ), with groups and transposed."""
    generator = torch.Generator().manual_seed(seed)
    cls = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = cls(8, 4, 3, groups=groups)
    steps = torch.rand(8, generator=generator).double() + 0.1
    net = nn.Sequential(nn.ReLU(), layer).eval()
    prepared = prepare(net, torch.randn(2, 8, 5, 5, generator=generator))
    (node,) = (node for node in prepared.graph.graph.nodes if node.name == prepared.plan.synapses[0].node)
    weight, bias = folded_parameters(prepared.graph, node, steps.numpy())
    z = torch.randn(2, 8, 5, 5, generator=generator)
    with torch.no_grad():
        expected = layer(z * steps.float().view(1, -1, 1, 1))
        if transposed:
            own = weight.view(groups, 4 // groups, 8 // groups, 3, 3).transpose(1, 2).flatten(0, 1)
            found = F.conv_transpose2d(z, own, bias, groups=groups)
        else:
            found = F.conv2d(z, weight, bias, groups=groups)
    assert torch.allclose(found, expected, atol=1e-5)


def rescaled():
    """Depthwise, grouped, transposed, residual, pooled and linear layers whose channels lie 1..1000 times apart."""
    spread = torch.logspace(0, 3, 16)[torch.randperm(16, generator=torch.Generator().manual_seed(1))]

    def forward(n, x):
        x = F.relu(n.stem(x))
        x = F.max_pool2d(F.relu(n.depthwise(x) + x), 2)
        x = F.relu(n.grouped(x))
        x = F.relu(n.up(x) + n.skip(x).repeat_interleave(2, 2).repeat_interleave(2, 3))
        return n.head(x.mean((2, 3)))

    net = Net(
        forward, stem=conv(3, 16), depthwise=conv(16, 16, groups=16), grouped=conv(16, 16, groups=4),
        up=nn.ConvTranspose2d(16, 16, 2, 2), skip=conv(16, 16, 1), head=nn.Linear(16, 5),
    )  # fmt: skip
    with torch.no_grad():
        for layer in (net.stem, net.depthwise, net.grouped, net.skip):
            layer.weight *= spread.view(-1, 1, 1, 1)
            layer.bias *= spread
        net.up.weight *= spread.view(1, -1, 1, 1)
        net.up.bias *= spread
        for layer in (net.grouped, net.depthwise):
            inputs = spread.view(layer.groups, 1, -1, 1, 1).expand(-1, 16 // layer.groups, -1, 1, 1)
            layer.weight /= inputs.reshape(16, 16 // layer.groups, 1, 1)
        net.up.weight /= spread.view(-1, 1, 1, 1)
        net.skip.weight /= spread.view(1, -1, 1, 1)
        net.head.weight /= spread
    return net.eval()


@pytest.mark.parametrize("threshold", mostly_slow(["mse", "max", "percentile"], keep=["mse"]))
def test_channels_of_different_scales(threshold):
    torch.manual_seed(0)
    net, images = rescaled(), torch.randn(1024, 3, 8, 8)
    ratios = []
    for granularity in ("tensor", "channel"):
        config = snnconvert.ConversionConfig(
            bits=1, T=4, last_bits=4, threshold=threshold, threshold_granularity=granularity, percentile=99.0
        )
        snn = snnconvert.convert(net, images, config, progress=False)
        ratios.append({layer.name: layer.sqnr_db for layer in snn.report.layers})
    tensor, channel = ratios
    for name in ("grouped", "up", "skip"):  # they mix channels; the depthwise layer shows its largest channel alone
        assert channel[name] > tensor[name] + 10
    assert channel["head"] > tensor["head"] + 9.9


def test_steps_of_a_layer_norm_before_q_k_v():
    prepared, images = captured("attention")
    snn = calibrate(
        dataclasses.replace(prepared, config=snnconvert.ConversionConfig(bits=2, T=3, **PER_CHANNEL)),
        images,
        progress=False,
    )
    steps = {layer: neuron.step for layer, neuron in snn.neurons()}
    assert steps["norm1"].shape == (1, 1, 12)
    assert steps["gelu"].shape == (1, 1, 20)
    assert snn.report.fidelity.logit_sqnr_db > 20


def test_report_and_threshold_name_the_largest():
    prepared, images = captured("chain")
    snn = calibrate(
        dataclasses.replace(prepared, config=snnconvert.ConversionConfig(**PER_CHANNEL)), images, progress=False
    )
    neurons = dict(snn.neurons())
    for layer in snn.report.layers[1:]:
        step = max(
            float(neuron.step.max()) for neuron in neurons.values() if np.isclose(float(neuron.step.max()), layer.step)
        )
        assert layer.threshold == pytest.approx(step * 255, rel=1e-5)


def test_steps_behind_padding_are_the_largest():
    """Where only padding lies there is nothing to scale."""
    prepared, _ = captured("chain")
    channels = spike_channels(prepared.graph, prepared.plan)
    ((family, (node,)), *_) = channels.sites.items()
    padded = dataclasses.replace(channels.maps[node], index=np.array([-1, 0, 1]))
    moved = dataclasses.replace(channels, maps={node: padded})
    code = prepared.plan.sites[0].code
    steps = Steps({family: Threshold.per_channel([1.0, 3.0], code)}, moved)
    assert steps.at(node, family).tolist() == [3.0, 1.0, 3.0]
