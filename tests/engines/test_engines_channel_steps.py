"""Thresholds per channel in every engine: in time, packed, saved and loaded, and against the simulator in integers."""

import pytest
import torch
from engine_networks import NETWORKS, RATE_NEURONS, assert_stepwise_is_packed, converted
from slow_cases import mostly_slow
from test_engines_oracle import NETWORKS as IN_INTEGERS
from test_engines_oracle import assert_oracle_agrees

import snnconvert

PER_CHANNEL = {"threshold_granularity": "channel"}


def channel_steps(snn):
    return [layer for layer, neuron in snn.neurons() if neuron.step.numel() > 1]


@pytest.mark.parametrize("name", NETWORKS)
def test_stepwise_is_packed(name):
    snn, images = converted(name, bits=2, T=3, **PER_CHANNEL)
    assert channel_steps(snn)
    assert_stepwise_is_packed(snn, images)
    assert_stepwise_is_packed(snn, images, schedule="tick", latency="window")


@pytest.mark.parametrize("name", IN_INTEGERS)
def test_the_simulator_in_integers_agrees(name, tmp_path):
    snn, images = converted(name, bits=2, T=2, **PER_CHANNEL)
    snn.save(tmp_path / "snn")
    assert_oracle_agrees(tmp_path / "snn", snn.simulate(images[:3], record=("spikes",)), images[:3])


@pytest.mark.parametrize("name", ["relu6", "residual", "attention"])
@pytest.mark.parametrize("neuron", mostly_slow(["if", "multithreshold"], keep=["if"]))
def test_rate_neurons_keep_below_a_cap_and_near_the_network(name, neuron):
    spelled, bits, T = RATE_NEURONS[neuron]
    snn, _ = converted(name, neuron=spelled, bits=bits, T=8 * T, threshold="max", **PER_CHANNEL)
    assert channel_steps(snn)
    assert snn.report.fidelity.logit_sqnr_db > 12
    for layer, neuron in snn.neurons():
        site = next((site for site in snn.plan.sites if site.layer == layer and site.cap is not None), None)
        if site is not None and neuron.step.numel() > 1:
            assert not neuron.is_capped
            assert float(neuron.step.max()) * neuron.code.maximum <= site.cap * (1 + 1e-6)


@pytest.mark.parametrize("name", ["repeaters", "attention", "relu6", "geometry"])
def test_loaded_is_saved(name, tmp_path):
    snn, images = converted(name, **PER_CHANNEL)
    snn.save(tmp_path / "snn")
    loaded = snnconvert.load(tmp_path / "snn")
    assert channel_steps(loaded) == channel_steps(snn)
    assert loaded.config == snn.config
    assert torch.equal(loaded(images), snn(images))
    assert torch.equal(loaded.simulate(images[:2]).output, snn.simulate(images[:2]).output)
