"""Thresholds and the worth of weights' integers, learned channel by channel with the weights."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_cases import mostly_slow
from torch import nn

import snnconvert
import snnconvert.finishing
from snnconvert.calibration.reconstruction import reconstruct
from snnconvert.calibration.reconstruction.blocks import find_blocks
from snnconvert.calibration.reconstruction.channels import channel_shapes
from snnconvert.calibration.reconstruction.reconstruct import learn_weights
from snnconvert.calibration.reconstruction.soft import SoftNeuron, SoftSynapse
from snnconvert.calibration.reconstruction.trainer import Schedule
from snnconvert.neurons.gain_grid import on_grid
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.synapse import Synapse
from snnconvert.preparation import prepare


class Residual(nn.Module):
    """A stem, a residual block of two convolutions, and a classifier."""

    def __init__(self, activation=nn.ReLU):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.first, self.second = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 12, 3, padding=1), nn.Conv2d(12, 12, 1)
        self.norm, self.act, self.head = nn.BatchNorm2d(12), activation(), nn.Linear(12, 7)
        self.eval()

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        x = self.act(self.second(self.act(self.first(x))) + x)
        return self.head(x.mean((2, 3)))


class Tokens(nn.Module):
    """Linear layers, whose channels are the last dimension."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.into, self.out = nn.Linear(16, 24), nn.Linear(24, 5)
        self.eval()

    def forward(self, x):
        return self.out(torch.nn.functional.gelu(self.into(x))).mean(1)


def images(count, seed=0):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def tokens(count):
    return torch.randn(count, 6, 16, generator=torch.Generator().manual_seed(0))


def converted(net, sample, **options):
    snn = snnconvert.convert(net, sample, snnconvert.ConversionConfig(**options), progress=False)
    prepared = prepare(net, sample[:2], snn.config)
    return snn, {node.name: node for node in prepared.graph.graph.nodes}, prepared.graph


def noise(net, snn, x):
    with torch.no_grad():
        return float((net(x) - snn(x)).square().mean())


