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
        channel_shifts: s_c of each channel, in the ANN's units: its neurons fire on x − s_c, so that their spikes
            mean s_c + Δ_c·z; empty without any, and without ``channel_steps``.
    """

    step: float
    code: SpikeCode
    channel_steps: tuple[float, ...] = ()
    channel_shifts: tuple[float, ...] = ()

    @classmethod
    def per_channel(cls, steps: Iterable[float], code: SpikeCode, shifts: Iterable[float] = ()) -> Threshold:
        """A threshold of steps Δ_c, whose maximum is ``step``, and shifts s_c, left out where all are zero."""
        listed, shifted = tuple(float(step) for step in steps), tuple(float(shift) for shift in shifts)
        return cls(max(listed), code, listed, shifted if any(shifted) else ())
