"""Potentials as bytes: kernels fire grid positions, and words are products with gates, or looked up."""

import pytest
import torch
import torch.nn.functional as F
from engine_networks import conv
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_networks import RUNTIMES, compared
from torch import nn

import snnconvert
from snnconvert.engines.integer.gates import gate_of
from snnconvert.neurons.byte_tables import GATES, Potentials, byte_table
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.transfer import TableTransfer

GATED = {
    "silu": F.silu,
    "hardswish": F.hardswish,
    "slow": lambda x: x * torch.sigmoid(0.3 * x),
    "narrow": lambda x: x * (x / 2 + 0.5).clamp(0, 1),
}


def transfer_of(function, step, code):
    values = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    table = byte_table(function, step, code, 1.0, Potentials(values, torch.ones_like(values)))
    return TableTransfer(torch.tensor(1.0), table.first, table.values)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(GATED)), st.floats(-3, -0.5), st.integers(0, 40))
def test_gates_are_found_and_give_every_value_in_float32(name, power, offset):
    transfer = transfer_of(GATED[name], 10.0**power, PackedCode(2, 4, offset=offset))
    gate = gate_of(transfer)
    assert gate is not None
    positions = torch.arange(256, dtype=torch.float32) + int(transfer.first)
    gates = (255 * GATES[gate.name](torch.tensor(gate.inner) * positions)).round()
    for product in (positions * gates * gate.multiplier, positions * gate.multiplier * gates):
        assert torch.equal(product, transfer.table)


@pytest.mark.parametrize("function", [F.gelu, F.mish, torch.tanh], ids=["gelu", "mish", "tanh"])
def test_other_functions_have_no_gate(function):
    assert gate_of(transfer_of(function, 0.03, PackedCode(2, 4, offset=9))) is None


def test_one_other_value_is_no_gate():
    transfer = transfer_of(F.silu, 0.03, PackedCode(2, 4, offset=9))
    transfer.table[200] += 1
    assert gate_of(transfer) is None


class Positions(nn.Module):
    """One channel of potentials through a function."""

    def __init__(self, function):
        super().__init__()
        self.stem, self.function, self.head = nn.Linear(1, 1), function, nn.Linear(1, 1, bias=False)

    def forward(self, x):
        return self.head(self.function(self.stem(x)))


def mixed():
    """A bottleneck of gated functions, a looked-up one, words with a sign and a sum of them."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.wide, self.deep = conv(3, 8), conv(8, 12, 1), conv(12, 12, groups=12)
            self.narrow, self.last, self.head = conv(12, 8), conv(8, 8), nn.Linear(8, 5)

        def forward(self, x):
            x = F.silu(self.stem(x))
            x = x + self.narrow(F.hardswish(self.deep(F.silu(self.wide(x)))))
            return self.head(F.mish(self.last(F.gelu(x))).mean((2, 3)))

    return Mixed()


def spiking(ann, images, **config):
    config = snnconvert.ConversionConfig(function_grid="bytes", **config)
    return snnconvert.convert(ann.eval(), images, config, progress=False)


@pytest.mark.parametrize("scale", [0.02, 1.0, 30.0])
@pytest.mark.parametrize("function", [F.silu, F.hardswish, F.gelu, torch.tanh], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("bits", "T"), [(2, 4), (1, 4)])
def test_kernels_fire_the_table_at_every_position(function, scale, bits, T):
    torch.manual_seed(0)
    images = scale * torch.linspace(-4, 4, 1021)[:, None]
    snn = spiking(Positions(function), images, bits=bits, T=T)
    found = compared(snn, 1.5 * images, "onnxruntime")
    assert found.differing == {}
    transfer = next(module for module in snn.network.modules() if isinstance(module, TableTransfer))
    assert len(transfer.table) <= 256


@pytest.mark.parametrize(
    "config",
    [{}, {"residuals": "spikes", "bits": 1}, {"bits": 1, "T": 7}, {"threshold_granularity": "channel"}],
    ids=str,
)
@pytest.mark.parametrize("engine", [*RUNTIMES, "torch"])
def test_no_word_differs_and_no_output(engine, config):
    pytest.importorskip(engine)
    torch.manual_seed(0)
    images = 8 * torch.randn(24, 3, 8, 8)
    snn = spiking(mixed(), images[:8], **config)
    fast = snn.compile(engine, cache=False)
    assert all(layer.mismatches == 0 for layer in fast.agreement(images))
    torch.testing.assert_close(fast(images), snn(images), rtol=1e-6, atol=1e-6)


class Pooled(nn.Module):
    """A function that reads words through a max-pool, and words at both ends of what it tells apart."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(3, 4), conv(4, 4), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = F.max_pool2d(F.gelu(self.b(F.relu(self.a(x)))), 2, 1)
        return self.head(F.relu(self.c(F.hardswish(x))).mean((2, 3)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("engine", RUNTIMES)
def test_no_word_differs_behind_pools_of_words(engine, seed):
    pytest.importorskip(engine)
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    fast = spiking(Pooled(), images).compile(engine, cache=False)
    assert all(layer.mismatches == 0 for layer in fast.agreement(images))


class Wide(nn.Module):
    """Sums of many large words, half of them negative, in front of a function."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.head = nn.Conv2d(1, 48, 1), conv(48, 16), nn.Conv2d(16, 8, 1), nn.Linear(8, 4)
        with torch.no_grad():
            self.a.weight.uniform_(0.8, 1.0)
            self.a.bias.zero_()
            self.b.weight.uniform_(0.035, 0.05)
            self.b.weight[:, 24:] *= -1

    def forward(self, x):
        return self.head(F.relu(self.c(F.silu(self.b(F.relu(self.a(x)))))).mean((2, 3)))


@pytest.mark.parametrize("grid", ["fine", "bytes"])
@pytest.mark.parametrize("engine", RUNTIMES)
def test_no_word_differs_where_kernels_fire_no_positions(engine, grid):
    """Thresholds a channel, and sums that float32 doesn't hold with a gain in their weights."""
    pytest.importorskip(engine)
    torch.manual_seed(0)
    images = 3 + torch.rand(32, 1, 24, 24)
    config = snnconvert.ConversionConfig(function_grid=grid, threshold_granularity="channel")
    snn = snnconvert.convert(Wide().eval(), images[:4], config, progress=False)
    assert all(layer.mismatches == 0 for layer in snn.compile(engine, cache=False).agreement(images))


def test_onnxruntime_runs_gates_in_integer_kernels():
    torch.manual_seed(0)
    images = 8 * torch.randn(8, 3, 8, 8)
    snn = spiking(mixed(), images, residuals="spikes")
    kinds = {found.kind for found in snn.compile("onnxruntime", cache=False).float_operations()}
    assert kinds == {"Mul", "Add", "Clip", "Round"}  # of the image, and GELU behind the sum


def test_a_gain_behind_a_gate_is_looked_up():
    """Neurons whose gain training has moved fire other words than the product's."""
    torch.manual_seed(0)
    images = torch.linspace(-4, 4, 1021)[:, None]
    snn = spiking(Positions(F.silu), images)
    graph = snn.network.graph
    modules = {node: snn.network.get_submodule(node.target) for node in graph.nodes if node.op == "call_module"}
    neuron = next(modules[node] for node in modules if isinstance(modules.get(node.args[0]), TableTransfer))
    neuron.gain.mul_(0.77)
    assert compared(snn, images, "onnxruntime").differing == {}
