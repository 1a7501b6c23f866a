"""Ternary signed spikes: a neuron that takes back spikes it fired too early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.registry import register


class TernaryState(NamedTuple):
    """Potential q after the last reset, and the sum of all spikes so far; float64."""

    potential: Tensor
    total: Tensor


def ternary_step(
    current: Tensor, state: TernaryState, threshold: float, lowest: float, highest: float
) -> tuple[Tensor, TernaryState]:
    """One step of ST-BIF+: q ← q + i; s = +1 if q ≥ θ and Σs < highest, −1 if q < 0 and Σs > lowest; q ← q − θ·s.

    q starts at θ/2. Once the input has fallen silent for long enough, Σs = clip(⌊Σi/θ + 1/2⌋, lowest, highest)
    whatever the order in which the current came.

    Source: SpikeZIP-TF (You et al., ICML 2024), from its code.

    Args:
        current: i, in the unit of q.
        state: of the step before.
        threshold: θ.
        lowest: smallest sum of spikes.
        highest: largest sum of spikes.
    """
    potential = state.potential + current
    up = (potential >= threshold) & (state.total < highest)
    down = (potential < 0) & (state.total > lowest)
    spikes = up.to(torch.int8) - down.to(torch.int8)
    return spikes, TernaryState(potential - spikes * threshold, state.total + spikes)


@register
@dataclass(frozen=True)
class TernaryCode(SpikeCode):
    """z = Σ_t s_t of spikes −1, 0 or +1 whose running sum stays in 0..T, or −T..T for signed values.

    A spike takes two bits, whatever ``bits`` says.
    """

    name: ClassVar[str] = "ternary"
    has_sign: ClassVar[bool] = True

    @property
    def spike_range(self) -> tuple[int, int]:
        """−1..1."""
        return -1, 1

    @property
    def spike_bits(self) -> int:
        """Two: a ternary spike."""
        return 2

    @property
    def largest_value(self) -> int:
        """T: one spike a step."""
        return self.T

    def initial(self, like: Tensor) -> TernaryState:
        """Potential θ/2, θ = T in T-ths of Δ."""
        start = torch.full_like(like, 0.5 * self.T, dtype=torch.float64)
        return TernaryState(start, torch.zeros_like(start))

    def step(self, current: Tensor, state: TernaryState) -> tuple[Tensor, TernaryState]:
        """See :func:`ternary_step`."""
        return ternary_step(current, state, float(self.T), self.minimum, self.maximum)
