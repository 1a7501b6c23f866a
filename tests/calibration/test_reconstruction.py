"""Reconstruction: its differentiable forms, its blocks, and what training them is worth."""

import dataclasses

import pytest
import torch
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.calibration.reconstruction.blocks import find_blocks
from snnconvert.calibration.reconstruction.reconstruct import learn_weights
from snnconvert.calibration.reconstruction.runner import BlockRunner
from snnconvert.calibration.reconstruction.soft import SoftSynapse, soft_fire
from snnconvert.calibration.reconstruction.trainer import Schedule
from snnconvert.data.images import digits_images
from snnconvert.models.source import load_model
from snnconvert.neurons.logarithmic import LogarithmicCode
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.synapse import Synapse
from snnconvert.preparation import prepare


class Residual(nn.Module):
    """Three convolutions with a shortcut around the last two, ReLU or what else is given."""

    def __init__(self, activation=nn.ReLU):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.first, self.second = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 12, 3, padding=1), nn.Conv2d(12, 12, 1)
        self.act, self.head = activation(), nn.Linear(12, 7)
        self.eval()

    def forward(self, x):
        x = self.act(self.stem(x))
        x = self.act(self.second(self.act(self.first(x))) + x)
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.qkv, self.out, self.head = (
            nn.LayerNorm(16),
            nn.Linear(16, 48),
            nn.Linear(16, 16),
            nn.Linear(16, 5),
        )
        self.eval()

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out((q @ k.transpose(-2, -1) / 4).softmax(-1) @ v)
        return self.head(x.mean(1))


