"""Neurons behind products of words have gains of 8 bits, with which onnxruntime multiplies bytes in one kernel."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import snnconvert
from snnconvert import site_thresholds
from snnconvert.convert.aligned_sums import is_short
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.product import Product


class Gated(nn.Module):
    """Features times gates of them; what is done with these is given."""

    def __init__(self, forward):
        super().__init__()
        self.stem, self.mix, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)
        self.first, self.second = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.forward_of = forward

    def forward(self, x):
        x = F.silu(self.stem(x))
        return self.head(self.forward_of(self, x).mean((2, 3)))


def squeezed(n, x):
    return F.relu(n.mix(x * torch.sigmoid(n.first(x.mean((2, 3), keepdim=True)))))


def twice(n, x):
    return F.relu(n.mix(x * torch.sigmoid(n.first(x)) * torch.sigmoid(n.second(x))))


def rectified(n, x):
    return F.relu(n.mix(F.relu(x * torch.tanh(n.first(x)))))


def added(n, x):
    return F.relu(n.mix(F.relu(n.second(x)) + x * torch.sigmoid(n.first(x))))


def recalibrated(n, x):
    """A block of an SE-ResNet."""
    y = n.second(F.relu(n.second(x)))
    return F.relu(n.mix(F.relu(y * torch.sigmoid(n.first(y.mean((2, 3), keepdim=True))) + x)))


FORWARDS = {function.__name__: function for function in (squeezed, twice, rectified, added, recalibrated)}


def converted(name, **settings):
    torch.manual_seed(0)
    images = torch.randn(8, 3, 8, 8)
    config = snnconvert.ConversionConfig(**settings)
    return snnconvert.convert(Gated(FORWARDS[name]).eval(), images, config, progress=False), images


def gains(snn):
    """Of neurons behind elementwise products, times the product's own multiplier."""
    modules = {node: snn.network.get_submodule(node.target) for node in snn.network.graph.nodes if is_module(node)}
    for node, neuron in modules.items():
        product = modules.get(node.args[0])
        if isinstance(neuron, SpikingNeuron) and isinstance(product, Product):
            yield from (float(gain) for gain in (neuron.gain.double() * product.multiplier).flatten())


def is_module(node):
    return node.op == "call_module"


@pytest.mark.parametrize("settings", [{}, {"residuals": "spikes", "bits": 1}, {"function_grid": "bytes"}], ids=str)
@pytest.mark.parametrize("name", ["squeezed", "twice", "rectified"])
def test_gains_behind_products_are_short(name, settings):
    snn, images = converted(name, **settings)
    found = list(gains(snn))
    assert len(found) == (2 if name == "twice" else 1)
    assert all(map(is_short, found))
    assert torch.equal(snn.simulate(images).output, snn(images))


@pytest.mark.parametrize("layer", ["stem", "first"])
@pytest.mark.parametrize("name", FORWARDS)
def test_widths_are_allocated_where_one_factor_keeps_its_own(name, layer):
    snn, images = converted(name, bits=1, T=8, overrides={layer: {"T": 6, "bits": 1}}, budget=10)
    assert torch.equal(snn.simulate(images).output, snn(images))


@pytest.mark.parametrize("residuals", ["currents", "spikes"])
@pytest.mark.parametrize("name", FORWARDS)
def test_steps_grow_by_a_128th_at_most(name, residuals, monkeypatch):
    aligned, _ = converted(name, residuals=residuals)
    monkeypatch.setattr(site_thresholds, "aligned_products", lambda graph, plan, thresholds, kept: thresholds)
    plain, _ = converted(name, residuals=residuals)
    steps = {layer: float(neuron.step) for layer, neuron in plain.neurons()}
    grown = [float(neuron.step) / steps[layer] for layer, neuron in aligned.neurons()]
    assert all(1 - 1e-6 <= ratio <= 1 + 1 / 128 + 1e-6 for ratio in grown)
    assert (max(grown) > 1 + 1e-6) == (residuals == "spikes" or name not in ("added", "recalibrated"))


@pytest.mark.parametrize("name", ["added", "recalibrated"])
def test_where_sums_read_words_of_products_a_factor_has_a_larger_step(name, monkeypatch):
    found = [float(gain) for gain in gains(converted(name, residuals="spikes")[0])]
    assert len(found) == 1
    assert all(map(is_short, found))
    monkeypatch.setattr(site_thresholds, "aligned_products", lambda graph, plan, thresholds, kept: thresholds)
    assert not any(map(is_short, gains(converted(name, residuals="spikes")[0])))


@pytest.mark.parametrize(
    "settings",
    [{}, {"residuals": "spikes"}, {"threshold_granularity": "channel"}, {"residuals": "spikes", "bits": 1}],
    ids=str,
)
@pytest.mark.parametrize("name", FORWARDS)
def test_no_word_differs_in_onnxruntime(name, settings):
    snn, images = converted(name, **settings)
    fast = snn.compile("onnxruntime", cache=False)
    assert all(layer.mismatches == 0 for layer in fast.agreement(images))
    torch.testing.assert_close(fast(images), snn(images), rtol=1e-6, atol=1e-6)


def test_bytes_are_multiplied_in_one_kernel():
    snn, _ = converted("squeezed", function_grid="bytes")
    kinds = [found.kind for found in snn.compile("onnxruntime", cache=False).float_operations()]
    assert kinds == ["Mul"]  # of the image
