"""Runtimes compute the packed network's own integers: no word differs."""

import numpy as np
import pytest
import torch
from engine_networks import converted, packed_words
from integer_networks import COARSE, FREE, RUNTIMES, SHIFTED, SMOOTHED, compared
from integer_oracle import convolved
from slow_cases import mostly_slow

from snnconvert.engines.integer.dialect import ONNXRUNTIME
from snnconvert.engines.integer.integer_model import integer_model
from snnconvert.neurons.synapse import Synapse

BINARY = {"bits": 1, "T": 4}
SPIKES = {"residuals": "spikes"}
CASES = [
    ("preactivation", SMOOTHED),
    ("signed", {}),
    ("geometry", BINARY),
    ("conv3d", COARSE),
    ("transposed", {}),
    ("odd_pools", FREE),
    ("mixtures", COARSE),
    ("relu6", {"bits": 2, "T": 2}),
    ("smooth", FREE),
    ("leaky", FREE),
    ("wide_sums", {}),
    ("bottlenecks", SHIFTED),
    ("flattened", {}),
    ("tokens", FREE),
]
QUICK = [
    ("leaky", FREE),
    ("signed", {}),
    ("conv3d", COARSE),
    ("wide_sums", {}),
    ("bottlenecks", SHIFTED),
    ("flattened", {}),
    ("tokens", FREE),
]
MORE = [
    ("tokens", SMOOTHED),
    ("concat_pools", FREE),
    ("conv1d", {}),
    ("shared", {"bits": 7, "T": 1}),
    ("residual", SPIKES),
    ("residual", {**SPIKES, **BINARY}),
    ("relu6", SPIKES),
    ("residual", {}),
    ("residual", {**SMOOTHED, **SPIKES}),
    ("signed", {**BINARY, **FREE}),
    ("transposed", FREE),
    ("transposed_1d", FREE),
    ("transposed_3d", {}),
    ("repeaters", COARSE),
    ("average_pools", {}),
    ("signed_pools", {}),
    ("mixtures", FREE),
    ("relu6", {**SPIKES, **SMOOTHED}),
    ("smooth", COARSE),
    ("gates", SMOOTHED),
    ("layouts", {}),
    ("windows", FREE),
    ("windows", {**SMOOTHED, **SPIKES}),
    ("flattened", {**SPIKES, "bits": 1, "T": 7, "weight_bits": 4}),
    ("tokens", SHIFTED),
    ("pyramid", FREE),
    ("pyramid", COARSE),
]


@pytest.fixture(params=list(RUNTIMES))
def engine(request):
    pytest.importorskip(request.param)
    return request.param


@pytest.mark.parametrize(("name", "settings"), mostly_slow([*CASES, *MORE], keep=QUICK), ids=str)
def test_no_word_differs(name, settings, engine):
    snn, images = converted(name, **settings)
    found = compared(snn, images, engine)
    assert found.differing == {}
    torch.testing.assert_close(found.output, found.expected, rtol=1e-6, atol=1e-6)
    unobserved = snn.compile(engine, threads=2, cache=False)(images)
    torch.testing.assert_close(unobserved, found.expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("settings", [SMOOTHED, pytest.param({}, marks=pytest.mark.slow)], ids=str)
def test_behind_a_float_softmax_next_to_no_word_differs(settings, engine):
    snn, images = converted("class_token", **settings)
    found = compared(snn, images, engine)
    assert sum(count for count, _ in found.differing.values()) <= found.words // 500
    assert all(largest == 1 for _, largest in found.differing.values())
    torch.testing.assert_close(found.output, found.expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("engine", mostly_slow(RUNTIMES, keep=["openvino"]), indirect=True)
def test_words_of_a_capped_rectifier_stay_below_its_cap(engine):
    snn, images = converted("clips", threshold="max", bits=2, T=3)
    ceilings = {layer: neuron.ceiling for layer, neuron in snn.neurons() if neuron.is_capped}
    words = packed_words(snn.network, images)
    assert {layer: int(words[layer].max()) for layer in ceilings} == ceilings
    assert 0 < min(ceilings.values()) < 63
    assert compared(snn, images, engine).differing == {}


@pytest.mark.parametrize("engine", mostly_slow(RUNTIMES, keep=["onnxruntime"]), indirect=True)
def test_words_are_those_of_int64_arithmetic(engine):
    """The first layer's words from the image's, by numpy alone: signed words into a padded convolution."""
    snn, images = converted("signed")
    compiled = snn.compile(engine, threads=2, cache=False)
    observed = dict(compiled._observed(snn.signature.flatten((images,), {})).values())
    synapse = dict(snn.synapses())["first"]
    neurons = dict(snn.neurons())
    assert isinstance(synapse, Synapse)
    assert neurons["x"].code.offset > 0
    geometry = synapse.geometry
    sums = convolved(
        observed["x"].numpy().astype(np.int64), synapse.weight.numpy().astype(np.int64), geometry.stride,
        geometry.padding, geometry.dilation, geometry.groups,
    )  # fmt: skip
    sums = (sums + synapse.bias.numpy().astype(np.int64)[:, None, None]) * synapse.multiplier.numpy()[:, None, None]
    neuron = neurons["first"]
    gain = np.broadcast_to(neuron.gain.numpy().reshape(-1, 1, 1), (len(synapse.bias), 1, 1))
    assert np.abs(sums).max() < 1 << 24
    expected = np.clip(np.rint(sums.astype(np.float32) * gain), neuron.code.minimum, neuron.ceiling)
    assert len(np.unique(expected)) > 100
    np.testing.assert_array_equal(observed["first"].numpy(), expected.astype(np.int32))


def test_whole_number_biases_of_neurons_are_their_synapses():
    snn, _ = converted("bottlenecks", **SHIFTED)
    biases = [neuron.bias for _, neuron in snn.neurons() if neuron.bias is not None]
    assert len(biases) >= 2
    model = integer_model(snn.network, snn.signature, ONNXRUNTIME).model
    kept = [node for node in model.graph.node if node.op_type == "Add"]
    assert len(kept) <= 1  # behind the pool, where there is no synapse
