"""What calibration finds for neurons that share their step."""

from __future__ import annotations

from dataclasses import dataclass

from snnconvert.neurons.code import SpikeCode


@dataclass(frozen=True)
class Threshold:
    """A site's step Δ in the ANN's units, and its code with the offset its values need."""

    step: float
    code: SpikeCode
