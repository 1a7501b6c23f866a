"""Logarithmic words against an oracle in float64: the table, the nearest value, and digits fired in time."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.activity import activity_of_trains, activity_of_words
from snnconvert.neurons.logarithmic import LogarithmicCode
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.registry import make_code, neuron_names, readable_neuron_names, spelled

SHAPES = [(bits, T) for bits, T in itertools.product(range(1, 9), repeat=2) if bits * T <= 8]
AN_OCTAVE = {"2": [1, 1, 1, 1, 2, 4, 8, 16], "sqrt2": [2, 2, 2, 2, 2, 4, 8, 16]}
codes = st.builds(
    lambda shape, base: LogarithmicCode(*shape, base=base), st.sampled_from(SHAPES), st.sampled_from(["2", "sqrt2"])
)


def nearest(values, words):
    """The nearest word of each value, the larger of two at the same distance; float64."""
    table = np.array(words[::-1], dtype=np.float64)
    return table[np.abs(values[..., None] - table).argmin(-1)]


def fired_in_time(code, potential):
    """Spikes [T, ...] of a constant membrane, step by step."""
    spikes, state = code.step(potential, code.initial(potential))
    trains = [spikes]
    for _ in range(code.T - 1):
        spikes, state = code.coast(state)
        trains.append(spikes)
    assert state.step == code.T
    return torch.stack(trains)


@pytest.mark.parametrize("base", ["2", "sqrt2"])
@pytest.mark.parametrize("width", range(1, 9))
def test_the_table_is_one_of_rounded_powers(width, base):
    words = LogarithmicCode(1, width, base=base).words
    assert len(words) == 2**width
    assert words[0] == 0
    assert all(isinstance(word, int) for word in words)
    assert (np.diff(words) > 0).all()
    each = AN_OCTAVE[base][width - 1]
    powers = words[1] * 2.0 ** (np.arange(len(words) - 1) / each)
    np.testing.assert_allclose(words[1:], powers, rtol=0.01)
    assert words[-1] / words[1] <= 2.0**16
    assert words[-1] < 2**22


def test_narrow_tables_by_hand():
    assert LogarithmicCode(1, 3).words == (0, 1, 2, 4, 8, 16, 32, 64)
    assert LogarithmicCode(3, 1, base="sqrt2").words == (0, 12, 17, 24, 34, 48, 68, 96)
    assert LogarithmicCode(1, 1).words == (0, 1)
    assert LogarithmicCode(4, 1).words[-1] == 2**14
    assert LogarithmicCode(5, 1).words == LogarithmicCode(5, 1, base="sqrt2").words


@given(codes, st.integers(0, 2**31), st.floats(0.01, 2.0))
@settings(max_examples=80, deadline=None)
def test_fires_the_nearest_value_in_closed_form_and_in_time(code, seed, reach):
    rng = np.random.default_rng(seed)
    top = code.words[-1]
    spread = rng.uniform(0, reach * top, 300), np.exp(rng.uniform(-3, np.log(2.0 * top), 300)), rng.uniform(-2, 2, 20)
    middles = (np.array(code.words[1:]) + np.array(code.words[:-1])) / 2
    values = np.concatenate([*spread, middles, code.words]).astype(np.float32).astype(np.float64)[None, ::-1]
    expected = nearest(values, code.words)
    for dtype in (torch.float32, torch.float64):
        given_values = torch.tensor(values.copy(), dtype=dtype)
        z = code.quantize_(given_values.clone(), code.maximum)
        assert z.dtype == dtype
        np.testing.assert_array_equal(z.double().numpy(), expected)
    spikes = fired_in_time(code, torch.tensor(values.copy()))
    assert spikes.dtype == torch.uint8
    assert int(spikes.max()) < 2**code.bits
    assert torch.equal(spikes.long(), code.to_spikes(z))
    assert torch.equal(code.from_spikes(spikes), z)


@pytest.mark.parametrize("base", ["2", "sqrt2"])
@pytest.mark.parametrize(("bits", "T"), SHAPES)
def test_every_value_survives_its_digits(bits, T, base):
    code = LogarithmicCode(bits, T, base=base)
    values = torch.tensor(code.words)
    digits = code.to_spikes(values)
    numbers = sum(digits[t] * 2 ** (bits * (T - 1 - t)) for t in range(T))
    assert numbers.tolist() == list(range(2 ** (bits * T)))
    assert torch.equal(code.from_spikes(digits).long(), values)
    assert torch.equal(code.quantize_(values.float(), code.maximum).long(), values)


@given(codes, st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_activity_of_words_is_that_of_their_digits(code, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.tensor(code.words)[torch.randint(code.levels, (50,), generator=generator)]
    assert activity_of_words(values.float(), code) == activity_of_trains(code.to_spikes(values), code.bits)


def test_cost_and_range_are_those_of_a_word():
    code = LogarithmicCode(2, 2)
    packed = make_code("packed", 2, 2)
    for name in ("spike_bits", "magnitude_bits", "held_bits", "spike_range", "growth", "rests", "levels"):
        assert getattr(code, name) == getattr(packed, name), name
    assert code.extremes == (0, 2**14)
    assert (code.minimum, code.maximum, code.span) == (0, 2**14, 2**14)
    step, same = code.spanning(0.0, 0.5)
    assert same == code
    assert step * code.words[-1] == 0.5


def test_a_neuron_fires_it_and_survives_its_state():
    gain = torch.tensor([4.0, 256.0]).view(2, 1)
    neuron = SpikingNeuron(LogarithmicCode(1, 4, base="sqrt2"), gain, torch.tensor(0.1))
    potential = torch.rand(3, 2, 50, generator=torch.Generator().manual_seed(0)) * 8
    expected = nearest((potential.double() * gain).numpy(), neuron.code.words)
    np.testing.assert_array_equal(neuron(potential).numpy(), expected)
    fresh = SpikingNeuron(LogarithmicCode(1, 1, base="sqrt2"), torch.zeros(2, 1), torch.tensor(0.0))
    fresh.load_state_dict(neuron.state_dict())
    assert fresh.code == neuron.code
    assert torch.equal(fresh(potential), neuron(potential))


def test_a_ceiling_clips_before_the_nearest_value_is_taken():
    code = LogarithmicCode(1, 3)
    values = torch.tensor([1.0, 9.0, 40.0, 1e9])
    assert code.quantize_(values, 11.0).tolist() == [1, 8, 8, 8]
    assert code.quantize_(values, 12.0).tolist() == [1, 8, 16, 16]


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"bits": 3, "T": 3}, "exceeds 8"),
        ({"bits": 1, "T": 3, "base": "3"}, "base must be one of 2, sqrt2"),
        ({"bits": 1, "T": 3, "offset": 1}, "no offset"),
        ({"bits": 1, "T": 3, "signed": True}, "unsigned"),
    ],
)
def test_what_it_cannot_be_is_refused(settings_, words):
    with pytest.raises(ConfigurationError, match=words):
        LogarithmicCode(**settings_)


def test_negative_values_are_refused():
    with pytest.raises(ValueError, match="no negative values"):
        LogarithmicCode(1, 3).spanning(-0.1, 1.0)


def test_only_products_may_read_it():
    assert set(neuron_names()) - set(readable_neuron_names()) == {"log"}
    assert spelled(make_code("log:base=sqrt2", 1, 4)) == "log:base=sqrt2"
    assert make_code("log:base=2", 2, 2) == LogarithmicCode(2, 2)
