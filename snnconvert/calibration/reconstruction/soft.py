"""Differentiable forms of neurons, synapses and transfers.

Weights move between two integers (AdaRound, Nagel et al., ICML 2020); the rounding of neurons passes gradients
straight through, z = clip(⌊(v + β)·g⌉, z_min, z_max), and while a network is trained each neuron fires without rounding
with probability p (QDrop, Wei et al., ICLR 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import TableTransfer
from snnconvert.neurons.weight_integers import has_weights, largest_integer

_STRETCH = 0.1


class SoftSynapse(nn.Module):
    """Weights between two integers each, and a bias, of one synapse.

    W = clip(⌊w⌋ + h(V), −q, q) with h(V) = clip(1.2·σ(V) − 0.1, 0, 1), which starts at w. In channels of one bit the
    two integers are −1 and 1, W = 2·h(V) − 1; a channel without weights stays as it is.

    Parameters:
        position: V, [O, ...].
        bias: [O], what is added to the synapse's own bias, in units of ``current_spread``.
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

    def share(self) -> Tensor:
        """h(V), what lies above the lower integer."""
        return ((1 + 2 * _STRETCH) * torch.sigmoid(self.position) - _STRETCH).clamp(0, 1)

    def added_bias(self) -> Tensor:
        """What is added to the bias, in counts."""
        return self.bias * self.current_spread

    def settle(self) -> None:
        """Leaves the nearer integers in the synapse."""
        self._before = self.synapse.weight.clone(), self.synapse.bias.clone()
        with torch.no_grad():
            integers = (self.floor + self.gap * (self.share() >= 0.5)).clamp(-self.largest, self.largest)
            self.synapse.weight.copy_(integers.to(torch.int8))
            self.synapse.bias += self.added_bias().round().to(torch.int32)
            self.synapse.prepare()

    def restore(self) -> None:
        """Gives the synapse back what it had before it settled."""
        self.synapse.weight, self.synapse.bias = self._before
        self.synapse.prepare()

    def forward(self, words: Tensor) -> Tensor:
        """The current of real or integer words, float32."""
        weight = (self.floor + self.gap * self.share()).clamp(-self.largest, self.largest)
        return self.synapse.current_with(weight, self.synapse.bias + self.added_bias(), words)


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
    values = neuron.in_steps(potential.float())
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
