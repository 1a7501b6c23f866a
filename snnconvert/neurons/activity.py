"""How busy spike trains are: counts that add up over steps, batches and tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.word import WordCode


@dataclass(frozen=True)
class Activity:
    """Counts over windows of T steps.

    Attributes:
        windows: neurons times samples.
        spikes: non-zero spikes.
        set_bits: ones among the bits of all spikes (magnitudes of signed ones).
        silent: windows without any spike.
        bits: b_s, bits of a spike, a sign included.
        T: time steps of a window.
    """

    windows: int
    spikes: int
    set_bits: int
    silent: int
    bits: int
    T: int


def activity_of_words(values: Tensor, code: WordCode) -> Activity:
    """Activity behind words of any shape."""
    words = torch.bincount(code.numbers(values.flatten()), minlength=code.levels).cpu()
    return activity_of_word_counts(words, code)


def activity_of_word_counts(counts: Tensor, code: WordCode) -> Activity:
    """Activity behind words, from int64 [2^(bT)] occurrences of each number that digits spell (offset added)."""
    words = torch.arange(code.levels)
    spikes = PackedCode(code.bits, code.T).to_spikes(words)
    bits = PackedCode(1, code.word_bits).to_spikes(words)
    return Activity(
        windows=int(counts.sum()),
        spikes=int(((spikes != 0).sum(0) * counts).sum()),
        set_bits=int((bits.sum(0) * counts).sum()),
        silent=int(counts[0]),
        bits=code.bits,
        T=code.T,
    )


def activity_of_trains(spikes: Tensor, bits: int) -> Activity:
    """Activity of spike trains [T, ...] of integers of ``bits`` bits; a sign's bit is never counted as a one."""
    magnitudes = spikes.to(torch.int16).abs()
    set_bits = sum(int(((magnitudes >> bit) & 1).sum()) for bit in range(bits))
    fired = magnitudes != 0
    return Activity(
        windows=spikes[0].numel(),
        spikes=int(fired.sum()),
        set_bits=set_bits,
        silent=int((~fired.any(0)).sum()),
        bits=bits,
        T=len(spikes),
    )