@pytest.mark.parametrize("code", [PackedCode(1, 2), PackedCode(2, 2, offset=3)])
def test_gradients_are_those_of_neurons_that_do_not_round(code):
    generator = torch.Generator().manual_seed(0)
    potential = 12 * torch.randn(50, 3, 4, generator=generator)
    weight = torch.randn(potential.shape, generator=generator)
    gain, bias = torch.tensor([0.5, -0.3, 2.0]).view(3, 1), torch.tensor([1.0, 0.0, -2.0]).view(3, 1)
    soft = SoftNeuron(SpikingNeuron(code, gain, torch.tensor(1.0), bias), (1, 3, 1))
    (soft(potential, None) * weight).sum().backward()

    def smooth(log_factor):
        steps = (potential + bias).double().numpy() * gain.numpy() * np.exp(log_factor).reshape(1, 3, 1)
        clipped = np.clip(steps, code.minimum - 0.5, code.maximum + 0.5)
        return (clipped * weight.numpy()).sum((0, 2))

    slope = (smooth(np.full(3, 1e-6)) - smooth(np.full(3, -1e-6))) / 2e-6
    np.testing.assert_allclose(soft.log_factor.grad.flatten().numpy(), slope, rtol=1e-3, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(mantissa=st.integers(8, 15), exponent=st.integers(1, 16), factor=st.floats(0.3, 3.0), bits=st.integers(1, 8))
def test_gains_stay_on_the_grid(mantissa, exponent, factor, bits):
    neuron = SpikingNeuron(PackedCode(1, bits), torch.tensor(mantissa * 2.0**-exponent), torch.tensor(1.0))
    gain = on_grid(neuron.gain * factor, neuron.gain, neuron)
    finest = 24 - bits
    assert abs(float(gain) / (float(neuron.gain) * factor) - 1) <= 1 / 16
    numerator = float(gain) * 2.0**finest
    if float(neuron.gain) * factor >= 2.0 ** (4 - finest):
        assert numerator == round(numerator)
        largest = min(int(neuron.code.maximum / float(gain)) + 1, 1 << 24)
        potential = torch.cat([torch.arange(min(largest, 1000)), torch.arange(max(largest - 1000, 0), largest)]).float()
        assert torch.equal((potential * gain).double(), potential.double() * gain.double())


def test_gains_off_the_grid_are_left_to_float32():
    gain = torch.tensor([0.1, 0.7]).view(1, 2, 1)
    neuron = SpikingNeuron(PackedCode(1, 4), gain, torch.tensor(1.0))
    assert torch.equal(on_grid(gain * 1.3, gain, neuron), gain * 1.3)


def test_settled_neurons_fire_what_they_were_trained_to():
    potential = torch.arange(-20, 60.0).view(1, 1, -1).expand(1, 3, -1)
    neuron = SpikingNeuron(PackedCode(1, 3), torch.tensor(0.13), torch.tensor(1.0))
    before = neuron(potential)
    soft = SoftNeuron(neuron, (1, 3, 1))
    with torch.no_grad():
        soft.log_factor.copy_(torch.tensor([-0.5, 0.0, 0.4]).view(1, 3, 1))
        trained = soft(potential, None)
    soft.settle()
    assert torch.equal(neuron(potential), trained)
    assert not torch.equal(trained, before)
    soft.restore()
    assert torch.equal(neuron(potential), before)


def test_settled_synapses_scale_fine_multipliers_and_no_others():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-7, 8, (3, 10), generator=generator)
    multiplier, ones = torch.tensor([1, 40, 300]), torch.ones(3)
    synapse = Synapse(weight, 5 * ones, multiplier, ones, geometry=None, weight_bits=4, word_range=(0, 15))
    soft = SoftSynapse(synapse, weight.float(), ones)
    words = torch.randint(0, 16, (20, 10), generator=generator)
    before = synapse(words.float())
    with torch.no_grad():
        soft.log_scale.copy_(torch.tensor([1.3, 1.3, 0.9]).log())
        trained = soft(words.float())
    soft.settle()
    assert synapse.multiplier.tolist() == [1, 52, 270]
    assert torch.equal(synapse(words.float()).long(), (words @ weight.T + 5) * torch.tensor([1, 52, 270]))
    assert torch.allclose(synapse(words.float()), trained, rtol=1e-4)
    soft.restore()
    assert torch.equal(synapse(words.float()), before)


def test_neurons_learn_unless_they_fire_on_shortcuts():
    snn, sources, _ = converted(Residual(), images(8), bits=1, T=3, weight_bits=4)
    shapes = [channel_shapes(snn.network, block, sources) for block in find_blocks(snn.network, sources)]
    learned = {name: shape for found in shapes for name, shape in found.items()}
    names = ["neuron_act_relu", "neuron_act_relu_2", "neuron_act_relu_3"]
    assert learned == {**dict.fromkeys(names, (1, 12, 1, 1)), "neuron_mean": (1, 12)}
    snn, sources, _ = converted(Tokens(), tokens(8), bits=1, T=3, weight_bits=4)
    shapes = [channel_shapes(snn.network, block, sources) for block in find_blocks(snn.network, sources)]
    assert [shape for found in shapes for shape in found.values()] == [(1, 1, 24)]


@pytest.mark.parametrize("factor", mostly_slow([0.5, 2.0], keep=[2.0]))
def test_thresholds_twice_or_half_as_high_as_they_should_be_are_learned(factor):
    net, sample = Residual(), images(64)
    errors = {}
    for rate in (0.0, 3e-2):
        snn, _, ann = converted(net, sample, bits=1, T=4, weight_bits=4)
        for _, neuron in snn.neurons():
            if neuron is not next(iter(snn.neurons()))[1]:
                neuron.gain = neuron.gain * factor
        wrong = noise(net, snn, images(200, 1))
        schedule = Schedule(steps=40, scale_rate=rate)
        learn_weights(ann, snn.network, lambda _, synapse: synapse.weight.float(), [sample], 64, schedule, 0)
        errors[rate] = noise(net, snn, images(200, 1))
        assert errors[rate] <= wrong
        assert torch.equal(snn(sample), snn.simulate(sample).output)
    assert errors[3e-2] < 0.8 * errors[0.0]


