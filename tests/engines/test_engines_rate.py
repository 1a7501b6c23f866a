"""Codes whose spikes depend on time: closed forms, unevenness, drives of every layer, mixed networks."""

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F
from engine_networks import (
    NETWORKS,
    RATE_NEURONS,
    Net,
    assert_same_run,
    captured,
    conv,
    converted,
    decoded,
    own_reading,
    packed_words,
)
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.engines.recording import Unevenness

EVERYTHING = ("spikes", "potentials", "counts", "unevenness")
LATENCIES = ("streaming", "window")
INTEGRATING = [("if", 1, 1), ("if", 1, 8), ("if", 2, 4), ("if", 3, 5), ("if", 1, 30), ("if:v0=0.25", 1, 6)]


def coded(name, kind, **settings):
    neuron, bits, T = RATE_NEURONS[kind]
    return converted(name, neuron=neuron, bits=bits, T=T, **settings)


@pytest.mark.parametrize("name", mostly_slow(NETWORKS, keep=("chain", "residual", "attention", "conv3d", "flattened")))
def test_waiting_neurons_fire_the_closed_form(name):
    """Under a constant current: the staircase of QCFS, bit for bit, in every layer."""
    for neuron, bits, T in INTEGRATING:
        snn, images = converted(name, neuron=neuron, bits=bits, T=T)
        simulation = snn.simulate(images, record=("spikes",), latency="window")
        words = packed_words(snn.network, images)
        for layer, record in simulation.layers.items():
            assert torch.equal(decoded(record), words[layer].double()), (layer, neuron, bits, T)
        with torch.no_grad():
            assert torch.equal(simulation.output, snn.network(images)), (neuron, bits, T)


@pytest.mark.slow
@pytest.mark.parametrize(("neuron", "bits", "T"), INTEGRATING)
def test_waiting_neurons_are_even(neuron, bits, T):
    assert_waiting_neurons_are_even(NETWORKS, neuron, bits, T)


@pytest.mark.parametrize(("neuron", "bits", "T"), INTEGRATING)
def test_waiting_neurons_of_a_few_networks_are_even(neuron, bits, T):
    assert_waiting_neurons_are_even(("residual", "attention", "conv3d", "flattened"), neuron, bits, T)


def assert_waiting_neurons_are_even(names, neuron, bits, T):
    for name in names:
        snn, images = converted(name, neuron=neuron, bits=bits, T=T)
        simulation = snn.simulate(images, record=("unevenness",), latency="window")
        for layer, record in simulation.layers.items():
            assert record.unevenness == Unevenness(0.0, 0.0, 0.0), (name, layer)


@pytest.mark.parametrize(("neuron", "bits", "T"), mostly_slow([("if", 1, 255), ("if", 6, 1000)], keep=1))
def test_long_windows_fire_the_closed_form(neuron, bits, T):
    for name in ("residual", "relu6", "average_pools"):
        snn, images = converted(name, neuron=neuron, bits=bits, T=T)
        simulation = snn.simulate(images[:2], record=("spikes", "unevenness"), latency="window")
        words = packed_words(snn.network, images[:2])
        for layer, record in simulation.layers.items():
            assert torch.equal(decoded(record), words[layer].double()), (name, layer)
            assert record.unevenness == Unevenness(0.0, 0.0, 0.0), (name, layer)


@pytest.mark.parametrize("name", ["residual", "signed", "shared", "relu6"])
@pytest.mark.parametrize(
    ("neuron", "bits", "T"), [("lif:leak=1.0", 1, 8), ("lif:leak=1.0", 2, 4), ("ternary", 1, 8), ("ternary", 1, 15)]
)
def test_other_neurons_with_the_same_closed_form(name, neuron, bits, T):
    snn, images = converted(name, neuron=neuron, bits=bits, T=T)
    simulation = snn.simulate(images, record=("spikes",), latency="window")
    for layer, readings in closed_forms(snn, simulation, images).items():
        assert any(torch.equal(decoded(simulation.layers[layer]), reading) for reading in readings), layer


