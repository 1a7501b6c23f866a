"""Networks of snnTorch, if it is installed: membranes passed along or hidden in the neurons."""

import pytest
import torch
from torch import nn

from snnconvert.report import account

snntorch = pytest.importorskip("snntorch")

T, IMAGES = 7, 5


class PassedAlong(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2 = nn.Linear(20, 30), nn.Linear(30, 10)
        self.lif1, self.lif2 = snntorch.Leaky(beta=0.9), snntorch.Leaky(beta=0.8)

    def forward(self, steps):
        first, second, outputs = self.lif1.reset_mem(), self.lif2.reset_mem(), []
        for step in steps:
            spikes, first = self.lif1(self.fc1(step), first)
            outputs.append(spikes)
            _, second = self.lif2(self.fc2(spikes), second)
        return torch.stack(outputs)


def hidden():
    torch.manual_seed(0)
    fc1, fc2 = nn.Linear(20, 30), nn.Linear(30, 10)
    return nn.Sequential(
        fc1, snntorch.Leaky(beta=0.9, init_hidden=True), fc2, snntorch.Leaky(beta=0.8, init_hidden=True)
    ).eval()


@pytest.fixture
def spikes():
    return (torch.rand(T, IMAGES, 20, generator=torch.Generator().manual_seed(1)) < 0.5).float()


def test_rates_are_those_of_its_neurons(spikes):
    network = PassedAlong().eval()
    found = account(network, spikes, batch_dim=1)
    first, second = found.layers
    with torch.no_grad():
        fired = network(spikes)
    assert (first.name, first.macs, first.T, second.name, second.macs, second.T) == ("fc1", 600, T, "fc2", 300, T)
    assert first.firing_rate == pytest.approx(float(spikes.mean()))
    assert second.firing_rate == pytest.approx(float(fired.mean()))
    assert second.word_sparsity == pytest.approx(float((fired == 0).all(0).float().mean()))
    assert not found.totals.real_operations
    assert found.neuron_operations > 0


def test_hidden_membranes_are_reset(spikes):
    network = hidden()
    first, again = (
        account(network, spikes, batch_dim=1, forward=lambda steps: [network(step) for step in steps]) for _ in range(2)
    )
    assert (first.layers, first.totals) == (again.layers, again.totals)
    passed = account(PassedAlong().eval(), spikes, batch_dim=1)
    assert [layer.s_ace for layer in first.layers] == [layer.s_ace for layer in passed.layers]
    assert [layer.firing_rate for layer in first.layers] == [layer.firing_rate for layer in passed.layers]
