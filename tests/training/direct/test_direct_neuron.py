import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.errors import ConfigurationError, InputError
from snnconvert.trainable.surrogate import Surrogate
from snnconvert.training.direct.gradients import Threshold, quantized
from snnconvert.training.direct.neuron import IntegratingNeuron
from snnconvert.training.direct.packed import PackedNeuron
from snnconvert.training.direct.settings import NeuronSettings


def currents(T, *shape, seed=0, scale=1.0):
    return torch.randn(T, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def neuron_of(*args, **fields):
    return IntegratingNeuron(NeuronSettings(*args, **fields)).double()


def one_by_one(x, bits, tau, theta):
    """The equations in plain numpy, one neuron and one step at a time."""
    out = np.zeros_like(x)
    for place in np.ndindex(x.shape[1:]):
        v = 0.0
        for t in range(len(x)):
            u = tau * v + x[(t, *place)]
            count = min(max(int(np.floor(u / theta + 0.5)), 0), 2**bits - 1)
            v = u - count * theta
            out[(t, *place)] = count * theta
    return out


@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from([None, 0.25, 0.5, 0.9]), st.floats(0.2, 2),
       st.integers(0, 10**6))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_spikes_follow_the_equations(bits, T, tau, theta, seed):
    kind, leak = ("if", 0.5) if tau is None else ("lif", tau)
    neuron = neuron_of(kind, bits, T, leak, theta)
    x = currents(T, 3, 4, seed=seed, scale=2.0)
    with torch.no_grad():
        fired = neuron(x)
    expected = one_by_one(x.numpy(), bits, 1.0 if tau is None else tau, theta)
    np.testing.assert_allclose(fired.numpy(), expected, atol=1e-6)
    assert fired.dtype == x.dtype


@given(st.integers(1, 32), st.floats(0.3, 3), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_a_constant_current_is_quantized_uniformly(T, theta, seed):
    """Identity of rate coding with v0 = θ/2, here the rounding's half: T + 1 levels of θ/T."""
    x = currents(1, 50, seed=seed)[0]
    with torch.no_grad():
        mean = neuron_of("if", 1, T, threshold=theta)(x.expand(T, 1, 50)).mean(0)[0]
    steps = x * T / theta + 0.5
    levels = steps.floor().clamp(0, T) * theta / T
    clear = (steps - steps.round()).abs() > 1e-4  # ties are decided by the last digit of sums
    torch.testing.assert_close(mean[clear], levels[clear], atol=1e-6, rtol=1e-6)


def smoothed(x, tau, theta, surrogate):
    """The binary neuron with g in place of the step: what the surrogate gradient at each spike is that of."""
    v, total = torch.zeros_like(x[0]), 0.0
    for t in range(len(x)):
        u = tau * v + x[t] / theta
        s = surrogate.smooth(u - 0.5)
        v = u - s
        total = total + (t + 1) * s.sum() * theta
    return total


def test_gradients_through_time_are_those_of_the_smooth_neuron_where_spikes_agree():
    """With a steep sigmoid and potentials away from the threshold, spikes are g's: gradients then must be, too."""
    surrogate = Surrogate("sigmoid", 30.0)
    neuron = neuron_of("lif", 1, 5, 0.5, 1.3, surrogate=surrogate)
    weights = torch.arange(1.0, 6.0, dtype=torch.float64).view(5, 1, 1)
    found = 0
    for seed in range(60):
        x = currents(5, 1, 1, seed=seed, scale=2.0).requires_grad_()
        (neuron(x) * weights).sum().backward()
        h, differences = 1e-5, []
        for t in range(5):
            moved = torch.zeros_like(x)
            moved[t] = h
            with torch.no_grad():
                up = smoothed(x + moved, 0.5, 1.3, surrogate)
                differences.append((up - smoothed(x - moved, 0.5, 1.3, surrogate)) / (2 * h))
        with torch.no_grad():
            agree = abs(smoothed(x, 0.5, 1.3, surrogate) - (neuron(x) * weights).sum()) < 1e-6
        if agree:
            found += 1
            torch.testing.assert_close(x.grad.flatten(), torch.stack(differences), atol=2e-3, rtol=2e-2)
    assert found >= 10


def test_one_step_has_the_surrogates_slope():
    surrogate = Surrogate("atan", 3.0)
    neuron = neuron_of("if", 1, 1, threshold=0.8, surrogate=surrogate)
    x = currents(1, 1, 40).requires_grad_()
    neuron(x).sum().backward()
    # s = θ·H(x/θ − ½): the height θ and the unit 1/θ cancel
    torch.testing.assert_close(x.grad, surrogate.slope(x.detach() / neuron.threshold.value - 0.5))


def test_truncation_cuts_the_past_at_its_steps_only():
    x = currents(6, 1, 8, scale=0.4)
    full, cut = x.clone().requires_grad_(), x.clone().requires_grad_()
    for wide, truncation in ((full, None), (cut, 2)):
        out = neuron_of("if", 1, 6, threshold=1.0, truncation=truncation)(wide)
        out[5].sum().backward()
    assert (full.grad != 0).flatten(1).any(1).tolist() == [True] * 6
    assert (cut.grad != 0).flatten(1).any(1).tolist() == [False] * 4 + [True] * 2
    torch.testing.assert_close(cut.grad[4:], full.grad[4:])
    with torch.no_grad():
        spikes = [neuron_of("if", 1, 6, threshold=1.0, truncation=k)(x) for k in (None, 1, 2, 6)]
    assert all(torch.equal(spikes[0], other) for other in spikes[1:])


def test_truncation_beyond_the_window_is_full_backpropagation():
    x = currents(4, 1, 8, scale=0.5)
    gradients = []
    for truncation in (None, 4, 9):
        wide = x.clone().requires_grad_()
        neuron_of("lif", 2, 4, truncation=truncation)(wide).square().sum().backward()
        gradients.append(wide.grad)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])


