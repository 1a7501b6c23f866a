import pytest
import torch

from snnconvert.neurons.activity import activity_of_trains, activity_of_words
from snnconvert.neurons.integrate_and_fire import IntegrateAndFireCode
from snnconvert.neurons.logarithmic import LogarithmicCode
from snnconvert.neurons.multithreshold import MultiThresholdCode
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.spikepack import SpikePackCode
from snnconvert.neurons.ternary import TernaryCode
from snnconvert.training.spike_counts import Busy, count_spikes, spike_table


def trains(code, values):
    state, steps = code.initial(values), []
    for step in range(code.T):
        spikes, state = code.step(values, state) if code.streams or step == 0 else code.coast(state)
        steps.append(spikes)
    return torch.stack(steps)


@pytest.mark.parametrize(
    "code", [PackedCode(1, 4), PackedCode(2, 3, offset=9), PackedCode(8, 1, offset=112), LogarithmicCode(2, 2)]
)
def test_words_are_counted_as_the_account_counts_them(code):
    torch.manual_seed(0)
    numbers = torch.randint(0, code.levels, (500,))
    values = torch.tensor(code.words)[numbers].float() if code.words else numbers.float() - code.offset
    expected = activity_of_words(values, code)
    assert count_spikes(values, code).tolist() == [expected.spikes, expected.set_bits, expected.silent]


@pytest.mark.parametrize(
    "code",
    [
        IntegrateAndFireCode(1, 6),
        IntegrateAndFireCode(2, 4, offset=3),
        IntegrateAndFireCode(1, 6, v0=0.0),
        TernaryCode(1, 5, signed=True),
        MultiThresholdCode(3, 4),
        SpikePackCode(1, 5),
    ],
)
def test_other_codes_are_counted_as_they_fire_for_a_constant_current(code):
    torch.manual_seed(0)
    low, high = round(code.minimum), int(code.maximum)
    values = torch.randint(low, high + 1, (400,)).double()
    expected = activity_of_trains(trains(code, values), code.spike_bits)
    assert count_spikes(values.float(), code).tolist() == [expected.spikes, expected.set_bits, expected.silent]


def test_binary_spikes_of_a_rate_code_are_its_value():
    assert torch.equal(spike_table(IntegrateAndFireCode(1, 6))[:, 1], torch.arange(7.0, dtype=torch.float64))


def test_nothing_fired_is_sparse():
    assert (Busy().bit_sparsity, Busy().spike_sparsity, Busy().word_sparsity) == (1.0, 1.0, 1.0)
