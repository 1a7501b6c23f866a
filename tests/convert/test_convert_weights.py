import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.convert.weights import natural_scale, quantize


def weights(seed, size=(6, 40), kind="normal"):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(size, generator=generator)
    if kind == "heavy":
        weight = weight**3
    return weight * 10.0 ** torch.randint(-4, 3, (size[0], *[1] * (len(size) - 1)), generator=generator)


def error(weight, scale, bits):
    column = scale.view(-1, *[1] * (weight.dim() - 1))
    return (weight.double() - quantize(weight, scale, bits).double() * column).square().flatten(1).sum(1)


@given(st.integers(0, 2**31), st.integers(1, 8), st.sampled_from(["normal", "heavy"]))
@settings(max_examples=60, deadline=None)
def test_never_worse_than_scaling_to_the_maximum(seed, bits, kind):
    weight = weights(seed, (5, 3, 3, 3), kind)
    scale = natural_scale(weight, torch.zeros(5), bits)
    widest = weight.flatten(1).abs().amax(1).double() / max(2 ** (bits - 1) - 1, 1)
    assert (error(weight, scale, bits) <= error(weight, widest, bits) * (1 + 1e-5)).all()


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
def test_few_bits_come_close_to_the_best_scale(bits):
    weight = weights(1, (4, 500))
    chosen = error(weight, natural_scale(weight, torch.zeros(4), bits), bits)
    widest = weight.abs().amax(1).double() / max(2 ** (bits - 1) - 1, 1)
    best = torch.stack([error(weight, widest * r, bits) for r in np.linspace(0.1, 1.05, 400)]).amin(0)
    assert (chosen <= best * (1.05 if bits > 1 else 1 + 1e-6)).all()


@given(st.integers(0, 2**31), st.floats(0.01, 100))
@settings(max_examples=60, deadline=None)
def test_one_bit_is_the_sign(seed, factor):
    weight = weights(seed)
    weight[0, 0] = 0
    scale = natural_scale(weight, torch.zeros(6), 1) * factor
    np.testing.assert_array_equal(quantize(weight, scale, 1).numpy(), np.where(weight.numpy() >= 0, 1, -1))


def test_the_scale_of_one_bit_is_the_best_of_all_signs_and_scales():
    """Against exhaustive search over 2^6 sign vectors, each with its own least-squares scale."""
    weight = weights(7, (3, 6))
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=6)), dtype=torch.float64)
    scales = weight.double() @ signs.T / 6
    errors = (weight.double()[:, None] - scales[..., None] * signs).square().sum(-1)
    chosen = error(weight, natural_scale(weight, torch.zeros(3), 1), 1)
    assert torch.allclose(chosen, errors.amin(1), rtol=1e-6)


def test_channels_of_several_widths_are_those_of_one_each():
    weight, bits = weights(8, (8, 30)), torch.tensor([1, 2, 3, 4, 5, 6, 7, 8])
    scale = natural_scale(weight, torch.zeros(8), bits)
    integers = quantize(weight, scale, bits)
    for channel, width in enumerate(bits.tolist()):
        alone = natural_scale(weight, torch.zeros(8), width)
        assert float(scale[channel]) == float(alone[channel])
        assert torch.equal(integers[channel], quantize(weight, alone, width)[channel])


@given(st.integers(0, 2**31), st.integers(2, 8), st.floats(0.01, 100))
@settings(max_examples=60, deadline=None)
def test_integers_are_symmetric_and_nearest(seed, bits, factor):
    weight = weights(seed)
    scale = natural_scale(weight, torch.zeros(6), bits) * factor
    integers = quantize(weight, scale, bits)
    largest = 2 ** (bits - 1) - 1
    assert integers.dtype == torch.int8
    assert int(integers.abs().max()) <= largest
    exact = weight.double().numpy() / scale.numpy()[:, None]
    np.testing.assert_array_equal(integers.numpy(), np.clip(np.rint(exact), -largest, largest))


def test_ties_round_to_even():
    assert quantize(torch.tensor([[0.5, 1.5, 2.5, -0.5, -1.5]]), torch.ones(1), 4).tolist() == [[0, 2, 2, 0, -2]]


@pytest.mark.parametrize("bits", [7, 8])
def test_eight_bits_reach_the_largest_weight(bits):
    weight = weights(3)
    integers = quantize(weight, natural_scale(weight, torch.zeros(6), bits), bits)
    assert (integers.abs().amax(1) == 2 ** (bits - 1) - 1).all()


@pytest.mark.parametrize("bits", range(1, 9))
def test_channels_without_weights_take_any_scale(bits):
    weight = weights(4)
    weight[2] = 0
    scale = natural_scale(weight, torch.zeros(6), bits)
    assert (scale > 0).tolist() == [True, True, False, True, True, True]
    assert float(scale[2]) == 0


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_channels_without_weights_give_zeros(bits):
    weight = weights(4)
    weight[2] = 0
    integers = quantize(weight, natural_scale(weight, torch.zeros(6), bits), bits)
    assert not integers[2].any()
    assert integers[[0, 1, 3, 4, 5]].any(1).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_large_biases_fit_the_accumulator(bits):
    weight, bias = weights(5), torch.tensor([0.0, 1e9, -1e9, 1.0, 1e5, -3.0])
    scale = natural_scale(weight, bias, bits)
    assert (bias.double().abs() / scale <= (1 << 21) * (1 + 1e-12)).all()
    small = natural_scale(weight, torch.zeros(6), bits)
    assert (scale >= small).all()
    assert float(scale[0]) == float(small[0])
