import pytest
import torch
from torch import nn

import snnconvert

SETTINGS = {
    "packed": {"bits": 2, "T": 4},
    "if": {"bits": 1, "T": 8, "neuron": "if"},
    "multithreshold": {"bits": 3, "T": 6, "neuron": "multithreshold"},
}


def network():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 16, 5),
    ).eval()


@pytest.fixture(scope="session")
def converted():
    """Spiking networks by the name of their code, and the images they were calibrated on."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ann, images = network(), torch.rand(24, 1, 8, 8)
    networks = {
        name: snnconvert.convert(ann, images, snnconvert.ConversionConfig(**settings), progress=False)
        for name, settings in SETTINGS.items()
    }
    return networks, images


@pytest.fixture(scope="session")
def simulations(converted):
    networks, images = converted
    return {name: snn.simulate(images[:5], record=("spikes", "counts")) for name, snn in networks.items()}
