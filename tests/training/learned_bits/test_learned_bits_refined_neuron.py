"""The refined neuron: its staircase, its gradients, and the spikes that integrate-and-fire neurons fire."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.neurons.integrate_and_fire import IntegrateAndFireCode
from snnconvert.training.learned_bits.quantizer import spike_levels
from snnconvert.training.learned_bits.refined_neuron import refined_neuron


def fired(values, step, bits, T, leak=1.0):
    scalars = torch.tensor(float(bits)), torch.tensor(float(T))
    return refined_neuron(values, torch.as_tensor(step), *scalars, spike_levels(bits, half_up=True), leak)


@given(st.integers(1, 4), st.integers(1, 6), st.floats(0.05, 5.0), st.integers(0, 2**32 - 1))
def test_without_leak_it_is_one_uniform_quantizer_of_more_levels(bits, T, step, seed):
    largest = T * (2**bits - 1)
    inputs = torch.rand(300, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1.2
    values = inputs * largest * step / T
    fine = (values / (step / T) + 0.5).floor().clamp(0, largest) * (step / T)
    near_a_tie = ((values / (step / T)) % 1 - 0.5).abs() < 1e-9
    out = fired(values, torch.tensor(step, dtype=torch.float64), bits, T)
    assert float((out - fine)[~near_a_tie].abs().max()) < 1e-9 * step


@pytest.mark.parametrize(("bits", "T"), [(1, 4), (2, 2), (2, 5), (3, 3)])
def test_every_level_occurs(bits, T):
    values = torch.linspace(0, 2.0**bits, 20_001, dtype=torch.float64)
    assert len(fired(values, 1.0, bits, T).mul(T).round().unique()) == T * (2**bits - 1) + 1


@pytest.mark.parametrize(("bits", "T"), [(1, 1), (1, 4), (2, 3)])
def test_integrate_and_fire_neurons_fire_the_same(bits, T):
    code, current = IntegrateAndFireCode(bits, T), torch.rand(500, dtype=torch.float64) * (2**bits) * T
    state, total = code.initial(current), torch.zeros_like(current)
    for _ in range(T):
        spikes, state = code.step(current, state)
        total += spikes
    assert torch.equal(total, fired(current, float(T), bits, T).round())


def test_a_leak_forgets_part_of_what_was_not_carried():
    values, leak, T = torch.rand(100, dtype=torch.float64) * 4, 0.5, 3
    membrane, total = values, torch.zeros_like(values)
    for _ in range(T):
        spike = (membrane / 0.7 + 0.5).floor().clamp(0, 3) * 0.7
        total += spike
        membrane = leak * (membrane - spike) + values
    torch.testing.assert_close(fired(values, torch.tensor(0.7, dtype=torch.float64), 2, T, leak), total / T)


def test_time_has_the_gradient_of_the_mean_alone():
    values, upstream = torch.rand(50) * 3, torch.randn(50)
    T = torch.tensor(3.2, requires_grad=True)
    out = refined_neuron(values, torch.tensor(0.5), torch.tensor(2.0), T, spike_levels(2))
    (out * upstream).sum().backward()
    assert float(T.grad) == pytest.approx(-float((out.detach() * upstream).sum()) / 3, rel=1e-5)


def test_values_in_range_pass_their_gradient():
    values = torch.tensor([0.2, 0.8, 1.4], requires_grad=True)
    refined_neuron(values, torch.tensor(1.0), torch.tensor(1.0), torch.tensor(2.0), spike_levels(1)).sum().backward()
    assert values.grad.tolist() == pytest.approx([1.0, 1.0, 0.0])
