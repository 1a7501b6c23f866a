"""Zero points per channel: where they can be, that they change no function, that time and integers agree."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from engine_networks import Net, assert_stepwise_is_packed, captured, conv, converted, replanned, settled
from integer_oracle import Oracle
from slow_cases import mostly_slow
from torch import fx, nn

import snnconvert
from snnconvert.api import prepare
from snnconvert.conversion import collector_of
from snnconvert.convert.insert import CURRENT, insert_neurons
from snnconvert.convert.planner import make_plan
from snnconvert.convert.shifting import shiftable_sites
from snnconvert.finishing import thresholds_of
from snnconvert.neurons.threshold import Threshold

SHIFTED = {"threshold_granularity": "channel", "channel_shift": True}
ALL_OFF = {"threshold_granularity": "channel", "channel_shift": False}


def bottleneck():
    """Signed words far from zero: on a sum of currents, on a convolution's own current, and flattened."""

    def forward(n, x):
        x = n.project(F.relu6(n.stem(x)))
        y = n.back(F.relu(n.left(x) + n.right(x)))
        x = F.relu(n.last(x + y))
        return n.head(n.inner(x).flatten(1))

    return Net(
        forward, stem=conv(3, 8), project=conv(8, 6, 1), left=conv(6, 12, 1), right=conv(6, 12, 1, groups=3),
        back=conv(12, 6, 1), last=nn.Conv2d(6, 6, 3, stride=2), inner=conv(6, 4, 1), head=nn.Linear(36, 5),
    )  # fmt: skip


def normalized():
    """A LayerNorm whose biases are far larger than its scales."""
    norm = nn.LayerNorm(10)
    nn.init.normal_(norm.bias, std=20.0)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), norm, nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4))


def offset_network(build, shape, *, count=24):
    torch.manual_seed(5)
    network = build()
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.bias, std=3.0)
    images = torch.randn(count, *shape)
    network, images = settled(network, images)
    return prepare(network, images), images


def wanted_of(prepared, images, **settings):
    """The capture with settings, and the thresholds they give."""
    config = snnconvert.ConversionConfig(**settings)
    wanted = dataclasses.replace(prepared, config=config)
    collector = collector_of(wanted)
    collector.update((images,))
    return wanted, thresholds_of(wanted, collector.statistics())[0]


def relative_error(prepared, images, **settings):
    snn = replanned(prepared, images, **{"threshold": "mse", "shortcut_bits": 8, "last_bits": 8, **settings})
    with torch.no_grad():
        expected = prepared.graph(images)
        return float((snn(images) - expected).square().mean() / expected.var())


@pytest.mark.parametrize(
    "name",
    mostly_slow(
        ["relu6", "attention", "flattened", "bottleneck", "normalized"],
        keep=("relu6", "attention", "flattened", "normalized"),
    ),
)
def test_any_shifts_keep_the_function(name):
    """Shifts anywhere: as long as the code still covers each channel, 8 bits stay near the network."""
    builds = {"bottleneck": (bottleneck, (3, 8, 8)), "normalized": (normalized, (6,))}
    prepared, images = offset_network(*builds[name]) if name in builds else captured(name)
    wanted, thresholds = wanted_of(prepared, images, bits=8, T=1, threshold="max", **ALL_OFF)
    shiftable = shiftable_sites(wanted.graph.graph, wanted.plan, wanted.channels).families
    random = np.random.default_rng(0)
    for family in shiftable:
        found = thresholds[family]
        shifts = np.array(found.channel_steps) * random.uniform(-60, 60, len(found.channel_steps))
        covering = np.array(found.channel_steps) * 2
        code = dataclasses.replace(found.code, offset=128)
        thresholds[family] = Threshold.per_channel(covering, code, shifts)
    network, _ = insert_neurons(wanted.graph, wanted.plan, thresholds, wanted.channels)
    with torch.no_grad():
        expected, found = wanted.graph(images), network(images)
    assert float((found - expected).square().mean()) < 1e-3 * float(expected.var())
    assert shiftable


