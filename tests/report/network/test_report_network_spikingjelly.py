"""Networks of SpikingJelly, if it is installed: one account in both step modes."""

import numpy as np
import pytest
import torch
from torch import nn

from snnconvert.report import account

functional = pytest.importorskip("spikingjelly.activation_based.functional")
from spikingjelly.activation_based import layer, neuron  # noqa: E402

T, IMAGES = 4, 3


def network(step_mode):
    torch.manual_seed(0)
    built = nn.Sequential(
        layer.Conv2d(2, 6, 3, padding=1, bias=False), layer.BatchNorm2d(6), neuron.IFNode(v_threshold=0.4),
        layer.MaxPool2d(2, 2), layer.Conv2d(6, 5, 3), neuron.LIFNode(tau=2.0, v_threshold=0.1), layer.Flatten(),
        layer.Linear(5 * 4, 10),
    ).eval()  # fmt: skip
    functional.set_step_mode(built, step_mode)
    return built


@pytest.fixture
def spikes():
    return (torch.rand(T, IMAGES, 2, 8, 8, generator=torch.Generator().manual_seed(3)) < 0.5).float()


def test_both_step_modes_have_one_account(spikes):
    multi = account(network("m"), spikes, batch_dim=1)
    single_step = network("s")
    single = account(single_step, spikes, batch_dim=1, forward=lambda given: [single_step(step) for step in given])
    assert multi.layers == single.layers
    assert multi.totals.s_ace == single.totals.s_ace
    assert [layer.T for layer in multi.layers] == [T, T, T]
    assert multi.coverage.macs_on_spikes == 1
    assert multi.neuron_operations > 0


def test_spikes_are_those_that_its_neurons_fire(spikes):
    built = network("m")
    found = account(built, spikes, batch_dim=1)
    functional.reset_net(built)
    with torch.no_grad():
        fired = [built[:4](spikes), built[4:7](built[:4](functional_reset(built, spikes)))]
    for seen, train in zip(found.layers[1:], fired, strict=True):
        assert seen.firing_rate == pytest.approx(float(train.mean()))
        assert seen.word_sparsity == pytest.approx(np.mean(~train.numpy().any(0)))
    assert found.layers[0].macs == 6 * 2 * 9 * 64
    assert found.layers[1].macs == 5 * 6 * 9 * 4
    assert found.layers[2].macs == 200


def functional_reset(built, spikes):
    functional.reset_net(built)
    return spikes


def test_an_image_at_every_step_is_analog(spikes):
    images = torch.randn(T, IMAGES, 2, 8, 8)
    found = account(network("m"), images, batch_dim=1)
    assert [(item.name, item.runs) for item in found.analog if item.macs] == [("0", T)]


def test_neurons_are_reset(spikes):
    built = network("m")
    assert account(built, spikes, batch_dim=1) == account(built, spikes, batch_dim=1)
    assert isinstance(built[2].v, float) or not bool(torch.as_tensor(built[2].v).any())