class SharedHead(nn.Module):
    """One convolution for both of its inputs, as in the heads of detectors."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tower, self.head = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 5, 1)
        self.eval()

    def forward(self, fine, coarse):
        first, second = (self.head(torch.relu(self.tower(level))) for level in (fine, coarse))
        return first, second


def images(count, seed=0, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def tokens(count, seed=0):
    return torch.randn(count, 6, 16, generator=torch.Generator().manual_seed(seed))


def converted(net, sample, **settings):
    snn = snnconvert.convert(net, sample, snnconvert.ConversionConfig(**settings), progress=False)
    prepared = prepare(net, sample[:2], snn.config)
    return snn, {node.name: node for node in prepared.graph.graph.nodes}, prepared.plan


def soft_of(network, block, inputs):
    spreads = BlockRunner(network).spreads(block, inputs)
    return {
        name: SoftSynapse(network.get_submodule(name), network.get_submodule(name).weight, spreads[name])
        for name in block.synapses
    }


def sqnr(net, snn, x):
    with torch.no_grad():
        expected = net(x)
        return float(10 * torch.log10(expected.var() / (expected - snn(x)).square().mean()))


@pytest.mark.parametrize(
    ("net", "sample"),
    mostly_slow([(Residual(), images(8)), (Residual(nn.LeakyReLU), images(8)), (Attention(), tokens(8))], keep=1),
)
def test_blocks_hold_every_synapse_once_and_run_like_the_network(net, sample):
    snn, sources, _ = converted(net, sample, bits=1, T=3, weight_bits=4)
    blocks = find_blocks(snn.network, sources)
    assert len(blocks) > 1
    synapses = [name for block in blocks for name in block.synapses]
    assert sorted(synapses) == sorted(
        name for name, module in snn.network.named_modules() if isinstance(module, Synapse)
    )
    runner, soft_runner = BlockRunner(snn.network), BlockRunner(snn.network)
    values = {node: sample for node in snn.network.graph.nodes if node.op == "placeholder"}
    with torch.no_grad():
        for block in blocks:
            hard = runner.run_block(block, values)
            soft = soft_runner.run_block(block, values, soft_of(snn.network, block, values))
            for node, value in hard.items():
                torch.testing.assert_close(soft[node].float(), torch.as_tensor(value).float(), rtol=1e-5, atol=1e-3)
            values = {node: values.get(node, hard.get(node)) for node in block.outputs}
        (last,) = values.values()
    assert torch.equal(last, snn.network(sample))


def test_every_potential_that_rounds_to_a_word_gets_a_gradient():
    neuron = SpikingNeuron(PackedCode(1, 2), torch.tensor(0.5), torch.tensor(1.0))
    potential = torch.linspace(-4, 10, 1401, requires_grad=True)
    fired = soft_fire(neuron, potential)
    fired.sum().backward()
    steps = potential.detach() * 0.5
    assert torch.allclose(fired.detach(), neuron(potential.detach()))
    inside = (steps > -0.5) & (steps < 3.5)
    assert torch.equal(potential.grad[inside], torch.full_like(steps[inside], 0.5))
    assert not potential.grad[(steps < -0.5) | (steps > 3.5)].any()


def test_neurons_that_do_not_round_still_saturate():
    neuron = SpikingNeuron(PackedCode(1, 2), torch.tensor(0.5), torch.tensor(1.0))
    potential = torch.linspace(-4, 10, 1401)
    rounds = torch.arange(1401) % 3 == 0
    fired = soft_fire(neuron, potential, rounds.float())
    assert torch.allclose(fired, torch.where(rounds, neuron(potential), (potential * 0.5).clamp(0, 3)))


@pytest.mark.parametrize(
    ("count", "steps", "gain"), [(64, 20, 1.5), pytest.param(256, 60, 3.0, marks=pytest.mark.slow)]
)
def test_training_brings_the_network_closer_on_images_it_has_not_seen(count, steps, gain):
    loaded = load_model("digits")
    drawn = digits_images(loaded.preprocessing, calibration_images=count, evaluation_images=200, seed=0)
    sample, unseen = (torch.stack([image for image, _ in part]) for part in (drawn.calibration, drawn.evaluation))
    settings = {"bits": 1, "T": 4, "weight_bits": 2}
    before, *_ = converted(loaded.module, sample, **settings)
    after, *_ = converted(loaded.module, sample, **settings, reconstruction_steps=steps)
    with torch.no_grad():  # as many a user's script is
        again, *_ = converted(loaded.module, sample.flip(0), **settings, reconstruction_steps=steps)
    assert sqnr(loaded.module, after, unseen) > sqnr(loaded.module, before, unseen) + gain
    assert any(f"weights trained block by block on {count} images" in note for note in after.report.notes)
    state, repeated = after.state_dict(), again.state_dict()
    assert all(torch.equal(value, repeated[name]) for name, value in state.items())
    assert torch.equal(after(unseen), after.simulate(unseen).output)
    assert after.report.totals.bit_budget == before.report.totals.bit_budget


def test_networks_of_several_inputs_are_trained():
    net = SharedHead()
    calls, unseen = ([images(32, seed), images(32, seed + 1, size=4)] for seed in (0, 2))
    config = snnconvert.ConversionConfig(bits=1, T=4, weight_bits=2, first_last_weight_bits=2)
    trained = dataclasses.replace(config, reconstruction_steps=40)
    noise = []
    for settings in (config, trained):
        snn = snnconvert.convert(net, [snnconvert.Inputs(*calls)], settings, progress=False)
        with torch.no_grad():
            pairs = zip(net(*unseen), snn(*unseen), strict=True)
            noise.append([float((one - other).square().mean()) for one, other in pairs])
    assert all(after < before for before, after in zip(*noise, strict=True))


def test_a_step_may_take_as_many_samples_as_it_likes():
    """The sizes a network computes from its batch are those of the samples of a step."""
    torch.manual_seed(0)
    pooled = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    net = nn.Sequential(*pooled, nn.Linear(32, 9), nn.ReLU(), nn.Linear(9, 4)).eval()
    sample = images(50)
    for batch in (5, 32, 64):
        snn, *_ = converted(net, sample, bits=1, T=4, weight_bits=3)
        ann = prepare(net, sample[:2], snn.config).graph
        schedule = Schedule(steps=4, batch=batch)
        learn_weights(ann, snn.network, lambda _, synapse: synapse.weight.float(), [sample], 50, schedule, 0)
        assert torch.equal(snn(sample), snn.simulate(sample).output)


class Pyramid(nn.Module):
    """Two levels and a head for the sum of both, as in detectors; any height and width."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.down, self.top, self.side, self.tower, self.head = (
            nn.Conv2d(3, 12, 3, padding=1),
            nn.Conv2d(12, 12, 3, stride=2, padding=1),
            nn.Conv2d(12, 10, 1),
            nn.Conv2d(12, 10, 1),
            nn.Conv2d(10, 12, 3, padding=1),
            nn.Conv2d(12, 5, 1),
        )
        self.eval()

    def forward(self, x):
        fine = torch.relu(self.stem(x))
        coarse = self.top(torch.relu(self.down(fine)))
        both = self.side(fine) + nn.functional.interpolate(coarse, size=fine.shape[2:], mode="nearest")
        return self.head(torch.relu(self.tower(both))).permute(0, 2, 3, 1).flatten(1, 2)


