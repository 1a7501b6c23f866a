import json

import numpy as np
import pytest
import torch
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.errors import ConversionError, InputError
from snnconvert.export import nir_nodes
from snnconvert.export.nir_export import export_nir
from snnconvert.export.nir_read import read_nir

nir = pytest.importorskip("nir")

RATE = {"neuron": "if:reset=hard,v0=0", "bits": 1}
SHIFTED = {"threshold_granularity": "smoothed", "channel_shift": True}
PACKED = [*({"bits": b, "T": T} for b, T in ((2, 4), (1, 4), (1, 8), (8, 1), (3, 2))), {"bits": 1, "T": 4, **SHIFTED}]
STEPPED = [*({**RATE, "T": T} for T in (2, 4, 16)), {**RATE, "T": 8, **SHIFTED}]


class Residual(nn.Module):
    """Identity and projection shortcuts, and a mean over positions."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.c = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.d = nn.Conv2d(4, 6, 1, stride=2)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = torch.relu(self.a(x))
        x = torch.relu(self.b(x) + x)
        x = torch.relu(self.c(x) + self.d(x))
        return self.head(x.mean((2, 3)))


def chain():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


def perceptron():
    """Linear layers, two of them without an activation between them."""
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 10), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4))


def flat_first():
    """An image read by a linear layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 12), nn.ReLU(), nn.Linear(12, 4))


NETWORKS = {
    "chain": (chain, (3, 8, 8)),
    "residual": (Residual, (3, 8, 8)),
    "perceptron": (perceptron, (12,)),
    "flat": (flat_first, (3, 4, 4)),
}


def converted(name, **settings):
    kind, shape = NETWORKS[name]
    torch.manual_seed(3)
    network = kind().train()
    images = torch.randn(24, *shape)
    for _ in range(20):
        network(images)
    config = snnconvert.ConversionConfig(**settings)
    return snnconvert.convert(network.eval(), images, config, progress=False), images[:5]


def counts_of(images, facts):
    """What the facts tell a user to feed, at every tick."""
    counts = (images / facts.input_step).round().clamp(facts.input_minimum, facts.input_maximum)
    return counts.to(getattr(torch, facts.dtype)).expand(facts.T, *counts.shape)


def assert_same(snn, images, facts, output, spikes):
    """Every spike, and the network's output as the facts say it is computed."""
    simulated = snn.simulate(images, record=("spikes",))
    assert set(facts.neurons) == set(simulated.layers) - {next(iter(simulated.layers))}
    for layer, nodes in facts.neurons.items():
        record = simulated.layers[layer]
        if facts.form == "steps":
            (node,) = nodes
            assert torch.equal(spikes[node].to(torch.uint8), record.spikes), layer
        else:
            words = (record.code.from_spikes(record.spikes) + record.code.offset).long()
            assert len(nodes) == record.code.word_bits
            for index, node in enumerate(nodes):
                expected = words >> (len(nodes) - 1 - index) & 1
                assert torch.equal(spikes[node][0].long(), expected), node
    totals = output.double().sum(0) + torch.tensor(facts.output_constant, dtype=torch.float64)
    logits = totals * torch.tensor(facts.output_unit, dtype=torch.float64)
    torch.testing.assert_close(logits.float(), simulated.output, rtol=1e-6, atol=0)


EXPORTED = [(name, settings) for name in NETWORKS for settings in (*PACKED, *STEPPED)]
QUICK = [
    ("chain", PACKED[0]), ("chain", STEPPED[3]), ("residual", PACKED[1]), ("residual", PACKED[5]),
    ("residual", STEPPED[1]), ("perceptron", PACKED[4]), ("perceptron", STEPPED[2]), ("flat", PACKED[3]),
    ("flat", STEPPED[0]),
]  # fmt: skip


@pytest.fixture(scope="module", params=mostly_slow(EXPORTED, keep=QUICK, as_one=True), ids=str)
def exported(request, tmp_path_factory):
    name, settings = request.param
    snn, images = converted(name, **settings)
    path = tmp_path_factory.mktemp("nir") / "net.nir"
    return snn, images, export_nir(snn, path), path


