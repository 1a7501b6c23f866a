"""How many spikes and ones a window's value takes, by code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.word import WordCode


@dataclass(frozen=True)
class Busy:
    """How busy windows are; counts add up.

    Attributes:
        windows: neurons times samples.
        slots: their spikes, silent ones included: T a window.
        bits: bits of these: T·b_s a window.
        spikes: non-zero spikes.
        ones: ones among the bits.
        silent: windows without any spike.
        samples: samples.
        activity: Σ x, see :func:`~snnconvert.training.penalties.activity`.
    """

    windows: float = 0.0
    slots: float = 0.0
    bits: float = 0.0
    spikes: float = 0.0
    ones: float = 0.0
    silent: float = 0.0
    samples: float = 0.0
    activity: float = 0.0

    @property
    def bit_sparsity(self) -> float:
        """Share of zeros among all bits; of binary spikes 1 − spike rate a step."""
        return 1 - self.ones / self.bits if self.bits else 1.0

    @property
    def spike_sparsity(self) -> float:
        """Share of zeros among all spikes, 1 − firing rate."""
        return 1 - self.spikes / self.slots if self.slots else 1.0

    @property
    def word_sparsity(self) -> float:
        """Share of silent windows."""
        return self.silent / self.windows if self.windows else 1.0


@cache
def spike_table(code: SpikeCode) -> Tensor:
    """Non-zero spikes and ones of a window of every value a code can have, float64 [values, 2].

    Words in the order of their numbers; other codes from their smallest whole value on, fired for a constant current.
    """
    if isinstance(code, WordCode):
        numbers = torch.arange(code.levels)
        digits = [(numbers >> code.bits * t) & ((1 << code.bits) - 1) for t in range(code.T)]
    else:
        values = torch.arange(math.ceil(code.minimum), math.ceil(code.maximum) + 1, dtype=torch.float64)
        digits = [step.to(torch.int64).abs() for step in _fired(code, values)]
    spikes = sum(((digit != 0).double() for digit in digits), torch.zeros(len(digits[0]), dtype=torch.float64))
    width = max(code.magnitude_bits, 1)
    ones = sum((((digit >> bit) & 1).double() for digit in digits for bit in range(width)), torch.zeros_like(spikes))
    return torch.stack([spikes, ones], 1)


def count_spikes(values: Tensor, code: SpikeCode) -> Tensor:
    """Spikes, ones and silent windows behind values of a code, float64 [3] on their device.

    Of words, and of binary spikes of a rate code, exactly what they fire; of wider spikes of a rate code, whose trains
    depend on when their input comes, as for a constant current.

    Args:
        values: z, any shape and floating type.
        code: theirs.
    """
    table = spike_table(code)
    flat = values.detach().flatten()
    places = code.numbers(flat) if isinstance(code, WordCode) else (flat - math.ceil(code.minimum)).round_().long()
    found = torch.bincount(places, minlength=len(table)).double()
    table = table.to(found.device)
    return torch.cat([found @ table, (found * (table[:, 0] == 0)).sum().reshape(1)])


def _fired(code: SpikeCode, values: Tensor) -> list[Tensor]:
    """Spike trains of values that come as a constant current."""
    state = code.initial(values)
    trains = []
    for step in range(code.T):
        spikes, state = code.step(values, state) if code.streams or step == 0 else code.coast(state)
        trains.append(spikes)
    return trains
