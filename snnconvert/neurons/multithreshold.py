"""Multi-threshold neurons: each spike is a power of two, the largest the potential reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.registry import register

MOST_THRESHOLDS = 7
Rule = Literal["nearest", "ecmt"]
RULES: tuple[str, ...] = get_args(Rule)


class MultiThresholdState(NamedTuple):
    """Potential m after the last reset, and the sum of all spikes so far; float64."""

    potential: Tensor
    total: Tensor


def largest_power(magnitude: Tensor, threshold: float, count: int, rule: Rule) -> Tensor:
    """2^k for the largest k < count whose threshold the magnitude reaches, 0 if there is none; float64.

    "nearest" reaches it from 0.75·θ·2^k on, the middle between θ·2^k and the next smaller one (DCGS);
    "ecmt" from θ·2^k − θ/2 on.
    """
    spikes = torch.zeros_like(magnitude)
    for k in range(count):
        reached = 0.75 * threshold * 2**k if rule == "nearest" else threshold * (2**k - 0.5)
        spikes.masked_fill_(magnitude >= reached, float(1 << k))
    return spikes


def multithreshold_step(
    current: Tensor, state: MultiThresholdState, threshold: float, count: int, *, signed: bool, rule: Rule = "nearest"
) -> tuple[Tensor, MultiThresholdState]:
    """One step: m ← m + i; s = ±2^k with the largest k whose threshold |m| reaches; m ← m − θ·s.

    Without sign a negative spike only takes back what was fired: it needs Σs ≥ 2^k.

    Source: the two-sided bank of ECMT (Huang et al., ACM MM 2024), thresholds θ·2^k for k = 0..n−1, one
    spike a step, from its code; the rule "nearest" and the condition of the unsigned form from DCGS (Huang
    et al., ICML 2025).

    Args:
        current: i, in the unit of m.
        state: of the step before.
        threshold: θ, the smallest threshold.
        count: n, the number of thresholds a side.
        signed: whether the sum of spikes may be negative.
        rule: when a threshold is reached, see :func:`largest_power`.
    """
    potential = state.potential + current
    sizes = largest_power(potential.abs(), threshold, count, rule)
    negative = potential < 0
    if not signed:
        sizes = largest_taken_back(sizes, state.total, negative)
    spikes = torch.where(negative, -sizes, sizes)
    return spikes.to(torch.int8), MultiThresholdState(potential - spikes * threshold, state.total + spikes)


def largest_taken_back(sizes: Tensor, total: Tensor, negative: Tensor) -> Tensor:
    """Spike sizes whose negative ones are lowered to the largest power of two that the sum so far allows."""
    allowed = torch.exp2(total.clamp(min=1).log2().floor()) * (total >= 1)
    return torch.where(negative, torch.minimum(sizes, allowed), sizes)


@register
@dataclass(frozen=True)
class MultiThresholdCode(SpikeCode):
    """z = Σ_t s_t of spikes ±2^k, k = 0..b−1: n = b thresholds θ·2^k, θ = T·Δ of the window's mean.

    A spike is charged b bits, one for each threshold, and one for its sign.

    Attributes:
        rule: "nearest" or "ecmt".
    """

    rule: Rule = "nearest"

    name: ClassVar[str] = "multithreshold"
    has_sign: ClassVar[bool] = True

    def check(self) -> None:
        """Refuses more than 7 thresholds and unknown rules.

        Raises:
            ConfigurationError: then, or as any code.
        """
        super().check()
        if self.bits > MOST_THRESHOLDS:
            raise ConfigurationError(f"{self.name}: at most {MOST_THRESHOLDS} thresholds (bits), got {self.bits}")
        if self.rule not in RULES:
            raise ConfigurationError(f"{self.name}: rule must be one of {', '.join(RULES)}, got {self.rule!r}")

    @property
    def spike_bits(self) -> int:
        """One more than b: spikes take back what was fired too much, so that they have a sign in any case."""
        return self.bits + 1

    @property
    def spike_range(self) -> tuple[int, int]:
        """−2^(b−1)..2^(b−1)."""
        largest = 1 << (self.bits - 1)
        return -largest, largest

    @property
    def largest_value(self) -> int:
        """T·2^(b−1): the largest spike at every step."""
        return self.T << (self.bits - 1)

    def initial(self, like: Tensor) -> MultiThresholdState:
        """Potential 0."""
        start = torch.zeros_like(like, dtype=torch.float64)
        return MultiThresholdState(start, start)

    def step(self, current: Tensor, state: MultiThresholdState) -> tuple[Tensor, MultiThresholdState]:
        """See :func:`multithreshold_step`."""
        return multithreshold_step(current, state, float(self.T), self.bits, signed=self.signed, rule=self.rule)
