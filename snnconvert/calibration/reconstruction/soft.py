"""Differentiable forms of neurons, synapses and transfers: rounding passes gradients straight through.

With the straight-through rounding ⌊x⌉ (its gradient is 1):

    synapse   I = (clip(⌊W⌉, −q, q)·z + b)·m         with W and b real
    neuron    z = clip(⌊(v + β)·g⌉, z_min, z_max)

While a network is trained each neuron fires without rounding with probability p (QDrop, Wei et al., ICLR 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import TableTransfer


def straight_through_round(values: Tensor) -> Tensor:
    """⌊x⌉ with the gradient of x."""
    return values + (values.round() - values).detach()


class SoftSynapse(nn.Module):
    """Real weights and biases of one synapse, in counts.

    Parameters:
        weight: [O, ...], in units of ``spread``.
        bias: [O], what is added to the synapse's own bias, in units of ``current_spread``.
    """

    def __init__(self, synapse: Synapse, current_spread: Tensor) -> None:
        """Starts from the synapse's integers.

        Args:
            synapse: the synapse.
            current_spread: standard deviation of its current in counts, [O].
        """
        super().__init__()
        self.synapse = synapse
        self.largest = (1 << (synapse.weight_bits - 1)) - 1
        weight = synapse.weight.float()
        self.spread = max(float(weight.std()), 1.0) if weight.numel() > 1 else 1.0
        self.current_spread = current_spread
        self.weight = nn.Parameter(weight / self.spread)
        self.bias = nn.Parameter(torch.zeros_like(current_spread))

    def integers(self) -> Tensor:
        """clip(⌊W⌉, −q, q) with straight-through gradients."""
        return straight_through_round(self.weight * self.spread).clamp(-self.largest, self.largest)

    def added_bias(self) -> Tensor:
        """What is added to the bias, in counts."""
        return self.bias * self.current_spread

    def settle(self) -> None:
        """Leaves the integers in the synapse."""
        self._before = self.synapse.weight.clone(), self.synapse.bias.clone()
        with torch.no_grad():
            self.synapse.weight.copy_(self.integers().round().to(torch.int8))
            self.synapse.bias += self.added_bias().round().to(torch.int32)
            self.synapse.prepare()

    def restore(self) -> None:
        """Gives the synapse back what it had before it settled."""
        self.synapse.weight, self.synapse.bias = self._before
        self.synapse.prepare()

    def forward(self, words: Tensor) -> Tensor:
        """The current of real or integer words, float32."""
        return self.synapse.current_with(self.integers(), self.synapse.bias + self.added_bias(), words)


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
        fired = values.round().clamp_(low, high)
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
