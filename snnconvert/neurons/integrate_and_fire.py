"""Integrate-and-fire neurons: spikes are counted, binary or bursts of b bits, with soft or hard reset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.registry import register

Reset = Literal["soft", "hard"]
RESETS = ("soft", "hard")


class MembraneState(NamedTuple):
    """The membrane potential v, float64, after the last reset."""

    potential: Tensor


def integrate_and_fire_step(
    current: Tensor,
    state: MembraneState,
    threshold: float,
    largest: int,
    reset: Reset = "soft",
    leak: float = 1.0,
    rest: float = 0.0,
) -> tuple[Tensor, MembraneState]:
    """One step: v ← v_r + λ·(v − v_r) + i, s = min(⌊v/θ⌋₊, largest); v ← v − θ·s (soft), v ← 0 where s > 0 (hard).

    largest = 1 is the classical binary neuron, 2^b − 1 a burst of b bits. With soft reset, λ = 1,
    v_0 = θ/2 and a constant current i it fires clip(⌊T·i/θ + 1/2⌋, 0, T·largest) spikes in T steps: the
    staircase of QCFS (Bu et al., ICLR 2022). A burst is also what H-MT's neuron (AAAI 2026) fires, whose
    thresholds θ·2^k subtract one after the other.

    Source: the multi-bit neuron of Shen et al., CVPR 2024, section 3 (its order of rounding and reset is a
    reconstruction).

    Args:
        current: i, in the unit of v.
        state: of the step before.
        threshold: θ.
        largest: largest spike.
        reset: "soft" subtracts what was fired, "hard" sets the potential to zero.
        leak: λ, the share of the distance to rest that stays from step to step.
        rest: v_r, the potential a leaky neuron without input settles at.
    """
    return fire_and_reset(charged(current, state.potential, leak, rest), threshold, largest, reset)


def charged(current: Tensor, potential: Tensor, leak: float, rest: float) -> Tensor:
    """V_r + λ·(v − v_r) + i, the potential before firing; a new tensor."""
    return potential + current if leak == 1.0 else (potential - rest) * leak + (current + rest)


def fire_and_reset(potential: Tensor, threshold: float, largest: int, reset: Reset) -> tuple[Tensor, MembraneState]:
    """Spikes of a charged potential, which is reset in place; see :func:`integrate_and_fire_step`."""
    if largest == 1:
        spikes = (potential >= threshold).view(torch.uint8)
    else:
        spikes = (potential / threshold).floor_().clamp_(0, largest).to(torch.uint8)
    if reset == "soft":
        potential.sub_(spikes, alpha=threshold)
    else:
        potential.masked_fill_(spikes > 0, 0.0)
    return spikes, MembraneState(potential)


@dataclass(frozen=True)
class CountingCode(SpikeCode):
    """z = Σ_t s_t − o: T spikes of 0..2^b−1, each worth one step Δ = θ/T of the mean.

    Attributes:
        reset: "soft" or "hard".
        v0: initial potential as a share of the threshold; what is missing to 1/2 comes as a constant
            current over the window, so that a constant input is rounded to the nearest count.
    """

    reset: Reset = "soft"
    v0: float = 0.5

    def check(self) -> None:
        """Refuses unknown resets and initial potentials outside 0..1.

        Raises:
            ConfigurationError: on each, or as any code.
        """
        super().check()
        if self.reset not in RESETS:
            raise ConfigurationError(f"{self.name}: reset must be soft or hard, got {self.reset!r}")
        if not isinstance(self.v0, (int, float)) or not 0 <= self.v0 <= 1:
            raise ConfigurationError(f"{self.name}: v0 must lie in 0..1, got {self.v0!r}")

    @property
    def spike_range(self) -> tuple[int, int]:
        """0..2^b−1."""
        return 0, (1 << self.bits) - 1

    @property
    def largest_value(self) -> int:
        """T·(2^b − 1)."""
        return self.T * ((1 << self.bits) - 1)

    def initial(self, like: Tensor) -> MembraneState:
        """Potential v_0·θ, θ = T in T-ths of Δ."""
        return MembraneState(torch.full_like(like, self.v0 * self.T, dtype=torch.float64))

    def constant_current(self) -> float:
        """What enters at every step beside the synapses: the offset, and the rest of the half step."""
        return self.offset + (0.5 - self.v0)

    def driven(self, current: Tensor) -> Tensor:
        """The current of one step with :meth:`constant_current` added."""
        constant = self.constant_current()
        return current + constant if constant else current


@register
@dataclass(frozen=True)
class IntegrateAndFireCode(CountingCode):
    """Rate-coded integrate-and-fire; bits > 1 makes its spikes bursts."""

    name: ClassVar[str] = "if"

    def step(self, current: Tensor, state: MembraneState) -> tuple[Tensor, MembraneState]:
        """See :func:`integrate_and_fire_step`."""
        largest = self.spike_range[1]
        return integrate_and_fire_step(self.driven(current), state, float(self.T), largest, self.reset)
