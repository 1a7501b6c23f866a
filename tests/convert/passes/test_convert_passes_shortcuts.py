"""Neurons of their own for shortcuts: which activations are split, and what that is worth."""

import pytest
import torch
from graph_helpers import Net, canonical, count
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.convert.names import layer_name
from snnconvert.convert.passes.split_shortcuts import split_shortcuts


def residual(activation=torch.relu):
    def forward(net, x):
        x = activation(net.conv1(x))
        x = activation(net.conv2(x) + x)
        x = activation(net.conv3(x) + x)
        return net.fc(x.mean((2, 3)))

    torch.manual_seed(0)
    convs = {f"conv{i}": nn.Conv2d(3 if i == 1 else 8, 8, 3, padding=1, bias=False) for i in (1, 2, 3)}
    return Net(forward, **convs, fc=nn.Linear(8, 10, bias=False))


def split(net, images):
    before = canonical(net, images)
    after = split_shortcuts(canonical(net, images))
    assert torch.equal(before(images), after(images))
    names = [layer_name(node) for node in after.graph.nodes if layer_name(node).endswith(".shortcut")]
    return before, after, names


@pytest.mark.parametrize(
    ("activation", "word"),
    mostly_slow([(torch.relu, "rectified"), (nn.functional.silu, "silu"), (nn.functional.gelu, "gelu")], keep=1),
)
def test_activations_of_shortcuts_are_split(activation, word):
    before, after, names = split(residual(activation), torch.randn(2, 3, 8, 8))
    assert (count(before, word), count(after, word)) == (3, 5)
    assert len(names) == 2


def test_one_way_is_not_split():
    def plain(net, x):
        return net.fc(torch.relu(net.conv2(torch.relu(net.conv1(x)))).mean((2, 3)))

    def meeting_only(net, x):
        return net.fc(torch.relu(net.conv2(torch.relu(net.conv1(x) + net.conv2(torch.relu(x))))).mean((2, 3)))

    for forward in (plain, meeting_only):
        net = Net(forward, conv1=nn.Conv2d(4, 4, 1), conv2=nn.Conv2d(4, 4, 1), fc=nn.Linear(4, 2))
        assert split(net, torch.randn(2, 4, 6, 6))[2] == []


def test_concats_and_pools_lead_spikes_to_synapses():
    def forward(net, x):
        x = torch.relu(net.conv1(x))
        joined = torch.cat([nn.functional.max_pool2d(x, 3, 1, 1), x], 1)
        return net.conv2(joined) + nn.functional.pad(x, (0, 0, 0, 0, 0, 4))

    net = Net(forward, conv1=nn.Conv2d(3, 4, 1), conv2=nn.Conv2d(8, 8, 1))
    before, after, names = split(net, torch.randn(2, 3, 6, 6))
    assert (count(before, "rectified"), count(after, "rectified")) == (1, 2)
    assert len(names) == 1


def test_shortcuts_of_more_bits_keep_more():
    torch.manual_seed(1)
    net, images = residual(), torch.randn(24, 3, 8, 8)
    with torch.no_grad():
        for conv in (net.conv2, net.conv3):
            conv.weight *= 0.2  # so that what the shortcuts carry counts
    found = {}
    for bits in (2, 8):
        config = snnconvert.ConversionConfig(bits=1, T=2, shortcut_bits=bits)
        snn = snnconvert.convert(net, images, config, progress=False)
        found[bits] = snn.report
        assert torch.equal(snn(images), snn.simulate(images).output)
        widths = {(site.bits * site.T) for site in snn.plan.sites if site.layer.endswith(".shortcut")}
        assert widths == (set() if bits == 2 else {8})
    assert found[2].totals.bit_budget == found[8].totals.bit_budget
    assert found[8].fidelity.logit_sqnr_db > found[2].fidelity.logit_sqnr_db + 2


def test_wide_windows_and_other_neurons_keep_one_population():
    net, images = residual(), torch.randn(8, 3, 8, 8)
    for settings in ({"bits": 2, "T": 4}, {"neuron": "if", "bits": 1, "T": 4}):
        plan = snnconvert.plan(net, images, snnconvert.ConversionConfig(**settings))
        assert not any(site.layer.endswith(".shortcut") for site in plan.sites)
        assert {(site.bits, site.T) for site in plan.sites if site.origin != "input"} == {
            (settings["bits"], settings["T"])
        }
