"""Bit budget and effort of one layer, from its plan and the words it was seen to read.

Source: Shen et al., "Are Conventional SNNs Really Efficient?", CVPR 2024; the formulas from secondary
notes of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snnconvert.neurons.code import PackedCode


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


def spike_statistics(word_counts: Tensor, code: PackedCode) -> SpikeStatistics:
    """Statistics of the spikes behind packed words.

    Args:
        word_counts: int64 [2^(bT)], occurrences of each stored word (with its offset added).
        code: the words' code.
    """
    words = torch.arange(code.levels)
    total = max(int(word_counts.sum()), 1)
    spikes = PackedCode(code.bits, code.T).to_spikes(words)
    bits = PackedCode(1, code.word_bits).to_spikes(words)
    per_neuron = float(((spikes != 0).sum(0) * word_counts).sum()) / total
    set_bits = float((bits.sum(0) * word_counts).sum()) / total
    return SpikeStatistics(
        firing_rate=per_neuron / code.T,
        word_sparsity=float(word_counts[0]) / total,
        bit_sparsity=1 - set_bits / code.word_bits,
        spikes_per_neuron=per_neuron,
    )


def s_ace(macs: int, weight_bits: int, bits: int, T: int) -> int:
    """S-ACE = MAC·T·b_w·b_s of one layer: arithmetic effort in bit pairs per image."""
    return macs * T * weight_bits * bits
