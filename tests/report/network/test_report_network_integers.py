import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.report.network.integers import common_scale, recognize, weight_bits_of

seeds = st.integers(0, 2**31)


def random(seed):
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(seeds, st.integers(1, 255), st.floats(1e-3, 50), st.floats(0, 1))
def test_integers_times_a_scale_are_found(seed, largest, scale, rate):
    codes = torch.randint(-largest, largest + 1, (4, 9, 5), generator=random(seed))
    codes = codes * (torch.rand(codes.shape, generator=random(seed + 1)) < rate)
    found = recognize(codes * torch.tensor(scale), 1)
    assert found is not None
    assert torch.allclose(found.codes * found.scale, (codes * scale).double(), rtol=1e-4)
    assert int(found.codes.abs().max()) <= int(codes.abs().max())


@settings(deadline=None)
@given(seeds, st.integers(4, 60))
def test_real_numbers_are_not(seed, count):
    assert recognize(torch.randn(count, 7, generator=random(seed)), 1) is None
    assert recognize(torch.randn(1, count, generator=random(seed)), 1) is None


@settings(deadline=None)
@given(seeds, st.integers(1, 15), st.integers(2, 6))
def test_a_scale_for_each_channel(seed, largest, channels):
    codes = torch.randint(0, largest + 1, (6, channels, 8), generator=random(seed))
    scales = torch.rand(channels, 1, generator=random(seed)) + 0.1
    codes[:, :, 0], codes[:, :, 1] = largest, 1
    found = recognize(codes * scales, 1)
    assert found is not None
    assert torch.equal(found.codes.long(), codes)


def test_steps_of_pixels_are_eight_bits():
    pixels = torch.arange(256).view(16, 16)
    found = recognize(pixels / 255, 1)
    assert found is not None
    assert torch.equal(found.codes.long(), pixels)


def test_what_is_not_finite_is_no_integer():
    assert recognize(torch.tensor([1.0, float("nan")]), 0) is None
    assert recognize(torch.tensor([1.0, float("inf")]), 0) is None


@settings(deadline=None)
@given(seeds, st.floats(1e-3, 50))
def test_calls_with_different_integers_share_a_scale(seed, scale):
    parts = [
        torch.randint(0, 7, (3, 4), generator=random(seed + step)) * factor for step, factor in enumerate((2, 3, 0))
    ]
    found = common_scale([item for part in parts if (item := recognize(part * torch.tensor(scale), 1)) is not None])
    assert found is not None
    whole = torch.cat(parts)
    ratio = torch.cat(found).long() * max(int(whole.max()), 1)
    assert torch.equal(ratio, whole * max(int(torch.cat(found).max()), 1))


def test_a_common_scale_that_takes_too_many_bits_is_none():
    parts = [recognize(torch.tensor([1.0, 250.0]), 0), recognize(torch.tensor([1.0, 250.0]) * 250 / 7, 0)]
    assert None not in parts
    assert common_scale(parts) is None
    assert common_scale(parts[:1]) is not None


def test_calls_without_a_common_scale_have_none():
    parts = [recognize(torch.tensor([0.0, 1.0, 1.0, 2.0]) * factor, 0) for factor in (1.0, 2**0.5)]
    assert None not in parts
    assert common_scale(parts) is None


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_of_quantized_weights(bits, dtype):
    most = 2 ** (bits - 1) - 1
    codes = torch.randint(-most, most + 1, (6, 40), generator=random(bits))
    codes[:, 0] = most
    scales = torch.rand(6, 1, generator=random(1), dtype=dtype) + 0.1
    assert weight_bits_of(codes * scales) == bits
    codes[:, 1] = -most - 1
    assert weight_bits_of(codes * scales) == bits


def test_bits_of_other_weights():
    signs = torch.randint(0, 2, (5, 8), generator=random(0)) * 2.0 - 1
    assert weight_bits_of(signs * 0.3) == 1
    signs[0, 0] = 0
    assert weight_bits_of(signs * 0.3) == 2
    assert weight_bits_of(torch.arange(16).repeat(2, 1) * 0.1) == 4
    assert weight_bits_of(torch.randn(5, 8, generator=random(0))) is None
    assert weight_bits_of(torch.randn(6, 1, generator=random(0))) is None
    assert weight_bits_of(torch.randint(-128, 128, (3, 300), generator=random(0), dtype=torch.int8)) == 8
