"""Neurons behind concats of currents, and those that share a synapse, fire apart: word for word the same network."""

import pytest
import torch
import torch.nn.functional as F
from engine_networks import Net, conv
from torch import nn

import snnconvert
from snnconvert.engines.integer.fired_apart import WORDS_OF, fired_apart
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse


def net(forward):
    layers = {"a": conv(3, 8), "b": conv(3, 8), "c": conv(8, 8), "d": conv(16, 8), "e": conv(8, 16), "f": conv(24, 8)}
    each = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    return Net(lambda n, x: n.head(F.relu(forward(n, x)).mean((2, 3))), **layers, each=each, head=nn.Linear(8, 5))


def joined(n, x):
    return n.d(torch.cat([n.a(x), n.b(x)], 1))


def ghost(n, x):
    """Two of GhostNet's modules, the second in a residual sum."""
    first = F.relu(n.a(x))
    second = F.relu(n.each(first))
    y = n.d(torch.cat([first, second], 1))
    return n.d(torch.cat([y, n.each(y)], 1) + torch.cat([n.b(x), n.c(first)], 1))


def partly_added(n, x):
    """Two of ReXNet's blocks: residual sums of some channels."""
    narrow = n.a(x)
    wide = n.e(F.relu(n.c(narrow)))
    return n.d(torch.cat([wide[:, :8] + narrow, wide[:, 8:]], 1))


def rectified(n, x):
    return n.d(F.relu(torch.cat([n.a(x), n.b(x)], 1)))


def pooled_part(n, x):
    y = F.relu(n.a(x))
    return n.f(torch.cat([n.e(y), F.avg_pool2d(n.c(y), 3, 1, 1)], 1))


def read_twice(n, x):
    y = n.a(x)
    return n.c(F.relu(y)) + n.each(F.relu6(y))


def grouped_slices(n, x):
    y = n.each(F.relu(n.a(x)))
    return n.c(torch.cat([F.relu(y[:, :4]), F.relu6(y[:, 4:])], 1))


def read_by_three(n, x):
    y = n.a(x)
    return n.c(F.relu(y)) + n.c(F.relu6(y)) + n.c(torch.tanh(y))


def densely_joined(n, x):
    y = n.a(x)
    z = n.c(F.relu(y))
    return n.f(F.relu(torch.cat([y, z, n.d(F.relu(torch.cat([y, z], 1)))], 1)))


def along_rows(n, x):
    return n.c(torch.cat([n.a(x), n.b(x)], 2))


def multiplied(n, x):
    return n.d(torch.cat([n.a(x), n.b(x)], 1) * torch.sigmoid(n.e(F.relu(n.b(x)))))


APART = [joined, ghost, partly_added, rectified, pooled_part, read_twice]
TOGETHER = [grouped_slices, read_by_three, along_rows]
NETWORKS = [*APART, *TOGETHER, densely_joined, multiplied]
SETTINGS = [
    {},
    {"residuals": "spikes", "bits": 1},
    {"threshold_granularity": "channel", "channel_shift": True},
    {"weight_granularity": "channel", "weight_bits": 4},
]


def spiking(forward, **settings):
    torch.manual_seed(0)
    images = torch.randn(16, 3, 8, 8)
    config = snnconvert.ConversionConfig(**settings)
    return snnconvert.convert(net(forward).eval(), images, config, progress=False), images


def parts_of(network):
    return [network.get_submodule(str(node.target)) for node in network.graph.nodes if node.op == "call_module"]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("forward", NETWORKS)
def test_outputs_and_words_are_the_same(forward, settings):
    snn, images = spiking(forward, **settings)
    before = [str(node) for node in snn.network.graph.nodes]
    apart = fired_apart(snn.network, snn.signature)
    assert torch.equal(apart(images), snn.network(images))
    assert [str(node) for node in snn.network.graph.nodes] == before
    fast = snn.compile("onnxruntime", threads=1, cache=False)
    layers = fast.agreement(images)
    assert {layer.layer for layer in layers} == {layer for layer, _ in snn.neurons()}
    assert all(layer.mismatches == 0 for layer in layers)
    torch.testing.assert_close(fast(images), snn(images), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("forward", APART)
def test_every_convolution_fires_in_its_kernel(forward):
    snn, _ = spiking(forward, residuals="spikes")
    apart = fired_apart(snn.network, snn.signature)
    modules = dict(apart.named_modules())
    for node in apart.graph.nodes:
        synapse = modules.get(str(node.target))
        if isinstance(synapse, Synapse) and synapse.geometry is not None and "pool" not in str(list(node.users)):
            assert len(node.users) == 1
            assert isinstance(modules[str(next(iter(node.users)).target)], SpikingNeuron)
    kinds = {found.kind for found in snn.compile("onnxruntime", threads=1, cache=False).float_operations()}
    assert ("Conv" in kinds) == (forward is pooled_part)


@pytest.mark.parametrize("forward", TOGETHER)
def test_what_would_cost_more_is_left_as_it_is(forward):
    snn, _ = spiking(forward)
    apart = fired_apart(snn.network, snn.signature)
    synapses = [sum(isinstance(module, Synapse) for module in parts_of(each)) for each in (apart, snn.network)]
    assert synapses[0] == synapses[1]
    assert not any(WORDS_OF in node.meta for node in apart.graph.nodes)


def test_a_slice_of_a_synapse_computes_its_channels_alone():
    snn, _ = spiking(partly_added, residuals="spikes")
    apart = fired_apart(snn.network, snn.signature)
    rows = [len(module.weight) for module in parts_of(apart) if isinstance(module, Synapse)]
    assert sorted(rows).count(16) == 0
    assert not any(node.target is torch.ops.aten.slice.Tensor for node in apart.graph.nodes)
