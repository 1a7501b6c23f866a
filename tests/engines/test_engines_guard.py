"""Synapses see spikes and nothing else; recordings hold what was asked for; frames, streams and memory."""

import copy
import dataclasses
import inspect
import math
import re
import subprocess
import sys
import textwrap
import weakref
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from engine_networks import (
    NETWORKS,
    RATE_NEURONS,
    Net,
    NeuronValues,
    assert_same_run,
    conv,
    converted,
    decoded,
)
from slow_cases import mostly_slow
from torch import fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

import snnconvert
from snnconvert.engines.stepwise import simulate
from snnconvert.errors import ConfigurationError, ConversionError, InputError
from snnconvert.neurons.current import ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.registry import spelled
from snnconvert.neurons.synapse import Synapse

EVERYTHING = ("spikes", "potentials", "counts", "unevenness")
SCHEDULES = ("layer", "tick")
LATENCIES = ("streaming", "window")
ALL_NEURONS = {"packed": ("packed", 2, 3), "bits": ("packed", 1, 8), "words": ("packed", 8, 1), **RATE_NEURONS}


def coded(name, kind):
    neuron, bits, T = ALL_NEURONS[kind]
    return converted(name, neuron=neuron, bits=bits, T=T)


class Seen:
    """Distinct values and types each synapse is given as spikes, and what it is told they rest at."""

    def __init__(self, monkeypatch):
        self.spikes, self.rests = {}, {}
        original = Synapse.integrate

        def integrate(synapse, spikes, rest=None, **settings):
            own, at_rest = self.spikes.setdefault(synapse, set()), self.rests.setdefault(synapse, {0.0})
            if spikes.is_floating_point():  # the constant current of resting values, once a window
                at_rest.update(spikes.unique().tolist())
            else:
                own.update((value, spikes.dtype) for value in spikes.unique().tolist())
            at_rest.update([] if rest is None else rest.unique().tolist())
            return original(synapse, spikes, rest, **settings)

        def refused(*_):
            raise AssertionError("a synapse was given words")

        monkeypatch.setattr(Synapse, "integrate", integrate)
        monkeypatch.setattr(Synapse, "forward", refused)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL_NEURONS)
def test_every_synapse_sees_spikes_of_its_code_only(kind, monkeypatch):
    assert_synapses_see_spikes_only(NETWORKS, kind, monkeypatch)


@pytest.mark.parametrize("kind", ALL_NEURONS)
def test_synapses_of_a_few_networks_see_spikes_of_their_code_only(kind, monkeypatch):
    assert_synapses_see_spikes_only(("residual", "concat_pools", "signed", "attention"), kind, monkeypatch)


def assert_synapses_see_spikes_only(names, kind, monkeypatch):
    """No words, no potentials, no real numbers; and the code's largest spike somewhere in the network."""
    for name in names:
        snn, images = coded(name, kind)
        inputs = {item.layer for item in snn.plan.synapses if item.reads_input}
        codes = {neuron.code for _, neuron in snn.neurons()}
        inner = [code for code in codes if spelled(code) == ALL_NEURONS[kind][0] and ALL_NEURONS[kind][2] == code.T]
        for schedule in SCHEDULES:
            with monkeypatch.context() as patch:
                seen = Seen(patch)
                snn.simulate(images[:3], schedule=schedule)
            largest = set()
            for layer, synapse in snn.synapses():
                low, high = (0, 255) if layer in inputs else inner[0].spike_range
                for value, dtype in seen.spikes[synapse]:
                    assert low <= value <= high, (name, layer)
                    assert dtype in (torch.uint8, torch.int8), (name, layer)
                assert seen.rests[synapse] <= {0.0, *(float(r) for code in codes for r in (code.offset, *code.rests))}
                largest |= {value for value, _ in seen.spikes[synapse]} if layer not in inputs else set()
            assert inner[0].spike_range[1] in largest, name


