"""Relays behind the branches of residual sums: where they stand, that they change nothing, and what spikes do there."""

import pytest
import torch
from graph_helpers import canonical, linear_bottlenecks, rectified, residual
from slow_cases import mostly_slow

import snnconvert
from snnconvert.convert.names import layer_name
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.passes.relay_residuals import relay_residuals
from snnconvert.convert.planner import make_plan
from snnconvert.neurons.current import SumPool
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse


def added_last(net, x):
    x = torch.relu(net.conv1(x))
    return net.conv2(x) + x


def plain(net, x):
    return net.fc(torch.relu(net.conv2(torch.relu(net.conv1(x)))).mean((2, 3)))


@pytest.mark.parametrize(
    ("forward", "branches"),
    mostly_slow(
        [
            (rectified, ["conv2", "conv3", "conv4"]),
            (linear_bottlenecks, ["conv1", "conv2", "conv3"]),
            (added_last, []),
            (plain, []),
        ],
        keep=[(rectified, ["conv2", "conv3", "conv4"]), (plain, [])],
    ),
)
def test_every_current_that_enters_a_sum_gets_one_relay(forward, branches):
    images = torch.randn(2, 3, 8, 8)
    net = residual(forward)
    before, graph = canonical(net, images), canonical(net, images)
    after = relay_residuals(graph, make_plan(graph, snnconvert.ConversionConfig()))
    assert torch.equal(before(images), after(images))
    relays = [node for node in after.graph.nodes if kind_of(node) is OpKind.RELAY]
    named = sorted({layer_name(node) for node in relays if layer_name(node).startswith("conv")})
    assert named == [f"{name}.branch" for name in branches]
    assert all(len(node.all_input_nodes[0].users) == 1 for node in relays)


@pytest.mark.parametrize("forward", [rectified, linear_bottlenecks])
@pytest.mark.parametrize(("bits", "T", "bound"), mostly_slow([(2, 4, 2e-3), (1, 4, 0.05)], keep=1))
def test_sums_add_spikes_and_lose_little(forward, bits, T, bound):
    images = torch.randn(16, 3, 8, 8)
    net = residual(forward)
    expected = net(images).detach()
    errors = {}
    for residuals in ("currents", "spikes"):
        config = snnconvert.ConversionConfig(bits=bits, T=T, residuals=residuals)
        network = snnconvert.convert(net, [images], config, progress=False)
        packed = network(images)
        assert torch.equal(packed, network.simulate(images).output)
        errors[residuals] = float((packed - expected).square().sum() / expected.square().sum())
    assert errors["spikes"] < max(bound, 4 * errors["currents"])
    modules = dict(network.network.named_modules())
    for node in network.network.graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], Synapse):
            readers = [modules[user.target] for user in node.users if user.op == "call_module"]
            assert len(readers) == len(node.users)
            assert all(isinstance(reader, SpikingNeuron) for reader in readers) or layer_name(node) == "fc"


def test_means_of_what_a_product_reads_are_means_of_its_spikes():
    def recalibrated(net, x):
        y = net.conv2(torch.relu(net.conv1(x)))
        return net.fc(torch.relu(net.conv3(y * torch.sigmoid(net.conv4(y.mean((2, 3), keepdim=True))))).mean((2, 3)))

    images = torch.randn(16, 3, 8, 8)
    network = snnconvert.convert(
        residual(recalibrated), [images], snnconvert.ConversionConfig(residuals="spikes"), progress=False
    )
    modules = dict(network.network.named_modules())
    pools = [node for node in network.network.graph.nodes if isinstance(modules.get(str(node.target)), SumPool)]
    read = {layer_name(node.all_input_nodes[0]) for node in pools}
    assert "conv2.branch" in read
    assert all(isinstance(modules[node.all_input_nodes[0].target], SpikingNeuron) for node in pools)
    assert torch.equal(network(images), network.simulate(images).output)


def test_unknown_choice_is_refused():
    with pytest.raises(snnconvert.ConfigurationError, match="residuals must be one of currents, spikes"):
        snnconvert.ConversionConfig(residuals="both")
