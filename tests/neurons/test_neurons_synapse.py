import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.neurons.synapse import FLOAT32_EXACT, ConvGeometry, Synapse, accumulator_bound

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def integers(low, high, size, seed=0):
    return torch.randint(low, high + 1, size, generator=torch.Generator().manual_seed(seed))


def make(weight, bias, multiplier, geometry, word_range, *, wide=False, bias_reserve=0):
    outputs = weight.shape[0]
    return Synapse(
        weight,
        bias,
        multiplier,
        torch.ones(outputs, dtype=torch.float64),
        geometry=geometry,
        weight_bits=8,
        word_range=word_range,
        wide=wide,
        bias_reserve=bias_reserve,
    )


def naive_conv(words, weight, geometry):
    """Convolution as sums over explicit positions, in int64 numpy."""
    words, weight = words.numpy().astype(np.int64), weight.numpy().astype(np.int64)
    rank = words.ndim - 2
    pads = [(0, 0), (0, 0)] + [(p, p) for p in geometry.padding]
    words = np.pad(words, pads)
    kernel, outputs = weight.shape[2:], weight.shape[0]
    size = [
        (words.shape[2 + d] - geometry.dilation[d] * (kernel[d] - 1) - 1) // geometry.stride[d] + 1 for d in range(rank)
    ]
    result = np.zeros((words.shape[0], outputs, *size), np.int64)
    per_group_in, per_group_out = weight.shape[1], outputs // geometry.groups
    for o in range(outputs):
        first = (o // per_group_out) * per_group_in
        for place in itertools.product(*(range(k) for k in kernel)):
            window = tuple(
                slice(
                    place[d] * geometry.dilation[d],
                    place[d] * geometry.dilation[d] + (size[d] - 1) * geometry.stride[d] + 1,
                    geometry.stride[d],
                )
                for d in range(rank)
            )
            for i in range(per_group_in):
                result[:, o] += weight[(o, i, *place)] * words[(slice(None), first + i, *window)]
    return result


CONVOLUTIONS = [
    # rank, channels in, out, kernel, stride, padding, dilation, groups
    (1, 3, 4, (3,), (2,), (1,), (1,), 1),
    (1, 4, 4, (3,), (1,), (2,), (2,), 4),
    (2, 3, 5, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (2, 4, 6, (3, 2), (2, 1), (0, 1), (1, 1), 2),
    (2, 6, 6, (3, 3), (1, 1), (2, 2), (2, 2), 6),
    (2, 6, 12, (5, 1), (1, 2), (2, 0), (1, 1), 6),
    (2, 8, 3, (1, 1), (2, 2), (0, 0), (1, 1), 1),
    (3, 2, 4, (3, 3, 3), (1, 2, 1), (1, 1, 0), (1, 1, 1), 1),
    (3, 4, 4, (2, 1, 3), (1, 1, 1), (0, 0, 1), (1, 1, 2), 4),
]


@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("word_range", [(0, 255), (-128, 127), (-37, 218), (0, 3)])
@pytest.mark.parametrize("wide", [False, True])
def test_convolution_is_integer_arithmetic(case, word_range, wide):
    rank, channels, outputs, kernel, stride, padding, dilation, groups = case
    geometry = ConvGeometry(stride, padding, dilation, groups)
    weight = integers(-127, 127, (outputs, channels // groups, *kernel), 1)
    bias = integers(-5000, 5000, (outputs,), 2)
    multiplier = integers(1, 5 if not wide else 5000, (outputs,), 3)
    words = integers(*word_range, (2, channels, 9, 8, 7)[: rank + 2], 4)
    shape = (1, -1, *[1] * rank)
    expected = (naive_conv(words, weight, geometry) + bias.numpy().reshape(shape)) * multiplier.numpy().reshape(shape)
    current = make(weight, bias, multiplier, geometry, word_range, wide=wide)(words.float())
    if wide:
        assert current.dtype == torch.float64
    np.testing.assert_array_equal(current.numpy().astype(np.int64), expected)
    np.testing.assert_array_equal(current.numpy(), expected)


@given(
    st.integers(0, 2**31),
    st.sampled_from([(4, 7), (2, 3, 7), (2, 2, 2, 7)]),
    st.tuples(st.integers(-255, 0), st.integers(0, 255)),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_linear_is_integer_arithmetic(seed, size, word_range, wide):
    weight, bias = integers(-127, 127, (5, 7), seed), integers(-9999, 9999, (5,), seed + 1)
    multiplier = integers(1, 20, (5,), seed + 2)
    words = integers(*word_range, size, seed + 3)
    expected = (words @ weight.T + bias) * multiplier
    current = make(weight, bias, multiplier, None, word_range, wide=wide)(words.float())
    assert torch.equal(current.to(torch.int64), expected)


@pytest.mark.parametrize("word_range", [(0, 255), (-128, 127)])
@pytest.mark.parametrize("wide", [False, True])
def test_long_sums_stay_exact(word_range, wide):
    inputs = 5300
    weight = torch.full((4, inputs), 127)
    weight[1] = -127
    weight[2] = torch.where(torch.arange(inputs) < inputs // 2, 127, -127)
    weight[3] = integers(-127, 127, (inputs,), 7)
    weight[3, 0] = 126  # an odd sum, which float32 couldn't hold
    bias = torch.tensor([1, -1, 30000, 3])
    words = torch.stack(
        [
            torch.full((inputs,), word_range[1]),
            integers(*word_range, (inputs,), 8),
            torch.full((inputs,), word_range[0]),
        ]
    )
    words[0, 0] -= 1
    expected = words @ weight.T + bias
    assert int(expected.abs().max()) > FLOAT32_EXACT
    synapse = make(weight, bias, torch.ones(4), None, word_range, wide=wide)
    current = synapse(words.float())
    assert current.dtype == torch.float64
    assert torch.equal(current.to(torch.int64), expected)
    # and one window of a batch of sequences gives the same
    assert torch.equal(synapse(words.float().unsqueeze(0)).to(torch.int64), expected.unsqueeze(0))


@pytest.mark.parametrize("groups", [1, 2])
def test_long_convolutions_stay_exact(groups):
    channels = 1200
    geometry = ConvGeometry((1, 1), (1, 1), (1, 1), groups)
    weight = torch.full((2, channels // groups, 3, 3), 127)
    weight[1] = -127
    weight[:, 0, 1, 1] = 1
    words = torch.full((1, channels, 3, 3), 255)
    words[0, 1] = integers(0, 255, (3, 3), 5)
    expected = F.conv2d(words.double(), weight.double(), None, 1, 1, 1, groups)  # float64 holds these sums
    assert float(expected.abs().max()) > FLOAT32_EXACT
    current = make(weight, torch.zeros(2), torch.ones(2), geometry, (0, 255))(words.float())
    assert torch.equal(current.double(), expected)


def test_multipliers_count_towards_the_bound():
    weight = torch.full((1, 300), 127)
    words = torch.full((1, 300), 255)
    words[0, 0] = 254
    multiplier = torch.tensor([31])
    expected = (words @ weight.T) * multiplier
    assert int(expected) > FLOAT32_EXACT
    for wide in (False, True):
        current = make(weight, torch.zeros(1), multiplier, None, (0, 255), wide=wide)(words.float())
        assert int(current) == int(expected)


@given(st.integers(0, 2**31), st.integers(-255, 0), st.integers(0, 255), st.integers(1, 6))
@settings(max_examples=80, deadline=None)
def test_bound_holds_for_every_order_and_is_attained(seed, low, high, inputs):
    weight = integers(-127, 127, (3, inputs), seed)
    bias = integers(-1000, 1000, (3,), seed + 1)
    bound = accumulator_bound(weight, bias, low, high)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        words = rng.integers(low, high + 1, inputs)
        terms = np.concatenate([weight.numpy() * words, bias.numpy()[:, None]], axis=1)
        partial = np.abs(np.cumsum(terms[:, rng.permutation(inputs + 1)], axis=1)).max(1)
        assert (partial <= bound.numpy()).all()
    # extreme words reach it where the bias pulls the same way
    corners = np.array(list(itertools.product((low, 0, high), repeat=inputs)))
    reached = np.abs(corners @ weight.numpy().T).max(0)
    np.testing.assert_array_equal(reached, accumulator_bound(weight, torch.zeros(3), low, high).numpy())
    np.testing.assert_array_equal(reached + bias.abs().numpy(), bound.numpy())


def test_bias_shift_is_bounded_and_reported():
    weight, bias = integers(-127, 127, (3, 4), 1), torch.tensor([0, 10, -10])
    multiplier = torch.tensor([1, 2, 3])
    for wide in (False, True):
        synapse = make(weight, bias, multiplier, None, (0, 15), wide=wide, bias_reserve=1 << 15)
        words = integers(0, 15, (5, 4), 2)
        added = synapse.shift_bias(torch.tensor([2.4, -1e9, 1e9]))
        assert added.tolist() == [2, -(1 << 15), 1 << 15]
        expected = (words @ weight.T + bias + added) * multiplier
        assert torch.equal(synapse(words.float()).to(torch.int64), expected)
        assert torch.equal(synapse.bias.to(torch.int64), bias + added)


def test_bias_shift_of_a_split_sum():
    weight = torch.full((1, 5000), 127)
    synapse = make(weight, torch.tensor([5]), torch.ones(1), None, (0, 255), bias_reserve=1 << 15)
    words = torch.full((1, 5000), 255)
    synapse.shift_bias(torch.tensor([-12.0]))
    assert int(synapse(words.float())) == 5000 * 127 * 255 - 7


def test_integers_alone_are_saved():
    synapse = make(integers(-127, 127, (3, 4), 1), integers(-9, 9, (3,), 2), integers(1, 9, (3,), 3), None, (0, 15))
    state = synapse.state_dict()
    assert {name: value.dtype for name, value in state.items()} == {
        "weight": torch.int8,
        "bias": torch.int32,
        "multiplier": torch.int32,
        "unit": torch.float64,
        "limits": torch.int64,
    }
    fresh = make(torch.zeros(3, 4), torch.zeros(3), torch.ones(3), None, (0, 15))
    fresh.load_state_dict(state)
    fresh.prepare()
    words = integers(0, 15, (5, 4), 4).float()
    assert torch.equal(fresh(words), synapse(words))
    assert float(synapse(words).abs().max()) > 0
