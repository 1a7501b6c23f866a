"""Convolutions of any shape, written node by node: words in runtimes against sums of int64."""

import numpy as np
import pytest
import torch
from engine_networks import packed_words
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_networks import RUNTIMES, compared
from integer_oracle import convolved
from slow_cases import mostly_slow
from torch import fx

from snnconvert.convert.signature import Signature
from snnconvert.neurons.current import IntegerScale, ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.synapse import ConvGeometry, Synapse

ONE = torch.ones(())


@st.composite
def convolutions(draw):
    groups = draw(st.integers(1, 3))
    sizes = st.integers(1, 3)
    kernel = tuple(draw(st.lists(st.integers(1, 4), min_size=2, max_size=2)))
    dilation = tuple(draw(st.lists(st.integers(1, 2), min_size=2, max_size=2)))
    padding = tuple(draw(st.lists(st.integers(0, 3), min_size=2, max_size=2)))
    stride = tuple(draw(st.lists(st.integers(1, 3), min_size=2, max_size=2)))
    geometry = ConvGeometry(stride, padding, dilation, groups)
    weight_shape = (groups * draw(sizes), draw(sizes), *kernel)
    image = tuple(d * (k - 1) + draw(st.integers(1, 6)) for k, d in zip(kernel, dilation, strict=True))
    code = PackedCode(*draw(st.sampled_from([(8, 1), (2, 4), (1, 7), (2, 2), (1, 1)])))
    offset = draw(st.integers(0, code.largest_value - 1)) if draw(st.booleans()) else 0
    return geometry, weight_shape, image, PackedCode(code.bits, code.T, offset & ~1), draw(st.integers(0, 999))


class Network:
    """Neurons that fire the image's own integers, a convolution, and the neurons behind it."""

    def __init__(self, geometry, weight_shape, code, seed):
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randint(-127, 128, weight_shape, generator=generator).to(torch.int8)
        channels = weight_shape[0]
        bias = torch.randint(-5000, 5000, (channels,), generator=generator)
        multiplier = torch.randint(1, 4, (channels,), generator=generator)
        word_range = (int(code.minimum), int(code.maximum))
        unit = torch.ones(channels, dtype=torch.float64)
        gain = torch.tensor([3 * 2.0**-15, 2.0**-13, 5 * 2.0**-16])[torch.arange(channels) % 3].view(1, -1, 1, 1)
        graph = fx.Graph()
        node = graph.placeholder("x")
        root = {
            "input": SpikingNeuron(code, ONE, ONE),
            "synapse": Synapse(weight, bias, multiplier, unit, geometry=geometry, weight_bits=8, word_range=word_range),
            "neuron": SpikingNeuron(PackedCode(2, 4, 100), gain, ONE),
            "real": ToReal(torch.ones((), dtype=torch.float64)),
        }
        for name in root:
            node = graph.call_module(name, (node,))
            node.meta["layer"] = name
        graph.output(node)
        self.network = fx.GraphModule(root, graph)
        self.signature = None

    def neurons(self):
        return [(name, getattr(self.network, name)) for name in ("input", "neuron")]

    def __call__(self, images):
        return self.network(images)


@pytest.mark.parametrize("engine", list(RUNTIMES))
@settings(max_examples=2, deadline=None, derandomize=True)
@given(case=convolutions())
def test_words_are_sums_of_int64(engine, case):
    assert_words_are_sums(engine, case)


@pytest.mark.slow
@pytest.mark.parametrize("engine", list(RUNTIMES))
@settings(max_examples=5, deadline=None, derandomize=True)
@given(case=convolutions())
def test_words_of_more_convolutions_are_sums_of_int64(engine, case):
    assert_words_are_sums(engine, case)


def assert_words_are_sums(engine, case):
    pytest.importorskip(engine)
    geometry, weight_shape, image, code, seed = case
    net = Network(geometry, weight_shape, code, seed)
    shape = (weight_shape[1] * geometry.groups, *image)
    net.signature = Signature.of_one_tensor(shape)
    generator = np.random.default_rng(seed)
    words = generator.integers(int(code.minimum), int(code.maximum) + 1, size=(3, *shape))
    images = torch.from_numpy(words.astype(np.float32))
    synapse, neuron = net.network.synapse, net.network.neuron
    along = (slice(None), None, None)
    sums = convolved(words, synapse.weight.numpy().astype(np.int64), *geometry_of(geometry))
    sums = (sums + synapse.bias.numpy().astype(np.int64)[along]) * synapse.multiplier.numpy().astype(np.int64)[along]
    potentials = sums * neuron.gain.double().numpy().reshape(-1, 1, 1)
    expected = np.clip(np.rint(potentials), -100, 155)
    found = packed_words(net.network, images)
    np.testing.assert_array_equal(found["input"].numpy(), words)
    np.testing.assert_array_equal(found["neuron"].numpy(), expected)
    assert compared(net, images, engine).differing == {}


def geometry_of(geometry):
    return geometry.stride, geometry.padding, geometry.dilation, geometry.groups


class WordSum:
    """Words times 3161 and words times 2983, added up: at every odd word the sum is halfway between two."""

    def __init__(self):
        graph = fx.Graph()
        x = graph.placeholder("x")
        root = {
            "one": SpikingNeuron(PackedCode(2, 4, 118), ONE, ONE),
            "two": SpikingNeuron(PackedCode(2, 4, 126), ONE, ONE),
        }
        root |= {"times_one": IntegerScale(torch.tensor(3161.0)), "times_two": IntegerScale(torch.tensor(2983.0))}
        root |= {"sum": SpikingNeuron(PackedCode(2, 4, 124), torch.tensor(2.0**-12), ONE)}
        root |= {"real": ToReal(torch.ones((), dtype=torch.float64))}
        scaled = [graph.call_module(f"times_{name}", (graph.call_module(name, (x,)),)) for name in ("one", "two")]
        fired = graph.call_module("sum", (graph.call_function(torch.ops.aten.add.Tensor, tuple(scaled)),))
        graph.output(graph.call_module("real", (fired,)))
        for node in graph.nodes:
            node.meta["layer"] = str(node.target)
        self.network = fx.GraphModule(root, graph)
        self.signature = Signature.of_one_tensor((4, 4, 4))

    def neurons(self):
        return [(name, getattr(self.network, name)) for name in ("one", "two", "sum")]

    def __call__(self, images):
        return self.network(images)


@pytest.mark.parametrize("engine", mostly_slow(list(RUNTIMES), keep=["openvino"]))
def test_sums_of_words_halfway_between_two_become_even(engine):
    pytest.importorskip(engine)
    net = WordSum()
    images = torch.arange(-64.0, 64.0).view(2, 4, 4, 4)
    words = packed_words(net.network, images)["sum"]
    expected = np.clip(np.rint(1.5 * images.double().numpy()), -124, 131)
    np.testing.assert_array_equal(words.numpy(), expected)
    assert compared(net, images, engine).differing == {}