def corrupted(code, change, step=None):
    """The code with spikes that are changed, at one step or at all."""

    class Corrupted(type(code)):
        fired = 0

        def step(self, current, state):
            return self._changed(*super().step(current, state))

        def coast(self, state):
            return self._changed(*super().coast(state))

        def initial(self, like):
            object.__setattr__(self, "fired", 0)
            return super().initial(like)

        def _changed(self, spikes, state):
            now = self.fired
            object.__setattr__(self, "fired", now + 1)
            return (change(spikes) if step in (None, now) else spikes), state

    return Corrupted(**{field.name: getattr(code, field.name) for field in dataclasses.fields(code)})


def one_element(value, dtype=None):
    """Changes the last element alone."""

    def change(spikes):
        spikes = spikes.clone() if dtype is None else spikes.to(dtype)
        spikes[(-1,) * spikes.dim()] = value
        return spikes

    return change


CORRUPTIONS = {
    "halves": lambda spikes: spikes * 0.5,
    "one half": one_element(0.5, torch.float32),
    "floats of the right value": lambda spikes: spikes.float(),
    "doubles": lambda spikes: spikes.double(),
    "three hundred": one_element(300, torch.int16),
    "wide integers of the right value": lambda spikes: spikes.long(),
    "too large by one": lambda spikes: one_element(4)(spikes),
    "negative": one_element(-1, torch.int8),
    "255": one_element(255),
    "not a number": one_element(math.nan, torch.float32),
    "truth values": lambda spikes: spikes > 0,
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("kind", ["packed", "bursts"])
def test_anything_but_spikes_is_refused_by_name(kind, corruption, schedule):
    """In every order and at every step, even where a single element is wrong; the message names the reader."""
    snn, images = coded("residual", kind)
    snn = copy.deepcopy(snn)
    neuron = dict(snn.neurons())["relu"]
    readers = [r"first\.0", "shortcut"]
    for step in (None, neuron.code.T - 1) if corruption != "truth values" else (None,):
        neuron.code = corrupted(neuron.code, CORRUPTIONS[corruption], step)
        for latency in LATENCIES:
            with pytest.raises(ConversionError, match=rf"^({'|'.join(readers)}): a synapse would read"):
                snn.simulate(images[:2], schedule=schedule, latency=latency)
    with pytest.raises(ConversionError, match="a synapse would read"):
        list(snn.stream(iter([images[:2] / 2] * 2), 2))


def test_spikes_out_of_range_are_refused_behind_layouts_too():
    snn, images = converted("layouts", bits=2, T=3)
    snn = copy.deepcopy(snn)
    for layer in ("relu", "relu#2", "relu#3"):
        neuron = dict(snn.neurons())[layer]
        good = neuron.code
        for schedule in SCHEDULES:
            neuron.code = corrupted(good, lambda spikes: torch.full_like(spikes, 255))
            with pytest.raises(ConversionError, match=r"would read spikes \d+\.\.255, its code fires 0\.\.3"):
                snn.simulate(images, schedule=schedule)
        neuron.code = good
    assert torch.equal(snn.simulate(images).output, snn(images))


def test_the_check_can_not_be_turned_off():
    """There is no parameter for it."""
    allowed = {"self", "network", "inputs", "record", "latency", "schedule", "events", "watcher", "frames", "steps"}
    allowed |= {"args", "kwargs"}  # the arguments of the ANN, and no others
    for function in (snnconvert.SpikingModel.simulate, snnconvert.SpikingModel.stream, simulate):
        assert set(inspect.signature(function).parameters) <= allowed


@pytest.mark.slow
def test_the_check_is_no_assertion_that_an_option_strips():
    """It raises under python -O, too."""
    script = """
        import torch
        from torch import fx
        from snnconvert.engines.stepwise import simulate
        from snnconvert.errors import ConversionError
        from snnconvert.neurons.neuron import SpikingNeuron
        from snnconvert.neurons.packed import PackedCode
        from snnconvert.neurons.synapse import Synapse

        class Halves(PackedCode):
            def step(self, current, state):
                spikes, state = super().step(current, state)
                return spikes * 0.5, state

        one = torch.ones(1)
        neuron = SpikingNeuron(Halves(8, 1), one, one)
        synapse = Synapse(one[None], one, one, one, geometry=None, weight_bits=2, word_range=(0, 255))
        graph = fx.Graph()
        spikes = graph.call_module("neuron", (graph.placeholder("x"),))
        graph.output(graph.call_module("synapse", (spikes,)))
        for schedule in ("layer", "tick"):
            try:
                simulate(fx.GraphModule({"neuron": neuron, "synapse": synapse}, graph), [one[None]], schedule=schedule)
            except ConversionError as error:
                if "would read torch.float32" in str(error):
                    continue
            raise SystemExit("it was let through")
    """
    run = [sys.executable, "-O", "-c", textwrap.dedent(script)]
    result = subprocess.run(run, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("latency", LATENCIES)
def test_a_synapse_behind_anything_but_neurons_is_refused(latency):
    """Currents and real numbers are found before anything runs."""
    snn, images = converted("chain")
    network = copy.deepcopy(snn.network)
    (neuron,) = [node for node in network.graph.nodes if node.meta.get("layer") == "3" and "neuron" in node.target]
    neuron.replace_all_uses_with(neuron.args[0])
    network.graph.eliminate_dead_code()
    network.recompile()
    with pytest.raises(ConversionError, match=r"^4: its input is current, not spikes"):
        simulate(network, [images], latency=latency)
    graph = fx.Graph()
    graph.output(graph.call_module("synapse", (graph.placeholder("x"),)))
    synapse = Synapse(*[torch.ones(1, 1), *[torch.ones(1)] * 3], geometry=None, weight_bits=2, word_range=(0, 1))
    with pytest.raises(ConversionError, match="its input is real, not spikes"):
        simulate(fx.GraphModule({"synapse": synapse}, graph), [torch.ones(1, 1)], latency=latency)


@pytest.mark.parametrize("kind", ALL_NEURONS)
def test_recordings_hold_what_was_asked_for_and_nothing_else(kind):
    snn, images = coded("residual", kind)
    plain = snn.simulate(images)
    for asked in ((), ("spikes",), ["counts", "unevenness"], {"potentials"}, EVERYTHING, "spikes"):
        names = {asked} if isinstance(asked, str) else set(asked)
        for schedule in SCHEDULES:
            simulation = snn.simulate(images, record=asked, schedule=schedule)
            assert torch.equal(simulation.output, plain.output)
            assert list(simulation.layers) == [name for name, _ in snn.neurons()]
            for record in simulation.layers.values():
                assert {kind for kind in EVERYTHING if getattr(record, kind) is not None} == names
                assert (record.firing_rate is None) == ("counts" not in names)


def test_layers_are_chosen_by_name_and_by_pattern():
    snn, images = converted("residual")
    chosen = {"spikes": "relu", "potentials": ["relu#2", "x"], "counts": "relu.*", "unevenness": []}
    layers = snn.simulate(images, record=chosen).layers
    assert [name for name, record in layers.items() if record.spikes is not None] == ["relu"]
    assert [name for name, record in layers.items() if record.potentials is not None] == ["x", "relu#2"]
    counted = [name for name, record in layers.items() if record.counts is not None]
    assert counted == [name for name in layers if name.startswith("relu")]
    assert all(record.unevenness is None for record in layers.values())


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("spike", "record takes spikes, potentials, counts, unevenness; got 'spike'"),
        (("spikes", "weights"), "got 'weights'"),
        ({"voltage": ".*"}, "got 'voltage'"),
        ({"spikes": "relu9"}, "'relu9' matches no neuron layer (there are x, relu,"),
        ({"spikes": ["relu", "el"]}, "'el' matches no neuron layer"),
        ({"counts": "("}, "is not a regular expression"),
    ],
)
def test_unknown_quantities_and_layers_are_errors(record, message):
    snn, images = converted("residual")
    for schedule in SCHEDULES:
        with pytest.raises(ConfigurationError, match=re.escape(message)):
            snn.simulate(images, record=record, schedule=schedule)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "layers"}, "schedule must be one of layer, tick, got 'layers'"),
        ({"latency": "slow"}, "latency must be one of streaming, window, got 'slow'"),
    ],
)
def test_unknown_options_are_errors(settings, message):
    snn, images = converted("residual")
    with pytest.raises(ConfigurationError, match=message):
        snn.simulate(images, **settings)


