"""Accounts of small networks against what numpy counts."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spiking_networks import AtOnce, InALoop, Inline, IntegrateFire, hidden_by_hand, linear, random_spikes
from torch import nn

import snnconvert
from snnconvert.energy.profile import load_profile
from snnconvert.report import NetworkAccount, account

T, IMAGES = 6, 5


def windows(layer):
    """What an account says of the spikes a layer reads."""
    return layer.firing_rate, layer.spikes_per_neuron, layer.word_sparsity, layer.bit_sparsity


def windows_by_hand(spikes, bits=1):
    """The same of integer spikes [T, N, neurons]."""
    spikes = np.asarray(spikes).astype(int)
    fired = spikes != 0
    ones = sum(bin(value).count("1") for value in spikes.flatten())
    rate = fired.mean()
    return tuple(
        map(pytest.approx, (rate, rate * len(spikes), (~fired.any(0)).mean(), 1 - ones / (spikes.size * bits)))
    )


@pytest.mark.parametrize("network", [InALoop, AtOnce, Inline])
def test_counts_of_an_integrate_and_fire_network(network):
    spikes = random_spikes(T, IMAGES, 3)
    found = account(network().eval(), spikes, batch_dim=1)
    first, second = found.layers
    hidden = hidden_by_hand(spikes)
    assert (first.name, second.name) == ("first", "second")
    assert (first.op, second.op) == ("linear", "linear")
    assert (first.macs, second.macs, first.T, second.T) == (6, 8, T, T)
    assert (first.inputs, first.outputs, first.fan_in, first.weights) == (3, 2, 3, 6)
    assert (second.inputs, second.outputs, second.fan_in, second.weights) == (2, 4, 2, 8)
    assert (first.spike_bits, second.spike_bits, second.levels) == (1, 1, T + 1)
    assert (first.reads_input, second.reads_input) == (True, False)
    assert windows(first) == windows_by_hand(spikes)
    assert windows(second) == windows_by_hand(hidden)
    assert second.synops == pytest.approx(4 * hidden.sum() / IMAGES)
    assert first.synops == pytest.approx(2 * float(spikes.sum()) / IMAGES)
    assert found.totals.s_ace == 6 * T * first.weight_bits + 8 * T * second.weight_bits
    assert found.images == IMAGES
    assert found.coverage.macs_on_spikes == 1
    assert not [item for item in found.analog if item.macs]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(2, 7), st.floats(0.1, 0.9), st.integers(0, 99), st.sampled_from([1, 2]))
def test_a_loop_and_folded_steps_have_one_account(images, steps, rate, seed, bits):
    spikes = random_spikes(steps, images, 3, rate=rate, seed=seed)
    in_a_loop, at_once = (
        account(network(threshold=0.5, bits=bits).eval(), spikes, batch_dim=1) for network in (InALoop, AtOnce)
    )
    assert in_a_loop.layers == at_once.layers
    assert in_a_loop.totals == at_once.totals
    assert in_a_loop.neuron_operations == at_once.neuron_operations


def test_a_loop_around_the_network():
    spikes = random_spikes(T, IMAGES, 3)
    network = nn.Sequential(InALoop().first, IntegrateFire(), InALoop().second).eval()
    found = account(network, spikes, batch_dim=1, forward=lambda steps: [network(step) for step in steps])
    inside = account(InALoop().eval(), spikes, batch_dim=1)
    assert [layer.s_ace for layer in found.layers] == [layer.s_ace for layer in inside.layers]
    assert [windows(layer) for layer in found.layers] == [windows(layer) for layer in inside.layers]


def test_spikes_of_several_bits_are_integers_times_a_threshold():
    spikes = random_spikes(T, IMAGES, 3, rate=0.8)
    network = InALoop(threshold=0.3, bits=2).eval()
    layer = account(network, spikes, batch_dim=1).layers[1]
    hidden = hidden_by_hand(spikes, threshold=np.float32(0.3), bits=2)
    assert hidden.max() == 3
    assert (layer.spike_bits, layer.levels) == (2, 3 * T + 1)
    assert windows(layer) == windows_by_hand(hidden, bits=2)
    assert layer.bit_budget == T * 2 * layer.weight_bits


class Encoded(nn.Module):
    """An image that is the current of every step."""

    def __init__(self, graded=False):
        super().__init__()
        self.image, self.neuron, self.last = linear(np.ones((2, 3)) / 3), IntegrateFire(0.7), linear(np.eye(2))
        self.graded = graded

    def forward(self, images):
        outputs = 0
        for _ in range(T):
            current = self.image(images)
            outputs = outputs + self.last(current.sigmoid() if self.graded else self.neuron(current))
        return outputs


def test_an_image_at_every_step_is_read_at_full_price():
    images = torch.randn(IMAGES, 3, generator=torch.Generator().manual_seed(1))
    found = account(Encoded().eval(), images)
    (analog,) = [item for item in found.analog if item.macs]
    assert (analog.name, analog.macs, analog.runs) == ("image", 6, T)
    assert "before any synapse" in analog.reason
    assert found.totals.analog_ace == 6 * T * 32 * 32
    assert [layer.name for layer in found.layers] == ["last"]
    assert found.coverage.macs_on_spikes == pytest.approx(4 / 10)


def test_graded_activations_are_analog():
    images = torch.randn(IMAGES, 3, generator=torch.Generator().manual_seed(1))
    found = account(Encoded(graded=True).eval(), images)
    assert not found.layers
    assert {item.name: item.runs for item in found.analog if item.macs} == {"image": T, "last": T}
    assert found.totals.real_operations == 2 * 2 * T  # sigmoids of 2, sums of 2
    assert found.coverage.macs_on_spikes == 0


class Repeating(nn.Module):
    """Lays out its own steps first, [T, N, ...]."""

    def __init__(self):
        super().__init__()
        self.conv, self.neuron = nn.Conv2d(1, 2, 3, padding=1), IntegrateFire(0.4)
        self.read, self.head = nn.Conv2d(2, 3, 3), nn.Linear(3, 4)

    def forward(self, images):
        currents = self.conv(images)
        spikes = torch.stack([self.neuron(currents) for _ in range(T)])
        rates = self.read(spikes.flatten(0, 1)).unflatten(0, (T, -1)).mean((0, 3, 4))
        return self.head(rates)


@pytest.mark.parametrize("steps", [None, T])
def test_steps_that_a_network_lays_out_itself(steps):
    torch.manual_seed(0)
    network, images = Repeating().eval(), torch.rand(3, 1, 6, 6)
    found = account(network, images, steps=steps)
    (layer,) = found.layers
    assert (layer.name, layer.T, layer.spike_bits) == ("read", T, 1)
    assert layer.macs == 3 * 2 * 9 * 4 * 4
    currents = network.conv(images).detach()
    network.neuron.reset()
    spikes = torch.stack([network.neuron(currents) for _ in range(T)]) / 0.4
    assert windows(layer) == windows_by_hand(spikes.round().flatten(2))
    assert {item.name: item.runs for item in found.analog if item.macs} == {"conv": 1, "head": 1}


class Attention(nn.Module):
    """Products of spiking queries, keys and values, [N, tokens, channels]."""

    def forward(self, query, key, value):
        return (query @ key.transpose(-1, -2)) @ value


def test_products_of_two_activations_hold_words_instead_of_weights():
    query, value = random_spikes(2, 5, 4, seed=1), random_spikes(2, 5, 3, seed=2)
    key = 3 * random_spikes(2, 5, 4, seed=3) + random_spikes(2, 5, 4, seed=4)
    found = account(Attention().eval(), (query, key, value))
    scores, sums = found.layers
    assert (scores.op, scores.macs, scores.weights, scores.fan_in) == ("matmul", 5 * 5 * 4, 0, 4)
    assert (scores.spike_bits, scores.weight_bits, scores.bit_budget) == (1, 3, 3)
    assert (sums.macs, sums.weight_bits, sums.fan_in) == (5 * 5 * 3, 1, 5)
    assert sums.spike_bits == int((query @ key.mT).max()).bit_length()
    assert scores.firing_rate == pytest.approx(float(query.mean()))


class Heads(nn.Module):
    """Products of each step's queries and keys with four heads folded into rows."""

    def forward(self, spikes):
        folded = [step.unflatten(-1, (4, 2)).movedim(2, 1).flatten(0, 1) for step in spikes]
        return [torch.bmm(heads, heads.mT) for heads in folded]