def test_read_back_it_fires_the_same_spikes(exported):
    snn, images, facts, path = exported
    network = read_nir(path)
    assert json.loads(network.metadata["snnconvert"]) == json.loads(json.dumps(facts.__dict__))
    assert_same(snn, images, facts, *network.run(counts_of(images, facts)))


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.head(self.left(x) * self.right(x))


def test_words_that_number_their_value_are_refused_by_name(tmp_path):
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.scores, self.side, self.head = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.scores(x).softmax(-1) * self.side(x))

    settings = snnconvert.ConversionConfig(attention_code="log2")
    snn = snnconvert.convert(Gate().eval(), torch.randn(16, 6), settings, progress=False)
    with pytest.raises(ConversionError, match=r"^softmax: .*number a value in a table.*attention_code uniform"):
        export_nir(snn, tmp_path / "net.nir")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("network", "layer", "words"),
    mostly_slow(
        [
            (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 2, 1)), "1", "fire on a function"),
            (nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(), nn.Conv2d(4, 2, 1)), "1", "fire on a function"),
            (nn.Sequential(nn.ConvTranspose2d(3, 2, 2)), "0", "transposed"),
            (Gate(), "mul", "multiplies two activations"),
            (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(1, 4), nn.Conv2d(4, 2, 1)), "0", "analog nodes"),
        ],
        keep=3,
    ),
)
def test_layers_that_nir_does_not_know_are_refused_by_name(network, layer, words, tmp_path):
    settings = snnconvert.ConversionConfig(bits=1, T=4)
    snn = snnconvert.convert(network.eval(), torch.randn(8, 3, 8, 8), settings, progress=False)
    with pytest.raises(ConversionError, match=rf"^{layer}: .*{words}"):
        export_nir(snn, tmp_path / "net.nir")


def test_only_binary_neurons_and_plain_synapses_are_written(exported):
    _, _, facts, path = exported
    graph = nir.read(str(path))
    kinds = {type(node).__name__ for node in graph.nodes.values()}
    assert kinds <= {"Input", "Output", "Conv2d", "Affine", "AvgPool2d", "SumPool2d", "Flatten", "IF"}
    names = {name for nodes in facts.neurons.values() for name in nodes}
    assert {name for name, node in graph.nodes.items() if type(node).__name__ == "IF"} == names


def test_another_framework_fires_the_same_spikes(exported):
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    snn, images, facts, path = exported
    network = exchange.import_from_nir(nir.read(str(path)), dt=1.0, dtype=getattr(torch, facts.dtype))
    spikes = {name: [] for nodes in facts.neurons.values() for name in nodes}
    for name, train in spikes.items():
        network.get_submodule(name).register_forward_hook(lambda _m, _i, sent, train=train: train.append(sent[0]))
    outputs, state = [], None
    with torch.no_grad():
        for step in counts_of(images, facts):
            output, state = network(step, state)
            outputs.append(output)
    stacked = {name: torch.stack(train) for name, train in spikes.items()}
    assert_same(snn, images, facts, torch.stack(outputs), stacked)


@pytest.mark.parametrize(
    ("settings", "words"),
    mostly_slow(
        [
            ({"neuron": "if", "bits": 1, "T": 4}, ["0", "if", "reset=hard", "packed"]),
            ({"neuron": "if:reset=hard,v0=0", "bits": 2, "T": 4}, ["binary"]),
            ({"neuron": "differential", "bits": 2, "T": 4}, ["differential"]),
            ({**RATE, "T": 3}, ["powers of two"]),
            ({**RATE, "T": 4, "overrides": {"2": {"T": 8}}}, ["different numbers of time steps"]),
        ],
        keep=2,
    ),
)
def test_what_nir_cannot_say_is_refused(settings, words, tmp_path):
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    snn = snnconvert.convert(network, torch.randn(16, 6), snnconvert.ConversionConfig(**settings), progress=False)
    with pytest.raises(ConversionError) as refused:
        export_nir(snn, tmp_path / "net.nir")
    assert all(word in str(refused.value) for word in words)
    assert list(tmp_path.iterdir()) == []