@pytest.mark.parametrize("name", ["chain", "signed", "flattened", "relu6", "concat_pools"])
def test_binary_digits_with_and_without_a_leak_of_one_half(name):
    """SpikePack at τ = 2 is the uniform quantizer, whatever the zero point."""
    snn, images = converted(name, neuron="spikepack:tau=2", bits=1, T=6)
    for schedule in ("layer", "tick"):
        simulation = snn.simulate(images, record=("spikes",), schedule=schedule)
        words = packed_words(snn.network, images)
        for layer, record in simulation.layers.items():
            assert torch.equal(decoded(record), words[layer].double()), layer
        with torch.no_grad():
            assert torch.equal(simulation.output, snn.network(images))


@pytest.mark.parametrize("kind", mostly_slow(RATE_NEURONS, keep=("if", "lif", "differential", "ternary")))
def test_unevenness_is_what_was_fired_beside_the_closed_form(kind):
    """Recorded figures against those of the recorded spikes, layer by layer."""
    for name in ("chain", "residual", "average_pools", "preactivation", "signed", "geometry", "shared", "relu6"):
        snn, images = coded(name, kind)
        for latency in LATENCIES:
            simulation = snn.simulate(images, record=("spikes", "unevenness"), latency=latency)
            for layer, readings in closed_forms(snn, simulation, images).items():
                record = simulation.layers[layer]
                tolerance = 1e-9 if all(weight.is_integer() for weight in record.code.weights) else 1e-3
                found = [figures(decoded(record) - reading) for reading in readings]
                recorded = pytest.approx(dataclasses.astuple(record.unevenness), abs=tolerance)
                assert recorded in found, (name, layer)


def closed_forms(snn, simulation, images):
    """What each layer would fire evenly for what the layers before it were recorded to fire.

    Potentials are float32 or float64, which matters where a gain puts them next to a tie.
    """
    runs = [own_reading(snn.network, simulation, images, double=double)[0] for double in (False, True)]
    return {layer: [run[layer].double() for run in runs] for layer in simulation.layers}


def figures(error):
    """As :class:`Unevenness` has them."""
    return float((error.abs() > 1e-6).double().mean()), float(error.mean()), float(error.square().mean().sqrt())


@pytest.mark.parametrize("kind", ["if", "bursts", "v0", "ternary"])
def test_the_first_layer_is_even_and_later_ones_are_not(kind):
    """Neurons that read a constant input fire evenly; those behind them get spikes at uneven times."""
    snn, images = coded("residual", kind)
    layers = snn.simulate(images, record=("unevenness",)).layers
    assert layers["x"].unevenness == layers["relu"].unevenness == Unevenness(0.0, 0.0, 0.0)
    assert layers["relu#4"].unevenness.differing > 0
    assert layers["relu#4"].unevenness.rms > 0


def assert_schedules_agree(snn, images):
    for latency in LATENCIES:
        runs = [
            snn.simulate(images[:4], record=EVERYTHING, latency=latency, schedule=schedule)
            for schedule in ("layer", "tick")
        ]
        assert_same_run(*runs)
        assert torch.equal(runs[0].readout[-1], runs[0].output)
        assert runs[0].readout_ticks[-1] == runs[0].ticks - 1
        assert len(runs[0].readout) == len(runs[0].readout_ticks)
    assert torch.equal(snn(images[:4]), snn.simulate(images[:4]).output)


@pytest.mark.parametrize("kind", mostly_slow(RATE_NEURONS, keep=("bursts", "hard", "multithreshold", "ecmt")))
def test_both_schedules_give_the_same(kind):
    for name in ("residual", "concat_pools", "signed", "attention", "repeaters"):
        assert_schedules_agree(*coded(name, kind))


