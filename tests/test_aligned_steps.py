"""Neurons on one membrane: their steps are powers of two apart, and cover at least what each was chosen for."""

import math

import torch
from torch import nn

import snnconvert
from snnconvert.conversion import collector_of
from snnconvert.finishing import thresholds_of
from snnconvert.preparation import prepare


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)
        self.eval()

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.conv(x) + x)
        return self.head(x.mean((2, 3)))


def thresholds(**settings):
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    prepared = prepare(Residual(), images[:2], snnconvert.ConversionConfig(**settings))
    collector = collector_of(prepared)
    collector.update((images,))
    found, _ = thresholds_of(prepared, collector.statistics())
    return {site.layer: (found[site.family], site) for site in prepared.plan.sites}


def test_steps_of_one_membrane_are_powers_of_two_apart():
    for granularity in ("tensor", "channel"):
        found = thresholds(bits=1, T=3, threshold_granularity=granularity)
        ((name, (shortcut, _)),) = [(name, item) for name, item in found.items() if name.endswith(".shortcut")]
        first, _ = found[name.removesuffix(".shortcut")]
        steps = zip(first.channel_steps or (first.step,), shortcut.channel_steps or (shortcut.step,), strict=True)
        for one, other in steps:
            exponent = math.log2(one / other)
            assert exponent == round(exponent)
            assert exponent >= 3
        assert shortcut.step * shortcut.code.maximum >= 0.9 * first.step * first.code.maximum


def test_networks_with_both_stay_exact():
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for granularity in ("tensor", "channel"):
        config = snnconvert.ConversionConfig(bits=1, T=3, threshold_granularity=granularity)
        snn = snnconvert.convert(Residual(), images, config, progress=False)
        assert torch.equal(snn(images), snn.simulate(images).output)
