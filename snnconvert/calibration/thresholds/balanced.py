"""Local threshold balancing: the threshold grows from 0 as long as it clips, by what it clips.

    θ ← θ + η·2·E[(x − θ)·H(x − θ)]

H is Heaviside's step: the negative gradient of the clipping error E[(x − θ)²·H(x − θ)] moves θ, so that every value
beyond it pulls by its distance, and rare ones hardly.

Source: local threshold balancing (CVPR 2025). Reconstruction: the expectation over the whole histogram in place of
sums over batches, η = 1/2 (one step is exact for constant values, and θ never passes the largest), 2,000 steps, and
that the two ends of signed values grow each by itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snnconvert.calibration.thresholds.mse import NOTHING, Bins, spanning
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.threshold import Threshold

FloatArray = NDArray[np.float64]

_STEPS = 2000
_RATE = 0.5


def balanced_threshold(bins: Bins, extremes: tuple[float, float], code: SpikeCode) -> Threshold:
    """The threshold after 2,000 steps from 0.

    Args:
        bins: lower edges, upper edges and counts of the occupied bins, ascending.
        extremes: the smallest and the largest value.
        code: the code without offset.
    """
    lower, upper, counts = bins
    share = counts / counts.sum()
    lowest, highest = min(extremes[0], 0.0), max(extremes[1], 0.0)
    high = min(_grown(lower, upper, share), highest)
    low = -min(_grown(-upper[::-1], -lower[::-1], share[::-1]), -lowest)
    if high - low <= NOTHING * (highest - lowest):
        return spanning(lowest, highest, code)
    return spanning(low, high, code)


def _grown(lower: FloatArray, upper: FloatArray, share: FloatArray) -> float:
    """θ for values above 0, uniform within their bins."""
    theta = 0.0
    for _ in range(_STEPS):
        first = int(np.searchsorted(upper, theta, side="right"))
        start = np.maximum(lower[first:], theta)
        width, part = upper[first:] - start, upper[first:] - lower[first:]
        clipped = float((share[first:] * width / part * ((start + upper[first:]) / 2 - theta)).sum())
        if clipped <= 0:
            break
        theta += _RATE * 2 * clipped
    return theta