@pytest.mark.parametrize(
    "name",
    mostly_slow(
        NETWORKS,
        keep=("residual", "attention", "gates", "conv3d", "layouts", "tokens"),
    ),
)
def test_both_schedules_give_the_same_in_every_network(name):
    for kind in ("if", "differential", "spikepack"):
        assert_schedules_agree(*coded(name, kind))


@pytest.mark.parametrize("kind", mostly_slow(RATE_NEURONS, keep=("if", "lif", "ternary", "spikepack")))
def test_a_sample_does_not_depend_on_its_batch(kind):
    for name in ("residual", "concat_pools", "signed"):
        snn, images = coded(name, kind)
        whole = snn.simulate(images, record=("spikes",))
        for part in (slice(0, 1), slice(5, 12)):
            some = snn.simulate(images[part], record=("spikes",))
            assert torch.equal(some.output, whole.output[part])
            for layer, record in some.layers.items():
                assert torch.equal(record.spikes, whole.layers[layer].spikes[:, part]), (name, layer)


def layer_by_layer(snn):
    """(neuron layer, synapse behind it) of a chain."""
    return list(zip(snn.neurons(), snn.synapses(), strict=True))


def weighted(synapse, spikes):
    """W·s·m in float64, without the package's forward."""
    weight, g = synapse.weight.double(), synapse.geometry
    if g is None:
        return spikes.flatten(1) @ weight.T * synapse.multiplier
    summed = F.conv2d(spikes, weight, None, g.stride, g.padding, g.dilation, g.groups)
    return summed * synapse.multiplier.view(1, -1, 1, 1)


def constant_of(synapse, code, like):
    """What enters once a window: the bias, less W times the offset."""
    bias = (synapse.bias * synapse.multiplier).double()
    shape = [1, -1, 1, 1] if synapse.geometry is not None else [1, -1]
    return bias.view(shape) - weighted(synapse, torch.full_like(like[:1], code.offset))


def estimates(synapse, record):
    """What a receiver of recorded spikes knows of the window's current after every step, in counts."""
    code, found, total = record.code, [], 0
    constant = constant_of(synapse, code, record.spikes[0].double())
    for t, step in enumerate(record.spikes, start=1):
        total = total * (code.growth[t - 1] if t > 1 else 1.0) + weighted(synapse, step.double())
        factor = code.T / t if code.extrapolates else code.weights[t - 1]
        found.append(total * factor + constant)
    return found


def currents(synapse, record):
    """T times the current of every step: T·x_t + c of counts, else t·E_t − (t−1)·E_{t−1} of estimates E."""
    code = record.code
    if code.extrapolates:
        constant = constant_of(synapse, code, record.spikes[0].double())
        return [code.T * weighted(synapse, step.double()) + constant for step in record.spikes]
    sums = [t * estimate for t, estimate in enumerate(estimates(synapse, record), start=1)]
    return [after - before for after, before in zip(sums, [0, *sums], strict=False)]


@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize("kind", RATE_NEURONS)
def test_every_layer_fires_what_its_step_function_says(kind, latency):
    """Drives made of the recorded spikes of the layer before, by hand, through the code's own step."""
    snn, images = coded("chain", kind)
    simulation = snn.simulate(images, record=EVERYTHING, latency=latency)
    layers = layer_by_layer(snn)
    for ((before, _), (_, synapse)), ((name, neuron), _) in itertools.pairwise(layers):
        given, record, code = simulation.layers[before], simulation.layers[name], neuron.code
        streams = code.streams and latency == "streaming" and given.code.T == code.T
        if streams:
            drives = [current * neuron.gain.double() for current in currents(synapse, given)]
        else:
            total = estimates(synapse, given)[-1] * neuron.gain.double()
            drives = [total] * code.T if code.streams else [total, *[None] * (code.T - 1)]
        state = code.initial(drives[0])
        for step, drive in enumerate(drives):
            spikes, state = code.coast(state) if drive is None else code.step(drive, state)
            assert torch.equal(spikes, record.spikes[step]), (name, step)
            potential = state.potential / (code.T if code.streams else 1)
            assert torch.allclose(potential.float(), record.potentials[step], rtol=1e-6, atol=1e-6)
        assert record.start == given.start + (0 if streams else given.code.T)


