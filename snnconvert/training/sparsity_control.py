"""The weight of the activation penalty that drives a network to a sparsity."""

from __future__ import annotations

import math

_FASTEST, _SMALLEST_RATE, _LARGEST_SUM = 1.0, 1e-4, 14.0


class SparsityController:
    """λ = λ₀·exp(k_i·Σ e + k_p·e), e = ln(ρ/ρ*) clipped to −1..1: by how much the network is busier than it shall be.

    ρ is the moving average of 1 − sparsity over steps, ρ* that of the target. While the network is too busy λ grows,
    while it is sparser than told λ falls, so that it loses no more accuracy than it must. Logarithms make both the same
    for any network: its rate falls with a power of λ.
    """

    def __init__(
        self, target: float, weight: float, *, integral: float = 0.1, proportional: float = 3.0, memory: float = 0.8
    ) -> None:
        """Starts with a weight.

        Args:
            target: share of bits that shall be 0.
            weight: λ₀, above 0.
            integral: k_i, a step.
            proportional: k_p.
            memory: share of the moving average that stays from step to step.
        """
        self._goal = max(1 - target, _SMALLEST_RATE)
        self._start, self._integral, self._proportional, self._memory = weight, integral, proportional, memory
        self._rate: float | None = None
        self._sum = 0.0

    @property
    def weight(self) -> float:
        """λ."""
        now = 0.0 if self._rate is None else self._proportional * self._error(self._rate)
        return self._start * math.exp(self._sum + now)

    def update(self, sparsity: float) -> float:
        """Takes in the sparsity of a step, and gives λ of the next."""
        rate = 1 - sparsity
        self._rate = rate if self._rate is None else self._memory * self._rate + (1 - self._memory) * rate
        moved = self._sum + self._integral * self._error(self._rate)
        self._sum = min(max(moved, -_LARGEST_SUM), _LARGEST_SUM)
        return self.weight

    def _error(self, rate: float) -> float:
        return min(max(math.log(max(rate, _SMALLEST_RATE) / self._goal), -_FASTEST), _FASTEST)

    def state(self) -> dict[str, float | None]:
        """What :meth:`load` reads."""
        return {"start": self._start, "rate": self._rate, "sum": self._sum}

    def load(self, state: dict[str, float | None]) -> None:
        """Goes on from a saved state."""
        start, total = state["start"], state["sum"]
        assert start is not None
        assert total is not None
        self._start, self._rate, self._sum = start, state["rate"], total
