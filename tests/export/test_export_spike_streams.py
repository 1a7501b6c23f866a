import functools
import json

import numpy as np
import pytest
import torch
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.errors import ConfigurationError, InputError
from snnconvert.export.spike_arithmetic import integer_thresholds
from snnconvert.export.spike_arrays import mantissas
from snnconvert.export.spike_streams import SCHEMA, export_spike_streams
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode


class Replay:
    """A testbench: reads nothing but the file, computes with integers, compares every spike, current and logit."""

    def __init__(self, path):
        with np.load(path, allow_pickle=False) as file:
            self.file = dict(file)
        self.manifest = json.loads(self.file["manifest"].tobytes())
        self.nodes = {node["name"]: node for node in self.manifest["nodes"]}
        self.steps, self.constant, self.checked = {}, {}, []
        for node in self.manifest["nodes"]:
            if node["kind"] == "neuron":
                self.take_spikes(node)
            elif node["kind"] == "output":
                self.check_output(node)
            elif node["kind"] == "product":
                self.take_product(node)
            elif node["kind"].endswith("_transfer"):
                self.check_transfer(node)
            elif node["carrier"] in ("current", "spikes"):
                self.take_linear(node)

    def array(self, node, name):
        array = self.file[node["arrays"][name]]
        return array.astype(np.int64) if array.dtype.kind in "iu" else array

    def total(self, name):
        value = 0
        for growth, step in zip(self.nodes[name]["growth"], self.steps[name], strict=True):
            value = value * growth + step
        total = value.astype(np.int64) + self.constant[name]
        words = self.nodes[name].get("code", {}).get("words")
        return total if words is None else np.array(words, dtype=np.int64)[total]

    def take_spikes(self, node):
        name, spikes = node["name"], self.array(node, "spikes")
        if node["replay"] != "stimulus":
            assert np.array_equal(self.fire(node, node["inputs"][0]), spikes), name
            self.checked.append(name)
        self.steps[name] = [step - rest for step, rest in zip(spikes, node["rests"], strict=True)]
        self.constant[name] = node["constant"]

    def take_linear(self, node):
        name, sources = node["name"], node["inputs"]
        if len(node["growth"]) == 1:
            self.steps[name] = [self.apply(node, [self.total(source) for source in sources])]
            self.constant[name] = 0
        elif node["kind"] == "max_pool2d":
            sums, T = np.cumsum(self.steps[sources[0]], 0), len(node["growth"])
            told = [self.apply(node, [s + self.constant[sources[0]] * ((t + 1) / T)]) for t, s in enumerate(sums)]
            self.steps[name], self.constant[name] = np.diff([0 * told[0], *told], axis=0), 0
        else:
            steps = zip(*(self.steps[source] for source in sources), strict=True)
            self.steps[name] = [self.apply(node, list(step)) for step in steps]
            constants = [np.zeros_like(self.steps[source][0]) + self.constant[source] for source in sources]
            self.constant[name] = self.apply(node, constants)
        if node["kind"] == "synapse":
            bias = self.array(node, "bias") * self.array(node, "multiplier")
            self.constant[name] = self.constant[name] + channelwise(bias, node, self.steps[name][0])
        if "current" in node["arrays"] and self.file[node["arrays"]["current"]].dtype == np.int64:
            assert np.array_equal(self.total(name), self.array(node, "current")), name
            self.checked.append(name)

    def take_product(self, node):
        """Digits of one timing meet what the other side's have added up to; else the earlier side is complete."""
        name, (left, right) = node["name"], node["inputs"]
        assert self.constant[left] == self.constant[right] == 0
        one, other = ({key: self.nodes[side][key] for key in ("start", "growth")} for side in (left, right))
        early, late = sorted((left, right), key=lambda side: self.nodes[side]["start"])
        words, steps = [0, 0], []
        for growth, a, b in zip(one["growth"], self.steps[left], self.steps[right], strict=True):
            before = [growth * word for word in words]
            words = [before[0] + a, before[1] + b]
            steps.append(a * words[1] + before[0] * b)
        if len(node["growth"]) == 1:
            steps = [self.total(left) * self.total(right)]
        elif one != other:
            steps = [self.total(early) * step for step in self.steps[late]]
        self.steps[name] = [step * self.array(node, "multiplier") for step in steps]
        self.constant[name] = 0
        assert np.array_equal(self.total(name), self.total(left) * self.total(right) * self.array(node, "multiplier"))
        assert np.array_equal(self.total(name), self.array(node, "current"))
        self.checked.append(name)

    def check_transfer(self, node):
        potential = self.total(node["inputs"][0]).astype(np.float32)
        gain, values = self.array(node, "gain"), self.array(node, "values")
        if node["kind"] == "leaky_transfer":
            fired = np.where(potential < 0, potential * self.array(node, "negative_gain"), potential * gain)
        else:
            first, table = self.array(node, "first"), self.array(node, "table")
            fired = table[np.clip(np.rint(potential * gain) - first, 0, len(table) - 1).astype(int)]
        assert np.array_equal(fired, values), node["name"]
        self.checked.append(node["name"])

    def apply(self, node, values):
        kind, x, arguments = node["kind"], values[0], node.get("arguments", {})
        if kind == "synapse":
            linear, weight = node["operation"] == "linear", self.array(node, "weight")
            product = x @ weight.T if linear else convolved(x, weight, node["geometry"])
            return product * channelwise(self.array(node, "multiplier"), node, product)
        if kind == "sum_pool":
            g = node["geometry"]
            summed = x.sum(tuple(g["dims"]), keepdims=g["keepdim"]) if g["dims"] else pooled(x, g)
            return summed * self.array(node, "multiplier")
        if kind == "max_pool2d":
            sizes = [arguments[key] for key in ("kernel_size", "stride", "padding", "dilation")]
            return windows(x, *(size * (3 - len(size)) for size in sizes), np.iinfo(np.int64).min).max((-2, -1))
        return {
            "integer_scale": lambda: x * self.array(node, "multiplier"),
            "add": lambda: values[0] + values[1],
            "cat": lambda: np.concatenate(values, arguments["dim"]),
            "reshape": lambda: x.reshape(arguments["shape"]),
            "view": lambda: x.reshape(arguments["size"]),
        }[kind]()

    def fire(self, node, source):
        bits, T = node["code"]["bits"], node["code"]["T"]
        if "thresholds" in node["arrays"]:
            v = self.total(source) * self.array(node, "sign")
            word = sum((v >= level).astype(np.int64) for level in self.array(node, "thresholds"))
            return np.stack([(word >> bits * (T - 1 - t)) & ((1 << bits) - 1) for t in range(T)])
        return self.integrate(node, source)

    def integrate(self, node, source):
        """Integrate-and-fire in integers: everything is counted in 2^unit."""
        code = node["code"]
        assert (code["name"], code["settings"], node["cap"], "bias" in node["arrays"]) == ("if", {}, None, False)
        mantissa, exponent = self.array(node, "gain_mantissa"), self.array(node, "gain_exponent")
        unit = int(min(exponent.min(), -1))
        gain, one = mantissa << (exponent - unit), 1 << -unit
        m, threshold, spikes = int(code["initial"] * one), code["threshold"] * one, []
        for t in range(code["T"]):
            streams = node["timing"] == "stream"
            x = code["T"] * self.steps[source][t] + self.constant[source] if streams else self.total(source)
            u = gain * np.asarray(x, np.int64)
            m = m + rounded(u, node) + int(code["constant_current"] * one)
            assert np.abs(m).max() < 1 << 53
            spikes.append(np.clip(m // threshold, *code["spike_range"]))
            m = m - threshold * spikes[-1]
        return np.stack(spikes)

    def check_output(self, node):
        real = self.nodes[node["inputs"][0]]
        if real["kind"] == "to_real" and self.nodes[real["inputs"][0]]["carrier"] == "current":
            kind = np.float32 if real["significand_bits"] == 24 else np.float64
            logits = self.total(real["inputs"][0]).astype(kind) * self.array(real, "unit").astype(kind)
            assert np.array_equal(logits.astype(np.float32), self.file["logits"])
            self.checked.append(node["name"])


class RoundingReplay(Replay):
    """The same for codes whose potentials are rounded: IEEE arithmetic in the order that the file states."""

    def take_linear(self, node):
        if all(source in self.steps for source in node["inputs"]) and all(g == int(g) for g in node["growth"]):
            super().take_linear(node)

    def check_output(self, node):
        if self.nodes[node["inputs"][0]]["inputs"][0] in self.steps:
            super().check_output(node)

    def drives(self, node, source):
        T, kind = node["code"]["T"], np.float32 if node["significand_bits"] == 24 else np.float64
        gain = self.array(node, "gain").astype(kind)
        bias = self.array(node, "bias").astype(kind) if "bias" in node["arrays"] else kind(0)
        for t in range(T):
            if node["timing"] == "stream":
                u = self.steps[source][t] * (gain * T) + (self.constant[source] + bias) * gain
            else:
                u = ((self.total(source).astype(kind) + bias) * gain).astype(np.float64)
            yield u if node["cap"] is None else np.minimum(u, node["cap"])

    def integrate(self, node, source):
        code, settings = node["code"], node["code"]["settings"]
        name, theta, m, told, spikes = code["name"], code["threshold"], code["initial"], 0.0, []
        for t, u in enumerate(self.drives(node, source), 1):
            if name in ("if", "lif"):
                m = (m - code["initial"]) * code.get("leak", 1.0) + ((u + code["constant_current"]) + code["initial"])
                s = np.clip(np.floor(m / theta), 0, code["spike_range"][1])
            elif name == "spikepack":
                theta = settings.get("tau", 1.8) ** (code["T"] - t)
                m = m + u if t == 1 else m
                s = (m >= theta) * 1.0
            elif name == "ternary":
                m = m + u
                s = ((m >= theta) & (told < code["maximum"])) * 1.0 - ((m < 0) & (told > code["minimum"]))
            else:
                differential = name == "differential"
                m = m + u - told * theta if differential else m + u
                s = largest_power(m, theta, code["bits"], settings.get("rule"))
                if not code["signed"]:
                    s = np.where(s < 0, -np.minimum(-s, taken_back(told * t if differential else told)), s)
            told = told + (s / t if name == "differential" else s)
            m = np.where(s > 0, 0.0, m) if settings.get("reset") == "hard" else m - theta * s
            spikes.append(s)
        return np.stack(spikes).astype(np.int64)


def rounded(values, node):
    """Integers rounded to as many significant bits as the file says, half to even; exact ones stay."""
    excess = np.maximum(np.frexp(np.abs(values).astype(np.float64))[1] - node["significand_bits"], 0).astype(np.int64)
    kept = values >> excess
    rest, half = values - (kept << excess), (1 << excess) >> 1
    result = (kept + ((rest > half) | ((rest == half) & (excess > 0) & (kept % 2 == 1)))) << excess
    assert node["replay"] == "rounded" or np.array_equal(result, values)
    return result


def largest_power(m, theta, bits, rule):
    sizes = 0.0
    for k in range(bits):
        reached = theta * (2**k - 0.5) if rule == "ecmt" else 0.75 * theta * 2**k
        sizes = np.where(np.abs(m) >= reached, 2.0**k, sizes)
    return np.sign(m) * sizes


def taken_back(fired):
    fired = np.round(fired)
    return np.exp2(np.floor(np.log2(np.maximum(fired, 1)))) * (fired >= 1)


def channelwise(values, node, like):
    return values if node["operation"] == "linear" else values.reshape(-1, *[1] * (like.ndim - 2))


def windows(x, kernel, stride, padding, dilation, filling):
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)], constant_values=filling)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    found = np.lib.stride_tricks.sliding_window_view(x, reach, (2, 3))
    return found[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def pooled(x, geometry):
    return windows(x, geometry["kernel"], geometry["stride"], geometry["padding"], [1, 1], 0).sum((-2, -1))


def convolved(x, weight, geometry):
    if geometry["transposed"]:
        return transposed(x, weight, geometry)
    patches = windows(x, weight.shape[2:], geometry["stride"], geometry["padding"], geometry["dilation"], 0)
    parts = zip(np.split(patches, geometry["groups"], 1), np.split(weight, geometry["groups"]), strict=True)
    return np.concatenate([np.einsum("nchwij,ocij->nohw", patch, part) for patch, part in parts], 1)


def transposed(x, weight, geometry):
    """Every input value adds its kernel to the output; here without groups, padding and dilation."""
    stride, kernel = geometry["stride"], weight.shape[2:]
    assert (geometry["groups"], geometry["padding"], geometry["output_padding"]) == (1, [0, 0], [0, 0])
    sizes = [(size - 1) * s + k for size, s, k in zip(x.shape[2:], stride, kernel, strict=True)]
    total = np.zeros((len(x), len(weight), *sizes))
    for row, column in np.ndindex(x.shape[2:]):
        place = (slice(row * stride[0], row * stride[0] + kernel[0]),
                 slice(column * stride[1], column * stride[1] + kernel[1]))  # fmt: skip
        total[(slice(None), slice(None), *place)] += np.einsum("nc,ocij->noij", x[:, :, row, column], weight)
    return total


class Branches(nn.Module):
    """Pools with padding, a signed edge into a grouped and dilated convolution, a cap, a concat, a residual sum."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.left = nn.Conv2d(8, 6, 1)
        self.spread = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.right = nn.Conv2d(8, 4, 3, padding=1)
        self.average = nn.AvgPool2d(2)
        self.mix = nn.Conv2d(10, 8, 1)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.pool(torch.relu(self.stem(x)))
        x = torch.cat([nn.functional.relu6(8 * self.left(x)), torch.relu(self.right(self.spread(x)))], 1)
        x = torch.relu(self.mix(self.average(x)))
        return self.head(torch.relu(self.body(x) + x).mean((2, 3)))


class PreActivation(nn.Module):
    """Neurons with gains of both signs and a bias; a linear layer behind a flattening."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.norm1 = nn.BatchNorm2d(6)
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(6)
        self.hidden = nn.Linear(6 * 36, 12)
        self.head = nn.Linear(12, 4)
        for norm in (self.norm1, self.norm2):
            nn.init.uniform_(norm.weight, -1, 1)
            nn.init.uniform_(norm.bias, -0.5, 1)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.conv(torch.relu(self.norm1(x)))
        x = torch.relu(self.norm2(x))
        return self.head(torch.relu(self.hidden(x.flatten(1))))


class Shared(nn.Module):
    """A current that neurons and a sum read in the same tick."""

    def __init__(self):
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 6, 3, padding=1)
        self.second, self.head = nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x):
        x = self.first(torch.relu(self.stem(x)))
        return self.head(torch.relu(x + 0.001 * self.second(torch.relu(x))).mean((2, 3)))


