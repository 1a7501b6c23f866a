"""Functions that a runtime computes instead of a table: the same words, or the table."""

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from engine_networks import conv
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_networks import RUNTIMES, compared
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

import snnconvert
from snnconvert.engines.integer import compiled
from snnconvert.engines.integer.dialect import ONNXRUNTIME, OPENVINO
from snnconvert.engines.integer.formulas import formula_of
from snnconvert.engines.integer.function_test import computes_closely
from snnconvert.engines.integer.integer_model import integer_model
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.tabulation import tabulate
from snnconvert.neurons.transfer import TableTransfer

KNOWN = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": F.silu,
    "hardswish": F.hardswish,
    "mish": F.mish,
    "elu": F.elu,
}
SPANS = [(0.02, 20, 2, 4), (0.0131, 23, 8, 1), (0.3, 1, 1, 4), (0.07, 4, 2, 4)]


def fired(function, step, offset, bits, T):
    code = PackedCode(bits, T, offset=offset)
    table = tabulate(function, step, code)
    neuron = SpikingNeuron(code, torch.ones(()), torch.tensor(step))
    return TableTransfer(torch.tensor(1.0), table.first, table.values), neuron, table.spacing


@pytest.mark.parametrize("span", SPANS, ids=str)
@pytest.mark.parametrize("name", KNOWN)
def test_formulas_give_the_words_of_the_function(name, span):
    transfer, neuron, spacing = fired(KNOWN[name], *span)
    formula = formula_of(transfer, neuron)
    assert formula is not None
    positions = torch.arange(int(transfer.first) - 999, int(transfer.first) + len(transfer.table) + 999)
    code, step = neuron.code, span[0]
    exact = (KNOWN[name](positions.double() * spacing) / step).round().clamp(-code.offset, neuron.ceiling)
    in_float32 = formula(positions.float()).round().clamp(-code.offset, neuron.ceiling)
    assert torch.equal(in_float32.double(), exact)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.004, 0.4), st.integers(0, 60), st.sampled_from(list(KNOWN)))
def test_any_formula_found_gives_the_words_of_the_table(step, offset, name):
    transfer, neuron, _ = fired(KNOWN[name], step, offset, 2, 4)
    formula = formula_of(transfer, neuron)
    if formula is not None:
        positions = torch.arange(len(transfer.table)) + int(transfer.first)
        found = formula(positions.float()).round().clamp(-offset, neuron.ceiling)
        assert torch.equal(found, neuron(transfer.table).float())


@pytest.mark.parametrize("function", [torch.square, torch.sin, torch.exp], ids=["square", "sine", "exponential"])
def test_other_functions_stay_tables(function):
    assert formula_of(*fired(function, 0.05, 20, 2, 4)[:2]) is None


def test_one_other_word_keeps_the_table():
    transfer, neuron, _ = fired(F.gelu, *SPANS[0])
    transfer.table[len(transfer.table) // 2] += 1.0
    assert formula_of(transfer, neuron) is None


def test_ties_keep_the_table():
    """Hardswish has its least value at -1.5, -0.375: one and a half steps, whatever the grid."""
    assert formula_of(*fired(F.hardswish, 0.25, 2, 2, 4)[:2]) is None


def bottleneck():
    """Padded depthwise convolutions that read words with a sign, which a sum reads, too."""

    class Bottleneck(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.wide, self.deep, self.narrow = (
                conv(3, 8),
                conv(8, 12, 1),
                conv(12, 12, groups=12),
                conv(12, 8),
            )
            self.last, self.head = conv(8, 8), nn.Linear(8, 5)

        def forward(self, x):
            x = F.silu(self.stem(x))
            x = x + self.narrow(F.hardswish(self.deep(F.silu(self.wide(x)))))
            return self.head(F.gelu(self.last(F.mish(x))).mean((2, 3)))

    return Bottleneck()


def spiking(net, seed=0, **config):
    torch.manual_seed(seed)
    ann, images = net().eval(), 8 * torch.randn(24, 3, 8, 8)
    return snnconvert.convert(ann, images[:8], snnconvert.ConversionConfig(**config), progress=False), images


@pytest.mark.parametrize("config", [{}, {"residuals": "spikes", "bits": 1}], ids=str)
@pytest.mark.parametrize("engine", RUNTIMES)
def test_no_word_differs_and_no_output(engine, config):
    pytest.importorskip(engine)
    snn, images = spiking(bottleneck, **config)
    found = compared(snn, images, engine)
    assert found.differing == {}
    unobserved = snn.compile(engine, threads=1, cache=False)(images)
    torch.testing.assert_close(unobserved, snn(images), rtol=1e-5, atol=1e-5)


class Shared(nn.Module):
    """Words of a function that a convolution, a concat and an interpolation read."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = conv(3, 8), conv(3, 8), conv(8, 8), conv(16, 8)
        self.e, self.head = conv(8, 8), nn.Linear(8, 5)

    def forward(self, x):
        a, b = F.silu(self.a(x)), F.relu(self.b(x))
        sums = F.gelu(self.c(a) + self.d(torch.cat([a, b], 1)))
        larger = F.silu(self.e(F.interpolate(a, scale_factor=2.0)))
        return self.head(sums.mean((2, 3))) + self.head(larger.mean((2, 3)))


class Cancelling(nn.Module):
    """Partial sums that are far larger than what they end in."""

    def __init__(self):
        super().__init__()
        self.stem, self.wide, self.head = conv(3, 64), nn.Conv2d(64, 32, 1), nn.Linear(32, 5)
        with torch.no_grad():
            self.wide.weight.mul_(0.1).add_(torch.tensor([0.4, -0.4]).repeat_interleave(32).view(1, 64, 1, 1))

    def forward(self, x):
        return self.head(F.gelu(self.wide(F.relu(self.stem(x)))).mean((2, 3)))


@pytest.mark.parametrize("net", [Shared, Cancelling])
@pytest.mark.parametrize("engine", RUNTIMES)
def test_nobody_watching_outputs_are_the_same(engine, net):
    pytest.importorskip(engine)
    snn, images = spiking(net)
    found = snn.compile(engine, threads=1, cache=False)(images)
    torch.testing.assert_close(found, snn(images), rtol=1e-5, atol=1e-5)


def test_without_the_runtimes_functions_tables_stand_in(monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(compiled, "computes_functions", lambda: False)
    snn, images = spiking(bottleneck)
    found = snn.compile("openvino", threads=1, cache=False)(images)
    torch.testing.assert_close(found, snn(images), rtol=1e-5, atol=1e-5)


def test_openvino_looks_nothing_up_and_onnxruntime_does():
    snn, _ = spiking(bottleneck)

    def lookups(dialect):
        model = integer_model(snn.network, snn.signature, dialect).model
        return sum(node.op_type in ("Gather", "GatherElements") for node in model.graph.node)

    assert lookups(OPENVINO) == 0
    assert lookups(ONNXRUNTIME) == 5


class Computes:
    """The probe in onnx's reference implementation, with an error of its own."""

    def __init__(self, model, error=0.0):
        graph = onnx.load_from_string(model)
        for item in graph.graph.initializer:
            if item.name == "outer":
                item.CopyFrom(numpy_helper.from_array(np.float32(numpy_helper.to_array(item) * (1 + error)), "outer"))
        self.session = ReferenceEvaluator(graph)

    def run(self, outputs, feeds):
        return self.session.run(outputs, feeds)


def test_close_functions_pass():
    assert computes_closely(Computes)


def test_approximate_functions_do_not():
    assert not computes_closely(lambda model: Computes(model, error=1e-5))