@pytest.mark.parametrize(
    ("net", "sample", "options"),
    mostly_slow(
        [
            (Residual(), images(40), {"threshold_granularity": "channel"}),
            (Residual(nn.ReLU6), 20 * images(40), {"weight_rounding": "gptq"}),
            (Residual(nn.LeakyReLU), images(40), {"weight_granularity": "channel"}),
            (Tokens(), tokens(40), {}),
        ],
        keep=1,
    ),
)
def test_trained_networks_stay_exact(net, sample, options, tmp_path, monkeypatch):
    falling = itertools.count(0, -1)  # every block takes what it has learned
    monkeypatch.setattr(reconstruct, "error_of", lambda *_: float(next(falling)))
    monkeypatch.setattr(snnconvert.finishing, "output_noise", lambda *_: 0.0)
    snn, *_ = converted(net, sample, bits=1, T=3, weight_bits=3, reconstruction_steps=5, **options)
    plain, *_ = converted(net, sample, bits=1, T=3, weight_bits=3, **options)
    gains = [[neuron.gain for _, neuron in item.neurons()] for item in (snn, plain)]
    assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(*gains, strict=True))
    assert torch.equal(snn(sample), snn.simulate(sample).output)
    snn.save(tmp_path / "out")
    loaded = snnconvert.load(tmp_path / "out")
    assert torch.equal(loaded(sample), snn(sample))
    assert torch.equal(loaded.simulate(sample).output, snn(sample))


def test_sums_that_pass_float32_when_multipliers_grow_are_wide(monkeypatch):
    falling = itertools.count(0, -1)
    monkeypatch.setattr(reconstruct, "error_of", lambda *_: float(next(falling)))
    monkeypatch.setattr(snnconvert.finishing, "output_noise", lambda *_: 0.0)
    monkeypatch.setattr(SoftSynapse, "scale", lambda soft: torch.full_like(soft.log_scale, 1000.0))
    sample = images(40)
    snn, *_ = converted(Residual(), sample, bits=1, T=3, weight_bits=3, reconstruction_steps=1)
    plain, *_ = converted(Residual(), sample, bits=1, T=3, weight_bits=3)
    second, before = (item.network.get_submodule("synapse_second") for item in (snn, plain))
    assert float(second.bound().max()) > 1 << 24
    assert second.wide
    assert not before.wide
    assert torch.equal(snn(sample), snn.simulate(sample).output)


def test_capped_neurons_fire_no_more_than_their_cap(monkeypatch):
    falling = itertools.count(0, -1)
    monkeypatch.setattr(reconstruct, "error_of", lambda *_: float(next(falling)))
    monkeypatch.setattr(snnconvert.finishing, "output_noise", lambda *_: 0.0)
    net, sample = Residual(nn.ReLU6), 30 * images(40)
    snn, *_ = converted(net, sample, bits=1, T=3, weight_bits=3, reconstruction_steps=5)
    capped = [neuron for name, neuron in snn.neurons() if name.startswith("act")]
    assert len(capped) >= 3
    for neuron in capped:
        gain = neuron.gain.expand(1, 12, 1, 1)
        assert 4 < float((neuron(1e6 / gain) * neuron.step).max()) <= 6.5


@pytest.mark.slow
def test_training_that_is_taken_back_leaves_nothing(monkeypatch):
    net, sample = Residual(), images(40)
    plain, *_ = converted(net, sample, bits=1, T=3, weight_bits=3)
    figures = iter([1.0, 2.0])
    monkeypatch.setattr(snnconvert.finishing, "output_noise", lambda *_: next(figures))
    trained, *_ = converted(net, sample, bits=1, T=3, weight_bits=3, reconstruction_steps=5)
    assert any("training took the outputs away" in note for note in trained.report.notes)
    state = trained.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())


def test_blocks_that_come_no_closer_keep_all_they_had():
    net, sample = Residual(), images(40)
    snn, _, ann = converted(net, sample, bits=1, T=3, weight_bits=3)
    before = {name: value.clone() for name, value in snn.state_dict().items()}
    schedule = Schedule(steps=5, rate=50.0, bias_rate=5.0, scale_rate=5.0)
    learn_weights(ann, snn.network, lambda _, synapse: synapse.weight.float(), [sample], 40, schedule, 0)
    after = snn.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
