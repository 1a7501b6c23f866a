"""Differentiable forms of neurons, synapses and transfers.

Weights move between two integers (AdaRound, Nagel et al., ICML 2020); the rounding of neurons passes gradients
straight through, z = clip(⌊(v + β)·g⌉, z_min, z_max), and while a network is trained each neuron fires without rounding
with probability p (QDrop, Wei et al., ICLR 2022). What a weight's integer is worth and the potential at which neurons
fire are learned channel by channel, after LSQ (Esser et al., ICLR 2020); what a spike is worth stays as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnconvert.neurons.gain_grid import on_grid
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import TableTransfer
from snnconvert.neurons.weight_integers import has_weights, largest_integer

_STRETCH = 0.1
_FINE_MULTIPLIER, _LARGEST_MULTIPLIER = 16, 1 << 20


class SoftSynapse(nn.Module):
    """Weights between two integers each, a bias, and the worth of the integers, of one synapse.

    W = clip(⌊w⌋ + h(V), −q, q) with h(V) = clip(1.2·σ(V) − 0.1, 0, 1), which starts at w. In channels of one bit the
    two integers are −1 and 1, W = 2·h(V) − 1; a channel without weights stays as it is.

    Parameters:
        position: V, [O, ...].
        bias: [O], what is added to the synapse's own bias, in units of ``current_spread``.
        log_scale: [O], ln s: the multiplier m·s; used where m lies in 16..2^20, so that it can be rounded.
    """

    def __init__(self, synapse: Synapse, weight: Tensor, current_spread: Tensor) -> None:
        """Starts from real weights.

        Args:
            synapse: the synapse.
            weight: w in counts, [O, ...].
            current_spread: standard deviation of its current in counts, [O].
        """
        super().__init__()
        self.synapse = synapse
        widths = synapse.channelwise(synapse.widths, synapse.weight.dim(), axis=0)
        self.largest = largest_integer(widths).float()
        real = weight.float().view(synapse.weight.shape).clamp(-self.largest, self.largest)
        present = has_weights(real.flatten(1)).view(widths.shape)
        binary = (widths == 1) & present
        self.gap = torch.where(binary, 2.0, present.float())
        self.floor = torch.where(binary, -torch.ones_like(real), real.floor())
        share = ((real - self.floor) / self.gap.clamp(min=1.0) + _STRETCH) / (1 + 2 * _STRETCH)
        self.current_spread = current_spread
        self.position = nn.Parameter(torch.logit(share))
        self.bias = nn.Parameter(torch.zeros_like(current_spread))
        self.is_fine = (synapse.multiplier >= _FINE_MULTIPLIER) & (synapse.multiplier <= _LARGEST_MULTIPLIER)
        self.has_fine = bool(self.is_fine.any())
        self.log_scale = nn.Parameter(torch.zeros_like(current_spread))

    def share(self) -> Tensor:
        """h(V), what lies above the lower integer."""
        return ((1 + 2 * _STRETCH) * torch.sigmoid(self.position) - _STRETCH).clamp(0, 1)

    def added_bias(self) -> Tensor:
        """What is added to the bias, in counts."""
        return self.bias * self.current_spread

    def scale(self) -> Tensor:
        """s, by which multipliers grow."""
        return torch.where(self.is_fine, self.log_scale, 0.0).exp()

    def settle(self) -> None:
        """Leaves the nearer integers in the synapse."""
        synapse = self.synapse
        self._before = synapse.weight.clone(), synapse.bias.clone(), synapse.multiplier
        with torch.no_grad():
            integers = (self.floor + self.gap * (self.share() >= 0.5)).clamp(-self.largest, self.largest)
            synapse.weight.copy_(integers.to(torch.int8))
            synapse.bias += self.added_bias().round().to(torch.int32)
            scaled = (synapse.multiplier * self.scale()).round().clamp(1, _LARGEST_MULTIPLIER).to(torch.int32)
            synapse.multiplier = torch.where(self.is_fine, scaled, synapse.multiplier)
            synapse.prepare()

    def restore(self) -> None:
        """Gives the synapse back what it had before it settled."""
        self.synapse.weight, self.synapse.bias, self.synapse.multiplier = self._before
        self.synapse.prepare()

    def forward(self, words: Tensor) -> Tensor:
        """The current of real or integer words, float32."""
        weight = (self.floor + self.gap * self.share()).clamp(-self.largest, self.largest)
        current = self.synapse.current_with(weight, self.synapse.bias + self.added_bias(), words)
        return current * self.synapse.channelwise(self.scale(), current.dim()) if self.has_fine else current


class SoftNeuron(nn.Module):
    """Neurons with gains g·γ_c of their own in each channel: thresholds θ/γ_c of their potential.

    Parameters:
        log_factor: [1, C, 1, ...] or alike, ln γ.
    """

    def __init__(self, neuron: SpikingNeuron, shape: tuple[int, ...]) -> None:
        """Starts from the neurons as they are.

        Args:
            neuron: the neurons.
            shape: of the factors, broadcastable to the potential.
        """
        super().__init__()
        self.neuron = neuron
        self.log_factor = nn.Parameter(torch.zeros(shape, device=neuron.gain.device))

    def settle(self) -> None:
        """Leaves the neurons the gains."""
        self._before = self.neuron.gain
        self.neuron.gain = on_grid(self._before * self.log_factor.detach().exp(), self._before, self.neuron)

    def restore(self) -> None:
        """Gives the neurons back what they had before they settled."""
        self.neuron.gain = self._before

    def forward(self, potential: Tensor, rounded: Tensor | None) -> Tensor:
        """As :func:`soft_fire`."""
        values = self.neuron.in_steps(potential.float()) * self.log_factor.exp()
        return _straight_through(values, self.neuron, rounded)


def unrounded(neuron: SpikingNeuron, potential: Tensor) -> Tensor:
    """What neurons would fire with arbitrarily fine steps, in steps."""
    values = neuron.in_steps(potential.float())
    if neuron.code.offset == 0:
        values = values.clamp(min=0.0)
    return values.clamp(max=neuron.ceiling) if neuron.is_capped else values


def soft_fire(neuron: SpikingNeuron, potential: Tensor, rounded: Tensor | None = None) -> Tensor:
    """Values of the windows fired, with gradients.

    Args:
        neuron: the neurons.
        potential: their membrane potential.
        rounded: 1 where they round, 0 where they don't; None: everywhere.
    """
    return _straight_through(neuron.in_steps(potential.float()), neuron, rounded)


def _straight_through(values: Tensor, neuron: SpikingNeuron, rounded: Tensor | None) -> Tensor:
    low, high = neuron.code.minimum, float(neuron.ceiling)
    passing = values.clamp(low - 0.5, high + 0.5)  # what rounds to a word of the code gets its gradient
    with torch.no_grad():
        fired = neuron.code.quantize_(values.clone(), high)
        if rounded is not None:
            fired = torch.lerp(values.clamp(low, high), fired, rounded)
        rest = fired.sub_(passing)
    return passing + rest


def soft_transfer(transfer: TableTransfer, potential: Tensor) -> Tensor:
    """The table's function between its points on straight lines, so that it has a slope."""
    last = len(transfer.table) - 1
    position = (potential.float() * transfer.gain - float(transfer.first)).clamp(0, last)
    below = position.detach().floor().clamp(max=last - 1)
    index = below.long()
    low, high = transfer.table[index], transfer.table[index + 1]
    return low + (high - low) * (position - below)
