"""Widths per channel against exhaustive search, what a layer really gives, and hooks on the module."""

import itertools
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.calibration.weights import channel_widths
from snnconvert.calibration.weights.channel_widths import best_widths, width_errors
from snnconvert.calibration.weights.input_variances import input_variances
from snnconvert.convert.weights import natural_scale, quantize
from snnconvert.preparation import prepare
from snnconvert.weight_widths import met_by_weights


def total(errors, widths):
    return float(sum(row[bits - 1] for row, bits in zip(errors, widths, strict=True)))


def smallest(errors, mean):
    """The least error of all widths that keep the mean, by trying each."""
    every = itertools.product(range(1, 9), repeat=len(errors))
    return min(total(errors, widths) for widths in every if sum(widths) <= mean * len(errors))


def tables(seed, channels, *, convex):
    """Errors at 1..8 bits; convex ones fall by less and less."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.rand(channels, 7, generator=generator, dtype=torch.float64) ** 3
    if convex:
        steps = steps.sort(1, descending=True).values
    falling = steps.flip(1).cumsum(1).flip(1)
    return torch.cat([falling, torch.zeros(channels, 1, dtype=torch.float64)], 1)


@pytest.fixture(params=["exact", "marginal"])
def most_groups(request, monkeypatch):
    monkeypatch.setattr(channel_widths, "_MOST_GROUPS", 0 if request.param == "marginal" else 512)
    return request.param


SHARED_FIXTURE = [HealthCheck.function_scoped_fixture]


@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 8))
@settings(max_examples=40, deadline=None, suppress_health_check=SHARED_FIXTURE)
def test_convex_errors_are_minimized(most_groups, seed, channels, mean):
    errors = tables(seed, channels, convex=True)
    widths = best_widths(errors, mean).tolist()
    assert sum(widths) <= mean * channels
    assert total(errors, widths) == pytest.approx(smallest(errors, mean), rel=1e-9, abs=1e-12)


@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 8), st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=SHARED_FIXTURE)
def test_any_errors_are_minimized_and_come_within_one_step(most_groups, seed, channels, mean, rising):
    errors = tables(seed, channels, convex=False)
    if rising:
        errors = errors[:, torch.randperm(8, generator=torch.Generator().manual_seed(seed))]
    widths = best_widths(errors, mean).tolist()
    if most_groups == "exact":
        assert total(errors, widths) == pytest.approx(smallest(errors, mean), rel=1e-9, abs=1e-12)
    least, step = smallest(errors, mean), float((errors[:, 0] - errors.amin(1)).max())
    assert sum(widths) <= mean * channels
    assert all(1 <= bits <= 8 for bits in widths)
    assert least - 1e-12 <= total(errors, widths) <= least + step + 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_a_small_layer_gets_the_best_of_all_widths(seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 30, generator=generator) * torch.tensor([[4.0], [1.0], [0.5], [0.1]])
    errors = width_errors(weight, torch.zeros(4), torch.rand(30, generator=generator).double())
    for mean in (2, 3, 5):
        widths = best_widths(errors, mean)
        assert total(errors, widths.tolist()) == pytest.approx(smallest(errors, mean), rel=1e-9)
        assert int(widths[0]) > int(widths[3])
        assert total(errors, widths.tolist()) < 0.9 * float(errors[:, mean - 1].sum())


def test_large_layers_come_close_to_the_exact_widths(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(200, 9, generator=generator) * torch.rand(200, 1, generator=generator)
    errors = width_errors(weight, torch.zeros(200), torch.ones(9).double())
    exact = total(errors, best_widths(errors, 3).tolist())
    monkeypatch.setattr(channel_widths, "_MOST_GROUPS", 0)
    assert exact <= total(errors, best_widths(errors, 3).tolist()) <= 1.01 * exact


def test_channels_that_are_the_same_at_any_width_get_one_bit():
    weight = torch.tensor([[0.5, -0.5, 0.5], [0.0, 0.0, 0.0], [0.3, -0.1, 0.8]])
    errors = width_errors(weight, torch.zeros(3), torch.ones(3).double())
    assert best_widths(errors, 3).tolist() == [1, 1, 7]
    assert best_widths(errors, 8)[2] == 8


def test_errors_are_those_of_the_output():
    """Over all sign patterns inputs are uncorrelated, and their variances known."""
    generator = torch.Generator().manual_seed(0)
    weight, spread = torch.randn(3, 6, generator=generator), torch.rand(6, generator=generator)
    inputs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=6))) * spread + 5
    found = width_errors(weight, torch.zeros(3), spread.double() ** 2)
    for bits in range(1, 9):
        scale = natural_scale(weight, torch.zeros(3), bits)
        real = quantize(weight, scale, bits).double() * scale[:, None]
        lost = F.linear(inputs.double(), weight.double() - real)
        assert torch.allclose(found[:, bits - 1], lost.var(0, unbiased=False), rtol=1e-5)


def test_weights_meet_the_inputs_of_their_group():
    weight = torch.zeros(6, 2, 3, 3)
    met = met_by_weights(torch.arange(4.0), weight, 2)
    assert met.shape == (6, 2, 1, 1)
    assert met.flatten(1).tolist() == [[0.0, 1.0]] * 3 + [[2.0, 3.0]] * 3


class Mixed(nn.Module):
    """A convolution, a grouped, a transposed and a one-dimensional one, and a linear layer over tokens."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.group = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 16, 3, stride=2, groups=4)
        self.up, self.line = nn.ConvTranspose2d(16, 12, 2, stride=2, groups=2), nn.Conv1d(12, 16, 3)
        self.mix, self.head = nn.Linear(16, 16), nn.Linear(16, 10)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter)
                parameter.data *= torch.logspace(-1, 0, len(parameter)).view(-1, *[1] * (parameter.dim() - 1))
        self.eval()

    def forward(self, x):
        x = F.relu(self.up(F.relu(self.group(F.relu(self.stem(x))))))
        x = F.relu(self.line(x.flatten(2))).mT
        return self.head(F.relu(self.mix(x)).mean(1))


