"""Logarithmic words in time: the packed pass bit for bit, and products against an oracle in integers."""

import json

import numpy as np
import pytest
import torch
from engine_networks import SHAPES, Net, assert_same_run, assert_stepwise_is_packed, captured, converted, replanned
from slow_cases import mostly_slow
from torch import fx, nn

import snnconvert
from snnconvert.api import prepare
from snnconvert.engines.stepwise import is_exact, simulate
from snnconvert.errors import ConversionError
from snnconvert.neurons.logarithmic import LogarithmicCode
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse

CODES = ["log2", "log-sqrt2"]
ORDERS = [(schedule, latency) for schedule in ("layer", "tick") for latency in ("streaming", "window")]


def tables(width, base):
    """Powers of 2 or √2 by repeated multiplication; for the widths where they aren't finer."""
    pairs = [1] if base == "2" else [12, 17]
    return np.array([0, *(pairs[k % len(pairs)] * 2 ** (k // len(pairs)) for k in range(2**width - 1))], dtype=np.int64)


class Seen(fx.Interpreter):
    """Runs packed and keeps the currents of products."""

    def __init__(self, network):
        super().__init__(network)
        self.currents = []

    def call_module(self, target, args, kwargs):
        value = super().call_module(target, args, kwargs)
        if isinstance(self.fetch_attr(target), Product):
            self.currents.append(value)
        return value


@pytest.mark.parametrize("code", mostly_slow(CODES, keep=["log2"]))
@pytest.mark.parametrize("name", mostly_slow(["attention", "class_token"], keep=("attention",)))
def test_every_width_and_length_of_spikes(name, code):
    for bits, T in SHAPES:
        snn, images = converted(name, bits=bits, T=T, attention_code=code)
        assert is_exact(snn.network)
        assert sum(isinstance(neuron.code, LogarithmicCode) for _, neuron in snn.neurons()) == 1
        for schedule, latency in ORDERS:
            assert_stepwise_is_packed(snn, images, schedule=schedule, latency=latency)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(("bits", "T"), [(1, 4), (2, 2), (1, 3), (4, 1)])
def test_the_product_is_that_of_decoded_digits(code, bits, T):
    """Digits that were fired, decoded by a table made here, times the other side's words, in int64."""
    snn, images = converted("attention", bits=bits, T=T, attention_code=code)
    run = Seen(snn.network)
    with torch.no_grad():
        run.run(images)
    layers = snn.simulate(images, record=("spikes",)).layers
    ((weights, side),) = [(layer, record) for layer, record in layers.items() if record.code.name == "log"]
    digits = layers[weights].spikes.numpy().astype(np.int64)
    numbers = sum(digits[t] << bits * (T - 1 - t) for t in range(T))
    decoded = tables(bits * T, side.code.base)[numbers]
    nodes = {node.name: node for node in snn.network.graph.nodes}
    (product,) = [node for node in nodes.values() if "matmul" in node.name and weights in _layer(node.args[0])]
    values = layers[_layer(product.args[1])]
    word = sum(
        values.spikes[t].numpy().astype(np.int64) << values.code.bits * (values.code.T - 1 - t) for t in range(T)
    )
    expected = decoded @ (word - values.code.offset)
    multiplier = snn.network.get_submodule(product.target).multiplier.numpy().astype(np.int64)
    assert np.abs(expected).max() > 0
    np.testing.assert_array_equal(run.currents[1].double().numpy(), expected * multiplier)


def _layer(node):
    return str(node.meta["layer"])


@pytest.mark.parametrize("code", CODES)
def test_a_product_waits_for_the_last_digit(code):
    snn, images = converted("attention", bits=2, T=4, attention_code=code)
    uniform, _ = converted("attention", bits=2, T=4)
    simulation, other = snn.simulate(images), uniform.simulate(images)
    assert [item.action for item in simulation.adapters] == [
        "multiplies both sides' complete words, one of them decoded from its number"
    ]
    assert simulation.ticks <= other.ticks


def test_a_loaded_network_runs_the_same(tmp_path):
    snn, images = converted("class_token", bits=1, T=4, attention_code="log-sqrt2")
    snn.save(tmp_path / "net")
    loaded = snnconvert.load(tmp_path / "net")
    assert loaded.config == snn.config
    assert loaded.plan == snn.plan
    assert loaded.report.notes == snn.report.notes
    assert any("attention maps in log-sqrt2 code at 1 of 1" in note for note in loaded.report.notes)
    everything = ("spikes", "potentials", "counts", "unevenness")
    assert_same_run(snn.simulate(images, record=everything), loaded.simulate(images, record=everything))
    assert all(
        record.unevenness.differing == 0 for record in loaded.simulate(images, record=everything).layers.values()
    )
    kinds = json.loads((tmp_path / "net" / "graph.json").read_text())["modules"].values()
    assert [item["neuron"] for item in kinds if item.get("neuron", "packed") != "packed"] == ["log:base=sqrt2"]


def test_the_report_accounts_for_words_of_as_many_bits():
    snn, _ = converted("attention", bits=1, T=4, attention_code="log2")
    uniform, _ = converted("attention", bits=1, T=4)
    (layer,) = [layer for layer in snn.report.layers if layer.code == "log"]
    (other,) = [item for item in uniform.report.layers if item.name == layer.name]
    assert (layer.bit_budget, layer.s_ace, layer.T) == (other.bit_budget, other.s_ace, other.T)
    assert snn.report.totals.bit_budget == uniform.report.totals.bit_budget
    assert 0 < layer.firing_rate < 1


def test_thresholds_for_equal_steps_are_not_taken_silently():
    for method, told in (("gaussian", True), ("mse", False), ("max", False)):
        snn, images = converted("attention", bits=1, T=4, attention_code="log2", threshold=method)
        assert any(f"{method} is for equal steps" in note for note in snn.report.notes) == told
        assert_stepwise_is_packed(snn, images)


def test_words_of_both_sides():
    def forward(n, x):
        s = n.left(x) @ n.right(x).transpose(-2, -1)
        return n.head((s.softmax(-1) @ (2 * s).softmax(-2)) @ n.value(x))

    parts = {name: nn.Linear(6, 6) for name in ("left", "right", "value", "head")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, images = Net(forward, **parts).eval(), torch.randn(8, 5, 6)
    prepared = prepare(network, images)
    for code in CODES:
        snn = replanned(prepared, images, bits=1, T=3, attention_code=code)
        assert sum(neuron.code.name == "log" for _, neuron in snn.neurons()) == 2
        for schedule, latency in ORDERS:
            assert_stepwise_is_packed(snn, images, schedule=schedule, latency=latency)


def test_beside_neurons_that_count():
    """A network that runs in time, since its queries and keys are counts."""
    prepared, images = captured("attention")
    product = next(item.layer for item in prepared.plan.synapses if item.held is not None)
    snn = replanned(prepared, images, bits=1, T=4, attention_code="log2", overrides={product: {"neuron": "if", "T": 8}})
    assert not is_exact(snn.network)
    runs = [snn.simulate(images, record=("spikes",), schedule=schedule) for schedule in ("layer", "tick")]
    assert_same_run(*runs)
    assert torch.equal(runs[0].output, snn(images))


def test_weights_never_read_numbers():
    graph = fx.Graph()
    x = graph.placeholder("x")
    words = graph.call_module("neuron", (x,))
    words.meta = {"layer": "softmax"}
    current = graph.call_module("synapse", (words,))
    current.meta = {"layer": "proj"}
    graph.output(current)
    neuron = SpikingNeuron(LogarithmicCode(1, 4), torch.tensor(1.0), torch.tensor(1.0))
    synapse = Synapse(
        torch.ones(2, 3, dtype=torch.int8), torch.zeros(2), torch.ones(2), torch.ones(2), geometry=None, weight_bits=8,
        word_range=neuron.code.extremes, wide=True,
    )  # fmt: skip
    network = fx.GraphModule({"neuron": neuron, "synapse": synapse}, graph)
    with pytest.raises(ConversionError, match=r"^proj: it would add up digits that number their value"):
        simulate(network, [torch.rand(2, 3)])
