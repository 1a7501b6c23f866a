"""Products of words against int64 arithmetic."""

import pytest
import torch
import torch.nn.functional as F

from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import FLOAT32_EXACT, ConvGeometry


def words(*shape, low=-100, high=155):
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_matrix_products_are_exact():
    a, b = words(2, 3, 7, 16), words(2, 3, 16, 9)
    product = Product("matmul", 0.01, torch.tensor(3), (155, 155, 16))
    assert torch.equal(product(a.float(), b.float()).long(), 3 * (a @ b))
    assert product(a.float(), b.float()).dtype == torch.float32


def test_long_sums_go_to_float64():
    a, b = words(1, 2, 4096, low=250, high=255), words(1, 4096, 2, low=250, high=255)
    product = Product("matmul", 1.0, torch.tensor(1), (255, 255, 4096))
    assert product.bound > FLOAT32_EXACT
    result = product(a.float(), b.float())
    assert result.dtype == torch.float64
    assert torch.equal(result.long(), a @ b)


def test_gates_broadcast():
    a, b = words(2, 5, 4, 4), words(2, 5, 1, 1, low=0, high=255)
    multiplier = torch.tensor([1, 2, 3, 4, 5]).view(5, 1, 1)
    product = Product("mul", 1.0, multiplier, (155, 255, 1))
    assert torch.equal(product(a.float(), b.float()).long(), a * b * multiplier)


def test_convolutions_with_computed_kernels():
    a, b = words(1, 6, 8, 8), words(4, 3, 3, 3, low=-20, high=20)
    geometry = ConvGeometry((2, 1), (1, 0), (1, 1), 2)
    product = Product("conv2d", 1.0, torch.tensor(1), (155, 20, 27), geometry=geometry)
    expected = F.conv2d(a.double(), b.double(), None, (2, 1), (1, 0), (1, 1), 2)
    assert torch.equal(product(a.float(), b.float()).double(), expected)


@pytest.mark.parametrize("wide", [False, True])
def test_wide_products_stay_wide(wide):
    product = Product("mul", 1.0, torch.tensor(1), (10, 10, 1), wide=wide)
    assert product(torch.ones(2), torch.ones(2)).dtype == (torch.float64 if wide else torch.float32)
