"""Words meet in residual sums at short scales, and one of them as it is."""

from fractions import Fraction

import pytest
import torch
from graph_helpers import linear_bottlenecks, rectified, residual
from hypothesis import given
from hypothesis import strategies as st

import snnconvert
from snnconvert.convert.aligned_sums import common_unit, is_kept_by_division, is_short
from snnconvert.neurons.current import IntegerScale
from snnconvert.neurons.neuron import SpikingNeuron


def converted(forward, images=None, **settings):
    net = residual(forward)
    images = torch.randn(16, 3, 8, 8) if images is None else images
    config = snnconvert.ConversionConfig(**{"residuals": "spikes", **settings})
    return snnconvert.convert(net, [images], config, progress=False), images


def sums(snn):
    """Multipliers of the words of each sum, and the gain of the neurons behind it."""
    modules = {node: snn.network.get_submodule(node.target) for node in snn.network.graph.nodes if is_module(node)}
    for node in snn.network.graph.nodes:
        operands = [modules.get(source) for source in node.all_input_nodes]
        if node.op == "call_function" and len(operands) == 2:
            multipliers = [int(item.multiplier) if isinstance(item, IntegerScale) else 1 for item in operands]
            behind = [modules[user] for user in node.users if isinstance(modules.get(user), SpikingNeuron)]
            yield multipliers, [Fraction(float(neuron.gain)) for neuron in behind]


def is_module(node):
    return node.op == "call_module"


def is_power_of_two(number):
    return number & (number - 1) == 0


@pytest.mark.parametrize("forward", [rectified, linear_bottlenecks])
@pytest.mark.parametrize("settings", [{}, {"bits": 1, "T": 4}, {"weight_bits": 4, "shortcut_bits": 4}])
def test_one_of_the_words_enters_as_it_is(forward, settings):
    snn, images = converted(forward, **settings)
    found = list(sums(snn))
    assert len(found) == 2
    for multipliers, gains in found:
        unit = next(item for item in multipliers if is_power_of_two(item))
        for number in (*multipliers, *(gain * unit for gain in gains)):
            assert is_short(float(number)), (multipliers, gains)
        assert all(is_kept_by_division(torch.tensor(float(item / unit))) for item in multipliers), multipliers
    assert torch.equal(snn.simulate(images).output, snn(images))


def test_steps_grow_and_hardly():
    aligned, images = converted(rectified)
    plain, _ = converted(rectified, images, residuals="currents")
    steps = {name: float(neuron.step) for name, neuron in plain.neurons()}
    for name, neuron in aligned.neurons():
        if name in steps:
            assert 1 - 1e-6 <= float(neuron.step) / steps[name] <= 1 + 1 / 24, name


def test_a_step_a_channel_is_left_alone():
    snn, images = converted(rectified, threshold_granularity="channel")
    assert torch.equal(snn.simulate(images).output, snn(images))


@given(st.integers(128, 255), st.integers(-6, 6), st.floats(1e-3, 1e3))
def test_the_common_unit_divides_both_steps(mantissa, exponent, base):
    steps = [base * mantissa * 2.0**exponent, base]
    unit = common_unit(steps)
    multipliers = [step / unit for step in steps]
    assert all(abs(item - round(item)) < 1e-6 * item for item in multipliers)
    assert any(is_power_of_two(round(item)) for item in multipliers)


@pytest.mark.parametrize("steps", [[1.0, 3.14159], [0.0, 1.0], [float("inf"), 1.0]])
def test_steps_without_one(steps):
    assert common_unit(steps) is None
