import pytest
import torch

from snnconvert.neurons.integrate_and_fire import IntegrateAndFireCode
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.ternary import TernaryCode
from snnconvert.training.penalties import activity, gram


def naive(weights, identity):
    total = 0.0
    for weight in weights:
        matrix = weight.double().flatten(1)
        product = matrix.T @ matrix
        total = total + (product - identity * torch.eye(len(product), dtype=torch.float64)).square().sum()
    return total / 2


@pytest.mark.parametrize("identity", [0.0, 0.3])
@pytest.mark.parametrize("shapes", [[(4, 3, 3, 3)], [(40, 6)], [(5, 2, 3), (7, 5)]])
def test_the_gram_penalty_is_half_the_squared_norm_and_so_is_its_gradient(shapes, identity):
    torch.manual_seed(0)
    weights = [torch.randn(shape, requires_grad=True) for shape in shapes]
    value = gram(weights, identity)
    assert float(value.detach()) == pytest.approx(float(naive(weights, identity).detach()), rel=1e-5)
    found = torch.autograd.grad(value, weights)
    for gradient, weight in zip(found, weights, strict=True):
        matrix = weight.detach().double().flatten(1)
        expected = 2 * (matrix @ matrix.T @ matrix - identity * matrix)
        torch.testing.assert_close(gradient.double().flatten(1), expected, rtol=1e-4, atol=1e-4)


def test_the_gram_penalty_agrees_with_finite_differences():
    torch.manual_seed(1)
    weight = torch.randn(3, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(gram([weight], 0.5), [weight])
    for place in ((0, 0), (2, 3)):
        moved = torch.zeros(3, 4, dtype=torch.float64)
        moved[place] = 1e-4
        values = [naive([weight.detach().double() + sign * moved], 0.5) for sign in (1, -1)]
        assert float(gradient[place]) == pytest.approx(float(values[0] - values[1]) / 2e-4, rel=1e-4)


@pytest.mark.parametrize(
    ("code", "values", "expected"),
    [
        (IntegrateAndFireCode(1, 6), [0.0, 3.0, 6.0], 1.5),
        (PackedCode(2, 2, offset=5), [-5.0, 10.0, 0.0], 0.0 + 1.0 + 5 / 15),
        (TernaryCode(1, 4, signed=True), [-4.0, 2.0, 0.0], 1.5),
    ],
)
def test_activity_is_the_sum_of_shares_of_the_largest_value(code, values, expected):
    words = torch.tensor(values, requires_grad=True)
    assert float(activity(words, code)) == pytest.approx(expected)


def test_activity_presses_on_every_value_alike():
    words = torch.rand(4, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(activity(words, IntegrateAndFireCode(1, 6)), words)
    torch.testing.assert_close(gradient, torch.full((4, 5), 1 / 6))
