"""Rounding by second moments against exhaustive search, least squares and loops over samples."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_cases import mostly_slow
from torch import fx, nn

import snnconvert
from snnconvert.calibration.reference import Reference
from snnconvert.calibration.weights.gptq import MomentSums, best_strength, rounded
from snnconvert.calibration.weights.patches import patches
from snnconvert.errors import ConfigurationError
from snnconvert.neurons.synapse import ConvGeometry


def moments_of(x, e, parts=1):
    sums = MomentSums(x.shape[0], x.shape[1], e.shape[1], x.device)
    for xs, es in zip(x.tensor_split(parts, -1), e.tensor_split(parts, -1), strict=True):
        sums.update(xs, es)
    return sums.moments()


def correlated(groups, inputs, outputs, positions, seed, error=0.0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(groups, inputs, inputs, generator=generator)
    x = (mixing @ torch.rand(groups, inputs, positions, generator=generator)).relu() * 20
    weight = torch.randn(groups, outputs, inputs, generator=generator, dtype=torch.float64) * 1.5
    e = error * torch.randn(groups, outputs, inputs, generator=generator) @ x
    return x.round(), weight, e


def widths(weight, bits):
    return torch.full(weight.shape[:2], bits)


def allowed(bits):
    """The integers of a width, counted up."""
    return {1: [-1, 1], 2: [-1, 0, 1], 3: [-3, -2, -1, 0, 1, 2, 3], 4: list(range(-7, 8))}[bits]


def loss(change, x, e):
    """E‖e − change·x‖² about the means, by a pass over all positions."""
    left = e.double() - change @ x.double()
    return (left - left.mean(-1, keepdim=True)).square().mean(-1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 4), st.integers(2, 60), st.integers(0, 999))
def test_integers_are_in_range_and_never_worse_than_the_nearest(groups, inputs, outputs, positions, seed):
    x, weight, e = correlated(groups, inputs, outputs, positions, seed, error=0.1)
    for bits in (1, 2, 3, 4):
        result = rounded(weight, moments_of(x, e), widths(weight, bits))
        integers = torch.tensor(allowed(bits), dtype=torch.float64)
        assert torch.isin(result, integers).all()
        nearest = integers[(weight[..., None] - integers).abs().argmin(-1)]
        assert (loss(result - weight, x, e) <= loss(nearest - weight, x, e) * (1 + 1e-4) + 1e-6).all()


@pytest.mark.parametrize("bits", [1, 2])
def test_close_to_the_best_of_all_integers(bits):
    """Against exhaustive search over 2^5 or 3^5 vectors: most of the way from the nearest to the best."""
    gained = possible = 0.0
    for seed in range(30):
        x, weight, e = correlated(1, 5, 1, 400, seed)
        weight = weight.clamp(-1.4, 1.4)
        vectors = torch.tensor(list(itertools.product(allowed(bits), repeat=5)), dtype=torch.float64)
        best = loss((vectors - weight[0])[None], x, e.expand(1, len(vectors), -1)).min()
        nearest = loss(weight.sign() - weight if bits == 1 else weight.round() - weight, x, e).sum()
        found = loss(rounded(weight, moments_of(x, e), widths(weight, bits)) - weight, x, e).sum()
        assert best <= found * (1 + 1e-9)
        gained, possible = gained + float(nearest - found), possible + float(nearest - best)
    assert gained > 0.8 * possible


def test_what_layers_before_lost_is_taken_back():
    """On a fine grid the result is the least-squares solution for the shifted target."""
    x, weight, _ = correlated(1, 6, 3, 5000, 0)
    x = x + torch.randint(0, 40, x.shape, generator=torch.Generator().manual_seed(1))
    change = torch.randn(1, 3, 6, dtype=torch.float64)
    result = rounded(weight * 1000, moments_of(x, (1000 * change @ x.double()).float()), widths(weight, 22))
    assert torch.allclose(result / 1000, weight + change, atol=0.1)
    assert not torch.allclose(result / 1000, weight, atol=0.1)


def test_parts_and_groups_are_the_whole():
    x, weight, e = correlated(3, 6, 4, 90, 5, error=0.2)
    bits = torch.tensor([[1, 2, 3, 4], [3, 3, 3, 3], [8, 1, 1, 2]])
    whole = rounded(weight, moments_of(x, e), bits)
    assert torch.equal(whole, rounded(weight, moments_of(x, e, parts=7), bits))
    for group in range(3):
        one = slice(group, group + 1)
        assert torch.equal(whole[one], rounded(weight[one], moments_of(x[one], e[one]), bits[one]))
    for channel in range(4):
        same = rounded(weight, moments_of(x, e), bits[:, channel, None].expand(3, 4))
        assert torch.equal(whole[:, channel], same[:, channel])


def test_channels_without_weights_stay_so():
    x, weight, e = correlated(1, 6, 4, 90, 5, error=0.2)
    weight[0, 2] = 0
    for bits in (1, 2, 4):
        result = rounded(weight, moments_of(x, e), widths(weight, bits))
        assert not result[0, 2].any()
        assert result[0, [0, 1, 3]].any(-1).all()


def test_inputs_that_never_change_teach_nothing():
    weight = torch.randn(1, 3, 4, dtype=torch.float64)
    x = torch.ones(1, 4, 50)
    assert torch.equal(
        rounded(weight, moments_of(x, torch.zeros(1, 3, 50)), widths(weight, 3)), weight.round().clamp(-3, 3)
    )


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 6, 3, 2, 1, 2, groups=2), (4, 17)),
        (nn.Conv2d(4, 8, (3, 2), (2, 1), (1, 2), (1, 3), groups=4), (4, 9, 11)),
        (nn.Conv2d(3, 5, 1), (3, 4, 4)),
        (nn.Conv3d(2, 4, (1, 3, 2), (1, 2, 1), (0, 1, 1)), (2, 3, 7, 5)),
        (nn.Linear(7, 5), (3, 7)),
    ],
)
def test_weights_times_patches_is_the_layer(layer, shape):
    torch.manual_seed(0)
    words = torch.randint(-9, 9, (4, *shape)).float()
    weight = torch.randint(-5, 5, layer.weight.shape).float()
    if isinstance(layer, nn.Linear):
        result = weight @ patches(words, (), None)
        assert torch.equal(result[0].T.reshape(4, *shape[:-1], -1), F.linear(words, weight))
        return
    geometry = ConvGeometry(layer.stride, layer.padding, layer.dilation, layer.groups)
    x = patches(words, tuple(weight.shape[2:]), geometry)
    result = weight.view(layer.groups, -1, x.shape[1]) @ x
    expected = layer._conv_forward(words, weight, None)
    assert torch.equal(result.reshape(len(weight), -1), expected.movedim(1, 0).flatten(1))


def test_the_reference_advances_in_order():
    graph = fx.symbolic_trace(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    x = torch.randn(5, 3)
    reference = Reference(graph, [x])
    hidden = reference.value_of("_1")
    assert torch.equal(hidden, graph.get_submodule("0")(x).relu())
    with pytest.raises(ValueError, match="_0 is no node behind"):
        reference.value_of("_0")
    again = Reference(graph, [x])
    again.value_of("_0")
    assert torch.equal(again.result(), graph(x))


class Mixed(nn.Module):
    """Grouped, depthwise, transposed and one-dimensional layers, a product, a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.group, self.up = nn.Conv2d(16, 16, 3, stride=2, groups=4), nn.ConvTranspose2d(16, 16, 2, stride=2)
        self.gate, self.line, self.head = nn.Conv2d(16, 16, 1), nn.Conv1d(16, 16, 3), nn.Linear(16, 10)
        for parameter in self.parameters():
            (nn.init.zeros_ if parameter.dim() == 1 else nn.init.kaiming_normal_)(parameter)

    def forward(self, x):
        x = F.relu(self.deep(F.relu(self.stem(x))))
        x = F.relu(self.up(F.relu(self.group(x))))
        x = torch.sigmoid(self.gate(x)) * x
        return self.head(F.relu(self.line(x.flatten(2))).mean(2))


