"""Gains behind sums, in models as they run: nothing of them is observed, so that runtimes fuse what they can."""

import pytest
import torch
from integer_networks import RUNTIMES
from torch import fx

from snnconvert.convert.signature import Signature
from snnconvert.engines.integer.compiled import compile_network
from snnconvert.engines.integer.runtime import RuntimeOptions
from snnconvert.neurons.current import IntegerScale, ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.synapse import ConvGeometry, Synapse

aten = torch.ops.aten
CHANNELS = 16
SIGNED, UNSIGNED = PackedCode(8, 1, offset=128), PackedCode(8, 1)
ONE = torch.ones(())


class SpikingGraph:
    """A spiking graph written down by hand, of integers that float32 holds whatever the order of its sums."""

    def __init__(self):
        self.random = torch.Generator().manual_seed(0)
        self.graph, self.modules, self.outputs = fx.Graph(), {}, []
        self.images = self.graph.placeholder("x")

    def call(self, module, source):
        self.modules[f"layer{len(self.modules)}"] = module
        return self.graph.call_module(f"layer{len(self.modules) - 1}", (source,))

    def neurons(self, source, code, gain=1.0):
        return self.call(SpikingNeuron(code, torch.as_tensor(gain), ONE), source)

    def synapse(self, words, size=1):
        weight = torch.randint(-127, 128, (CHANNELS, CHANNELS, size, size), generator=self.random)
        return self.call(
            Synapse(
                weight.to(torch.int8), torch.randint(-5000, 5000, (CHANNELS,), generator=self.random).to(torch.int32),
                torch.ones(CHANNELS), torch.full((CHANNELS,), 2.0**-20, dtype=torch.float64),
                geometry=ConvGeometry((1, 1), (size // 2, size // 2), (1, 1), 1), weight_bits=8,
                word_range=(0, 255),
            ),
            words,
        )  # fmt: skip

    def function(self, target, *arguments):
        return self.graph.call_function(target, arguments)

    def is_equal_in(self, engine):
        """Whether a runtime gives the very outputs: what synapses make of all words."""
        real = [self.call(ToReal(ONE), output) for output in self.outputs]
        self.graph.output(self.function(aten.cat.default, real, 1))
        network = fx.GraphModule(self.modules, self.graph)
        images = 256 * torch.rand(2, CHANNELS, 20, 20, generator=self.random)
        signature = Signature.of_one_tensor(images.shape[1:])
        compiled = compile_network(network, signature, lambda output: output, engine, RuntimeOptions(), cache=False)
        return torch.equal(compiled(images), network(images))


@pytest.fixture(params=list(RUNTIMES))
def engine(request):
    pytest.importorskip(request.param)
    return request.param


def test_sums_of_words_break_ties_as_they_should(engine):
    """Gains k/128 that a runtime may lose on the way into its own rounding, and some that it keeps."""
    net = SpikingGraph()
    words = net.neurons(net.images, UNSIGNED)
    for mantissa in (7, 13, 15, 61, 95, 101, 103, 119, 5, 63, 93):
        branches = [net.neurons(net.synapse(words, size), SIGNED, 2.0**-13) for size in (1, 3)]
        gain = mantissa / 2.0 ** (mantissa.bit_length() - 1)
        net.outputs.append(net.synapse(net.neurons(net.function(aten.add.Tensor, *branches), UNSIGNED, gain)))
    assert net.is_equal_in(engine)


@pytest.mark.parametrize("code", [SIGNED, UNSIGNED], ids=["signed", "unsigned"])
@pytest.mark.parametrize("shortcut_first", [True, False], ids=["shortcut first", "branch first"])
@pytest.mark.parametrize("read_elsewhere", [True, False], ids=["read elsewhere", "only added"])
def test_sums_of_words_of_two_scales(engine, code, shortcut_first, read_elsewhere):
    """Words times 3 or so, which no runtime may bring to the scale of the other words by a division."""
    net = SpikingGraph()
    images = net.neurons(net.images, UNSIGNED)
    for multipliers in [(3, 2), (2, 3), (5, 4), (4, 7), (1, 13), (11, 8)]:
        shortcut = net.neurons(net.synapse(images), code, 2.0**-13)
        branch = net.neurons(net.synapse(shortcut if read_elsewhere else images, 3), code, 2.0**-13)
        words = zip(multipliers, (shortcut, branch), strict=True)
        scaled = [net.call(IntegerScale(torch.tensor(multiplier)), each) for multiplier, each in words]
        total = net.function(aten.add.Tensor, *(scaled if shortcut_first else scaled[::-1]))
        net.outputs.append(net.synapse(net.neurons(total, code, 2.0 ** -max(multipliers).bit_length())))
    assert net.is_equal_in(engine)
