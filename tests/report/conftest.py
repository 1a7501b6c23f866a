import pytest
import torch
from torch import nn

import snnconvert
from snnconvert.report.allocation import Allocation, AllocationRound
from snnconvert.report.schema import Metric


class _Net(nn.Module):
    def __init__(self, wide):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.mix = nn.Conv2d(6, 8, 1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.norm = nn.GroupNorm(2, 8)
        self.head = nn.Linear(8, 5)
        self.wide = nn.Linear(5, 5) if wide else nn.Identity()

    def forward(self, x):
        x = torch.relu(self.mix(torch.relu(self.stem(x))))
        x = torch.relu(self.norm(self.gate(x)))
        return self.wide(torch.relu(self.head(x.mean((2, 3)))))


def _converted(config, *, wide=False):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network, images = _Net(wide).eval(), torch.randn(16, 3, 8, 8)
    return snnconvert.convert(network, images, snnconvert.ConversionConfig(**config), progress=False).report


@pytest.fixture(scope="session")
def small_report():
    """Of a small network with an analog remainder, evaluated without labels, named as if from the command line."""
    from dataclasses import replace

    config = {"bits": 1, "T": 4, "weight_bits": 4, "overrides": {"gate": {"analog": True}, "mix": {"weight_bits": 3}}}
    return replace(_converted(config), model="small", weights="random", notes=("weights are random",))


@pytest.fixture(scope="session")
def labelled_report():
    """Of the same network with one layer more and other widths, evaluated with labels, after an allocation."""
    from dataclasses import replace

    rounds = (AllocationRound(18.5, 0.01, 0.02, 0.9, None, 2.5), AllocationRound(24.0, 0.005, 0.011, None, 1.25, None))
    return replace(
        _converted({"bits": 2, "T": 4}, wide=True),
        metric=Metric("top1", 0.912, 0.9, 1000, (-0.02, -0.004)),
        allocation=Allocation("max_drop", 1.0, 16, rounds, 1, {"mix": {"T": 4, "bits": 2, "weight_bits": 8}}),
        model="small",
    )
