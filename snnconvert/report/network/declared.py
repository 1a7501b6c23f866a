"""Widths that this package's own synapses declare, whatever values they happen to see."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from torch import nn

from snnconvert.neurons.synapse import Synapse


@dataclass(frozen=True)
class Declared:
    """What an integer synapse says of itself.

    Attributes:
        lowest: the smallest word of a window it reads, all spikes zero.
        bits: of such a word less the lowest.
        weight_bits: b_w, the mean of its channels.
    """

    lowest: int
    bits: int
    weight_bits: Fraction


def declared_widths(module: nn.Module) -> dict[str, Declared]:
    """By module name."""
    return {name: _declared(item) for name, item in module.named_modules() if isinstance(item, Synapse)}


def _declared(synapse: Synapse) -> Declared:
    low, high = synapse.word_range
    mean = Fraction(int(synapse.widths.sum()), len(synapse.widths))
    return Declared(low, max((high - low).bit_length(), 1), mean)
