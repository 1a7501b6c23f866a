"""The differentiable form of one-to-one synapses on shortcuts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from snnconvert.neurons.current import IntegerScale
from snnconvert.trainable.straight_through import rounded

_FINE_MULTIPLIER, _LARGEST_MULTIPLIER = 16, 1 << 22


class TrainableScale(nn.Module):
    """I = m'·z with m' = rne(m·φ) of spikes whose step has grown by φ."""

    base_multiplier: Tensor

    def __init__(self, scale: IntegerScale) -> None:
        """Starts from a scale's integers."""
        super().__init__()
        self._of = (scale,)
        self.input_factor: Callable[[], Tensor] | None = None
        self.register_buffer("base_multiplier", scale.multiplier.clone(), persistent=False)

    @staticmethod
    def is_fine(scale: IntegerScale) -> bool:
        """Whether all multipliers can be rounded without much loss."""
        size = scale.multiplier.abs()
        return bool(((size >= _FINE_MULTIPLIER) & (size <= _LARGEST_MULTIPLIER)).all())

    def multiplier(self) -> Tensor:
        """m', float64, of the multiplier's shape."""
        if self.input_factor is None:
            return self.base_multiplier
        wanted = rounded(self.base_multiplier * self.input_factor().double())
        return wanted.clamp(-_LARGEST_MULTIPLIER, _LARGEST_MULTIPLIER)

    def forward(self, counts: Tensor) -> Tensor:
        """m'·z of integer counts, in float64 where the scale is wide."""
        counts = counts.double() if self._of[0].wide else counts
        return counts * self.multiplier().to(counts.dtype)

    @torch.no_grad()
    def settle(self) -> None:
        """Leaves m' in the scale."""
        self._of[0].multiplier.copy_(self.multiplier())
