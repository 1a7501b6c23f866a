import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.errors import ConfigurationError
from snnconvert.training.direct.weights import QuantizedConv2d, QuantizedLinear, quantized_weight


@given(st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_weights_lie_on_a_symmetric_grid_of_their_bits(bits, seed):
    weight = torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(seed))
    values = quantized_weight(weight, bits).unique()
    largest = max(2 ** (bits - 1) - 1, 1)
    assert len(values) <= (2 if bits == 1 else 2 * largest + 1)
    step = values.abs().max() / largest
    if bits < 7:  # the outermost levels of wide grids may be empty
        torch.testing.assert_close(values / step, (values / step).round(), atol=1e-4, rtol=0)
    torch.testing.assert_close(values, -values.flip(0), atol=1e-6, rtol=0) if bits < 5 else None


def test_one_bit_is_the_sign_times_the_mean_magnitude():
    weight = torch.tensor([[-0.5, 1.5], [0.0, -2.0]])
    assert quantized_weight(weight, 1).tolist() == [[-1.0, 1.0], [1.0, -1.0]]


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_no_other_step_of_the_grid_is_closer_to_normal_weights(bits):
    weight = torch.randn(200_000, generator=torch.Generator().manual_seed(1)) * 0.05
    error = (quantized_weight(weight, bits) - weight).square().mean()
    largest = 2 ** (bits - 1) - 1
    for step in torch.linspace(0.0005, 0.15, 300):
        if bits == 1:
            other = torch.where(weight >= 0, step, -step)
        else:
            other = (weight / step).round().clamp(-largest, largest) * step
        assert error <= (other - weight).square().mean() * 1.02


def test_more_bits_are_closer():
    weight = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    errors = [(quantized_weight(weight, bits) - weight).square().mean().item() for bits in range(1, 9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_gradients_pass_straight_through(bits):
    weight = torch.randn(30, requires_grad=True)
    upstream = torch.linspace(-1, 1, 30)
    (quantized_weight(weight, bits) * upstream).sum().backward()
    assert torch.equal(weight.grad, upstream)


@pytest.mark.parametrize("bits", [1, 4])
def test_layers_compute_with_quantized_weights_and_keep_real_ones(bits):
    torch.manual_seed(0)
    conv = QuantizedConv2d(3, 5, 3, stride=2, padding=1, groups=1, weight_bits=bits)
    linear = QuantizedLinear(7, 4, weight_bits=bits)
    images, features = torch.randn(2, 3, 9, 9), torch.randn(6, 2, 7)
    expected = torch.nn.functional.conv2d(images, quantized_weight(conv.weight, bits), conv.bias, 2, 1)
    torch.testing.assert_close(conv(images), expected)
    torch.testing.assert_close(linear(features), features @ quantized_weight(linear.weight, bits).T + linear.bias)
    plain = torch.nn.Conv2d(3, 5, 3, stride=2, padding=1)
    assert plain.state_dict().keys() == conv.state_dict().keys()
    assert len(conv.weight.unique()) > 100


def test_weights_of_zero_stay_finite():
    for bits in (1, 2, 8):
        assert not quantized_weight(torch.zeros(4, 4), bits).any()


@pytest.mark.parametrize("bits", [0, 9, 2.0])
def test_other_widths_are_refused(bits):
    with pytest.raises(ConfigurationError, match="weight_bits"):
        QuantizedConv2d(1, 1, 1, weight_bits=bits)
    with pytest.raises(ConfigurationError, match="weight_bits"):
        QuantizedLinear(1, 1, weight_bits=bits)
