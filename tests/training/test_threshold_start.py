import pytest
import torch
from training_helpers import rate_coded_digits, training_digits

from snnconvert.trainable.gradients import Gradients
from snnconvert.training.sparsity import SparseTrainee, SparsityConfig
from snnconvert.training.threshold_start import raise_thresholds


def begun(target):
    trainee = SparseTrainee(rate_coded_digits(), 1.0, SparsityConfig(target=target))
    trainee.network.gradients = Gradients("window")
    inputs = training_digits()[0][:64]
    trainee.begin(inputs)
    trainee.module(inputs)
    return trainee, trainee.after_step(0.0)["bit sparsity"]


def test_thresholds_start_where_the_target_is_met():
    before = begun(0.0)[1]
    target = (1 + before) / 2
    trainee, sparsity = begun(target)
    assert target <= sparsity < target + 0.02
    factors = {neuron.threshold.item() for _, neuron in trainee.network.neurons() if neuron.learns}
    assert len(factors) == 1
    assert next(iter(factors)) > 1


def test_a_network_that_is_sparse_enough_stays_as_it_is():
    trainee, _ = begun(0.1)
    assert {neuron.threshold.item() for _, neuron in trainee.network.neurons()} == {1.0}


@pytest.mark.parametrize(("reached", "expected"), [(1.0, 1.0), (2.5, 2.5), (50.0, 8.0)])
def test_the_factor_is_the_smallest_that_suffices(reached, expected):
    snn = rate_coded_digits().train()
    neurons = [neuron for _, neuron in snn.trainable.neurons()]
    inner = next(neuron for neuron in neurons if neuron.learns and neuron.stretches)
    found = raise_thresholds(neurons, lambda: float(inner.threshold.item() >= reached), 0.5)
    assert found == pytest.approx(expected, rel=0.02)
    assert inner.threshold.item() == pytest.approx(found)
    outer = torch.tensor([neuron.threshold.item() for neuron in neurons if not neuron.learns])
    assert torch.equal(outer, torch.ones_like(outer))
