"""Bit budget and effort of one layer, from its plan and the spikes it was seen to read.

Source: Shen et al., "Are Conventional SNNs Really Efficient?", CVPR 2024; the formulas from secondary
notes of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from snnconvert.neurons.activity import Activity


@dataclass(frozen=True)
class SpikeStatistics:
    """How busy a layer's input is.

    Attributes:
        firing_rate: share of spikes that are not zero, over all neurons and steps.
        word_sparsity: share of words that are zero, that is of neurons silent for the whole window.
        bit_sparsity: share of zeros among all b·T bits.
        spikes_per_neuron: mean number of non-zero spikes in a window of T steps.
    """

    firing_rate: float
    word_sparsity: float
    bit_sparsity: float
    spikes_per_neuron: float


def spike_statistics(activity: Activity) -> SpikeStatistics:
    """Statistics of the spikes a layer was seen to read."""
    windows = max(activity.windows, 1)
    return SpikeStatistics(
        firing_rate=activity.spikes / (windows * activity.T),
        word_sparsity=activity.silent / windows,
        bit_sparsity=1 - activity.set_bits / (windows * activity.T * activity.bits),
        spikes_per_neuron=activity.spikes / windows,
    )


def s_ace(macs: int, weight_bits: int | Fraction, bits: int, T: int) -> int:
    """S-ACE = MAC·T·b_w·b_s of one layer: arithmetic effort in bit pairs per image; b_w may be a mean of channels."""
    return round(macs * T * weight_bits * bits)