@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize("kind", ALL_NEURONS)
def test_counts_are_the_non_zero_spikes(kind, latency):
    snn, images = coded("concat_pools", kind)
    for record in snn.simulate(images, record=("spikes", "counts"), latency=latency).layers.values():
        assert record.counts == tuple(int(step.count_nonzero()) for step in record.spikes)
        assert record.samples == len(images)
        assert record.neurons == record.spikes[0, 0].numel()
        assert record.firing_rate == pytest.approx(float((record.spikes != 0).double().mean()))
        assert record.spikes.dtype in (torch.uint8, torch.int8)
        assert record.spikes.min() >= record.code.spike_range[0]
        assert record.spikes.max() <= record.code.spike_range[1]


@pytest.mark.parametrize(("bits", "T", "name"), [(1, 8, "residual"), (2, 4, "signed"), (8, 1, "shared")])
def test_potentials_of_digits_are_what_is_left_to_fire(bits, T, name):
    """A reset subtracts the digit's worth; in the end less than half a step is left, unless it was out of range."""
    snn, images = converted(name, bits=bits, T=T)
    for layer, record in snn.simulate(images, record=("spikes", "potentials")).layers.items():
        code, neuron = record.code, dict(snn.neurons())[layer]
        assert record.potentials.dtype == torch.float32
        assert record.potentials.shape == record.spikes.shape
        worth = torch.tensor(code.weights).view(-1, *[1] * (record.spikes.dim() - 1))
        lost = record.potentials[:-1] - record.potentials[1:]
        assert torch.allclose(lost, worth[1:] * record.spikes[1:], atol=1e-3)
        values, rest = decoded(record), record.potentials[-1]
        inside = (values > code.minimum) & (values < min(neuron.ceiling, code.maximum))
        assert inside.any()
        assert rest[inside].abs().max() <= 0.5 + 1e-6
        assert (rest[values == code.minimum] <= 0.5 + 1e-6).all()
        assert (rest[values == code.maximum] >= -0.5 - 1e-6).all()
        potential = rest.double() + values
        assert torch.equal(potential.round().clamp(code.minimum, neuron.ceiling), values)