def decibels(expected, actual):
    return float(10 * torch.log10(expected.square().sum() / (expected - actual).square().sum()))


def smooth(count, seed):
    noise = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, (12, 12), mode="bicubic", align_corners=False)


WIDTHS = [((1, 4, 4),), ((1, 4, 4), (1, 3, 4), (2, 4, 3))]


@pytest.mark.parametrize("widths", mostly_slow(WIDTHS, keep=1, as_one=True))
def test_networks_gain_at_few_bits_and_stay_exact(widths, tmp_path):
    torch.manual_seed(0)
    net, images, others = Mixed().eval(), smooth(96, 0), smooth(64, 1)
    gains = []
    for bits, T, weight_bits in widths:
        config = {"bits": bits, "T": T, "weight_bits": weight_bits}
        quality = {}
        for method in ("nearest", "gptq"):
            settings = snnconvert.ConversionConfig(**config, weight_rounding=method)
            snn = snnconvert.convert(net, images, settings, progress=False)
            with torch.no_grad():
                quality[method] = decibels(net(others), snn(others))
                assert torch.equal(snn.simulate(others[:4]).output, snn(others[:4]))
        gains.append(quality["gptq"] - quality["nearest"])
        snn.save(tmp_path / f"{weight_bits}-{T}")
        assert torch.equal(snnconvert.load(tmp_path / f"{weight_bits}-{T}")(others), snn(others))
        assert max(synapse.weight.abs().max() for _, synapse in snn.synapses()) <= 127
    assert min(gains) > 0
    assert sum(gains) / len(gains) > 2