@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize("kind", RATE_NEURONS)
def test_the_readout_is_an_estimate_at_every_step(kind, latency):
    snn, images = coded("chain", kind)
    simulation = snn.simulate(images, record=("spikes",), latency=latency)
    name, synapse = list(snn.synapses())[-1]
    last = list(simulation.layers.values())[-1]
    expected = torch.stack(estimates(synapse, last)) * synapse.unit
    assert name == "7"
    assert simulation.readout.shape == (last.code.T, *simulation.output.shape)
    assert torch.allclose(simulation.readout, expected.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("bits", "T"), [(1, 8), (2, 4), (8, 1)])
def test_the_readout_of_digits_approaches_the_answer_from_below(bits, T):
    snn, images = converted("chain", bits=bits, T=T)
    simulation = snn.simulate(images, record=("spikes",))
    _, synapse = list(snn.synapses())[-1]
    expected = torch.stack(estimates(synapse, list(simulation.layers.values())[-1])) * synapse.unit
    assert simulation.readout.shape == (T, 12, 5)
    assert torch.allclose(simulation.readout, expected.float(), rtol=1e-5, atol=1e-5)
    assert torch.equal(simulation.readout[-1], snn(images))


def test_ticks_count_the_windows_on_the_way():
    """Waiting layers take a window each; streaming ones fire in the ticks of their input."""
    for T in (1, 3, 8):
        packed, images = converted("chain", bits=1, T=T)
        assert packed.simulate(images[:1]).ticks == packed.simulate(images[:1], latency="window").ticks == 2 + 3 * T
        counting, _ = converted("chain", neuron="if", bits=1, T=T)
        assert counting.simulate(images[:1], latency="window").ticks == 2 + 3 * T
        assert counting.simulate(images[:1]).ticks == (2 + T if T > 1 else 2 + 3 * T)
        starts = [record.start for record in counting.simulate(images[:1], latency="window").layers.values()]
        assert starts == [1, 2, 2 + T, 2 + 2 * T]


MIXED = {
    "packed in front": {r"second\.0": {"neuron": "packed", "bits": 2, "T": 4}},
    "packed between": {"third": {"neuron": "packed", "bits": 2, "T": 4}},
    "packed at the end": {"head": {"neuron": "packed", "bits": 8, "T": 1}},
    "differential between": {"third": {"neuron": "differential", "bits": 3, "T": 8}},
    "another length": {r"second\.0": {"neuron": "if", "bits": 2, "T": 3}, "third": {"neuron": "lif", "T": 5}},
    "all kinds": {
        r"second\.0": {"neuron": "differential", "bits": 3, "T": 4},
        "third": {"neuron": "packed", "bits": 1, "T": 8},
        "head": {"neuron": "ternary", "T": 8},
    },
    "packed but for one": {".*": {"neuron": "packed", "bits": 2, "T": 4}, "third": {"neuron": "if", "bits": 1, "T": 8}},
}


@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize("mix", mostly_slow(MIXED, keep=["packed between", "another length", "all kinds"]))
def test_networks_of_several_codes(mix, latency):
    """Schedules agree, what is adapted is listed by layer, and packed layers are exact given their input."""
    snn, images = converted("residual", neuron="if", bits=1, T=8, overrides=MIXED[mix])
    kinds = {neuron.code.name for _, neuron in snn.neurons()}
    assert len(kinds) > 1
    runs = [snn.simulate(images, record=EVERYTHING, latency=latency, schedule=s) for s in ("layer", "tick")]
    assert_same_run(*runs)
    readings, _ = own_reading(snn.network, runs[0], images)
    for layer, record in runs[0].layers.items():
        if record.code.name == "packed":
            assert torch.equal(decoded(record), readings[layer].double()), layer
            assert record.unevenness == Unevenness(0.0, 0.0, 0.0)
    names = {str(node.meta.get("layer", node.name)) for node in snn.network.graph.nodes}
    assert all(adapter.layer in names and adapter.exact and adapter.action for adapter in runs[0].adapters)
    assert torch.equal(snn(images), snn.simulate(images).output)


