"""Packed integers against numbers written out bit by bit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from snnconvert.artifact.bit_packing import (
    fewest_bits,
    pack_bits,
    pack_channels,
    packed_size,
    unpack_bits,
    unpack_channels,
)

SHAPES = arrays.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=7)


def written_out(numbers, bits):
    """Numbers as one long binary number, the first at its low end."""
    total = sum(int(number) % (1 << bits) << bits * place for place, number in enumerate(numbers))
    return total.to_bytes(-(-len(numbers) * bits // 8), "little")


def digits(weights, bits):
    return [(w + 1) // 2 if bits == 1 else w for w in weights]


def integers(bits):
    if bits == 1:
        return st.sampled_from([-1, 1])
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)


@st.composite
def weights_with_widths(draw):
    """int8 [O, ...] whose channels have widths of their own, that hold them."""
    shape = draw(SHAPES)
    widths = draw(arrays.arrays(np.uint8, shape[0], elements=st.integers(1, 8)))
    size = math.prod(shape[1:])
    rows = [draw(st.lists(integers(int(bits)), min_size=size, max_size=size)) for bits in widths]
    return np.array(rows, dtype=np.int8).reshape(shape), widths


@given(st.integers(1, 8), st.data())
def test_numbers_lie_one_behind_the_other(bits, data):
    numbers = np.array(data.draw(st.lists(st.integers(0, (1 << bits) - 1), max_size=70)), dtype=np.uint8)
    packed = pack_bits(numbers, bits)
    assert packed.tobytes() == written_out(numbers, bits)
    assert len(packed) == packed_size(len(numbers), bits)
    assert np.array_equal(unpack_bits(packed, len(numbers), bits), numbers)


@given(weights_with_widths())
def test_channels_of_one_width_lie_together(drawn):
    weight, widths = drawn
    groups = [(bits, weight[widths == bits].reshape(-1).tolist()) for bits in range(1, 9)]
    packed = pack_channels(weight, widths)
    assert packed.tobytes() == b"".join(written_out(digits(group, bits), bits) for bits, group in groups)
    restored = unpack_channels(packed, weight.shape, widths)
    assert restored.dtype == np.int8
    assert np.array_equal(restored, weight)


@given(weights_with_widths())
def test_the_fewest_bits_hold_a_channel_and_one_less_does_not(drawn):
    weight, widths = drawn
    fewest = fewest_bits(weight)
    assert (fewest <= widths).all() or weight.size == 0
    assert np.array_equal(unpack_channels(pack_channels(weight, fewest), weight.shape, fewest), weight)
    rows = weight.reshape(len(weight), math.prod(weight.shape[1:])).astype(int)
    for channel, bits in zip(rows, fewest.tolist(), strict=True):
        if bits == 2:
            assert 0 in channel or not set(channel.tolist()) <= {-1, 1}
        elif bits > 2:
            assert channel.min() < -(1 << bits - 2) or channel.max() >= 1 << bits - 2


@pytest.mark.parametrize(
    ("channel", "bits"),
    [
        ([1, -1, 1], 1),
        ([-1, -1, -1], 1),
        ([0, 0, 0], 2),
        ([1, 0, -1], 2),
        ([-2, 1, 1], 2),
        ([2, 0, 0], 3),
        ([7, -7, 0], 4),
        ([-9, 0, 0], 5),
        ([63, -64, 0], 7),
        ([-128, 0, 0], 8),
        ([127, 1, 1], 8),
    ],
)
def test_the_width_of_a_channel(channel, bits):
    assert fewest_bits(np.array([channel], dtype=np.int8)).tolist() == [bits]


@given(st.integers(1, 8), st.integers(0, 40), st.integers(-9, 9).filter(bool))
def test_bytes_that_are_too_many_or_too_few(bits, count, more):
    data = np.zeros(max(packed_size(count, bits) + more, 0), dtype=np.uint8)
    if len(data) != packed_size(count, bits):
        with pytest.raises(ValueError, match=f"hold no {count} numbers of {bits} bits"):
            unpack_bits(data, count, bits)


@pytest.mark.parametrize("bits", [1, 3, 4, 7])
def test_bits_behind_the_last_number(bits):
    data = pack_bits(np.ones(5, dtype=np.uint8), bits)
    data[-1] |= 0x80
    with pytest.raises(ValueError, match="behind the last number"):
        unpack_bits(data, 5, bits)


def test_channels_that_do_not_fit_their_bytes():
    widths = np.array([3, 5], dtype=np.uint8)
    data = pack_channels(np.ones((2, 9), dtype=np.int8), widths)
    for shape in ([2, 10], [2, 8], [2, 9, 10**15]):
        with pytest.raises(ValueError, match="hold no weights of shape"):
            unpack_channels(data, shape, widths)