@pytest.mark.parametrize(
    "settings", mostly_slow([{}, {"weight_rounding": "gptq"}, {"reconstruction_steps": 5}], keep=1)
)
def test_networks_of_one_weight_bit_hold_ones_and_stay_exact(tmp_path, settings):
    torch.manual_seed(0)
    net, images = Mixed().eval(), smooth(40, 0)
    config = snnconvert.ConversionConfig(bits=2, T=4, weight_bits=1, first_last_weight_bits=1, **settings)
    snn = snnconvert.convert(net, images, config, progress=False)
    for _, synapse in snn.synapses():
        assert torch.equal(synapse.weight.abs(), torch.ones_like(synapse.weight))
    assert torch.equal(snn.simulate(images[:4]).output, snn(images[:4]))
    assert {layer.weight_bits for layer in snn.report.layers if layer.op != "mul"} == {1}
    snn.save(tmp_path / "out")
    assert torch.equal(snnconvert.load(tmp_path / "out")(images), snn(images))


def test_the_order_of_the_images_changes_nothing():
    torch.manual_seed(0)
    net, images = Mixed().eval(), smooth(24, 0)
    config = snnconvert.ConversionConfig(weight_bits=4, weight_rounding="gptq")
    one = snnconvert.convert(net, images, config, progress=False)
    other = snnconvert.convert(net, images.flip(0).split(5), config, progress=False)
    assert torch.equal(one(images), other(images))


def test_rate_codes_keep_the_nearest_integers_and_say_so():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    config = snnconvert.ConversionConfig(neuron="if", bits=1, T=8, weight_rounding="gptq")
    snn = snnconvert.convert(net, smooth(8, 0), config, progress=False)
    assert any("gptq needs packed neurons" in note for note in snn.report.notes)


def test_unknown_methods_are_refused():
    with pytest.raises(ConfigurationError, match="weight_rounding must be one of nearest, gptq, got 'best'"):
        snnconvert.ConversionConfig(weight_rounding="best")


def test_the_ridge_is_what_holds_on_images_not_seen():
    """Few samples of pure noise teach nothing, many of a real error teach all of it."""
    random = torch.Generator().manual_seed(5)
    weight = torch.randn(1, 4, 40, generator=random, dtype=torch.float64)
    lost = 3 * torch.randn(1, 4, 40, generator=random)
    few = [torch.randn(1, 40, 30, generator=random) for _ in range(2)]
    many = [torch.randn(1, 40, 3000, generator=random) for _ in range(2)]
    noise = [moments_of(x, torch.randn(1, 4, x.shape[-1], generator=random)) for x in few]
    signal = [moments_of(10 * x, 10 * lost @ x) for x in many]
    assert best_strength(*noise) >= 64
    assert best_strength(*signal) == 1
    without = rounded(weight * 20, noise[0], widths(weight, 8), math.inf)
    assert (without - weight * 20).abs().max() < 3  # rounded, but not moved