def test_adapters_name_the_layer_where_codes_meet():
    snn, images = converted("residual", neuron="if", bits=1, T=8)
    assert snn.simulate(images).adapters == ()
    snn, images = converted("residual", neuron="if", bits=1, T=8, overrides=MIXED["packed in front"])
    adapters = {adapter.layer: adapter.action for adapter in snn.simulate(images).adapters}
    assert "integrates each operand over its own window" in adapters["add"]
    snn, images = converted("residual", neuron="if", bits=1, T=8, overrides=MIXED["another length"])
    adapters = {adapter.layer: adapter.action for adapter in snn.simulate(images).adapters}
    assert adapters["relu#2"] == "waits for the whole window of its 8 input steps, then fires 3"


def test_spikes_of_different_codes_in_one_concat():
    """They are currents there: each part is integrated in its own time."""

    def forward(n, x):
        x = F.relu(n.stem(x))
        x = torch.cat([F.relu(n.a(x)), x], 1)
        return n.head(F.avg_pool2d(x, 2))

    torch.manual_seed(0)
    net = Net(forward, stem=conv(3, 4), a=conv(4, 4), head=conv(8, 3)).eval()
    images = torch.randn(6, 3, 8, 8)
    for code in ({"bits": 1, "T": 8}, {"bits": 4, "T": 1}, {"neuron": "if", "bits": 1, "T": 6}):
        config = snnconvert.ConversionConfig(bits=2, T=4, overrides={"a": code})
        snn = snnconvert.convert(net, images, config, progress=False)
        runs = [snn.simulate(images, record=EVERYTHING, schedule=s) for s in ("layer", "tick")]
        assert_same_run(*runs)
        readings, output = own_reading(snn.network, runs[0], images)
        assert torch.equal(output, runs[0].output)
        for layer, record in runs[0].layers.items():
            assert record.code.name != "packed" or torch.equal(decoded(record), readings[layer].double()), layer


def test_a_current_that_two_layers_read_is_the_same_for_both():
    """A float64 current drives streaming neurons and joins a sum."""

    def forward(n, x):
        x = F.relu(n.stem(x))
        current = n.a(x)
        return n.head((current + n.b(F.relu(current))).mean((2, 3)))

    torch.manual_seed(0)
    net = Net(forward, stem=conv(3, 4), a=conv(4, 4), b=conv(4, 4), head=nn.Linear(4, 3)).eval()
    images = torch.randn(6, 3, 8, 8)
    snn = snnconvert.convert(net, images, snnconvert.ConversionConfig(neuron="if", bits=1, T=8), progress=False)
    before = snn.simulate(images, record=EVERYTHING)
    for _, synapse in snn.synapses():
        synapse.wide = True
    for schedule in ("layer", "tick"):
        assert_same_run(before, snn.simulate(images, record=EVERYTHING, schedule=schedule))


@pytest.mark.parametrize("latency", mostly_slow(LATENCIES, keep=["streaming"]))
def test_more_steps_bring_a_rate_code_closer_to_the_network(latency):
    prepared, images = captured("residual")
    with torch.no_grad():
        expected = prepared.graph(images)
    errors = []
    for T in (2, 8, 32, 128):
        snn, _ = converted("residual", neuron="if", bits=1, T=T, threshold="max")
        errors.append(float((snn.simulate(images, latency=latency).output - expected).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 50
