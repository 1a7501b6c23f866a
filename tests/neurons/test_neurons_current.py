import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.neurons.current import IntegerScale, PoolGeometry, SumPool, ToReal


def window_sums(counts, kernel, stride, padding):
    """Sums over explicit windows, in int64 numpy."""
    counts = np.pad(counts, [(0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2])
    rows = (counts.shape[2] - kernel[0]) // stride[0] + 1
    columns = (counts.shape[3] - kernel[1]) // stride[1] + 1
    out = np.zeros((*counts.shape[:2], rows, columns), np.int64)
    for r in range(rows):
        for c in range(columns):
            y, x = r * stride[0], c * stride[1]
            out[:, :, r, c] = counts[:, :, y : y + kernel[0], x : x + kernel[1]].sum((2, 3))
    return out


@given(
    st.integers(0, 2**31),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_window_sums(seed, kernel, stride, padded, wide):
    rng = np.random.default_rng(seed)
    counts = rng.integers(-300, 300, (2, 3, 7, 8))
    padding = (kernel[0] // 2, kernel[1] // 2) if padded else (0, 0)
    multiplier = rng.integers(1, 50, (3, 1, 1))
    pool = SumPool(torch.tensor(multiplier), PoolGeometry(kernel, stride, padding), wide=wide)
    result = pool(torch.tensor(counts, dtype=torch.float32))
    assert result.dtype == (torch.float64 if wide else torch.float32)
    np.testing.assert_array_equal(result.numpy(), window_sums(counts, kernel, stride, padding) * multiplier)


@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("dims", [(2, 3), (1,), (3,)])
def test_whole_dimensions(dims, keepdim):
    counts = torch.randint(-255, 256, (2, 5, 7, 7))
    pool = SumPool(torch.tensor(3), PoolGeometry(dims=dims, keepdim=keepdim))
    assert torch.equal(pool(counts.float()).to(torch.int64), counts.sum(dims, keepdim=keepdim) * 3)


def test_wide_sums_hold_more_than_float32():
    counts = torch.full((1, 1, 300, 300), 255.0)
    counts[0, 0, 0, 0] = 254
    multiplier = torch.tensor(97)
    expected = (300 * 300 * 255 - 1) * 97
    for geometry in (PoolGeometry(dims=(2, 3)), PoolGeometry((300, 300), (300, 300), (0, 0))):
        assert int(SumPool(multiplier, geometry, wide=True)(counts)) == expected


def test_integer_scale():
    counts = torch.randint(-1000, 1000, (2, 3, 4))
    multiplier = torch.tensor([1, 7, 4096]).view(3, 1)
    assert torch.equal(IntegerScale(multiplier)(counts.float()).to(torch.int64), counts * multiplier)
    large = torch.tensor([[(1 << 24) - 1]])
    scaled = IntegerScale(torch.tensor(12345), wide=True)(large.float())
    assert scaled.dtype == torch.float64
    assert int(scaled) == int(large) * 12345


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_real_values_are_rounded_once(dtype):
    rng = np.random.default_rng(1)
    unit = rng.uniform(1e-4, 1e-2, (3, 1))
    counts = rng.integers(-(1 << 24), 1 << 24, (2, 3, 50))
    result = ToReal(torch.tensor(unit))(torch.tensor(counts, dtype=dtype))
    assert result.dtype == torch.float32
    exact = counts * unit
    # a float32 unit and a float32 product: two roundings; in float64 only the last one shows
    tolerance = 2.0**-24 if dtype == torch.float64 else 2.0**-23
    np.testing.assert_allclose(result.numpy().astype(np.float64), exact, rtol=tolerance * 1.001)


def test_real_values_of_large_counts():
    counts = torch.tensor([(1 << 40) + 1.0, -(1 << 33) - 3.0], dtype=torch.float64)
    real = ToReal(torch.tensor(0.5))(counts)
    np.testing.assert_allclose(real.numpy(), [2.0**39, -(2.0**32)], rtol=1e-7)


def saved_and_loaded():
    module = ToReal(torch.tensor([0.3, 0.7], dtype=torch.float64))
    fresh = ToReal(torch.zeros(2, dtype=torch.float64))
    fresh.load_state_dict(module.state_dict())
    return module, fresh


def test_unit_survives_a_saved_state_in_float64():
    module, fresh = saved_and_loaded()
    counts = torch.tensor([[10.0, 10.0]], dtype=torch.float64)
    assert fresh(counts).tolist() == module(counts).tolist() == [[3.0, 7.0]]


def test_unit_survives_a_saved_state_in_float32():
    module, fresh = saved_and_loaded()
    counts = torch.tensor([[10.0, 10.0]])
    assert torch.equal(fresh(counts), module(counts))