class Detector(nn.Module):
    """A network with a part whose inputs' heights and widths are dynamic."""

    def __init__(self):
        super().__init__()
        self.body = Pyramid()

    def forward(self, x):
        return self.body(x)


@pytest.mark.slow
def test_parts_of_dynamic_sizes_are_cut_into_the_same_blocks_and_trained():
    net, sample, unseen = Detector(), images(48), images(32, seed=1, size=12)
    settings = {"bits": 2, "T": 3, "weight_bits": 2, "first_last_weight_bits": 2}
    hybrids = {}
    for steps in (0, 100):
        config = snnconvert.ConversionConfig(**settings, reconstruction_steps=steps)
        hybrids[steps] = snnconvert.convert_parts(net, sample.split(16), ("body",), config, progress=False)
    assert sqnr(net, hybrids[100], unseen) > sqnr(net, hybrids[0], unseen) + 0.5
    body = hybrids[100].parts["body"]
    assert body.input_shape == (3, None, None)
    assert any("trained block by block" in note for note in body.report.notes)
    fixed, sources, _ = converted(net.body, sample, **settings)
    dynamic = prepare(net.body, sample[:2], body.config, sizes="dynamic").graph.graph.nodes
    cut = [
        [block.synapses for block in find_blocks(network, {node.name: node for node in nodes})]
        for network, nodes in ((fixed.network, sources.values()), (body.network, dynamic))
    ]
    assert cut[0] == cut[1]
    assert len(cut[0]) > 2


def test_tensors_that_fold_other_sizes_into_their_first_are_no_border():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second, self.head = nn.Linear(4, 12), nn.Linear(12, 12), nn.Linear(12, 5)
            self.eval()

        def forward(self, x):
            x = self.first(x.flatten(0, 1))
            return self.head(torch.relu(self.second(torch.relu(x)))).unflatten(0, (-1, 6))

    net, sample = Windows(), torch.randn(32, 6, 4, generator=torch.Generator().manual_seed(0))
    settings = {"bits": 1, "T": 4, "weight_bits": 2, "first_last_weight_bits": 2}
    trained, sources, _ = converted(net, sample, **settings, reconstruction_steps=100)
    plain, *_ = converted(net, sample, **settings)
    (block,) = [block for block in find_blocks(trained.network, sources) if block.synapses]
    assert len(block.synapses) == 3
    assert sqnr(net, trained, sample) > sqnr(net, plain, sample)


def test_weights_of_one_bit_move_between_minus_one_and_one():
    bits = torch.tensor([1, 1, 2, 3])
    weight = torch.tensor([[-1, 1, 1], [0, 0, 0], [-1, 0, 1], [-3, 0, 2]])
    ones = torch.ones(4)
    synapse = Synapse(weight, ones, ones, ones, geometry=None, weight_bits=2, channel_bits=bits, word_range=(0, 3))
    real = torch.tensor([[-0.4, 0.2, 1.7], [0.0, 0.0, 0.0], [-0.6, 0.4, 3.0], [-2.6, 0.5, 2.2]])
    soft = SoftSynapse(synapse, real, ones)
    words, largest = torch.eye(3), torch.tensor([[1.0], [1.0], [1.0], [3.0]])
    assert torch.allclose(soft(words) - 1, real.clamp(-largest, largest).T, atol=1e-6)
    with torch.no_grad():
        soft.position.fill_(9.0)
    assert torch.equal(soft(words).round() - 1, torch.tensor([[1, 1, 1], [0, 0, 0], [0, 1, 1], [-2, 1, 3]]).T)
    with torch.no_grad():
        soft.position.fill_(-9.0)
    soft.settle()
    assert synapse.weight.tolist() == [[-1, -1, -1], [0, 0, 0], [-1, 0, 1], [-3, 0, 2]]