@pytest.mark.parametrize(("bits", "T"), mostly_slow([(1, 4), (3, 2), (8, 1)], keep=[(3, 2)]))
def test_time_packed_and_integers_agree(bits, T, tmp_path):
    """Stepwise is packed is the integer oracle's reading of the saved folder, bit for bit."""
    prepared, images = offset_network(bottleneck, (3, 8, 8))
    snn = replanned(prepared, images, bits=bits, T=T, **{**SHIFTED, "threshold_granularity": "smoothed"})
    assert any("zero points per channel at 3 of 3 sites" in note for note in snn.report.notes)
    simulation = assert_stepwise_is_packed(snn, images[:4])
    snn.save(tmp_path)
    assert np.array_equal(Oracle(tmp_path).run(images[:4].numpy()), simulation.output.numpy())
    loaded = snnconvert.load(tmp_path)
    assert loaded.config.channel_shift
    assert torch.equal(loaded(images), snn(images))


@pytest.mark.parametrize("name", ["attention", "class_token", "gates"])
def test_time_agrees_where_values_are_analog(name):
    snn, images = converted(name, bits=1, T=4, **SHIFTED)
    assert any(note.startswith("zero points per channel at ") for note in snn.report.notes)
    assert_stepwise_is_packed(snn, images[:4])


@pytest.mark.parametrize(
    ("neuron", "T", "ratio"),
    mostly_slow([("if", 16, 0.7), ("ternary", 16, 0.7), ("spikepack", 8, 0.4)], keep=[("if", 16, 0.7)]),
)
def test_other_neurons_fire_on_shifted_channels(neuron, T, ratio):
    """A constant current beside the input's, at every step where they integrate while they fire."""
    prepared, images = offset_network(normalized, (6,), count=300)
    errors = [relative_error(prepared, images, bits=1, T=T, neuron=neuron, **_with(shift)) for shift in (False, True)]
    assert errors[1] < ratio * errors[0]


class _Seen(fx.Interpreter):
    """Values of every module's inputs and outputs."""

    def __init__(self, network):
        super().__init__(network)
        self.inputs, self.outputs = {}, {}

    def call_module(self, target, args, kwargs):
        self.inputs[target], self.outputs[target] = args[0], super().call_module(target, args, kwargs)
        return self.outputs[target]


