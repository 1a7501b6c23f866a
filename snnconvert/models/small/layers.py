"""Convolutions, linear layers and activations in the form a configuration asks for."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from snnconvert.models.small.config import SmallNetConfig
from snnconvert.training.direct.neuron import IntegratingNeuron
from snnconvert.training.direct.packed import PackedNeuron
from snnconvert.training.direct.weights import QuantizedConv2d, QuantizedLinear


class FoldedNeuron(nn.Module):
    """Neurons on rows, all images of the first step first: [T·N, ...] to [T·N, ...].

    Submodules:
        neuron: what integrates over the T steps.
    """

    def __init__(self, neuron: IntegratingNeuron) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, rows: Tensor) -> Tensor:
        """Spikes times θ, float32."""
        return self.neuron(torch.unflatten(rows, 0, (self.neuron.settings.T, -1))).flatten(0, 1)


def activation(config: SmallNetConfig) -> nn.Module:
    """ReLU, its quantized form, or spiking neurons: rows to rows of the same shape."""
    if config.form == "ann":
        return nn.ReLU()
    if config.form == "qnn":
        return PackedNeuron(dataclasses.replace(config.neuron, kind="packed", truncation=None))
    if config.neuron.kind == "packed":
        return PackedNeuron(config.neuron)
    return FoldedNeuron(IntegratingNeuron(config.neuron))


def convolution(
    config: SmallNetConfig, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, is_end: bool = False
) -> nn.Conv2d:
    """A convolution without bias that keeps the size at stride 1.

    Args:
        config: the form and widths.
        inputs: channels that come in.
        outputs: channels that go out.
        kernel: odd size of the kernel.
        stride: of the kernel.
        is_end: whether it is next to the network's input.
    """
    if config.form == "ann":
        return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    bits = config.first_last_weight_bits if is_end else config.weight_bits
    return QuantizedConv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False, weight_bits=bits)


def linear(config: SmallNetConfig, inputs: int, outputs: int, *, is_end: bool = False) -> nn.Linear:
    """A linear layer; with a bias if it is the network's last.

    Args:
        config: the form and widths.
        inputs: features that come in.
        outputs: features that go out.
        is_end: whether its outputs are the network's.
    """
    if config.form == "ann":
        return nn.Linear(inputs, outputs, bias=is_end)
    bits = config.first_last_weight_bits if is_end else config.weight_bits
    return QuantizedLinear(inputs, outputs, bias=is_end, weight_bits=bits)