@pytest.mark.parametrize("kind", ["if", "bursts", "v0"])
@pytest.mark.parametrize("name", ["residual", "signed"])
def test_potentials_of_counters_are_what_came_in_less_what_was_fired(kind, name):
    """In steps Δ a soft reset subtracts each spike; under a constant current what comes in is always the same."""
    snn, images = coded(name, kind)
    for latency in LATENCIES:
        simulation = snn.simulate(images, record=("spikes", "potentials"), latency=latency)
        first = list(simulation.layers)[1]
        for layer, record in list(simulation.layers.items())[1:]:
            code, spikes, after = record.code, record.spikes.double(), record.potentials.double()
            before = torch.cat([torch.full_like(after[:1], code.v0), after[:-1]])
            arrived = after - before + spikes
            if latency == "window" or layer == first:
                assert torch.allclose(arrived, arrived[:1].expand_as(arrived), atol=1e-5), layer
            high = code.spike_range[1]
            assert after[spikes < high].max() < 1
            assert after[spikes > 0].min() >= 0
            total = arrived.sum(0) - code.offset - (0.5 - code.v0)
            left = total - decoded(record)
            assert torch.allclose(left, after[-1] - 0.5, atol=1e-4), layer


def event_frames(images, steps, seed=0):
    """Frames that add up to the images, unevenly."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(steps, *images.shape, generator=generator)
    return images * shares / shares.sum(0)


def fired_frames(snn, frames):
    """The input's words in every frame: each is rounded and clipped by itself, int64 [T, N, ...]."""
    _, neuron = next(snn.neurons())
    code = neuron.code
    exact = frames * neuron.gain
    return exact.round().clamp(code.minimum, code.maximum).long()


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("name", ["chain", "residual", "signed", "concat_pools", "conv1d", "shared", "windows"])
def test_frames_add_up(name, steps):
    """A packed network driven by frames is the network on the sum of the quantized frames, in every bit."""
    snn, images = converted(name, bits=2, T=3)
    frames = event_frames(images, steps)
    summed = fired_frames(snn, frames).sum(0).float()
    run = NeuronValues(snn.network, {next(snn.neurons())[0]: summed})
    with torch.no_grad():
        expected = run.run(images)
    for schedule in SCHEDULES:
        simulation = snn.simulate(frames, record=("spikes",), schedule=schedule)
        assert torch.equal(simulation.output, expected)
        for layer, record in list(simulation.layers.items())[1:]:
            assert torch.equal(decoded(record), run.values[layer].double()), layer
        first = next(iter(simulation.layers.values()))
        assert torch.equal(first.spikes.long() - first.code.offset, fired_frames(snn, frames))
    shuffled = frames[torch.randperm(steps, generator=torch.Generator().manual_seed(2))]
    assert torch.equal(snn.simulate(shuffled).output, expected)