def test_potentials_of_single_neurons_are_refused_by_the_layer(tmp_path):
    config = snnconvert.ConversionConfig(bits=1, T=3, potential_correction=True)
    torch.manual_seed(0)
    snn = snnconvert.convert(chain().eval(), torch.randn(16, 3, 8, 8), config, progress=False)
    with pytest.raises(ConversionError, match=r"^2: its neurons start at potentials .* without potential_correction"):
        export_nir(snn, tmp_path / "net.nir")


def test_layers_without_a_node_are_named(tmp_path):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3)
            self.pool = nn.MaxPool2d(2)
            self.head = nn.Linear(36, 3)

        def forward(self, x):
            return self.head(self.pool(torch.relu(self.first(x))).flatten(1))

    images = torch.randn(16, 3, 8, 8)
    snn = snnconvert.convert(Pooled().eval(), images, progress=False)
    with pytest.raises(ConversionError, match="pool"):
        export_nir(snn, tmp_path / "net.nir")


def test_files_are_not_replaced_unasked(tmp_path):
    snn, _ = converted("perceptron", bits=2, T=2)
    path = tmp_path / "net.nir"
    path.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        export_nir(snn, path)
    assert path.read_text() == "mine"
    export_nir(snn, path, force=True)
    assert read_nir(path)
    assert [item.name for item in tmp_path.iterdir()] == ["net.nir"]


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    snn, _ = converted("perceptron", bits=2, T=2)

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(nir_nodes.importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"pip install 'snnconvert\[nir\]'"):
        export_nir(snn, tmp_path / "net.nir")


class TestReading:
    def write(self, path, nodes, edges):
        # without its own check the package writes graphs it would not build
        nir.write(str(path), nir.NIRGraph(nodes, edges, type_check=False))
        return path

    def ends(self):
        return {"in": nir.Input({"input": np.array([2])}), "out": nir.Output({"output": np.array([2])})}

    def test_damaged_files_are_one_line(self, tmp_path):
        (tmp_path / "bad.nir").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
        for name in ("bad.nir", "missing.nir"):
            with pytest.raises(InputError, match=name) as refused:
                read_nir(tmp_path / name)
            assert "\n" not in str(refused.value)

    def test_unknown_nodes_are_named_together(self, tmp_path):
        ones = np.ones(2, np.float32)
        nodes = {**self.ends(), "a": nir.LIF(tau=ones, r=ones, v_leak=ones, v_threshold=ones), "b": nir.Delay(ones)}
        path = self.write(tmp_path / "net.nir", nodes, [("in", "a"), ("a", "b"), ("b", "out")])
        with pytest.raises(InputError, match="Delay, LIF"):
            read_nir(path)

    def test_cycles_are_named(self, tmp_path):
        ones = np.ones(2, np.float32)
        neurons = {name: nir.IF(r=ones, v_threshold=ones) for name in "ab"}
        edges = [("in", "a"), ("a", "b"), ("b", "a"), ("b", "out")]
        path = self.write(tmp_path / "net.nir", {**self.ends(), **neurons}, edges)
        with pytest.raises(InputError, match=r"cycle: . -> . -> ."):
            read_nir(path)

    def test_neurons_follow_the_definition(self, tmp_path):
        """v > θ strictly, and back to v_reset."""
        full = np.full(2, 1.0, np.float32)
        neuron = nir.IF(r=2 * full, v_threshold=3 * full, v_reset=-full)
        path = self.write(tmp_path / "net.nir", {**self.ends(), "a": neuron}, [("in", "a"), ("a", "out")])
        inputs = torch.tensor([[1.5, 0.5], [0.1, 0.5], [1.0, 0.5], [1.1, 0.5]]).unsqueeze(1)
        output, spikes = read_nir(path).run(inputs)
        # 3.0 stays, 3.2 fires to -1, 1.0, 3.2 fires | 1, 2, 3 stay, 4 fires
        assert spikes["a"][:, 0].tolist() == [[0, 0], [1, 0], [0, 0], [1, 1]]
        assert torch.equal(output, spikes["a"].float())
