"""Potentials halfway between two words go to the even one in every runtime."""

import pytest
import torch
from engine_networks import NeuronValues
from integer_networks import RUNTIMES, compared
from torch import nn

import snnconvert
from snnconvert.neurons.neuron import SpikingNeuron

CHANNELS = 256


def without_bias():
    """Each channel's largest weight meets zeros, another, half as large, all words: sums are multiples of it."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, CHANNELS, 1, bias=False), nn.ReLU(), nn.Conv2d(CHANNELS, 4, 1)
    )
    with torch.no_grad():
        net[0].weight[:, 0, 0, 0], net[0].bias[:] = torch.tensor([0.0, 1.0]), torch.tensor([-1.0, 0.0])
        net[2].weight[:, :, 0, 0] = torch.linspace(0.3, 1.9, CHANNELS)[:, None] * torch.tensor([127.0, 64.0])
    return net.eval()


class Sums(nn.Module):
    """Words from 0 to 255 and a branch of them: half of its channels are 0, the others c times the words."""

    def __init__(self, factors):
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 1)
        self.branches = nn.ModuleList(nn.Conv2d(2, 2, 1) for _ in factors)
        self.last = nn.ModuleList(nn.Conv2d(2, 2, 1) for _ in factors)
        with torch.no_grad():
            self.stem.weight.fill_(1.0), self.stem.bias.zero_()
            for branch, factor in zip(self.branches, factors, strict=True):
                branch.weight[:, :, 0, 0] = torch.tensor([[factor, 0.0], [0.0, 0.0]])
                branch.bias[:] = torch.tensor([0.01, 0.0])

    def forward(self, x):
        words = torch.relu(self.stem(x))
        sums = [torch.relu(words + branch(words)) for branch in self.branches]
        return torch.cat([last(words) for last, words in zip(self.last, sums, strict=True)], 1)


class Ties(NeuronValues):
    """Counts potentials halfway between two words of which the lower one is even."""

    count = 0

    def run_node(self, n):
        module = self.module.get_submodule(n.target) if n.op == "call_module" else None
        if isinstance(module, SpikingNeuron):
            (potential,) = self.fetch_args_kwargs_from_env(n)[0]
            steps = module.in_steps(potential.double())
            self.count += int(((steps % 2 == 0.5) & (steps < module.ceiling)).sum())
        return super().run_node(n)


@pytest.mark.parametrize("engine", RUNTIMES)
def test_layers_without_bias_round_ties_to_even(engine):
    pytest.importorskip(engine)
    images = torch.linspace(0, 1, 256).view(1, 1, 16, 16)
    snn = snnconvert.convert(without_bias(), images, snnconvert.ConversionConfig(), progress=False)
    ties = Ties(snn.network)
    with torch.no_grad():
        ties.run(images)
    assert ties.count > 300
    assert compared(snn, images, engine).differing == {}


@pytest.mark.parametrize("engine", RUNTIMES)
def test_sums_of_words_round_ties_to_even(engine):
    pytest.importorskip(engine)
    images = torch.linspace(0, 1, 256).view(1, 1, 16, 16)
    torch.manual_seed(0)
    net = Sums([0.05 * 1.3**power for power in range(12)]).eval()
    config = snnconvert.ConversionConfig(residuals="spikes")
    snn = snnconvert.convert(net, images, config, progress=False)
    ties = Ties(snn.network)
    with torch.no_grad():
        ties.run(images)
    assert ties.count > 10
    expected = snn(images)
    found = snn.compile(engine, threads=1, cache=False)(images)
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.std())
