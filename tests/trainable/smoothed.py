"""Converted networks without roundings, in float64, and their gradients by finite differences."""

import torch

from snnconvert.neurons.packed import PackedCode
from snnconvert.trainable import neuron, straight_through, synapse, timed_cells
from snnconvert.trainable.neuron import TrainableNeuron
from snnconvert.trainable.synapse import TrainableSynapse

_STEP = 1e-6


def smooth_network(snn, monkeypatch):
    """The differentiable form in float64, each rounding the identity, parameters away from kinks."""
    trained = snn.train().trainable.double()
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    for module in (straight_through, synapse, neuron, timed_cells):
        monkeypatch.setattr(module, "replaced", lambda values, _: straight_through._Replaced.apply(values, values))
    monkeypatch.setattr(PackedCode, "quantize_", _clipped)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trained.parameters():
            noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.mul_(0.95 - 0.1 * noise)
    return trained


def _clipped(code, values, ceiling):
    """What the backward pass takes the rounding for."""
    return values.clamp_(code.minimum - 0.5, ceiling + 0.5)


def assert_gradients(trained, run):
    """Compares derivatives along a random direction of each parameter; the kinds of parameters that had one.

    Parameters that have a scaled gradient (thresholds, weight steps) are compared with the scaled difference.
    """
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(run().shape, generator=generator, dtype=torch.float64)

    def loss():
        return (run().double() * weights).sum()

    trained.zero_grad()
    loss().backward()
    kinds = set()
    for name, parameter in trained.named_parameters():
        if not parameter.requires_grad:
            continue
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        expected = _difference(loss, parameter, direction) * _scale(trained, name)
        found = float((parameter.grad * direction).sum())
        assert abs(found - expected) <= 2e-5 * max(abs(expected), abs(found)) + 1e-7, (name, found, expected)
        if expected:
            kinds.add(name.rsplit(".", 1)[1])
    return kinds


@torch.no_grad()
def _difference(loss, parameter, direction):
    start = parameter.clone()
    ends = []
    for sign in (1, -1):
        parameter.copy_(start + sign * _STEP * direction)
        ends.append(float(loss()))
    parameter.copy_(start)
    return (ends[0] - ends[1]) / (2 * _STEP)


def _scale(trained, name):
    path, kind = name.rsplit(".", 1)
    module = trained.get_submodule(path)
    is_scaled = isinstance(module, (TrainableNeuron, TrainableSynapse)) and kind in ("threshold", "weight_step")
    return module._gradient_scale if is_scaled else 1.0
