"""Step by step is packed, bit for bit: spikes of every layer and the output, in any order, at any batch size."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from engine_networks import (
    NETWORKS,
    SHAPES,
    SPIKING_THROUGHOUT,
    Net,
    assert_same_run,
    assert_stepwise_is_packed,
    captured,
    converted,
    decoded,
    packed_words,
    replanned,
    settled,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from slow_cases import mostly_slow
from spiking_graphs import INPUT, any_codes, packed_codes, random_graph
from torch import fx, nn

import snnconvert
from snnconvert.api import prepare
from snnconvert.convert.planner import make_plan
from snnconvert.engines.stepwise import simulate
from snnconvert.neurons.current import ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.synapse import FLOAT32_EXACT, ConvGeometry, Synapse

ORDERS = [(schedule, latency) for schedule in ("layer", "tick") for latency in ("streaming", "window")]
EVERYTHING = ("spikes", "potentials", "counts", "unevenness")
UNSHRUNK = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.reuse, Phase.generate),
}
IMAGES = torch.randn(3, *INPUT, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", mostly_slow(NETWORKS, keep=("chain", "residual", "tokens", "signed")))
def test_every_width_and_length_of_spikes(name):
    """All (b, T) with b·T ≤ 8, both schedules, both latencies."""
    assert len(SHAPES) == 20
    for bits, T in SHAPES:
        snn, images = converted(name, bits=bits, T=T)
        for schedule, latency in ORDERS:
            assert_stepwise_is_packed(snn, images, schedule=schedule, latency=latency)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("weight_bits", mostly_slow([2, 4], keep=[2]))
def test_narrow_weights_and_uncorrected_biases(name, weight_bits):
    settings = {"weight_bits": weight_bits, "first_last_weight_bits": weight_bits, "bias_correction": False}
    for bits, T in [(1, 8), (3, 2), (8, 1)]:
        snn, images = converted(name, bits=bits, T=T, **settings)
        assert_stepwise_is_packed(snn, images)


@pytest.mark.parametrize(
    "name", mostly_slow(NETWORKS, keep=("chain", "residual", "class_token", "signed", "conv3d", "windows"))
)
def test_an_input_of_several_digits(name):
    prepared, images = captured(name)
    readers = [item.layer for item in prepared.plan.synapses if item.reads_input]
    assert readers
    for bits, T in [(1, 8), (2, 4), (3, 2), (4, 1)]:
        overrides = {layer: {"bits": bits, "T": T} for layer in readers}
        snn, _ = converted(name, bits=2, T=3, overrides=overrides)
        for schedule, latency in ORDERS:
            simulation = assert_stepwise_is_packed(snn, images, schedule=schedule, latency=latency)
        codes = [record.code for record in simulation.layers.values()]
        assert (codes[0].bits, codes[0].T) == (bits, T)


@pytest.mark.parametrize("scale", mostly_slow([0.0, 1e-3, 30.0, 1e6], keep=[0.0, 1e6]))
@pytest.mark.parametrize("name", ["residual", "signed", "preactivation", "relu6"])
def test_inputs_far_from_those_it_was_calibrated_on(name, scale):
    """Silent networks, and saturated ones."""
    for bits, T in [(1, 8), (2, 4), (8, 1)]:
        snn, images = converted(name, bits=bits, T=T)
        for schedule, _ in ORDERS[::2]:
            assert_stepwise_is_packed(snn, images * scale, schedule=schedule)


@pytest.mark.parametrize("name", SPIKING_THROUGHOUT)
def test_a_sample_does_not_depend_on_its_batch(name):
    snn, images = converted(name, bits=2, T=3)
    whole = snn.simulate(images, record=("spikes",))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    for schedule in ("layer", "tick"):
        for part in (slice(0, 1), slice(3, 8), order):
            some = snn.simulate(images[part], record=("spikes",), schedule=schedule)
            assert torch.equal(some.output, whole.output[part])
            assert torch.equal(some.readout, whole.readout[:, part])
            for layer, record in some.layers.items():
                folded = record.spikes.shape[1] // len(images[part])
                expected = whole.layers[layer].spikes.unflatten(1, (len(images), folded))[:, part].flatten(1, 2)
                assert torch.equal(record.spikes, expected), layer


@pytest.mark.parametrize("name", NETWORKS)
def test_a_run_leaves_no_trace(name):
    """The second run is the first; neither changes the network or the images."""
    snn, images = converted(name, bits=2, T=3)
    state = {key: value.clone() for key, value in snn.state_dict().items()}
    before = images.clone()
    runs = [snn.simulate(images, record=EVERYTHING, schedule=schedule) for schedule in ("layer", "tick", "layer")]
    assert_same_run(runs[0], runs[1])
    assert_same_run(runs[0], runs[2])
    assert torch.equal(images, before)
    assert all(torch.equal(value, state[key]) for key, value in snn.state_dict().items())


def test_an_empty_batch():
    snn, images = converted("residual")
    for schedule in ("layer", "tick"):
        simulation = snn.simulate(images[:0], schedule=schedule, record=("spikes", "counts"))
        assert simulation.output.shape == snn(images[:0]).shape == (0, 5)
        assert set(simulation.layers["relu"].counts) == {0}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_memory_order_of_the_images_does_not_matter(memory_format):
    for name in ("residual", "gates", "attention", "layouts"):
        snn, images = converted(name, bits=2, T=4)
        ordered = images.to(memory_format=memory_format)
        assert torch.equal(snn.simulate(ordered).output, snn.simulate(images).output)
        assert torch.equal(snn.simulate(ordered).output, snn(ordered))


def test_a_loaded_network_runs_the_same(tmp_path):
    snn, images = converted("shared", bits=2, T=4)
    snn.save(tmp_path / "net")
    assert_same_run(
        snn.simulate(images, record=EVERYTHING), snnconvert.load(tmp_path / "net").simulate(images, record=EVERYTHING)
    )


def test_the_output_has_the_type_of_the_network():
    snn, images = converted("chain")
    snn = snn.double()
    try:
        simulation = snn.simulate(images)
        assert simulation.output.dtype == simulation.readout.dtype == torch.float64
        assert torch.equal(simulation.output, snn(images))
    finally:
        snn.float()


def test_synapses_of_constants():
    """Embedded places go through a layer of their own, once for every sample."""

    def forward(n, x):
        places = n.places.weight.expand(x.shape[0], -1, -1)
        return n.head(torch.relu(n.stem(x) + n.position(places)))

    torch.manual_seed(0)
    net = Net(
        forward, stem=nn.Linear(6, 8), places=nn.Embedding(5, 3), position=nn.Linear(3, 8), head=nn.Linear(8, 2)
    ).eval()  # fmt: skip
    images = torch.randn(4, 5, 6)
    snn = snnconvert.convert(net, images, progress=False)
    assert {"stem", "position", "head"} == {name for name, _ in snn.synapses()}
    for schedule, latency in ORDERS:
        assert_stepwise_is_packed(snn, images, schedule=schedule, latency=latency)


STRAINED = {
    "split": ((4, 1200), 1, 1, 0),
    "split and scaled": ((4, 1200), 1, 1 << 20, 37),
    "scaled outside": ((4, 100), 1, 1 << 24, 0),
    "spikes beyond the words": ((4, 600), 1, 1, 200),
    "spikes beyond the words of groups": ((4, 300, 1, 1), 2, 1, 190),
    "unsplittable": ((4, 400, 3, 3), 2, 1, 91),
    "split convolution": ((4, 400, 3, 3), 1, 3, 5),
}


@pytest.mark.parametrize("case", STRAINED)
@pytest.mark.parametrize(("bits", "T"), [(1, 8), (2, 4), (8, 1)])
def test_sums_that_float32_does_not_hold(case, bits, T):
    """Synapses that split their sums, run them in float64, or scale them outside of the weights."""
    shape, groups, multiplier, offset = STRAINED[case]
    generator = torch.Generator().manual_seed(3)
    weight = torch.randint(100, 128, shape, generator=generator)
    code = PackedCode(bits, T, offset)
    geometry = ConvGeometry((1, 1), (shape[-1] // 2,) * 2, (1, 1), groups) if len(shape) == 4 else None
    synapse = Synapse(
        weight, torch.tensor([5, -7, 1000, 0]), torch.full((4,), multiplier), torch.ones(4), geometry=geometry,
        weight_bits=8, word_range=code.extremes,
    )  # fmt: skip
    network = one_synapse(SpikingNeuron(code, torch.tensor(1.0), torch.tensor(1.0)), synapse)
    words = torch.randint(-offset, 256 - offset, (3, shape[1] * groups, *((3, 3) if geometry else ())))
    words[0], words[1] = -offset, 255 - offset
    reference = F.linear(words, weight) if geometry is None else integer_convolution(words, weight, geometry)
    channelwise = synapse.channelwise(torch.tensor([5, -7, 1000, 0]), reference.dim())
    expected = (reference + channelwise) * multiplier
    assert int(expected.abs().max()) > FLOAT32_EXACT or "beyond" in case
    for schedule, latency in ORDERS:
        simulation = simulate(network, [words.float()], schedule=schedule, latency=latency)
        assert torch.equal(simulation.output, network(words.float()))
        assert torch.equal(simulation.output, expected.float())
    watcher = Watcher()
    simulate(network, [words.float()], watcher=watcher)
    assert torch.equal(watcher.current.long(), expected)
    assert torch.equal(watcher.current.double(), synapse(words.float()).double())


class Watcher:
    """Keeps the current of the last synapse."""

    def integrated(self, source, synapse, spikes, current):
        self.current = current


def integer_convolution(words, weight, geometry):
    """A convolution summed in int64, one kernel position after the other."""
    padded = F.pad(words, (geometry.padding[1],) * 2 + (geometry.padding[0],) * 2)
    height, width = words.shape[2:]
    total = 0
    for y, x in itertools.product(range(weight.shape[2]), range(weight.shape[3])):
        parts = padded[:, :, y : y + height, x : x + width].chunk(geometry.groups, 1)
        kernels = weight[:, :, y, x].chunk(geometry.groups, 0)
        total += torch.cat(
            [torch.einsum("nchw,oc->nohw", part, kernel) for part, kernel in zip(parts, kernels, strict=True)], 1
        )
    return total


def one_synapse(neuron, synapse):
    """Neurons on the input, a synapse that reads them and what it gives in units of one count."""
    graph = fx.Graph()
    spikes = graph.call_module("neuron", (graph.placeholder("x"),))
    graph.output(graph.call_module("real", (graph.call_module("synapse", (spikes,)),)))
    return fx.GraphModule({"neuron": neuron, "synapse": synapse, "real": ToReal(torch.tensor(1.0))}, graph)


@pytest.mark.parametrize(("bits", "T"), SHAPES)
def test_ties_are_rounded_to_even_whatever_the_zero_point(bits, T):
    """Potentials on every half step, through neurons with every offset and a ceiling."""
    levels = 1 << bits * T
    halves = torch.arange(-2.0 * levels, 2.0 * levels + 1) / 2
    for offset in sorted({0, 1, levels // 2, levels - 2, levels - 1} & set(range(levels))):
        for ceiling in {levels - 1 - offset, (levels - 1 - offset) // 2}:
            code = PackedCode(bits, T, offset)
            neuron = SpikingNeuron(code, torch.tensor(1.0), torch.tensor(1.0), ceiling=ceiling)
            synapse = Synapse(
                torch.ones(1, 1), torch.zeros(1), torch.ones(1), torch.ones(1),
                geometry=None, weight_bits=2, word_range=code.extremes,
            )  # fmt: skip
            network = one_synapse(neuron, synapse)
            simulation = simulate(network, [halves[:, None]], record=("spikes",))
            expected = halves.round().clamp(-offset, ceiling)
            (record,) = simulation.layers.values()
            assert torch.equal(decoded(record)[:, 0], expected.double())
            assert torch.equal(simulation.output, expected[:, None])
            assert torch.equal(neuron(halves), expected)


def assert_graph_agrees(network, images):
    with torch.no_grad():
        expected = network(images)
    words = packed_words(network, images)
    for schedule, latency in ORDERS:
        simulation = simulate(network, [images], record=("spikes",), schedule=schedule, latency=latency)
        assert torch.equal(simulation.output, expected)
        for layer, record in simulation.layers.items():
            assert torch.equal(record.spikes.long(), record.code.to_spikes(words[layer])), layer


@given(st.randoms(use_true_random=False), st.integers(2, 22))
@settings(max_examples=60, **UNSHRUNK)
def test_random_spiking_graphs(random, nodes):
    """Digits of any width, length and offset that meet at any time, in sums, pools, concats and functions."""
    assert_graph_agrees(random_graph(random, IMAGES, packed_codes, nodes), IMAGES)


@pytest.mark.slow
@given(st.randoms(use_true_random=False), st.integers(2, 40))
@settings(max_examples=3000, **UNSHRUNK)
def test_many_random_spiking_graphs(random, nodes):
    assert_graph_agrees(random_graph(random, IMAGES, packed_codes, nodes), IMAGES)


def assert_schedules_agree(network, images, steps):
    for latency in ("streaming", "window"):
        still = [simulate(network, [images], latency=latency, schedule=s, record=EVERYTHING) for s in ("layer", "tick")]
        assert_same_run(*still)
        frames = [images / steps] * steps
        runs = [
            simulate(network, frames, events=True, latency=latency, schedule=s, record=EVERYTHING)
            for s in ("layer", "tick")
        ]
        assert_same_run(*runs)


@given(st.randoms(use_true_random=False), st.integers(2, 22), st.integers(1, 4))
@settings(max_examples=40, **UNSHRUNK)
def test_random_graphs_of_all_codes_do_not_depend_on_the_schedule(random, nodes, steps):
    assert_schedules_agree(random_graph(random, IMAGES, any_codes, nodes, input_codes=((8, 1),)), IMAGES, steps)


@pytest.mark.slow
@given(st.randoms(use_true_random=False), st.integers(2, 40), st.integers(1, 6))
@settings(max_examples=1500, **UNSHRUNK)
def test_many_random_graphs_of_all_codes_do_not_depend_on_the_schedule(random, nodes, steps):
    assert_schedules_agree(random_graph(random, IMAGES, any_codes, nodes, input_codes=((8, 1),)), IMAGES, steps)


class RandomNetwork(nn.Module):
    """An ANN from a list of (operation, operands, module name)."""

    def __init__(self, steps, modules):
        super().__init__()
        self.steps, self.parts = steps, nn.ModuleDict(modules)

    def forward(self, x):
        values = [x]
        for operation, sources in self.steps:
            operands = [values[source] for source in sources]
            if operation == "add":
                values.append(operands[0] + operands[1])
            elif operation == "cat":
                values.append(torch.cat(operands, 1))
            elif operation == "relu":
                values.append(torch.relu(operands[0]))
            else:
                values.append(self.parts[operation](operands[0]))
        return self.parts["head"](values[-1].mean((2, 3)))


def random_network(random):
    """A small DAG of convolutions, normalizations, rectifiers, sums, concats and pools with a linear head."""
    modules, steps, shapes = {}, [], [(3, 8)]

    def grow(operation, sources, shape):
        steps.append((operation, sources))
        shapes.append(shape)

    def module(kind, layer, sources, shape):
        modules[f"{kind}{len(modules)}"] = layer
        grow(f"{kind}{len(modules) - 1}", sources, shape)

    module("conv", nn.Conv2d(3, 4, 3, padding=1), [0], (4, 8))
    for _ in range(random.randint(2, 8)):
        source = random.randint(max(1, len(shapes) - 4), len(shapes) - 1)
        channels, side = shapes[source]
        same = [other for other in range(1, len(shapes)) if shapes[other] == shapes[source] and other != source]
        alike = [other for other in range(1, len(shapes)) if shapes[other][1] == side and other != source]
        kind = random.choice(["conv", "conv", "relu", "relu", "norm", "add", "cat", "max", "average"])
        if kind == "conv":
            outputs, stride = random.choice([channels, 4]), random.choice([1, 1, 2])
            groups = 2 if channels % 2 == 0 and outputs % 2 == 0 and random.random() < 0.3 else 1
            layer = nn.Conv2d(channels, outputs, random.choice([1, 3]), stride, groups=groups)
            layer.padding = (layer.kernel_size[0] // 2,) * 2
            module("conv", layer, [source], (outputs, -(-side // stride)))
        elif kind == "norm":
            module("norm", nn.BatchNorm2d(channels), [source], shapes[source])
        elif kind == "add" and same:
            grow("add", [source, random.choice(same)], shapes[source])
        elif kind == "cat" and alike:
            other = random.choice(alike)
            grow("cat", [source, other], (channels + shapes[other][0], side))
        elif kind == "max" and side > 2:
            module("pool", nn.MaxPool2d(2), [source], (channels, side // 2))
        elif kind == "average" and side > 2:
            module("pool", nn.AvgPool2d(2), [source], (channels, side // 2))
        else:
            grow("relu", [source], shapes[source])
    modules["head"] = nn.Linear(shapes[-1][0], 5)
    return RandomNetwork(steps, modules)


def assert_random_network_agrees(random):
    torch.manual_seed(random.getrandbits(32))
    net, images = settled(random_network(random), torch.randn(6, 3, 8, 8))
    prepared = prepare(net, images)
    for _ in range(3):
        codes = {item.family: random.choice(SHAPES) for item in prepared.plan.synapses}
        overrides = {
            item.layer: dict(zip(("bits", "T"), codes[item.family], strict=True)) for item in prepared.plan.synapses
        }
        config = snnconvert.ConversionConfig(overrides=overrides)
        assert {(s.family, s.bits, s.T) for s in make_plan(prepared.graph, config).synapses} == {
            (family, *code) for family, code in codes.items()
        }
        snn = replanned(prepared, images, overrides=overrides)
        for schedule, latency in ORDERS:
            assert_stepwise_is_packed(snn, images, schedule=schedule, latency=latency)


@pytest.mark.slow
@given(st.randoms(use_true_random=False))
@settings(max_examples=8, **UNSHRUNK)
def test_random_networks_with_digits_of_their_own_in_every_layer(random):
    """Converted from random ANNs, b and T drawn for every family of neurons: values of different timing meet."""
    assert_random_network_agrees(random)


@pytest.mark.slow
@given(st.randoms(use_true_random=False))
@settings(max_examples=80, **UNSHRUNK)
def test_many_random_networks_with_digits_of_their_own_in_every_layer(random):
    assert_random_network_agrees(random)