def test_one_frame_is_a_still_image():
    for kind in ALL_NEURONS:
        snn, images = coded("residual", kind)
        assert torch.equal(snn.simulate(images[None]).output, snn.simulate(images).output), kind


def test_empty_frames_add_nothing():
    snn, images = converted("signed", bits=2, T=4)
    frames = torch.zeros(5, *images.shape)
    frames[3] = images
    assert torch.equal(snn.simulate(frames).output, snn(images))


@pytest.mark.parametrize("reader", [{"bits": 4, "T": 2}, {"bits": 1, "T": 6}, {"neuron": "if", "bits": 1, "T": 8}])
def test_frames_through_an_input_of_several_steps(reader):
    """Whatever code a still image would be fired in, every frame is one spike of that code's whole window."""
    snn, images = converted("chain", bits=2, T=3, overrides={"0": reader})
    frames = event_frames(images, 4)
    for schedule in SCHEDULES:
        simulation = snn.simulate(frames, record=("spikes",), schedule=schedule)
        record = next(iter(simulation.layers.values()))
        assert len(record.spikes) == len(frames)
        assert record.spikes.min() >= 0
        assert record.spikes.max() <= record.code.span


@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize("kind", mostly_slow(ALL_NEURONS, keep=("packed", "if", "ternary", "differential")))
def test_a_stream_is_a_simulation_seen_from_outside(kind, latency):
    for name in ("residual", "concat_pools", "signed"):
        snn, images = coded(name, kind)
        for steps in (1, 3, ALL_NEURONS[kind][2]):
            frames = event_frames(images[:3], steps)
            runs = [snn.simulate(frames, record=EVERYTHING, schedule=s, latency=latency) for s in SCHEDULES]
            assert_same_run(*runs)
            answers = list(snn.stream(iter(frames), steps, latency=latency))
            assert len(answers) == runs[0].ticks
            given = [tick for tick, answer in enumerate(answers) if answer is not None]
            assert given == list(runs[0].readout_ticks)
            assert torch.equal(torch.stack([answers[tick] for tick in given]), runs[0].readout)
            assert torch.equal(answers[-1], runs[0].output)


