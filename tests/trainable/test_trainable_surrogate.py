import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.errors import ConfigurationError
from snnconvert.trainable.surrogate import SURROGATES, Surrogate


@pytest.mark.parametrize("name", SURROGATES)
@given(alpha=st.floats(0.2, 8), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_the_gradient_is_the_smooth_functions_slope(name, alpha, seed):
    surrogate = Surrogate(name, alpha)
    x = torch.empty(200, dtype=torch.float64).uniform_(-3, 3, generator=torch.Generator().manual_seed(seed))
    x.requires_grad_()
    upstream = torch.linspace(-1, 2, 200, dtype=torch.float64)
    (surrogate(x) * upstream).sum().backward()
    h = 1e-6
    with torch.no_grad():
        difference = (surrogate.smooth(x + h) - surrogate.smooth(x - h)) / (2 * h)
    torch.testing.assert_close(x.grad, upstream * difference, atol=alpha**2 * 1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SURROGATES)
def test_smooth_functions_rise_from_0_to_1_and_sharpen(name):
    x = torch.linspace(-50, 50, 4001, dtype=torch.float64)
    smooth = Surrogate(name, 4.0).smooth(x)
    assert (smooth.diff() >= 0).all()
    assert smooth[0] < 0.01
    assert smooth[-1] > 0.99
    assert Surrogate(name, 4.0).smooth(torch.zeros(1)) == 0.5
    assert torch.trapezoid(Surrogate(name, 4.0).slope(x), x).item() == pytest.approx(1, abs=0.01)
    away = x.abs() > 1
    step = (x >= 0).double()
    assert (Surrogate(name, 1e3).smooth(x)[away] - step[away]).abs().max() < 1e-3


@pytest.mark.parametrize(("name", "peak"), [("atan", 1.5), ("sigmoid", 0.75), ("triangle", 3.0)])
def test_the_slope_at_the_threshold(name, peak):
    assert Surrogate(name, 3.0).slope(torch.zeros(1)).item() == pytest.approx(peak)


def test_spikes_fire_at_the_threshold():
    spikes = Surrogate()(torch.tensor([-1e-6, 0.0, 1e-6]))
    assert spikes.tolist() == [0.0, 1.0, 1.0]
    assert Surrogate()(torch.ones(2, dtype=torch.float64)).dtype == torch.float64


def test_a_triangle_passes_nothing_beyond_its_width():
    x = torch.tensor([-0.51, -0.49, 0.49, 0.51], requires_grad=True)
    Surrogate("triangle", 2.0)(x).sum().backward()
    assert (x.grad > 0).tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"name": "step"}, "one of atan"), ({"alpha": 0}, "positive"), ({"alpha": math.inf}, "positive"),
     ({"alpha": "2"}, "positive")],
)  # fmt: skip
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        Surrogate(**fields)
