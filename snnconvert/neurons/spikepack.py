"""SpikePack's leaky form: binary spikes whose weights fall by a factor τ ≤ 2 from step to step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.registry import register


class SpikePackState(NamedTuple):
    """Potential v in steps Δ, half a step added, and the number of steps fired."""

    potential: Tensor
    step: int


def spikepack_step(current: Tensor | None, state: SpikePackState, tau: float, T: int) -> tuple[Tensor, SpikePackState]:
    """One greedy step: s_t = [v ≥ θ_t], v ← v − θ_t·s_t, with θ_t = τ^(T−t).

    For 1 < τ ≤ 2 the residual stays below one step Δ wherever v is in range (a β-expansion); beyond 2
    gaps would appear.

    Source: serial emission of SpikePack (Shen et al., ICCV 2025); that v starts half a step higher is a
    reconstruction which makes τ = 2 the uniform quantizer.
    """
    potential = state.potential if current is None else state.potential + current
    threshold = tau ** (T - 1 - state.step)
    spikes = potential >= threshold
    return spikes.to(torch.uint8), SpikePackState(potential - spikes * threshold, state.step + 1)


@register
@dataclass(frozen=True)
class SpikePackCode(SpikeCode):
    """z = Σ_t s_t·τ^(T−t) − o of binary spikes, 1 < τ ≤ 2; a leak of 1/τ on the sending side.

    Its words aren't integers, so sums of them are real numbers in float64.

    Attributes:
        tau: τ.
    """

    tau: float = 1.8

    name: ClassVar[str] = "spikepack"
    streams: ClassVar[bool] = False
    extrapolates: ClassVar[bool] = False

    def check(self) -> None:
        """Refuses wide spikes, τ outside (1, 2] and windows beyond 65,535.

        Raises:
            ConfigurationError: on each.
        """
        if not isinstance(self.tau, (int, float)) or not 1 < self.tau <= 2:
            raise ConfigurationError(f"spikepack: tau must be above 1 and at most 2, got {self.tau!r}")
        if self.bits != 1:
            raise ConfigurationError(f"spikepack: its spikes are binary, set bits to 1 (got {self.bits})")
        super().check()

    @property
    def spike_range(self) -> tuple[int, int]:
        """0 or 1."""
        return 0, 1

    @property
    def largest_value(self) -> float:
        """(τ^T − 1)/(τ − 1)."""
        return sum(self.tau**step for step in range(self.T))

    @property
    def growth(self) -> tuple[float, ...]:
        """ρ = τ."""
        return (float(self.tau),) * self.T

    @property
    def rests(self) -> tuple[int, ...]:
        """At τ = 2, where words are integers, the offset's own digits; below, the whole offset at once."""
        if self.tau < 2:
            return super().rests
        return tuple(self.offset >> (self.T - 1 - step) & 1 for step in range(self.T))

    def initial(self, like: Tensor) -> SpikePackState:
        """Potential o + 1/2."""
        return SpikePackState(torch.full_like(like, self.offset + 0.5, dtype=torch.float64), 0)

    def step(self, current: Tensor, state: SpikePackState) -> tuple[Tensor, SpikePackState]:
        """See :func:`spikepack_step`."""
        return spikepack_step(current, state, self.tau, self.T)

    def coast(self, state: SpikePackState) -> tuple[Tensor, SpikePackState]:
        """See :func:`spikepack_step`."""
        return spikepack_step(None, state, self.tau, self.T)