@pytest.mark.parametrize("build", mostly_slow([bottleneck, normalized], keep=[normalized]))
def test_words_are_those_of_float64_and_readers_mean_them(build):
    """In float64: words are clip(rne((x − s)/Δ)) of what the neurons read, and readers give Ŵ·Δz + W·s + b."""
    prepared, images = offset_network(build, (3, 8, 8) if build is bottleneck else (6,))
    wanted, thresholds = wanted_of(prepared, images, bits=2, T=2, threshold="mse", **SHIFTED)
    network, _ = insert_neurons(wanted.graph, wanted.plan, thresholds, wanted.channels)
    run, state, checked = _Seen(network), prepared.graph.state_dict(), 0
    with torch.no_grad():
        run.run(images)
    calls = {node.meta["source"]: node for node in network.graph.nodes if str(node.target).startswith("synapse")}
    for item in wanted.plan.synapses:
        threshold = thresholds[item.family]
        if not threshold.channel_shifts:
            continue
        call, (neuron_call,) = calls[item.node], calls[item.node].args
        synapse, neuron = (network.get_submodule(str(node.target)) for node in (call, neuron_call))
        words, current = run.outputs[neuron_call.target].double(), run.outputs[call.target].double()
        view = (-1, *[1] * (words.dim() - 2))
        steps, shifts = (
            torch.tensor(values, dtype=torch.float64).view(view)
            for values in (threshold.channel_steps, threshold.channel_shifts)
        )
        unit = neuron.gain.double() * steps
        off = 0.5 * unit if neuron_call.args[0].meta.get(CURRENT) else 1e-5 * steps  # whole counts of a current
        exact = (run.inputs[neuron_call.target].double() * unit - shifts) / steps
        sure = (exact - exact.round()).abs() < 0.499 - off / steps
        assert sure.double().mean() > 0.7
        assert torch.equal(words[sure], exact.round().clamp(threshold.code.minimum, threshold.code.maximum)[sure])
        weight, bias = (state[f"{item.layer}.{name}"].double() for name in ("weight", "bias"))
        groups = 1 if synapse.geometry is None else synapse.geometry.groups
        rest = [1] * (weight.dim() - 2)
        met = steps.view(groups, -1).repeat_interleave(len(weight) // groups, 0).view(*weight.shape[:2], *rest)
        count = synapse.unit * synapse.multiplier
        rounded = synapse.weight.double() * count.view(-1, 1, *rest) / met

        def layer(x, weight, geometry=synapse.geometry):
            return (
                F.linear(x, weight)
                if geometry is None
                else F.conv2d(x, weight, None, geometry.stride, 0, 1, geometry.groups)
            )

        out = (-1, *[1] * (current.dim() - 2))
        expected = layer(words * steps, rounded) + layer(shifts.expand(words.shape), weight) + bias.view(out)
        room = 0.501 * count.view(out) + layer(off.expand(words.shape), weight.abs()) + 1e-6 * expected.abs()
        assert bool(((current * synapse.unit.view(out) - expected).abs() <= room).all())
        checked += 1
    assert checked == (4 if build is bottleneck else 1)


def test_large_offsets_cost_nothing_at_eight_bits():
    """Biases of a LayerNorm twenty times its spread: words count from each channel's own middle."""
    prepared, images = offset_network(normalized, (6,), count=300)
    errors = {shift: relative_error(prepared, images, bits=8, T=1, **_with(shift)) for shift in (False, True)}
    assert errors[True] < errors[False] / 4


def _with(shift):
    return {**ALL_OFF, "channel_shift": shift}


def test_padded_readers_keep_their_sites_at_zero():
    """A border stands for x = 0, and a transposed convolution crops and spreads: both sites stay as they are."""

    def forward(n, x):
        x = n.padded(n.one(F.relu(n.stem(x))))
        return n.up(n.two(F.relu(x)))

    network = Net(
        forward,
        stem=conv(3, 6),
        one=conv(6, 6, 1),
        padded=conv(6, 6),
        two=conv(6, 4, 1),
        up=nn.ConvTranspose2d(4, 2, 2),
    )
    network, images = settled(network, torch.randn(16, 3, 8, 8))
    prepared = prepare(network, images)
    plain = replanned(prepared, images, bits=2, T=2, **ALL_OFF)
    shifted = replanned(prepared, images, bits=2, T=2, **SHIFTED)
    (note,) = [note for note in shifted.report.notes if note.startswith("zero points per channel")]
    assert note.endswith("at 0 of 2 sites without an activation of their own, not where a layer pads what it reads (2)")
    one, other = plain.state_dict(), shifted.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_words_of_few_values_keep_their_sites_at_zero():
    """2 bits are too few, whatever carries them: as measured, see the documentation."""
    prepared, _ = captured("relu6")
    shifts = {}
    for bits, T, neuron in ((1, 2, "packed"), (1, 3, "packed"), (1, 6, "if"), (1, 7, "if")):
        config = snnconvert.ConversionConfig(bits=bits, T=T, neuron=neuron, last_bits=1, **SHIFTED)
        plan = make_plan(prepared.graph, config)
        channels = dataclasses.replace(prepared, config=config, plan=plan).channels
        shifts[T] = len(shiftable_sites(prepared.graph.graph, plan, channels).families)
    assert shifts == {2: 0, 3: 3, 6: 0, 7: 3}


def test_one_padded_reader_is_enough():
    def forward(n, x):
        x = n.one(F.relu(n.stem(x)))
        return n.padded(x) + n.plain(x)

    parts = {"stem": conv(3, 6), "one": conv(6, 6, 1), "padded": conv(6, 6), "plain": conv(6, 6, 1)}
    prepared = prepare(*settled(Net(forward, **parts), torch.randn(4, 3, 8, 8)))
    channels = dataclasses.replace(prepared, config=snnconvert.ConversionConfig(**ALL_OFF)).channels
    found = shiftable_sites(prepared.graph.graph, prepared.plan, channels)
    assert (found.families, list(found.centred.values())) == (frozenset(), ["a layer pads what it reads"])