def test_a_stream_takes_its_frames_one_by_one():
    """Not before they are needed, and not more than a window."""
    snn, images = converted("chain", neuron="if", bits=1, T=4)
    taken = []

    def camera():
        while True:
            taken.append(len(taken))
            yield images / 4

    stream = snn.stream(camera(), 4)
    assert taken == []
    for tick, _ in enumerate(stream):
        assert len(taken) == min(tick + 1, 4)
    assert len(taken) == 4


@pytest.mark.parametrize("given", [0, 1, 3])
def test_a_stream_that_ends_early_is_an_error(given):
    for kind in ("packed", "if", "differential"):
        snn, images = coded("residual", kind)
        answers = []
        with pytest.raises(InputError, match=f"the stream ended after {given} of 4 frames"):
            answers.extend(snn.stream(iter([images / 4] * given), 4))
        assert len(answers) <= given


@pytest.mark.parametrize("steps", [0, -1, 1.0, "2", None])
def test_the_length_of_a_stream_is_a_positive_integer(steps):
    snn, images = converted("chain")
    with pytest.raises(InputError, match="steps must be a positive integer"):
        next(snn.stream(iter([images]), steps))


def test_inputs_of_a_wrong_shape_or_type_are_errors():
    snn, images = converted("residual")
    wrong = [images[0], images[:, :2], images[..., :7], images[None, None], images.long(), images[:, :, :, :, None]]
    wrong += [images[None, :, :2], torch.zeros(2, 3), torch.zeros(())]
    for inputs in wrong:
        with pytest.raises(InputError, match=r"expected floating-point input \[N, 3, 8, 8\]"):
            snn.simulate(inputs)
    with pytest.raises(InputError, match="there are no event frames"):
        snn.simulate(images[None][:0])
    for frame in (images[0], images.long(), images[:, :1]):
        with pytest.raises(InputError, match="expected floating-point input"):
            list(snn.stream(iter([images, frame]), 2))


def test_frames_can_not_drive_what_does_not_add_up():
    """The network's input meets a function before it is spikes: refused, naming the layer."""

    def on_input(function):
        torch.manual_seed(0)
        net = Net(lambda n, x: n.head(F.relu(n.stem(function(x)))), stem=conv(3, 4), head=conv(4, 2)).eval()
        return snnconvert.convert(net, torch.randn(4, 3, 8, 8), progress=False)

    frames = torch.randn(3, 2, 3, 8, 8)
    for function in (torch.tanh, lambda x: F.pad(x, (1, 1, 1, 1), value=1.0), lambda x: F.max_pool2d(x, 2)):
        snn = on_input(function)
        snn.simulate(frames[0])
        with pytest.raises(ConversionError, match="event frames can't drive this network"):
            snn.simulate(frames)
    moved = on_input(lambda x: F.pad(x, (1, 0, 2, 0)).flip(1)[:, :, 1:].transpose(2, 3))
    still = moved.simulate(frames[:1].sum(0)).output
    assert torch.equal(moved.simulate(frames[:1]).output, still)


def test_two_layers_of_one_name_are_recorded_apart():
    """An activation called like the network's own argument."""
    torch.manual_seed(0)
    net = Net(lambda n, x: n.head(n.x(n.stem(x))), stem=conv(3, 4), x=nn.ReLU(), head=conv(4, 2)).eval()
    snn = snnconvert.convert(net, images := torch.randn(4, 3, 8, 8), progress=False)
    names = [name for name, _ in snn.neurons()]
    assert len(set(names)) == len(names) == 2
    simulation = snn.simulate(images, record=EVERYTHING)
    assert [record.spikes.shape[2] for record in simulation.layers.values()] == [3, 4]