def images(count, seed=0):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_variances_of_inputs_are_those_hooks_see():
    net, sample = Mixed(), images(8)
    prepared = prepare(net, sample[:2], snnconvert.ConversionConfig())
    seen = {}
    for name, layer in net.named_children():
        layer.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    with torch.no_grad():
        net(sample)
    layers = {item.node: item.layer for item in prepared.plan.synapses}
    found = input_variances(prepared.graph, layers, [sample])
    assert sorted(layers.values()) == sorted(seen)
    for node, variances in found.items():
        values = seen[layers[node]].double()
        values = values if layers[node] in ("mix", "head") else values.movedim(1, -1)
        assert torch.allclose(variances, values.flatten(0, -2).var(0, unbiased=False), rtol=1e-4)


@pytest.mark.parametrize(
    "settings", mostly_slow([{}, {"weight_rounding": "gptq"}, {"reconstruction_steps": 3}], keep=[{}])
)
def test_a_network_keeps_its_widths_and_stays_exact(tmp_path, settings):
    net, sample = Mixed(), images(24)
    config = snnconvert.ConversionConfig(weight_bits=3, weight_granularity="channel", **settings)
    snn = snnconvert.convert(net, sample, config, progress=False)
    layers = {layer.name: layer for layer in snn.report.layers}
    for name, synapse in snn.synapses():
        widths, integers = synapse.widths, synapse.weight.flatten(1)
        if name in ("stem", "head"):
            assert widths.tolist() == [8] * len(widths)
            continue
        assert 2.8 < float(widths.double().mean()) <= 3
        assert len(set(widths.tolist())) > 1
        for bits, row in zip(widths.tolist(), integers, strict=True):
            assert row.abs().max() <= max(2 ** (bits - 1) - 1, 1)
            assert bits > 1 or row.abs().min() == 1
        assert layers[name].weight_bits == float(widths.double().mean())
        assert layers[name].bit_budget == 8 * layers[name].weight_bits
    chosen = Counter(torch.cat([s.widths for name, s in snn.synapses() if name not in ("stem", "head")]).tolist())
    listed = ", ".join(f"{count} of {bits}" for bits, count in sorted(chosen.items()))
    assert f"weight bits of 60 output channels in 4 layers: {listed}" in snn.report.notes
    bits = sum(int(synapse.widths.sum()) * synapse.weight[0].numel() for _, synapse in snn.synapses())
    assert snn.report.totals.weight_bytes == -(-bits // 8)
    assert torch.equal(snn.simulate(sample[:4]).output, snn(sample[:4]))
    snn.save(tmp_path / "out")
    loaded = snnconvert.load(tmp_path / "out")
    assert torch.equal(loaded(sample), snn(sample))
    assert loaded.report == snn.report
    for (_, one), (_, other) in zip(loaded.synapses(), snn.synapses(), strict=True):
        assert torch.equal(one.widths, other.widths)


def test_widths_per_channel_bring_the_output_closer():
    net, sample, unseen = Mixed(), images(64), images(64, 1)
    errors = []
    for granularity in ("layer", "channel"):
        config = snnconvert.ConversionConfig(bits=4, T=2, weight_bits=3, weight_granularity=granularity)
        snn = snnconvert.convert(net, sample, config, progress=False)
        again = snnconvert.convert(net, sample.flip(0).split(7), config, progress=False)
        with torch.no_grad():
            errors.append(float((snn(unseen) - net(unseen)).square().sum()))
            assert torch.equal(snn(unseen), again(unseen))
    assert errors[1] < 0.8 * errors[0]
