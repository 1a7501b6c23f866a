"""What calibration finds for neurons that share their code, and their step or one a channel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from snnconvert.neurons.code import SpikeCode


@dataclass(frozen=True)
class Threshold:
    """A site's step Δ in the ANN's units, and its code with the offset its values need.

    Attributes:
        step: Δ; of a threshold per channel the largest Δ_c.
        code: the code, the same for all channels.
        channel_steps: Δ_c of each channel; empty where one step holds for all.
    """

    step: float
    code: SpikeCode
    channel_steps: tuple[float, ...] = ()

    @classmethod
    def per_channel(cls, steps: Iterable[float], code: SpikeCode) -> Threshold:
        """A threshold of steps Δ_c; ``step`` is their maximum."""
        listed = tuple(float(step) for step in steps)
        return cls(max(listed), code, listed)
