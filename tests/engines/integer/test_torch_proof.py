"""Kernels that are proven to fire the packed network's words do so for every sum; those that might not are found."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.engines.integer.torch_kernels import Requantization, missing_kernels, multiply, pack
from snnconvert.engines.integer.torch_proof import (
    Scales,
    exact_scales,
    folded_scales,
    is_float32,
    is_power_of_two,
    lowest_bit,
    sum_is_exact,
    words_add_exactly,
)
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.synapse import Synapse


def neuron(gain, offset=0, ceiling=None, bias=None, bits=8):
    code = PackedCode(bits, 1, offset)
    return SpikingNeuron(code, torch.as_tensor(gain), torch.ones(()), bias, ceiling=ceiling)


def synapse(bias, multiplier=1, weight=None):
    bias = torch.as_tensor(bias).reshape(-1)
    weight = torch.ones(len(bias), 4) if weight is None else weight
    multipliers = torch.full_like(bias, multiplier)
    ones = torch.ones(len(bias), dtype=torch.float64)
    return Synapse(weight, bias, multipliers, ones, geometry=None, weight_bits=8, word_range=(0, 255))


def kernels_bytes(sums, scale, bias, zero_point, ceiling):
    """float32 arithmetic in numpy: the product and the sum rounded each, the zero point added first."""
    values = (sums.astype(np.float32) * np.float32(scale)).astype(np.float32) + np.float32(bias)
    return np.clip(np.rint(np.minimum(values, np.float32(ceiling)) + np.float32(zero_point)), 0, 255)


def packed_bytes(sums, cells, fires):
    potential = (torch.from_numpy(sums) + int(cells.bias)) * int(cells.multiplier)
    return (fires(potential[:, None].double()) + fires.code.offset).flatten().numpy()


def reached(cells, fires):
    """All sums from below the first rise to above the last."""
    middle, reach = -int(cells.bias), int(260 / (float(fires.gain) * int(cells.multiplier))) + 4
    return np.arange(middle - reach, middle + reach, dtype=np.int64)


@settings(max_examples=50, deadline=None)
@given(
    mantissa=st.integers(1, 127), exponent=st.integers(-13, -5), bias=st.integers(-200_000, 200_000),
    offset=st.sampled_from([0, 128, 60]), multiplier=st.sampled_from([1, 3, 16]), ceiling=st.sampled_from([None, 90]),
)  # fmt: skip
def test_what_is_proven_holds_for_every_sum(mantissa, exponent, bias, offset, multiplier, ceiling):
    fires, cells = neuron(math.ldexp(mantissa, exponent), offset, ceiling), synapse(bias, multiplier)
    scales = folded_scales(cells, fires, 2)
    sums = reached(cells, fires)
    expected = packed_bytes(sums, cells, fires)
    if scales is not None:
        found = kernels_bytes(sums, scales.scale.item(), scales.bias.item(), offset, fires.ceiling)
        assert (found == expected).all()


@pytest.mark.parametrize("gain", [0.0078125, 2.0**-10, 0.0013275146484375])
@pytest.mark.parametrize("bias", [0, -37, 4096])
def test_small_biases_are_proven(gain, bias):
    assert folded_scales(synapse(bias), neuron(gain), 2) is not None
    assert folded_scales(synapse(bias), neuron(gain, offset=128), 2) is not None


def test_words_that_would_differ_are_found():
    cells, fires = synapse(-143_033), neuron(0.0013275146484375)
    sums = reached(cells, fires)
    scale, bias = 0.0013275146484375, -143_033 * 0.0013275146484375
    assert (kernels_bytes(sums, scale, bias, 0, 255) != packed_bytes(sums, cells, fires)).any()
    assert folded_scales(cells, fires, 2) is None
    several = synapse([5, -143_033, 0])
    assert folded_scales(several, fires, 2) is None


def test_odd_zero_points_at_ties_are_found():
    assert folded_scales(synapse(0), neuron(0.25, offset=128), 2) is not None
    assert folded_scales(synapse(0), neuron(0.25, offset=127), 2) is None


def test_gains_must_be_one_for_each_channel():
    cells = synapse([1, 2, 3])
    assert folded_scales(cells, neuron(torch.tensor([[0.5, 0.25, 0.125]])), 2) is not None
    assert folded_scales(cells, neuron(torch.tensor([[0.5], [0.25], [0.125]])), 2) is None
    assert folded_scales(cells, neuron(torch.tensor([[0.5, -0.25, 0.125]])), 2) is None
    assert folded_scales(cells, neuron(0.5, bias=torch.tensor([0.5, 1.5, -3.0])), 2) is not None
    assert folded_scales(cells, neuron(0.5, bias=torch.zeros(7, 1)), 2) is None


@settings(max_examples=100, deadline=None)
@given(
    mantissa=st.integers(1, 63), exponent=st.integers(-16, -8), bias=st.integers(-60_000, 60_000),
    factor=st.integers(1, 30_000), zero_point=st.sampled_from([0, 128]), seed=st.integers(0, 1000),
)  # fmt: skip
def test_sums_said_to_be_exact_are_wherever_no_clip_is_passed(mantissa, exponent, bias, factor, zero_point, seed):
    gain = math.ldexp(mantissa, exponent)
    scales = exact_scales(synapse(bias), gain)
    if scales is None or not is_float32(factor * gain) or not sum_is_exact(scales, factor * gain, zero_point):
        return
    generator = np.random.default_rng(seed)
    words = generator.integers(0, 256, 4000)
    sums = (generator.uniform(-257, 257, 4000) / gain - bias - factor * (words - zero_point)).astype(np.int64)
    exact = (sums + bias + factor * (words - zero_point)) * gain
    scale, shift, word = np.float32(gain), np.float32(bias * gain), np.float32(factor * gain)
    found = sums.astype(np.float32) * scale + shift + words.astype(np.float32) * word - np.float32(zero_point) * word
    inside = np.abs(exact) <= 256
    assert (found[inside] == exact[inside]).all()


def test_sums_with_too_many_digits_are_not_exact():
    assert sum_is_exact(Scales(torch.tensor([2.0**-10]), torch.zeros(1)), 1.0, 0)
    assert not sum_is_exact(Scales(torch.tensor([2.0**-20]), torch.zeros(1)), 1.0, 0)
    assert exact_scales(synapse(3), 1 / 3) is None


def test_words_add_exactly_up_to_24_bits():
    assert words_add_exactly(3.0, 5.0)
    assert words_add_exactly(2.0**-3, 2.0**4)
    assert not words_add_exactly(2.0**-10, 2.0**10)
    assert not words_add_exactly(1 / 3, 1.0)


def test_digits_of_floats():
    assert [lowest_bit(value) for value in (1.0, 6.0, 0.75, -40.0)] == [1.0, 2.0, 0.25, 8.0]
    assert [is_power_of_two(value) for value in (1.0, 0.125, 3.0)] == [True, True, False]
    assert [is_float32(value) for value in (0.5, 1 / 3, math.inf)] == [True, False, False]


@pytest.mark.skipif(bool(missing_kernels()), reason=missing_kernels())
@settings(max_examples=30, deadline=None)
@given(
    gains=st.lists(st.integers(1, 127), min_size=8, max_size=8), bias=st.integers(-30_000, 30_000),
    offset=st.sampled_from([0, 128]), ceiling=st.sampled_from([None, 90]), seed=st.integers(0, 1000),
)  # fmt: skip
def test_onednns_kernels_fire_what_is_proven(gains, bias, offset, ceiling, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-127, 128, (8, 16), generator=generator)
    cells = synapse(torch.full((8,), bias), weight=weight)
    fires = neuron(torch.tensor([gains]) * 2.0**-15, offset, ceiling)
    scales = folded_scales(cells, fires, 2)
    if scales is None:
        return
    words = torch.randint(0, 256, (500, 16), generator=generator, dtype=torch.uint8)
    clip = None if ceiling is None else (float(-offset), float(ceiling))
    packed = pack(cells.weight, scales.scale, scales.bias, 0, None, tuple(words.shape))
    found = multiply(words, packed, Requantization(offset, clip))
    assert torch.equal(found.float(), fires(cells(words.float())) + offset)