@pytest.mark.parametrize("bits", [2, 3])
def test_multi_bit_gradients_pass_straight_through_inside(bits):
    q = 2**bits - 1
    x = torch.tensor([-0.6, -0.4, 0.3, q + 0.4, q + 0.6], dtype=torch.float64, requires_grad=True)
    levels = quantized(x, q)
    levels.sum().backward()
    assert levels.tolist() == [0, 0, 0, q, q]
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_a_learned_threshold_has_the_gradient_of_lsq():
    """dL/d ln θ = θ·(z − u) inside, θ·q beyond, times 1/√(n·q); z the rounded and u the real number of steps."""
    settings = NeuronSettings("packed", 2, 1, threshold=0.5)
    neuron = PackedNeuron(settings).double()
    v = torch.tensor([[0.2, 0.7, 1.1, 9.0, -2.0]], dtype=torch.float64)
    neuron(v).sum().backward()
    u = v / 0.5
    inside = (u >= -0.5) & (u <= 3.5)
    expected = (torch.where(inside, (u + 0.5).floor() - u, (u > 3.5) * 3.0)).sum() * 0.5 / (5 * 3) ** 0.5
    assert neuron.threshold.log_threshold.grad.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_fixed_threshold_is_no_parameter():
    fixed = Threshold(0.7, 3, learned=False)
    assert not list(fixed.parameters())
    assert fixed(10).item() == pytest.approx(0.7)
    assert fixed.value == pytest.approx(0.7)
    assert len(list(Threshold(0.7, 3, learned=True).parameters())) == 1


@given(st.sampled_from([(1, 1), (1, 8), (2, 4), (4, 2), (8, 1), (3, 2)]), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_greedy_digits_are_the_packed_word(window, seed):
    bits, T = window
    neuron = PackedNeuron(NeuronSettings("packed", bits, T, threshold=0.37)).double()
    v = currents(1, 500, seed=seed, scale=0.37 * 2 ** (bits * T) / 2)
    with torch.no_grad():
        spikes, value = neuron.spikes(v), neuron(v)
    assert spikes.shape == (T, *v.shape)
    assert int(spikes.max()) < 2**bits
    worth = torch.tensor([2.0 ** (bits * (T - 1 - t)) for t in range(T)], dtype=torch.float64)
    words = torch.einsum("t,t...->...", worth, spikes.double())
    torch.testing.assert_close(words * neuron.threshold.value, value, atol=1e-6, rtol=1e-6)
    assert (words[v > 0.37 * 2 ** (bits * T)] == 2 ** (bits * T) - 1).all()


def test_packed_training_holds_the_same_tensors_whatever_t():
    sizes = []
    for T in (1, 4, 8):
        saved = []
        neuron = PackedNeuron(NeuronSettings("packed", 1, T))
        x = torch.randn(2, 100, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=saved: kept.append(t.numel()) or t, lambda t: t):
            neuron(x).sum().backward()
        sizes.append(sum(saved))
    assert sizes[0] == sizes[1] == sizes[2]


@pytest.mark.parametrize(
    ("levels", "settings"),
    [(2.1353, NeuronSettings("if", 1, 4)), (2.899, NeuronSettings("packed", 1, 4)),
     (2.899, NeuronSettings("if", 4, 1))],
)  # fmt: skip
def test_the_first_threshold_is_the_published_optimum(levels, settings):
    """H-MT's fixed point: a range of 2.135 at 4 levels above zero, 2.899 at 15."""
    steps = settings.T * settings.largest if settings.kind == "if" else settings.largest
    delta = settings.first_threshold / (settings.T if settings.kind == "if" else 1)
    assert delta * steps == pytest.approx(levels, abs=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"kind": "izhikevich"}, "one of if"), ({"bits": 0}, "bits"), ({"T": 0}, "T must"), ({"tau": 1.0}, "between 0"),
     ({"kind": "packed", "bits": 4, "T": 4}, "up to 8"), ({"threshold": 0.0}, "threshold"),
     ({"kind": "packed", "truncation": 2}, "truncation"), ({"truncation": 0}, "truncation")],
)  # fmt: skip
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        NeuronSettings(**fields)


def test_layers_refuse_other_kinds_and_windows():
    with pytest.raises(ConfigurationError, match="integrate"):
        IntegratingNeuron(NeuronSettings("packed"))
    with pytest.raises(ConfigurationError, match="packed"):
        PackedNeuron(NeuronSettings("if"))
    with pytest.raises(InputError, match="T = 4"):
        neuron_of("if", 1, 4)(torch.zeros(3, 2, 5))
