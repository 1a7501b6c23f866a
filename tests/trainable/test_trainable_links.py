import pytest
import torch
from slow_cases import mostly_slow
from torch import nn
from trainable_networks import converted as converted_as
from trainable_networks import output

import snnconvert
from snnconvert.trainable.gradients import Gradients
from snnconvert.trainable.links import find_links


class Branches(nn.Module):
    """A flat input, a convolution whose spikes two layers read, and a sum."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(16, 12)
        self.left = nn.Linear(12, 8)
        self.right = nn.Linear(12, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.first(x.flatten(1)))
        return self.last(torch.relu(self.left(x) + self.right(x)))


def converted():
    torch.manual_seed(0)
    config = snnconvert.ConversionConfig(bits=1, T=2, weight_bits=3)
    return snnconvert.convert(Branches(), torch.rand(32, 1, 4, 4), config, progress=False)


def test_links_follow_spikes_and_currents():
    snn = converted()
    links = find_links(snn.network, [spec.trial(2) for spec in snn.signature.tensors])
    layers = {str(node.target): str(node.meta.get("layer")) for node in snn.network.graph.nodes}
    assert len(links.inputs) == 1
    readers = {layers[name]: sorted(layers[reader] for reader in found) for name, found in links.readers.items()}
    assert ["left", "right"] in readers.values()
    assert ["last"] in readers.values()
    folding = {layers[name] for name in links.folds}
    assert {"first", "last"} <= folding
    assert not {"left", "right"} & folding  # their sum has one unit


def test_neurons_on_the_input_stay_as_they_are():
    snn = converted().train()
    fixed = [neuron for _, neuron in snn.trainable.neurons() if not neuron.learns]
    assert len(fixed) == 1
    assert fixed[0].neuron.code.T == 1


def test_what_runs_between_steps_runs_what_was_learned(tmp_path):
    snn, inputs = converted().train(), torch.rand(16, 1, 4, 4)
    optimizer = torch.optim.SGD(snn.parameters(), 0.5)
    snn(inputs).square().mean().backward()
    optimizer.step()
    expected = snn(inputs).detach()
    assert torch.equal(snn.simulate(inputs).output, expected)
    snn.save(tmp_path / "snn")
    assert torch.equal(snnconvert.load(tmp_path / "snn")(inputs), expected)
    assert torch.equal(snn.finish_training()(inputs), expected)
    assert not list(snn.parameters())


RISEN = {
    "shortcut of spikes": ("resnet", {"bits": 8, "T": 1}),
    "rate codes": ("resnet", {"bits": 4, "T": 15, "neuron": "if"}),
    "pooled spikes": ("depthwise", {"bits": 8, "T": 1}),
    "spiking residuals": ("resnet", {"bits": 8, "T": 1, "residuals": "spikes"}),
}


@pytest.mark.parametrize("kind", mostly_slow(RISEN, keep=["rate codes", "spiking residuals", "pooled spikes"]))
def test_neurons_grow_coarser_and_no_weaker_as_thresholds_rise(kind):
    name, settings = RISEN[kind]
    snn, images = converted_as(name, **settings)
    before = output(snn, images)
    trained = snn.train().trainable
    trained.gradients = Gradients("window")
    risen = [neuron for _, neuron in trained.neurons() if neuron.learns]
    assert all(neuron.stretches for neuron in risen)
    for neuron in risen:
        neuron.threshold.data.fill_(1.5)
    after = output(snn, images)
    assert 0 < (after - before).norm() < 0.05 * before.norm()
