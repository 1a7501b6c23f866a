"""The differentiable forms of neurons, of transfers in front of them, and of the way back to the ANN's units."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from snnconvert.neurons.current import ToReal, plain
from snnconvert.neurons.gain_grid import on_grid
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer
from snnconvert.trainable.straight_through import fired, looked_up, replaced, with_scaled_gradient
from snnconvert.trainable.synapse import LARGEST_FACTOR, SMALLEST_FACTOR

Fold = Callable[[], Tensor]


class TrainableNeuron(nn.Module):
    """z = quantize((v + β/r)·g'), g' = g·r/φ on the grid of gains, with φ = θ over what it was.

    r is what is left to it by a synapse in front, or by neurons whose pooled spikes it reads. Where all who read its
    own spikes can take it the whole code grows with φ, what a spike stands for included; elsewhere only the potentials
    do at which neurons fire.

    Parameters:
        threshold: φ, scalar; its gradient is LSQ's (Esser et al., ICLR 2020), scaled by 1/√(N·q).

    Attributes:
        watchers: called with what the neurons fire, gradients and all.
    """

    base_gain: Tensor
    base_step: Tensor
    base_bias: Tensor | None

    def __init__(self, neuron: SpikingNeuron, *, learns: bool, stretches: bool) -> None:
        """Starts from neurons as they are.

        Args:
            neuron: the neurons.
            learns: whether their threshold may change.
            stretches: whether what their spikes stand for changes with it.
        """
        super().__init__()
        self._of = (neuron,)
        self.learns, self.stretches = learns, stretches
        self.fold: Fold | None = None
        self.register_buffer("base_gain", neuron.gain.clone(), persistent=False)
        self.register_buffer("base_step", neuron.step.clone(), persistent=False)
        self.register_buffer("base_bias", None if neuron.bias is None else neuron.bias.clone(), persistent=False)
        self.threshold = nn.Parameter(torch.ones_like(neuron.gain.flatten()[0]), requires_grad=learns)
        self._gradient_scale = 1.0
        self.watchers: list[Callable[[Tensor], None]] = []

    @property
    def neuron(self) -> SpikingNeuron:
        """The neurons of the spiking network."""
        return self._of[0]

    def factor(self) -> Tensor:
        """φ, scalar."""
        if not self.learns:
            return torch.ones_like(self.threshold)
        return with_scaled_gradient(self.threshold.clamp(SMALLEST_FACTOR, LARGEST_FACTOR), self._gradient_scale)

    def gain(self) -> Tensor:
        """g', scalar or one a channel."""
        fold = None if self.fold is None else self.fold()
        if fold is None and not self.learns:
            return self.base_gain
        wanted = self.base_gain / self.factor() if fold is None else self.base_gain * fold / self.factor()
        with torch.no_grad():
            exact = on_grid(wanted.detach(), self.base_gain.expand_as(wanted), self.neuron)
        return replaced(wanted, exact)

    def bias(self) -> Tensor | None:
        """β/r, in whole counts where β is."""
        if self.base_bias is None or self.fold is None:
            return self.base_bias
        wanted = self.base_bias / self.fold()
        whole = bool((self.base_bias == self.base_bias.round()).all())
        return replaced(wanted, wanted.detach().round()) if whole else wanted

    def count(self, potential: Tensor) -> None:
        """Scales the threshold's gradient for a layer of so many neurons [N, ...]."""
        if self.learns:
            size = potential[0].numel() * max(float(self.neuron.ceiling), 1.0)
            self._gradient_scale = 1 / math.sqrt(max(size, 1.0))

    def forward(self, potential: Tensor) -> Tensor:
        """Values of the windows fired, in the potential's type if that is floating, of its shape."""
        neuron = self.neuron
        low, high = float(neuron.code.minimum), float(neuron.ceiling)
        self.count(potential)
        bias = self.bias()
        raised = potential.float() if bias is None else potential.float() + bias
        words = fired(raised, self.gain(), low, high, lambda steps: neuron.code.quantize_(steps, high))
        for watcher in self.watchers:
            watcher(words)
        return words

    @torch.no_grad()
    def settle(self) -> None:
        """Leaves gain, bias and step in the neurons."""
        neuron = self.neuron
        neuron.gain = self.gain().clone()
        bias = self.bias()
        neuron.bias = None if bias is None else bias.clone()
        neuron.step = self.base_step * self.factor() if self.stretches else self.base_step.clone()


class TrainableTransfer(nn.Module):
    """A transfer function with gains g·r: r is what the synapse in front leaves to its readers."""

    def __init__(self, transfer: LeakyTransfer | TableTransfer) -> None:
        super().__init__()
        self._of = (transfer,)
        self.fold: Fold | None = None
        self.register_buffer("base_gain", transfer.gain.clone(), persistent=False)
        negative = transfer.negative_gain.clone() if isinstance(transfer, LeakyTransfer) else None
        self.register_buffer("base_negative_gain", negative, persistent=False)

    def _scaled(self, gain: Tensor) -> Tensor:
        return gain if self.fold is None else gain * self.fold()

    def forward(self, potential: Tensor) -> Tensor:
        """Values in steps, float32."""
        (transfer,) = self._of
        gain, values = self._scaled(self.get_buffer("base_gain")), potential.float()
        if isinstance(transfer, TableTransfer):
            return looked_up(values * gain, int(transfer.first), transfer.table)
        return torch.where(values < 0, values * self._scaled(self.get_buffer("base_negative_gain")), values * gain)

    @torch.no_grad()
    def settle(self) -> None:
        """Leaves the gains in the transfer."""
        (transfer,) = self._of
        transfer.gain = self._scaled(self.get_buffer("base_gain")).clone()
        if isinstance(transfer, LeakyTransfer):
            transfer.negative_gain = self._scaled(self.get_buffer("base_negative_gain")).clone()


class TrainableReal(nn.Module):
    """x = u·r·c, back to the ANN's units; r is what the synapse in front leaves to its readers."""

    def __init__(self, real: ToReal) -> None:
        super().__init__()
        self._of = (real,)
        self.fold: Fold | None = None
        self.register_buffer("base_unit", real.unit.clone(), persistent=False)

    def forward(self, counts: Tensor) -> Tensor:
        """float32 values of counts."""
        unit = self.get_buffer("base_unit")
        unit = unit if self.fold is None else unit * self.fold().double()
        return plain((counts * unit).float() if counts.dtype == torch.float64 else counts * unit.float())

    @torch.no_grad()
    def settle(self) -> None:
        """Leaves what a count is worth."""
        if self.fold is not None:
            self._of[0].unit = self.get_buffer("base_unit") * self.fold().double()