def test_heads_in_rows_are_no_steps():
    spikes = random_spikes(T, IMAGES, 3, 8)
    (layer,) = account(Heads().eval(), spikes, batch_dim=1).layers
    assert (layer.T, layer.macs, layer.fan_in) == (T, 4 * 3 * 3 * 2, 2)
    assert windows(layer) == windows_by_hand(spikes.flatten(1))


def test_real_factors_make_a_product_analog():
    query = random_spikes(2, 5, 4)
    found = account(Attention().eval(), (query, torch.randn(2, 5, 4), query))
    assert not found.layers
    assert [item.reason.split(" (")[0] for item in found.analog] == ["multiplies real numbers"] * 2


def test_recurrent_weights_take_part_from_the_first_step():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.inward, self.back = nn.Linear(3, 4, bias=False), nn.Linear(4, 4, bias=False)

        def forward(self, spikes):
            fired = potential = torch.zeros(spikes.shape[1], 4)
            for step in spikes:
                potential = 0.9 * potential + self.inward(step) + self.back(fired)
                fired = (potential > 0.2).float()
                potential = potential * (1 - fired)
            return fired

    found = account(Recurrent().eval(), random_spikes(T, IMAGES, 3), batch_dim=1)
    assert {layer.name: (layer.macs, layer.T) for layer in found.layers} == {"inward": (12, T), "back": (16, T)}


