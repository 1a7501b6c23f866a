"""Every layer of a report, recomputed from the network's own modules and the spikes of a simulation."""

import pytest
import torch
from slow_cases import mostly_slow
from torch import nn

import snnconvert

IMAGES = 6


class Sequences(nn.Module):
    """Grouped, dilated and transposed convolutions, a layer behind a transposition, one behind a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv1d(4, 6, 5, stride=2, padding=2)
        self.grouped = nn.Conv1d(6, 8, 3, dilation=2, groups=2)
        self.up = nn.ConvTranspose1d(8, 6, 4, stride=2, padding=1, groups=2)
        self.mix = nn.Linear(6, 7)
        self.side = nn.Linear(7, 5)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = torch.relu(self.grouped(torch.relu(self.stem(x))))
        x = torch.relu(self.mix(torch.relu(self.up(x)).transpose(1, 2)))
        return self.head(torch.cat([x, torch.relu(self.side(x))], -1))


# name: macs, inputs, outputs, synapses of one output, weights
SIZES = {
    "stem": (12 * 6 * 4 * 5, 4 * 24, 6 * 12, 4 * 5, 6 * 4 * 5),
    "grouped": (8 * 8 * 3 * 3, 6 * 12, 8 * 8, 3 * 3, 8 * 3 * 3),
    "up": (8 * 8 * 3 * 4, 8 * 8, 6 * 16, 4 * 2, 8 * 3 * 4),  # two of four taps fall on one output
    "mix": (16 * 6 * 7, 16 * 6, 16 * 7, 6, 6 * 7),
    "side": (16 * 7 * 5, 16 * 7, 16 * 5, 7, 7 * 5),
    "head": (16 * 12 * 3, 16 * 12, 16 * 3, 12, 12 * 3),
}
READERS = {"x": {"stem"}, "relu": {"grouped"}, "relu#2": {"up"}, "relu#3": {"mix"}, "relu#4": {"side", "head"},
           "relu#5": {"head"}}  # fmt: skip


@pytest.fixture(
    scope="module",
    params=mostly_slow(
        ["packed", "if", "lif:leak=0.9", "ternary", "multithreshold", "differential"],
        keep=["packed", "lif:leak=0.9", "multithreshold"],
    ),
)
def run(request):
    """A report and the spikes of every neuron layer on the images that calibrated."""
    widths = {"bits": 1, "T": 5} if request.param in ("if", "lif:leak=0.9", "ternary") else {"bits": 2, "T": 4}
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network, images = Sequences().eval(), torch.randn(IMAGES, 4, 24)
    config = snnconvert.ConversionConfig(neuron=request.param, last_bits=8, **widths)
    snn = snnconvert.convert(network, images, config, progress=False)
    return snn.report, {
        name: item.spikes.int() for name, item in snn.simulate(images, record=["spikes"]).layers.items()
    }


def test_sizes_are_those_of_the_modules(run):
    found = {item.name: (item.macs, item.inputs, item.outputs, item.fan_in, item.weights) for item in run[0].layers}
    assert found == SIZES


def test_neurons_know_all_their_readers(run):
    assert {item.name: set(item.layers) for item in run[0].neurons} == READERS


def test_activity_is_that_of_the_spikes(run):
    """Additions are the ones that spikes hold, their signs apart, times the weights each meets."""
    report, spikes = run
    for layer in report.layers:
        trains = torch.cat([spikes[name].flatten(1) for name, readers in READERS.items() if layer.name in readers], 1)
        neurons, bits = trains.shape[1], trains.abs()
        ones = sum(int((bits >> digit & 1).sum()) for digit in range(8))
        assert (len(trains), neurons) == (layer.T, IMAGES * layer.inputs)
        assert layer.firing_rate == pytest.approx(int((trains != 0).sum()) / (neurons * layer.T))
        assert layer.word_sparsity == pytest.approx(int((trains == 0).all(0).sum()) / neurons)
        assert layer.bit_sparsity == pytest.approx(1 - ones / (neurons * layer.T * layer.spike_bits))
        assert layer.accumulates == pytest.approx(layer.macs * ones / neurons)
        assert layer.accumulates >= layer.synops - 1e-6


class Residual(nn.Module):
    """A sum, and a product of two activations, the second of which has both signs."""

    def __init__(self):
        super().__init__()
        self.stem, self.mix, self.key = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.mix(x) + x)
        return x @ self.key(x).transpose(1, 2)


def converted(**settings):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network, tokens = Residual().eval(), torch.randn(8, 5, 6)
    return snnconvert.convert(network, tokens, snnconvert.ConversionConfig(**settings), progress=False).report


def test_the_ann_has_the_same_operations_at_all_settings():
    """Two rectifiers and a sum on [5, 8], however many neurons take the rectifiers over."""
    for settings in ({}, {"bits": 2, "T": 2}, {"neuron": "if", "bits": 1, "T": 4}, {"overrides": {"mix": {"T": 2}}}):
        report = converted(**settings)
        assert report.totals.ann_operations == 3 * 5 * 8
        assert report.totals.integer_operations == 5 * 8


@pytest.mark.parametrize(("neuron", "T", "bits"), [("ternary", 5, 4), ("ternary", 3, 3), ("if", 6, 3)])
def test_the_second_factor_has_the_bits_of_its_words(neuron, T, bits):
    """Sums of T signs take one of 2T + 1 values, T binary spikes one of T + 1."""
    product = converted(neuron=neuron, bits=1, T=T).layers[-1]
    assert (product.op, product.weights) == ("matmul", 0)
    assert product.weight_bits == bits
    assert product.s_ace == 5 * 5 * 8 * T * product.spike_bits * bits