class Memory(TorchDispatchMode):
    """Bytes of the tensors that operators have made and that are still alive, and the most there ever were."""

    def __init__(self):
        super().__init__()
        self.now, self.peak = 0, 0
        self._known, self._users = WeakTensorKeyDictionary(), Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._take, results)
        return results

    def _take(self, tensor):
        if tensor not in self._known:
            storage = tensor.untyped_storage()
            place, size = storage.data_ptr(), storage.nbytes()
            self._known[tensor] = place
            self._users[place] += 1
            self.now += size if self._users[place] == 1 else 0
            self.peak = max(self.peak, self.now)
            weakref.finalize(tensor, self._give_back, place, size)

    def _give_back(self, place, size):
        self._users[place] -= 1
        self.now -= size if self._users[place] == 0 else 0


def peak_of(snn, images, **settings):
    with Memory() as memory:
        snn.simulate(images, **settings)
    return memory.peak


@pytest.mark.parametrize("name", ["chain", "residual", "concat_pools"])
def test_tick_by_tick_needs_no_more_memory_for_more_steps(name):
    """What is alive at any moment is the state of one tick; layer by layer it is whole trains."""
    peaks = {}
    for T in (4, 32):
        snn, images = converted(name, neuron="if", bits=1, T=T)
        images = images[:1].repeat(16, *[1] * (images.dim() - 1))
        for schedule in SCHEDULES:
            peaks[schedule, T] = peak_of(snn, images, schedule=schedule)
    assert peaks["tick", 32] <= peaks["tick", 4] * 1.1
    assert peaks["layer", 32] > peaks["layer", 4] * 2
    assert peaks["tick", 32] < peaks["layer", 32] / 2


def test_a_layer_leaves_nothing_behind_once_it_has_run():
    """Layer by layer a deep chain takes no more memory than a shallow one."""
    peaks = []
    for depth in (3, 12):
        torch.manual_seed(0)
        layers = [layer for _ in range(depth) for layer in (conv(4, 4), nn.ReLU())]
        net = nn.Sequential(conv(3, 4), nn.ReLU(), *layers, conv(4, 2)).eval()
        snn = snnconvert.convert(net, torch.randn(2, 3, 8, 8), snnconvert.ConversionConfig(bits=1, T=8), progress=False)
        peaks.append(peak_of(snn, torch.randn(16, 3, 8, 8)))
    assert peaks[1] < peaks[0] * 1.2


def test_hand_written_graphs_may_use_any_zero_point():
    """Spikes with an offset that are padded, joined and delayed rest at zero where nothing fires."""
    aten = torch.ops.aten
    graph = fx.Graph()
    image = graph.placeholder("x")
    early, late = graph.call_module("early", (image,)), graph.call_module("early", (image,))
    padded = graph.call_function(aten.constant_pad_nd.default, (early, [1, 2]))
    again = graph.call_module("again", (graph.call_module("synapse", (late,)),))
    joined = graph.call_function(aten.cat.default, ([padded, again], 1))
    graph.output(graph.call_module("real", (graph.call_module("reader", (joined,)),)))
    one = torch.ones(1)

    def linear(inputs, outputs):
        weight = torch.randint(-5, 6, (outputs, inputs), generator=torch.Generator().manual_seed(inputs))
        ones = torch.ones(outputs)
        return Synapse(weight, ones, ones, ones, geometry=None, weight_bits=4, word_range=(-255, 255))

    for bits, T, offset in [(2, 3, 21), (1, 4, 9), (8, 1, 200), (2, 4, 255)]:
        neurons = {
            "early": SpikingNeuron(PackedCode(bits, T, offset), one, one),
            "again": SpikingNeuron(PackedCode(bits, T, offset // 2), one / 4, one),
        }
        root = {**neurons, "synapse": linear(4, 3), "reader": linear(10, 2), "real": ToReal(one)}
        network = fx.GraphModule(root, copy.deepcopy(graph))
        words = torch.randint(-offset, (1 << bits * T) - offset, (50, 4)).float()
        for schedule in SCHEDULES:
            simulation = simulate(network, [words], schedule=schedule)
            assert [adapter.action for adapter in simulation.adapters] == [f"delays earlier spikes until tick {1 + T}"]
            assert torch.equal(simulation.output, network(words))
