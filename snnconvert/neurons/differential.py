"""Differential coding: a spike tells how the running mean of the neuron's output changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from snnconvert.neurons.multithreshold import MultiThresholdCode, Rule, largest_power, largest_taken_back
from snnconvert.neurons.registry import register


class DifferentialState(NamedTuple):
    """What a differential neuron keeps; float64.

    Attributes:
        potential: m, what came in minus what the receivers were told.
        mean: the running mean m_o of the output in spikes, as the receivers know it.
        step: steps so far.
    """

    potential: Tensor
    mean: Tensor
    step: int


def differential_step(
    current: Tensor, state: DifferentialState, threshold: float, count: int, *, signed: bool, rule: Rule = "nearest"
) -> tuple[Tensor, DifferentialState]:
    """One step t: m ← m + i_t − θ·m_o; fire s; m ← m − θ·s; m_o ← m_o + s/t.

    i_t is the rate-coded current of this step (the change t·μ_t − (t−1)·μ_{t−1} of the input's running
    mean μ, summed up), s = ±2^k with the largest k < n whose threshold |m| reaches. A silent neuron keeps
    telling its mean; after T steps that is Σ s_t/t. Without sign the mean stays non-negative.

    Source: DCGS (Huang et al., ICML 2025), its multi-threshold neuron and differential linear layer, from its
    code; the input's side, m_i there, is kept where the spikes are received.

    Args:
        current: i_t, in the unit of m.
        state: of the step before.
        threshold: θ, the smallest threshold.
        count: n, the number of thresholds a side.
        signed: whether the mean may be negative.
        rule: when a threshold is reached; DCGS has "nearest".
    """
    t = state.step + 1
    potential = state.potential + current - state.mean * threshold
    sizes = largest_power(potential.abs(), threshold, count, rule)
    negative = potential < 0
    if not signed:
        sizes = largest_taken_back(sizes, state.mean * t + 1e-9, negative)
    spikes = torch.where(negative, -sizes, sizes)
    after = DifferentialState(potential - spikes * threshold, state.mean + spikes / t, t)
    return spikes.to(torch.int8), after


@register
@dataclass(frozen=True)
class DifferentialCode(MultiThresholdCode):
    """z = Σ_t (T/t)·s_t of spikes ±2^k, k = 0..b−1: a spike of step t moves the mean by s_t/t.

    The receiving membrane keeps the running mean, ρ_t = t/(t−1). Its words aren't integers, so sums of
    them are real numbers in float64.
    """

    name: ClassVar[str] = "differential"
    extrapolates: ClassVar[bool] = False

    @property
    def growth(self) -> tuple[float, ...]:
        """ρ_t = t/(t−1)."""
        return (1.0, *(t / (t - 1) for t in range(2, self.T + 1)))

    def initial(self, like: Tensor) -> DifferentialState:  # type: ignore[override]
        """Potential and mean 0."""
        start = torch.zeros_like(like, dtype=torch.float64)
        return DifferentialState(start, start, 0)

    def step(  # type: ignore[override]
        self, current: Tensor, state: DifferentialState
    ) -> tuple[Tensor, DifferentialState]:
        """See :func:`differential_step`."""
        return differential_step(current, state, float(self.T), self.bits, signed=self.signed, rule=self.rule)
