"""Leaky integrate-and-fire: the potential loses a share of itself at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.integrate_and_fire import CountingCode, MembraneState, integrate_and_fire_step
from snnconvert.neurons.registry import register


@register
@dataclass(frozen=True)
class LeakyCode(CountingCode):
    """Integrate-and-fire with v ← v_r + λ·(v − v_r) + i: the membrane forgets, and rests where it starts.

    With v_r = v_0 = θ/2, the mean potential of an active neuron, the leak cancels on average; at v_r = 0 every
    step would lose (1 − λ)·v and deep networks would fall silent. In a discrete-time LIF neuron with membrane
    time constant τ_m and steps of dt, λ = exp(−dt/τ_m) (first order: 1 − dt/τ_m).

    Attributes:
        leak: λ, above 0 and at most 1.
    """

    leak: float = 0.95

    name: ClassVar[str] = "lif"

    def check(self) -> None:
        """Refuses leaks outside (0, 1].

        Raises:
            ConfigurationError: on each, or as any code.
        """
        super().check()
        if not isinstance(self.leak, (int, float)) or not 0 < self.leak <= 1:
            raise ConfigurationError(f"lif: leak must be above 0 and at most 1, got {self.leak!r}")

    def step(self, current: Tensor, state: MembraneState) -> tuple[Tensor, MembraneState]:
        """See :func:`~snnconvert.neurons.integrate_and_fire.integrate_and_fire_step`."""
        largest = self.spike_range[1]
        return integrate_and_fire_step(
            self.driven(current), state, float(self.T), largest, self.reset, self.leak, self.v0 * self.T
        )
