"""Leaky rectifiers in kernels: two sides, or a gain with a slope behind it, fire the words of the transfer."""

from collections import Counter

import pytest
import torch
from engine_networks import converted
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_networks import FREE
from torch import fx

from snnconvert.engines.integer.dialect import ONNXRUNTIME, OPENVINO
from snnconvert.engines.integer.integer_model import integer_model
from snnconvert.engines.integer.rectifiers import rectifiers_of
from snnconvert.neurons.current import IntegerScale
from snnconvert.neurons.gain_grid import short_slope
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.transfer import LeakyTransfer

SPAN = 1 << 19
ONE = torch.ones(1)


def slope_of(transfer, neuron):
    """The slope behind the transfer's gain that gives the same words; None if there is none."""
    graph, modules = fx.Graph(), {}
    node = graph.placeholder("potential")
    for name, module in {"scale": IntegerScale(ONE.double(), wide=False), "leaky": transfer, "fire": neuron}.items():
        node = graph.call_module(name, (node,))
        modules[node] = module
    graph.output(node)
    return next(iter(rectifiers_of(graph, modules, OPENVINO).slopes.values()), None)


def transfer_of(gains, slope):
    gain = torch.tensor(gains)
    return LeakyTransfer(gain, gain * slope)


def neuron_of(offset):
    return SpikingNeuron(PackedCode(8, 1, offset), ONE, ONE, ceiling=255 - offset)


def words_of_slope(gain, slope, neuron, potentials):
    steps = potentials.float() * gain
    return neuron(torch.where(steps < 0, steps * slope, steps))


@pytest.mark.parametrize(("slope", "offset"), [(0.01, 2), (0.1, 22), (0.3, 70), (1.0, 127)])
def test_short_gains_and_slopes_are_a_gain_and_a_slope(slope, offset):
    short = short_slope(torch.tensor(slope, dtype=torch.float64))
    assert abs(float(short) / slope - 1) <= 2**-12
    transfer, neuron = transfer_of([155 * 2.0**-14], short), neuron_of(offset)
    assert slope_of(transfer, neuron) == short
    potentials = torch.arange(-SPAN, SPAN)
    words = neuron(transfer(potentials))
    assert torch.equal(words_of_slope(transfer.gain, short.float(), neuron, potentials), words)
    assert words.min() == -offset


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.003, 0.02), min_size=1, max_size=4),
    st.just(0.0) | st.floats(-1, -0.2) | st.floats(0.2, 1),
    st.integers(0, 200),
)
def test_a_slope_is_found_where_no_integer_fires_another_word(gains, slope, offset):
    transfer, neuron = transfer_of(gains, slope), neuron_of(offset)
    potentials = torch.arange(-SPAN, SPAN)[:, None]
    own = (transfer.negative_gain / transfer.gain).flatten()
    same = torch.equal(words_of_slope(transfer.gain, own, neuron, potentials), neuron(transfer(potentials)))
    assert (slope_of(transfer, neuron) is not None) == same


@pytest.mark.parametrize(
    ("gain", "slope", "neuron"),
    [
        (-0.01, 0.1, neuron_of(22)),
        (2.0**-30, 0.1, neuron_of(22)),
        (0.01, 0.1, SpikingNeuron(PackedCode(8, 1, 22), ONE / 2, ONE)),
        (0.01, 0.1, SpikingNeuron(PackedCode(8, 1, 22), ONE, ONE, ONE)),
    ],
    ids=["negative gain", "potentials beyond float32", "neurons with a gain", "neurons with a bias"],
)
def test_other_rectifiers_stay_what_they_are(gain, slope, neuron):
    assert slope_of(transfer_of([gain], slope), neuron) is None


def test_convolutions_fire_both_sides_in_onnxruntime():
    snn, images = converted("leaky", **FREE)
    model = integer_model(snn.network, snn.signature, ONNXRUNTIME).model
    convolutions = Counter(node.name.removesuffix(".below") for node in model.graph.node if node.op_type == "Conv")
    assert convolutions == {"0": 2, "2": 2, "4": 1, "7": 2}
    compiled = snn.compile("onnxruntime", cache=False)
    assert sum(found.kind == "Conv" for found in compiled.float_operations()) == 1  # its rectifier is pooled first
    assert all(layer.mismatches == 0 for layer in compiled.agreement(images))


def test_a_rectifier_is_part_of_the_kernel_in_openvino():
    pytest.importorskip("openvino")
    snn, images = converted("leaky", bits=1, T=4)
    compiled = snn.compile("openvino", cache=False)
    assert {found.kind for found in compiled.float_operations()} <= {"Eltwise", "Pooling"}
    assert sum(found.kind == "Eltwise" for found in compiled.float_operations()) == 1  # the image's scaling
    assert all(layer.mismatches == 0 for layer in compiled.agreement(images))
