"""Small spiking networks in plain torch, and their steps computed by hand in numpy."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FIRST = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.25]])
SECOND = np.array([[0.5, -1.0], [1.0, 1.0], [0.25, 0.0], [-0.5, 0.75]])


class IntegrateFire(nn.Module):
    """Soft reset; spikes are θ, or with more bits up to (2^b − 1)·θ."""

    def __init__(self, threshold=1.0, bits=1):
        super().__init__()
        self.threshold, self.most, self.potential = threshold, 2**bits - 1, 0.0

    def reset(self):
        self.potential = 0.0

    def forward(self, current):
        self.potential = self.potential + current
        fired = (self.potential / self.threshold).floor().clamp(0, self.most) * self.threshold
        self.potential = self.potential - fired
        return fired


class MultiStep(nn.Module):
    """Runs a neuron over the first dimension."""

    def __init__(self, neuron):
        super().__init__()
        self.neuron = neuron

    def forward(self, currents):
        return torch.stack([self.neuron(current) for current in currents])


def linear(weights):
    layer = nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    layer.weight = nn.Parameter(torch.tensor(weights, dtype=torch.float32))
    return layer


class InALoop(nn.Module):
    """Spikes [T, N, 3] one step after the other."""

    def __init__(self, threshold=1.0, bits=1):
        super().__init__()
        self.first, self.second = linear(FIRST), linear(SECOND)
        self.neuron = IntegrateFire(threshold, bits)

    def forward(self, spikes):
        return torch.stack([self.second(self.neuron(self.first(step))) for step in spikes])


class AtOnce(nn.Module):
    """The same network with steps and images folded into rows."""

    def __init__(self, threshold=1.0, bits=1):
        super().__init__()
        self.first, self.second = linear(FIRST), linear(SECOND)
        self.neuron = MultiStep(IntegrateFire(threshold, bits))

    def forward(self, spikes):
        shape = spikes.shape[:2]
        hidden = self.neuron(self.first(spikes.flatten(0, 1)).unflatten(0, shape))
        return self.second(hidden.flatten(0, 1)).unflatten(0, shape)


class Inline(nn.Module):
    """The same network without any submodule: functions and parameters."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Parameter(torch.tensor(w, dtype=torch.float32)) for w in (FIRST, SECOND))

    def forward(self, spikes):
        potential, outputs = torch.zeros(spikes.shape[1], 2), []
        for step in spikes:
            potential = potential + F.linear(step, self.first)
            fired = (potential >= 1).float()
            potential = potential - fired
            outputs.append(fired @ self.second.T)
        return torch.stack(outputs)


def hidden_by_hand(spikes, threshold=1.0, bits=1):
    """What the hidden neurons fire, in θ, [T, N, 2]."""
    potential, fired = np.zeros((spikes.shape[1], 2)), []
    for step in spikes.double().numpy():
        potential = potential + step @ FIRST.T
        count = np.clip(np.floor(potential / threshold), 0, 2**bits - 1)
        potential = potential - count * threshold
        fired.append(count)
    return np.stack(fired)


def random_spikes(*shape, rate=0.4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator) < rate).float()
