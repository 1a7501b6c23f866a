"""What a run leaves behind, and what it refuses."""

import copy

import pytest
import torch
from spiking_networks import AtOnce, InALoop, random_spikes
from torch import nn

import snnconvert
from snnconvert.report import account


def hooks(module):
    return sum(len(item._forward_hooks) + len(item._forward_pre_hooks) for item in module.modules())


def test_the_network_stays_as_it_was():
    network, spikes, outputs = AtOnce().eval(), random_spikes(4, 3, 3), []
    before = copy.deepcopy(network.state_dict())
    expected = network(spikes)
    network.neuron.neuron.reset()
    account(network, spikes, batch_dim=1, forward=lambda given: outputs.append(network(given)))
    assert torch.equal(outputs[0], expected)
    assert not outputs[0].requires_grad
    assert hooks(network) == 0
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_neurons_are_reset_before_and_after():
    network, spikes = InALoop().eval(), random_spikes(4, 3, 3)
    first = account(network, spikes, batch_dim=1)
    assert network.neuron.potential == 0
    network(spikes)
    assert account(network, spikes, batch_dim=1) == first
    calls = []
    network(spikes)
    assert account(network, spikes, batch_dim=1, reset=lambda: calls.append(1)) != first
    assert len(calls) == 2


def test_nothing_stays_behind_after_an_error():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = InALoop()

        def forward(self, spikes):
            self.inner(spikes)
            raise KeyError("broken")

    network, fast = Broken().eval(), torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(KeyError, match="broken"):
        account(network, random_spikes(4, 3, 3), batch_dim=1)
    assert hooks(network) == 0
    assert network.inner.neuron.potential == 0
    assert torch.backends.mha.get_fastpath_enabled() is fast
    assert account(network.inner, random_spikes(4, 3, 3), batch_dim=1).layers


def spoiled():
    spikes = random_spikes(4, 3, 3)
    spikes[1, 1, 1] = float("nan")
    return spikes


@pytest.mark.parametrize(
    ("inputs", "options", "match"),
    [
        (torch.zeros(4, 0, 3), {"batch_dim": 1}, "no images"),
        (spoiled(), {"batch_dim": 1}, "not finite"),
        (random_spikes(4, 3, 3), {"batch_dim": 3}, "batch_dim must be"),
        (random_spikes(4, 3, 3), {"batch_dim": -1}, "batch_dim must be"),
        (random_spikes(4), {"batch_dim": 1}, "batch_dim must be"),
        (("text",), {}, "no tensor"),
        (random_spikes(4, 3, 3), {"batch_dim": 1, "steps": 0}, "steps must be"),
        (random_spikes(4, 3, 3), {"batch_dim": 1, "weight_bits": 0.5}, "weight_bits must be"),
    ],
)
def test_unusable_inputs_are_refused(inputs, options, match):
    with pytest.raises(snnconvert.InputError, match=match) as caught:
        account(InALoop().eval(), inputs, **options)
    assert "\n" not in str(caught.value)


def test_training_mode_is_refused():
    with pytest.raises(snnconvert.InputError, match=r"training mode.*eval\(\)"):
        account(InALoop(), random_spikes(4, 3, 3), batch_dim=1)


def test_a_network_without_synapses_is_refused():
    with pytest.raises(snnconvert.InputError, match="ReLU: no convolution, linear layer"):
        account(nn.ReLU().eval(), torch.randn(2, 3))


def test_parameters_alone_are_no_layer():
    class LowRank(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Parameter(torch.randn(6, 2)), nn.Parameter(torch.randn(2, 5))

        def forward(self, spikes):
            return spikes @ (self.left @ self.right)

    found = account(LowRank().eval(), random_spikes(3, 6))
    assert [layer.macs for layer in found.layers] == [30]
    assert "60 multiply-accumulates that depend on parameters alone are not counted" in found.notes


def test_a_forward_in_inference_mode_is_seen():
    network, spikes = AtOnce().eval(), random_spikes(4, 3, 3)

    def run(given):
        with torch.inference_mode():
            return network(given)

    assert account(network, spikes, batch_dim=1, forward=run) == account(network, spikes, batch_dim=1)


def test_silence_is_told():
    found = account(InALoop(threshold=1e6).eval(), random_spikes(4, 3, 3), batch_dim=1)
    assert [layer.word_sparsity for layer in found.layers] == [pytest.approx(found.layers[0].word_sparsity), 1]
    assert any("not a single spike reached second" in note for note in found.notes)


def test_layers_used_twice_in_a_step_are_told_apart():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Linear(3, 3)

        def forward(self, spikes):
            outputs = self.shared(spikes)
            return outputs + self.shared((outputs > 0).float())

    found = account(Twice().eval(), random_spikes(5, 3))
    assert [(layer.name, layer.T) for layer in found.layers] == [("shared", 1), ("shared #2", 1)]