def test_training_never_takes_the_outputs_further_away():
    net, sample = Residual(), images(64)
    settings = {"bits": 1, "T": 2, "weight_bits": 3, "weight_rounding": "gptq"}
    before, *_ = converted(net, sample, **settings)
    for steps in (1, 20):
        after, *_ = converted(net, sample, **settings, reconstruction_steps=steps)
        with torch.no_grad():
            errors = [(net(sample) - snn(sample)).square().sum() for snn in (before, after)]
        assert errors[1] <= errors[0]


def test_artifact_of_a_trained_network(tmp_path):
    net, sample = Residual(nn.GELU), images(40)
    snn, *_ = converted(net, sample, bits=1, T=3, weight_bits=4, reconstruction_steps=10)
    snn.save(tmp_path / "out")
    assert torch.equal(snnconvert.load(tmp_path / "out")(sample), snn(sample))
    assert torch.equal(snn(sample), snn.simulate(sample).output)


@pytest.mark.slow
def test_attention_is_trained():
    net, sample = Attention(), tokens(64)
    settings = {"bits": 1, "T": 4, "weight_bits": 3, "last_bits": 4}
    snn, *_ = converted(net, sample, **settings)
    trained, *_ = converted(net, sample, **settings, reconstruction_steps=100)
    assert sqnr(net, trained, tokens(64, 1)) > sqnr(net, snn, tokens(64, 1))
    assert torch.equal(trained(sample), trained.simulate(sample).output)


@pytest.mark.slow
def test_attention_maps_of_logarithmic_words_are_fired_while_weights_are_trained():
    net, sample = Attention(), tokens(64)
    settings = {"bits": 1, "T": 4, "weight_bits": 3, "last_bits": 4, "attention_code": "log-sqrt2"}
    snn, *_ = converted(net, sample, **settings)
    trained, *_ = converted(net, sample, **settings, reconstruction_steps=100)
    assert any(neuron.code.name == "log" for _, neuron in trained.neurons())
    assert sqnr(net, trained, tokens(64, 1)) > sqnr(net, snn, tokens(64, 1))
    assert torch.equal(trained(sample), trained.simulate(sample).output)


def test_soft_neurons_fire_the_nearest_word_of_a_table():
    neuron = SpikingNeuron(LogarithmicCode(1, 3), torch.tensor(0.5), torch.tensor(1.0))
    potential = torch.linspace(-4, 160, 501, requires_grad=True)
    fired = soft_fire(neuron, potential)
    assert torch.allclose(fired, neuron(potential.detach()))
    fired.sum().backward()
    inside = (potential.detach() > 0) & (potential.detach() < 128)
    assert bool((potential.grad[inside] > 0).all())


def test_capped_neurons_stay_below_their_cap():
    net, sample = Residual(nn.ReLU6), images(64) * 30
    snn, *_ = converted(net, sample, bits=1, T=2, weight_bits=4, reconstruction_steps=40)
    for name, neuron in snn.neurons():
        if name.startswith("act"):
            assert float(neuron.step) * neuron.ceiling <= 6.5


def test_rate_codes_are_left_as_they_are():
    settings = {"neuron": "if", "bits": 1, "T": 4}
    plain, *_ = converted(Residual(), images(16), **settings)
    asked, *_ = converted(Residual(), images(16), **settings, reconstruction_steps=5)
    assert torch.equal(plain(images(4)), asked(images(4)))
    assert any("reconstruction" in note for note in asked.report.notes)
