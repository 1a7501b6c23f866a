import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode


def fire_packed(potential, gain, bias, code):
    """What a layer of packed neurons fires."""
    return SpikingNeuron(code, gain, torch.tensor(1.0), bias)(potential)


def oracle(potential, gain, bias, code):
    """The rule in float64 numpy: half-to-even rounding, saturation at the code's ends."""
    shifted = potential.astype(np.float64) + bias
    return np.clip(np.rint(shifted * gain), -code.offset, 2 ** (code.bits * code.T) - 1 - code.offset)


@given(
    st.sampled_from([(1, 1), (1, 8), (2, 4), (2, 1), (4, 2), (3, 2), (8, 1)]),
    st.integers(0, 2**31),
    st.floats(0, 1),
)
@settings(max_examples=80, deadline=None)
def test_fires_what_the_oracle_says(shape, seed, position):
    rng = np.random.default_rng(seed)
    bits, T = shape
    code = PackedCode(bits, T, round(position * (2 ** (bits * T) - 1)))
    potential = rng.integers(-(1 << 20), 1 << 20, (3, 4, 5))
    # gains of few mantissa bits on a power-of-two grid: every float32 product is exact
    gain = rng.integers(1, 256, (4, 1)) * 2.0 ** -rng.integers(8, 24)
    bias = rng.integers(-1000, 1000, (4, 1))
    fired = fire_packed(
        torch.tensor(potential, dtype=torch.float32),
        torch.tensor(gain, dtype=torch.float32),
        torch.tensor(bias, dtype=torch.float32),
        code,
    )
    assert fired.dtype == torch.float32
    np.testing.assert_array_equal(fired.numpy(), oracle(potential, gain, bias, code))


def test_ties_round_to_even_on_both_sides_of_zero():
    code = PackedCode(2, 2, 8)
    potential = torch.tensor([-3.0, -1.0, 1.0, 3.0, 5.0, 7.0, 9.0])
    assert fire_packed(potential, torch.tensor(0.5), None, code).tolist() == [-2, 0, 0, 2, 2, 4, 4]
    # the bias is added before the tie is decided
    assert fire_packed(potential, torch.tensor(0.5), torch.tensor(1.0), code).tolist() == [-1, 0, 1, 2, 3, 4, 5]


def test_saturates_at_both_ends():
    code = PackedCode(2, 2, 5)
    far = torch.tensor([-1e9, -5.4, -4.6, 10.4, 1e9])
    assert fire_packed(far, torch.tensor(1.0), None, code).tolist() == [-5, -5, -5, 10, 10]


def test_gain_and_bias_broadcast_over_channels():
    code = PackedCode(4, 2)
    potential = torch.arange(24.0).reshape(2, 3, 2, 2)
    gain, bias = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.0, 1.0, -4.0])
    fired = fire_packed(potential, gain.view(3, 1, 1), bias.view(3, 1, 1), code)
    for channel in range(3):
        alone = fire_packed(potential[:, channel], gain[channel], bias[channel], code)
        assert torch.equal(fired[:, channel], alone)


def test_float64_potentials_are_float32_numbers():
    code = PackedCode(8, 1)
    gain = torch.tensor(2.0**-25)
    potential = torch.tensor([(1 << 24) + 1.0, (1 << 24) + 3.0, 3.0 * (1 << 24) + 1], dtype=torch.float64)
    fired = fire_packed(potential, gain, None, code)
    assert fired.dtype == torch.float32
    assert torch.equal(fired, fire_packed(potential.float(), gain, None, code))
    # f32(2^24 + 1) = 2^24 is half a step, rounded to even; f32(2^24 + 3) = 2^24 + 4 is more
    assert fired.tolist() == [0.0, 1.0, 2.0]


def test_the_potential_is_left_alone():
    potential = torch.tensor([0.4, 1.7])
    for dtype in (torch.float32, torch.float64):
        given_potential = potential.to(dtype)
        before = given_potential.clone()
        fire_packed(given_potential, torch.tensor(1.0), None, PackedCode(2, 1))
        assert torch.equal(given_potential, before)


@pytest.mark.parametrize("with_bias", [True, False])
def test_module_fires_the_function_and_survives_its_state(with_bias):
    code = PackedCode(2, 3, 4)
    gain = torch.tensor([0.25, 0.5]).view(2, 1)
    bias = torch.tensor([3.0, -2.0]).view(2, 1) if with_bias else None
    neuron = SpikingNeuron(code, gain, torch.tensor(0.1), bias)
    potential = torch.randint(-100, 200, (5, 2, 7)).float()
    expected = oracle(potential.numpy(), gain.numpy(), bias.numpy() if with_bias else 0.0, code)
    np.testing.assert_array_equal(neuron(potential).numpy(), expected)
    assert neuron.threshold == pytest.approx(0.1 * 63)
    fresh = SpikingNeuron(code, torch.zeros(2, 1), torch.tensor(0.0), torch.zeros(2, 1) if with_bias else None)
    fresh.load_state_dict(neuron.state_dict())
    np.testing.assert_array_equal(fresh(potential).numpy(), expected)


@given(st.floats(-1e3, -1e-3), st.floats(1e-3, 1e3), st.sampled_from([(8, 1), (2, 4), (1, 7), (7, 1)]))
def test_zero_points_of_fine_words_are_even_and_keep_the_range(low, high, width):
    step, code = PackedCode(*width).spanning(low, high)
    assert code.offset % 2 == 0
    middle = code.levels // 2
    made_even = 1
    assert code.offset == middle or abs(code.offset - middle) + made_even > middle // 8
    assert step * (code.minimum - 0.5) <= low
    assert step * (code.maximum + 0.5) >= high
    assert step <= 1.15 * (high - low) / code.largest_value + max(-low, high) * 2 / code.largest_value


def test_zero_points_of_coarse_words_fit_the_range_best():
    assert PackedCode(2, 2).spanning(-1.0, 14.0)[1].offset == 1
    assert PackedCode(1, 4).spanning(-6.5, 8.5)[1].offset == 6
