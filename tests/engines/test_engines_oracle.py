"""The engine against an independent simulator in integers that reads the saved folder."""

import json

import numpy as np
import pytest
import torch
from engine_networks import SHAPES, converted
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from integer_oracle import Oracle
from safetensors.numpy import load_file
from safetensors.torch import save_file
from slow_cases import mostly_slow
from spiking_graphs import INPUT, packed_codes, random_graph
from stored_tensors import read_tensors

from snnconvert.artifact.graph_codec import graph_tensors, graph_to_json
from snnconvert.engines.stepwise import simulate
from snnconvert.neurons.registry import make_code

NETWORKS = [
    "chain", "residual", "concat_pools", "average_pools", "preactivation", "tokens", "signed", "geometry", "conv1d",
    "conv3d", "repeaters", "shared", "relu6", "windows",
]  # fmt: skip
COUNTING = [name for name in NETWORKS if name != "preactivation"]
IMAGES = torch.randn(3, *INPUT, generator=torch.Generator().manual_seed(0))


def assert_oracle_agrees(folder, simulation, images, *, window=False):
    """Every spike of every layer, and every bit of the output."""
    oracle = Oracle(folder)
    with np.errstate(over="raise"):
        output = oracle.run(images.numpy(), window=window)
    assert oracle.trains.keys() == simulation.layers.keys()
    for layer, record in simulation.layers.items():
        assert np.array_equal(oracle.trains[layer], record.spikes.numpy().astype(np.int64)), layer
    assert output.dtype == np.float32
    assert np.array_equal(output, simulation.output.numpy())


@pytest.mark.parametrize(
    "name", mostly_slow(NETWORKS, keep=("residual", "signed", "concat_pools", "tokens", "conv3d", "shared", "windows"))
)
def test_packed_networks(name, tmp_path):
    assert_oracle_agrees_at(name, [(1, 8), (2, 4), (3, 2), (8, 1)], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "signed"])
def test_packed_networks_of_every_width_and_length(name, tmp_path):
    assert_oracle_agrees_at(name, SHAPES, tmp_path)


def assert_oracle_agrees_at(name, shapes, tmp_path):
    for bits, T in shapes:
        snn, images = converted(name, bits=bits, T=T)
        folder = tmp_path / f"{bits}x{T}"
        snn.save(folder)
        assert_oracle_agrees(folder, snn.simulate(images[:3], record=("spikes",)), images[:3])
        assert torch.equal(snn(images[:3]), torch.from_numpy(Oracle(folder).run(images[:3].numpy())))


@pytest.mark.parametrize("name", ["residual", "signed", "concat_pools", "shared"])
def test_packed_networks_whose_layers_have_digits_of_their_own(name, tmp_path):
    snn, images = converted(name)
    generator = np.random.default_rng(len(name))
    for trial in range(3):
        codes = {item.family: SHAPES[generator.integers(len(SHAPES))] for item in snn.plan.synapses}
        overrides = {
            item.layer: dict(zip(("bits", "T"), codes[item.family], strict=True)) for item in snn.plan.synapses
        }
        mixed, _ = converted(name, overrides=overrides)
        mixed.save(tmp_path / str(trial))
        assert_oracle_agrees(tmp_path / str(trial), mixed.simulate(images[:3], record=("spikes",)), images[:3])


@pytest.mark.parametrize("latency", ["streaming", "window"])
@pytest.mark.parametrize(
    "name", mostly_slow(COUNTING, keep=("residual", "signed", "relu6", "conv3d", "tokens", "chain"))
)
def test_integrate_and_fire_networks(name, latency, tmp_path):
    for bits, T in [(1, 1), (1, 8), (2, 3), (3, 4), (1, 21)]:
        snn, images = converted(name, neuron="if", bits=bits, T=T)
        folder = tmp_path / f"{bits}x{T}"
        snn.save(folder)
        simulation = snn.simulate(images[:2], record=("spikes",), latency=latency)
        assert_oracle_agrees(folder, simulation, images[:2], window=latency == "window")


