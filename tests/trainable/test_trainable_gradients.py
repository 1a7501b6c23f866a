"""Gradients against finite differences in float64, each rounding replaced by the identity that its gradient assumes."""

import pytest
import torch
from slow_cases import mostly_slow
from smoothed import assert_gradients, smooth_network
from trainable_networks import converted

from snnconvert.trainable.gradients import Gradients
from snnconvert.trainable.surrogate import SURROGATES, Surrogate
from snnconvert.trainable.through_time import ThroughTime

KINDS = {
    "default": ("resnet", {}),
    "smoothed": ("resnet", {"threshold_granularity": "smoothed", "channel_shift": True}),
    "depthwise": ("depthwise", {"bits": 4, "T": 1}),
    "transposed": ("transposed", {"weight_bits": 4}),
}


@pytest.mark.parametrize("kind", mostly_slow(KINDS, keep=("default", "smoothed")))
def test_packed_gradients_are_those_of_the_smooth_network(kind, monkeypatch):
    name, settings = KINDS[kind]
    snn, images = converted(name, **settings)
    trained = smooth_network(snn, monkeypatch)
    kinds = assert_gradients(trained, lambda: trained(images[:4].double()))
    assert {"weight", "bias", "threshold"} <= kinds
    assert "weight_step" in kinds or kind == "depthwise"


BINARY = [("if", 1, 4), ("lif:leak=0.8", 1, 4), ("if:reset=hard", 1, 3)]
BURSTS = [("if", 2, 3, "atan"), ("lif:leak=0.9,v0=0.25", 2, 3, "atan")]


@pytest.mark.parametrize(
    ("neuron", "bits", "T", "surrogate"),
    mostly_slow(
        [(*code, surrogate) for code in BINARY for surrogate in SURROGATES] + BURSTS,
        keep=[("lif:leak=0.8", 1, 4, "sigmoid"), ("if:reset=hard", 1, 3, "triangle"), ("lif:leak=0.8", 1, 4, "atan")],
    ),
)
def test_gradients_through_time_are_those_of_the_smooth_network(neuron, bits, T, surrogate, monkeypatch):
    snn, images = converted("resnet", neuron=neuron, bits=bits, T=T)
    trained = smooth_network(snn, monkeypatch)
    run = ThroughTime(snn.network, trained.graph, Gradients("time", Surrogate(surrogate, 1.0)))
    kinds = assert_gradients(trained, lambda: run(images[:4].double(), smoothed=True))
    assert {"weight", "bias", "threshold"} <= kinds
    assert torch.isfinite(run(images[:4].double())).all()