def chain():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 36, 5),
    )


@functools.cache
def settled(build):
    """A network of random weights with settled statistics, and images [8, 3, 12, 12]."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        network, images = build().train(), torch.randn(8, 3, 12, 12)
        with torch.no_grad():
            for _ in range(10):
                network(images)
    return network.eval(), images


@functools.cache
def converted(build, **settings):
    network, images = settled(build)
    config = snnconvert.ConversionConfig(**settings)
    return snnconvert.convert(network, images, config, progress=False), images[:4]


def exported(path, build, latency="streaming", **settings):
    snn, images = converted(build, **settings)
    export_spike_streams(snn, images, path / "streams.npz", latency=latency)
    return snn, images, path / "streams.npz"


def expected_checks(replay):
    """Neurons but the stimuli, every current in the file, the output."""
    nodes = replay.manifest["nodes"]
    neurons = [node["name"] for node in nodes if node["kind"] == "neuron" and node["replay"] != "stimulus"]
    currents = [node["name"] for node in nodes if "current" in node["arrays"]]
    return sorted([*neurons, *currents, "output"])


@pytest.mark.parametrize(
    ("build", "settings"),
    mostly_slow(
        [
            (Branches, {}),
            (PreActivation, {}),
            (chain, {}),
            (Branches, {"bits": 1, "T": 3}),
            (Branches, {"threshold_granularity": "channel"}),
            (Branches, {"threshold_granularity": "smoothed", "channel_shift": True}),
            (PreActivation, {"bits": 1, "T": 3, "potential_correction": True}),
            (Branches, {"weight_bits": 2, "weight_granularity": "channel", "potential_correction": True}),
        ],
        keep=[
            (chain, {}),
            (Branches, {"bits": 1, "T": 3}),
            (Branches, {"threshold_granularity": "smoothed", "channel_shift": True}),
            (PreActivation, {"bits": 1, "T": 3, "potential_correction": True}),
        ],
    ),
)
def test_packed_networks_replay_in_integers(tmp_path, build, settings):
    snn, images, path = exported(tmp_path, build, **settings)
    replay = Replay(path)
    assert sorted(replay.checked) == expected_checks(replay)
    assert replay.manifest["stimuli"] == ["neuron_x" if "neuron_x" in replay.nodes else "neuron_input_1"]
    assert replay.manifest["analog"] == []
    assert np.array_equal(replay.file["logits"], snn(images).numpy())
    assert np.array_equal(replay.file["input"], images.numpy())


@pytest.mark.parametrize("latency", ["streaming", "window"])
@pytest.mark.parametrize(("build", "bits", "T"), [(chain, 1, 6), (chain, 2, 5), (Shared, 1, 16)])
def test_integrate_and_fire_networks_replay_step_by_step(tmp_path, latency, build, bits, T):
    _, _, path = exported(tmp_path, build, latency, neuron="if", bits=bits, T=T)
    replay = Replay(path)
    assert sorted(replay.checked) == expected_checks(replay)
    neurons = [node for node in replay.manifest["nodes"] if node["kind"] == "neuron"]
    assert replay.manifest["stimuli"] == [neurons[0]["name"]]
    assert neurons[2]["timing"] == ("stream" if latency == "streaming" else "window")
    assert all(node["replay"] == "integers" for node in neurons if node["timing"] == "stream")


CODES = {
    "if": {},
    "if:reset=hard,v0=0.25": {"bits": 2},
    "lif:leak=0.9": {},
    "multithreshold": {"bits": 3},
    "multithreshold:rule=ecmt": {"bits": 3},
    "ternary": {},
    "differential": {"bits": 3},
    "spikepack": {},
}
ROUNDED = ("if", "lif:leak=0.9")


@pytest.mark.parametrize("latency", ["streaming", "window"])
@pytest.mark.parametrize(
    ("code", "build"),
    mostly_slow(
        [*((code, chain) for code in CODES), *((code, PreActivation) for code in ROUNDED)],
        keep=[
            ("if", chain),
            ("lif:leak=0.9", chain),
            ("ternary", chain),
            ("differential", chain),
            ("if", PreActivation),
        ],
    ),
)
def test_every_code_fires_as_the_file_says(tmp_path, code, build, latency):
    snn, _, path = exported(tmp_path, build, latency, **{"bits": 1, "T": 6, "neuron": code, **CODES[code]})
    replay = RoundingReplay(path)
    firing = [name for name in expected_checks(replay) if name.startswith("neuron")]
    assert set(firing) <= set(replay.checked)
    if build is PreActivation:
        assert any(node.get("replay") == "rounded" for node in replay.manifest["nodes"])
    whole = code not in ("differential", "spikepack")
    assert len(firing) == (len(list(snn.neurons())) - 1 if whole else 1)


def test_trains_and_starts_are_those_of_the_simulation(tmp_path):
    snn, images, path = exported(tmp_path, chain, neuron="if", bits=1, T=6)
    simulation, replay = snn.simulate(images, record="spikes"), Replay(path)
    nodes = {node["layer"]: node for node in replay.manifest["nodes"] if node["kind"] == "neuron"}
    assert list(nodes) == list(simulation.layers)
    for layer, record in simulation.layers.items():
        assert torch.equal(torch.from_numpy(replay.file[nodes[layer]["arrays"]["spikes"]]), record.spikes)
        assert nodes[layer]["start"] == record.start
        assert tuple(nodes[layer]["growth"]) == (1.0, *record.code.growth[1:])
    assert replay.manifest["ticks"] == simulation.ticks


def test_the_file_is_described_by_its_manifest(tmp_path):
    snn, images, path = exported(tmp_path, Branches)
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    manifest = json.loads(arrays["manifest"].tobytes())
    assert manifest["schema"] == SCHEMA == "snnconvert.spike-streams/1"
    assert (manifest["images"], manifest["latency"]) == (len(images), "streaming")
    named = {key for node in manifest["nodes"] for key in node["arrays"].values()}
    assert named | {"manifest", "input", "logits"} == set(arrays)
    synapses = {node["layer"]: node for node in manifest["nodes"] if node["kind"] == "synapse"}
    assert list(synapses) == [layer for layer, _ in snn.synapses()]
    for layer, synapse in snn.synapses():
        node = synapses[layer]
        kinds = {name: arrays[node["arrays"][name]].dtype for name in ("weight", "bias", "multiplier", "current")}
        assert kinds == {"weight": np.int8, "bias": np.int32, "multiplier": np.int64, "current": np.int64}
        assert np.array_equal(arrays[node["arrays"]["weight"]], synapse.weight)
    spread, head = synapses["spread"], synapses["head"]
    assert (spread["operation"], head["operation"]) == ("conv2d", "linear")
    grid = {"stride": [1, 1], "padding": [2, 2], "dilation": [2, 2], "groups": 2}
    assert spread["geometry"] == {**grid, "transposed": False, "output_padding": []}
    assert all(manifest["nodes"][0]["name"] != name for name in head["neurons"])
    assert len(synapses["body"]["neurons"]) == 1
    neurons = {node["name"]: node for node in manifest["nodes"] if node["kind"] == "neuron"}
    assert neurons[spread["neurons"][0]]["code"]["T"] == 4
    pool = next(node for node in manifest["nodes"] if node["kind"] == "max_pool2d")
    assert pool["arguments"]["padding"] == [1, 1]
    assert pool["arguments"]["ceil_mode"] is False


def test_neurons_behind_analog_nodes_are_stimuli(tmp_path):
    build = lambda: nn.Sequential(  # noqa: E731
        nn.Conv2d(3, 4, 3),
        nn.GroupNorm(2, 4, affine=False),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 5),
    )
    _, _, path = exported(tmp_path, build)
    replay = Replay(path)
    behind = [node for node in replay.manifest["nodes"] if node.get("reason") == "it reads analog nodes"]
    assert [replay.nodes[node["inputs"][0]]["kind"] for node in behind] == ["analog"]
    assert replay.manifest["stimuli"][1:] == [node["name"] for node in behind]
    (analog,) = replay.manifest["analog"]
    norm, source = replay.nodes[analog], replay.nodes[replay.nodes[analog]["inputs"][0]]
    assert "group_norm" in norm["operator"]
    before, after = (torch.from_numpy(replay.file[node["arrays"]["values"]]) for node in (source, norm))
    assert torch.allclose(nn.functional.group_norm(before, 2), after, atol=1e-6)
    assert sorted(replay.checked) == expected_checks(replay)


def pooling():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5)
    )


@pytest.mark.parametrize(("T", "replay"), [(8, "integers"), (6, "rounded")])
def test_running_maxima_replay(tmp_path, T, replay):
    _, _, path = exported(tmp_path, pooling, neuron="if", bits=1, T=T)
    replayed = (Replay if replay == "integers" else RoundingReplay)(path)
    neurons = [node["replay"] for node in replayed.manifest["nodes"] if node["kind"] == "neuron"]
    assert (neurons[0], neurons[2]) == ("stimulus", replay)
    assert set(replayed.checked) >= {name for name in expected_checks(replayed) if name.startswith("neuron")}


@pytest.mark.parametrize("bits", [24, 53])
@pytest.mark.parametrize("ceiling", [None, 9])
@pytest.mark.parametrize("offset", [0, 6])
def test_thresholds_say_what_the_neurons_fire(bits, ceiling, offset):
    generator = torch.Generator().manual_seed(bits + offset)
    gain = torch.randn(5, 1, generator=generator) * 0.03
    bias = torch.randn(5, 1, generator=generator) * 50
    neuron = SpikingNeuron(PackedCode(2, 2, offset), gain, torch.tensor(1.0), bias, ceiling=ceiling)
    thresholds, sign = integer_thresholds(neuron, bits)
    currents = torch.arange(-3000, 3000).expand(5, -1)
    fired = neuron(currents.to(torch.float32 if bits == 24 else torch.float64))
    words = -offset + sum((sign * currents.numpy() >= level).astype(int) for level in thresholds)
    assert np.array_equal(words, fired.numpy())
    assert (sign[:, 0] == np.sign(gain[:, 0].numpy())).all()
    assert (np.diff(thresholds, axis=0) >= 0).all()


def test_thresholds_out_of_reach_lie_beyond_all_currents():
    thresholds, _ = integer_thresholds(SpikingNeuron(PackedCode(1, 2), torch.tensor(2.0**-24), torch.tensor(1.0)), 24)
    assert thresholds.tolist() == [2**23 + 1, (1 << 24) + 1, (1 << 24) + 1]


def test_mantissas_are_odd_and_exact():
    values = torch.tensor([0.0, 1.0, -0.75, 0.1, 3e-12, 2.0**-60, -4096.0])
    mantissa, exponent = mantissas(values)
    assert np.array_equal(np.ldexp(mantissa.astype(np.float64), exponent), values.double().numpy())
    assert (mantissa[1:] % 2 == 1).all()
    assert mantissa.tolist()[:3] == [0, 1, -3]


def test_the_same_export_gives_the_same_bytes(tmp_path):
    snn, images, path = exported(tmp_path, chain)
    export_spike_streams(snn, images, tmp_path / "again" / "b.npz")
    assert path.read_bytes() == (tmp_path / "again" / "b.npz").read_bytes()


def test_what_can_not_be_exported_leaves_everything_as_it_was(tmp_path):
    snn, images, path = exported(tmp_path, chain)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"streams\.npz exists.*force=True"):
        export_spike_streams(snn, images[:1], path)
    with pytest.raises(InputError, match="no images"):
        export_spike_streams(snn, images[:0], path, force=True)
    with pytest.raises(InputError, match=r"expected floating-point images \[N, 3, 12, 12\], got .*\[4, 3, 12, 11\]"):
        export_spike_streams(snn, images[..., :-1], path, force=True)
    with pytest.raises(ConfigurationError, match="latency must be one of"):
        export_spike_streams(snn, images, path, latency="soon", force=True)
    with pytest.raises(InputError, match=r"\.npz files"):
        export_spike_streams(snn, images, tmp_path / "streams.bin")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        export_spike_streams(snn, images, tmp_path / "folder.npz", force=True)
    with pytest.raises(InputError, match="can't be written"):
        export_spike_streams(snn, images, path / "inside.npz")
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder.npz", "streams.npz"]
    export_spike_streams(snn, images[:1], path, force=True)
    assert Replay(path).manifest["images"] == 1


class FunctionsAndProducts(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.up = nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.gate, self.side, self.head = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = nn.functional.leaky_relu(self.up(nn.functional.gelu(self.stem(x))), 0.1)
        x = torch.relu(torch.tanh(self.gate(x)) * x)
        return self.head(self.gate(x) * self.side(x))


def test_functions_and_products_replay(tmp_path):
    """Tables, slopes, products and transposed convolutions, from the file's own arrays and rules."""
    _, _, path = exported(tmp_path, FunctionsAndProducts)
    replay = Replay(path)
    nodes = replay.nodes
    assert nodes["synapse_up"]["operation"] == "conv_transpose2d"
    assert nodes["neuron_gelu"]["reason"] == "it fires on a function of the potential"
    transfers = [name for name, node in nodes.items() if node["kind"].endswith("_transfer")]
    assert len(transfers) == 3
    assert set(transfers) | {"product_mul", "product_mul_2"} <= set(replay.checked)


class SoftmaxGate(nn.Module):
    """A product that reads a softmax."""

    def __init__(self):
        super().__init__()
        self.scores, self.side, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 6, 3), nn.Conv2d(6, 2, 1)

    def forward(self, x):
        return self.head((4 * self.scores(x)).softmax(1) * self.side(x))


@pytest.mark.parametrize("code", mostly_slow(["log2", "log-sqrt2"], keep=["log2"]))
def test_words_that_number_their_value_replay(tmp_path, code):
    """The digits of an attention map, looked up in the file's own table, times the other side's total."""
    _, _, path = exported(tmp_path, SoftmaxGate, bits=1, T=4, last_bits=4, attention_code=code)
    replay = Replay(path)
    (neuron,) = [node for node in replay.nodes.values() if node.get("code", {}).get("name") == "log"]
    assert neuron["replay"] == "stimulus"
    assert len(neuron["code"]["words"]) == 16
    assert "number of thresholds" in neuron["code"]["step"]
    assert sorted(replay.checked) == expected_checks(replay)
    assert any(name.startswith("product") for name in replay.checked)