@pytest.mark.parametrize("name", mostly_slow(["residual", "geometry"], keep=["residual"]))
@pytest.mark.parametrize("granularity", ["layer", "group", "channel"])
def test_packed_weights(name, granularity, tmp_path):
    for weight_bits in (1, 2, 3, 5):
        own = {"weight_granularity": granularity, "weight_group": 3, "first_last_weight_bits": 4}
        snn, images = converted(name, weight_bits=weight_bits, **own)
        folder = tmp_path / str(weight_bits)
        snn.save(folder)
        stored, written = load_file(folder / "model.safetensors"), read_tensors(folder)
        assert any(stored[name].dtype != tensor.dtype for name, tensor in written.items())
        for key, tensor in snn.network.state_dict().items():
            assert (written[key].dtype, written[key].shape) == (tensor.numpy().dtype, tuple(tensor.shape))
            assert written[key].tobytes() == tensor.numpy().tobytes()
        assert_oracle_agrees(folder, snn.simulate(images[:3], record=("spikes",)), images[:3])


def test_integrate_and_fire_beside_packed(tmp_path):
    overrides = {r"second\.0": {"neuron": "packed", "bits": 2, "T": 4}, "third": {"neuron": "if", "bits": 2, "T": 5}}
    snn, images = converted("residual", neuron="if", bits=1, T=8, overrides=overrides)
    snn.save(tmp_path / "net")
    for latency in ("streaming", "window"):
        simulation = snn.simulate(images[:3], record=("spikes",), latency=latency)
        assert_oracle_agrees(tmp_path / "net", simulation, images[:3], window=latency == "window")


def counting_codes(random):
    """Packed digits and counts, in few lengths, so that some meet in step.

    Powers of two: shares of a window are exact numbers, on which max-pools of running estimates depend.
    """
    T = random.choice([2, 4])
    return make_code(*random.choice([("packed", 2, T), ("packed", 1, T), ("if", 1, T), ("if", 2, T)]))


def assert_random_graph_agrees(folder, network, latency):
    folder.mkdir(exist_ok=True)
    (folder / "graph.json").write_text(json.dumps(graph_to_json(network)))
    save_file(graph_tensors(network), folder / "model.safetensors")
    simulation = simulate(network, [IMAGES], record=("spikes",), latency=latency)
    assert_oracle_agrees(folder, simulation, IMAGES, window=latency == "window")


SETTINGS = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.reuse, Phase.generate),
}
PLAIN = {"reals": False, "affine": False, "wide": False}


@given(st.randoms(use_true_random=False), st.integers(2, 16))
@settings(max_examples=40, **SETTINGS)
def test_random_packed_graphs(tmp_path_factory, random, nodes):
    network = random_graph(random, IMAGES, packed_codes, nodes, **PLAIN)
    assert_random_graph_agrees(tmp_path_factory.getbasetemp() / "packed", network, "streaming")


@given(st.randoms(use_true_random=False), st.integers(2, 16), st.sampled_from(["streaming", "window"]))
@settings(max_examples=40, **SETTINGS)
def test_random_counting_graphs(tmp_path_factory, random, nodes, latency):
    network = random_graph(random, IMAGES, counting_codes, nodes, **PLAIN)
    assert_random_graph_agrees(tmp_path_factory.getbasetemp() / "counting", network, latency)


@pytest.mark.slow
@pytest.mark.parametrize("codes", [packed_codes, counting_codes])
@given(st.randoms(use_true_random=False), st.integers(2, 30), st.sampled_from(["streaming", "window"]))
@settings(max_examples=600, **SETTINGS)
def test_many_random_graphs(tmp_path_factory, codes, random, nodes, latency):
    network = random_graph(random, IMAGES, codes, nodes, **PLAIN)
    assert_random_graph_agrees(tmp_path_factory.getbasetemp() / "many", network, latency)