class Leaky(nn.Module):
    """A neuron that takes and returns its membrane, reset by subtraction one step later."""

    def __init__(self, beta, threshold=1.0):
        super().__init__()
        self.register_buffer("beta", torch.tensor(beta))
        self.register_buffer("threshold", torch.tensor(threshold))

    def forward(self, current, membrane):
        reset = (membrane > self.threshold).float()
        membrane = self.beta * membrane + current - reset * self.threshold
        return (membrane > self.threshold).float(), membrane


class WithMembranes(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.lif1, self.fc2, self.lif2 = (
            linear(np.ones((2, 3)) / 2),
            Leaky(0.9),
            linear(np.eye(2)),
            Leaky(0.8),
        )

    def forward(self, images):
        first, second, outputs = torch.zeros(len(images), 2), torch.zeros(len(images), 2), []
        for _ in range(T):
            spikes, first = self.lif1(self.fc1(images), first)
            spikes, second = self.lif2(self.fc2(spikes), second)
            outputs.append(spikes)
        return torch.stack(outputs)


def test_neurons_that_take_and_return_their_membranes():
    images = torch.rand(IMAGES, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    found = account(WithMembranes().eval(), images)
    (layer,) = found.layers
    current, membrane, spikes = images.double().numpy().sum(1) / 2, 0.0, []
    for _ in range(T):
        membrane = 0.9 * membrane + current - (membrane > 1)
        spikes.append(membrane > 1)
    assert (layer.name, layer.T, layer.macs) == ("fc2", T, 4)
    assert layer.firing_rate == pytest.approx(np.mean(spikes))
    assert any("lif1" in note for note in found.notes)
    assert not found.totals.real_operations


def test_integer_weights_are_recognized_and_given_ones_taken():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 6, bias=False)).eval()
    whole = torch.randint(-7, 8, (4, 8)).float()
    whole[:, 0] = 7
    network[0].weight = nn.Parameter(whole * torch.rand(4, 1))
    spikes = random_spikes(IMAGES, 8)
    found = account(network, spikes)
    assert found.layers[0].weight_bits == 4
    assert found.layers[0].weight_bytes == 16
    assert account(nn.Sequential(nn.Linear(8, 4)).eval(), spikes).layers[0].weight_bits == 32
    assert account(network, spikes, weight_bits=5).layers[0].weight_bits == 5


def test_hardware_is_a_name_or_a_profile():
    network, spikes = InALoop().eval(), random_spikes(T, IMAGES, 3)
    named = account(network, spikes, batch_dim=1, hardware="cmos45")
    assert named == account(network, spikes, batch_dim=1, hardware=load_profile("cmos45"))
    with pytest.raises(snnconvert.InputError, match="no hardware profile"):
        account(network, spikes, batch_dim=1, hardware="cmos46")


def test_json_says_everything(tmp_path):
    found = account(Encoded().eval(), torch.rand(2, 3) + 0.1234)
    found.to_json(tmp_path / "account.json")
    read = json.loads((tmp_path / "account.json").read_text())
    assert next(iter(read)) == "schema"
    assert read["schema"] == "snnconvert.account/1"
    assert NetworkAccount.from_dict(read) == found
    with pytest.raises(snnconvert.ArtifactError, match="schema"):
        NetworkAccount.from_dict({**read, "schema": "snnconvert.account/2"})
    del read["layers"]
    with pytest.raises(snnconvert.ArtifactError, match="incomplete"):
        NetworkAccount.from_dict(read)


def test_text_names_every_layer():
    found = account(Encoded().eval(), torch.rand(2, 3) + 0.1234)
    text = str(found)
    for name in ("last", "image", "reads real numbers before any synapse", "S-ACE", "note"):
        assert name in text


@pytest.mark.parametrize(("values", "bits", "levels"), [((-1, 0, 1), 2, 2 * 6 + 1), ((-4, 3, 1), 3, 7 * 6 + 1)])
def test_signed_spikes_take_a_bit_for_their_sign(values, bits, levels):
    choice = torch.randint(0, 3, (T, IMAGES, 3), generator=torch.Generator().manual_seed(0))
    spikes = torch.tensor(values)[choice] * 0.2
    layer = account(InALoop().eval(), spikes, batch_dim=1).layers[0]
    assert (layer.spike_bits, layer.levels) == (bits, levels)
    assert layer.firing_rate == pytest.approx(float((spikes != 0).float().mean()))
    ones = sum(bin(abs(values[index])).count("1") for index in choice.flatten().tolist())
    assert layer.accumulates == pytest.approx(layer.macs * ones / (IMAGES * 3))
