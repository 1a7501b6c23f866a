"""Small networks for allocations, and their calibration statistics."""

import dataclasses

import torch
from torch import nn

import snnconvert
from snnconvert.allocation.choices import Choices
from snnconvert.allocation.groups import group_layers
from snnconvert.allocation.laboratory import Laboratory
from snnconvert.conversion import collector_of
from snnconvert.preparation import prepare

PLAIN = snnconvert.ConversionConfig(bias_correction=False)


class Residual(nn.Module):
    """Two layers read the same spikes; one of them joins a sum."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.one = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.two = nn.Conv2d(8, 8, 3, padding=1)
        self.shortcut = nn.Conv2d(6, 8, 1, stride=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.two(torch.relu(self.one(x))) + self.shortcut(x))
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """Products of two activations."""

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


class Offset(nn.Module):
    """Signed values far from zero behind a normalization and on a sum."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, 12)
        self.norm = nn.LayerNorm(12)
        self.inner = nn.Linear(12, 16)
        self.outer = nn.Linear(16, 12)
        self.head = nn.Linear(12, 4, bias=False)
        nn.init.normal_(self.norm.bias, std=4.0)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.outer(torch.relu(self.inner(self.norm(x)))) + 3.0
        return self.head(x).mean(1)


def seeded(kind, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind().eval()


def images_for(kind, count=24, seed=1):
    shape = (3, 8, 8) if kind is Residual else (5, 6)
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def calibrated(kind, config=PLAIN, count=24):
    """(prepared, statistics) of a network."""
    images = images_for(kind, count)
    prepared = prepare(seeded(kind), images[:2], config)
    collector = collector_of(prepared)
    for batch in images.split(10):
        collector.update((batch,))
    return prepared, collector.statistics()


def laboratory(kind, config=PLAIN, choices=None, count=24):
    """(laboratory, prepared, statistics) of a network."""
    prepared, statistics = calibrated(kind, config, count)
    groups = group_layers(prepared.plan, prepared.config, choices or Choices(T=config.T))
    return Laboratory(prepared, statistics, groups), prepared, statistics


def without_objective(config):
    return dataclasses.replace(config, budget=None, max_drop=None, target_energy=None)
