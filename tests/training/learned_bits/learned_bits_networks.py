"""Small networks to learn widths of, calibrated."""

import torch
from torch import nn

import snnconvert
from snnconvert.conversion import collector_of
from snnconvert.finishing import thresholds_of
from snnconvert.neurons.synapse import Synapse
from snnconvert.preparation import prepare
from snnconvert.training.learned_bits.network import LearnedBitsNetwork


class Residual(nn.Module):
    """Two layers read the same spikes; one of them joins a sum, and a shortcut has neurons of its own."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.one = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.two = nn.Conv2d(8, 8, 3, padding=1)
        self.shortcut = nn.Conv2d(6, 8, 1, stride=2)
        self.three = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.two(torch.relu(self.one(x))) + self.shortcut(x))
        x = torch.relu(self.three(x) + x)
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """Signed values, and products of two activations."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.qkv = nn.Linear(8, 24)
        self.proj = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.nn.functional.gelu(self.embed(x))
        q, k, v = self.qkv(x).chunk(3, -1)
        a = (q @ k.transpose(-2, -1) * 0.35).softmax(-1)
        return self.head((x + self.proj(a @ v)).mean(1))


class Upsampling(nn.Module):
    """A transposed convolution with groups, a capped rectifier and a linear bottleneck."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.squeeze = nn.Conv2d(6, 4, 1)
        self.up = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2)
        self.out = nn.Conv2d(6, 5, 1)
        self.head = nn.Conv2d(5, 3, 1)

    def forward(self, x):
        x = self.squeeze(nn.functional.relu6(4 * self.stem(x)))
        return self.head(torch.relu(self.out(torch.relu(self.up(x)))))


def seeded(kind):
    torch.manual_seed(0)
    return kind().eval()


def images_for(kind, count=64):
    shape = (5, 6) if kind is Attention else (3, 8, 8)
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(3))


def calibrated(model, images, config):
    prepared = prepare(model, images[:2], config, narrow=True)
    collector = collector_of(prepared)
    for part in torch.split(images, 16):
        collector.update((part,))
    return prepared, collector.statistics()


def learner(kind, learning=None, **settings):
    """A network of learned widths of 4/4/1 unless told otherwise, and its statistics."""
    config = snnconvert.ConversionConfig(**{"bits": 4, "T": 1, "weight_bits": 4, **settings})
    prepared, statistics = calibrated(seeded(kind), images_for(kind), config)
    return LearnedBitsNetwork(prepared, thresholds_of(prepared, statistics)[0], learning), statistics


def synapses_of(snn):
    """Synapses by the node of the ANN's graph they stand for."""
    modules = dict(snn.network.named_modules())
    calls = [node for node in snn.network.graph.nodes if node.op == "call_module"]
    return {node.meta["source"]: modules[node.target] for node in calls if isinstance(modules[node.target], Synapse)}


def take_rounded_units(network, snn):
    """Gives a trained network the weights and biases that the spiking one has after rounding to common units."""
    for name, synapse in synapses_of(snn).items():
        weight, item = network.weight_of(name), next(i for i in snn.plan.synapses if i.node == name)
        scale = synapse.unit * synapse.multiplier
        step = scale / float(network.family_step(item.family).detach())
        columns = step.view(-1, *[1] * (synapse.weight.dim() - 1))
        with torch.no_grad():
            weight.relative.copy_(synapse.weight * columns / weight.scale)
            weight.log_step.copy_(columns.log())
            weight.bias.mul_(synapse.bias * scale / weight.real_bias().double())


def output_of(network, images):
    with torch.no_grad():
        out = network(images)
    return out if isinstance(out, torch.Tensor) else out[0]
