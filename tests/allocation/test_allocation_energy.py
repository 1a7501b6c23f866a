"""Energies against the published break-even of the twin comparison, and by hand."""

import pytest
from allocation_networks import Attention, Residual, laboratory

from snnconvert.allocation.choices import Choices
from snnconvert.allocation.energy import EnergyPrice
from snnconvert.energy.twin import TwinModel
from snnconvert.errors import ConfigurationError


def twin_qnn(steps, weight_bits, rate, levels):
    """The quantized twin with dense moves at 0.25 pJ per bit and a MAC of 0.06 + 0.027 b pJ."""
    active = 2 * steps * rate / (steps + 1)
    return levels * 0.25 + 0.036 * weight_bits + active * (0.06 + 0.027 * weight_bits)


@pytest.mark.parametrize(
    ("steps", "weight_bits", "fan_in", "rate"),
    [(5, 4, 4096, 0.0568), (5, 4, 64, 0.0537), (2, 4, 4096, 0.1043), (2, 8, 4096, 0.1247), (3, 8, 4096, 0.0819)],
)
def test_spikes_cost_what_the_quantized_twin_does_at_the_published_rates(steps, weight_bits, fan_in, rate):
    levels = steps.bit_length()
    spiking = TwinModel().serial(steps, rate, weight_bits, fan_in).total
    assert spiking == pytest.approx(twin_qnn(steps, weight_bits, rate, levels), rel=5e-3)


@pytest.mark.parametrize("kind", [Residual, Attention])
def test_a_price_is_macs_times_the_energy_of_one_synapse(kind):
    lab, prepared, _ = laboratory(kind, choices=Choices((2, 4), (2, 8)))
    price = EnergyPrice(prepared.graph, prepared.plan, lab.set_bits)
    fan_ins = {"stem": 27, "one": 54, "two": 72, "shortcut": 6, "embed": 6, "qkv": 8, "proj": 8}
    fan_ins["head"] = 8
    checked = 0
    for item in prepared.plan.synapses:
        if item.layer in fan_ins:
            word = 8 if item.reads_input else 4
            each = TwinModel().serial(word, lab.set_bits[item.family, word], 5, fan_ins[item.layer]).total
            assert price(item, 5, word) == pytest.approx(item.macs * each / 1e6)
            checked += 1
    assert checked >= 4


def test_neurons_without_words_have_no_such_energy():
    lab, prepared, _ = laboratory(Residual, choices=Choices((2,), (2,)))
    price = EnergyPrice(prepared.graph, prepared.plan, lab.set_bits)
    with pytest.raises(ConfigurationError, match="packed"):
        price(prepared.plan.synapses[0], 4, 3)
