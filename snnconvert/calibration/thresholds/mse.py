"""The threshold of minimal mean squared error E[(x − Q(x))²] under a histogram."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snnconvert.calibration.statistics.histogram import ValueHistogram
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.threshold import Threshold

FloatArray = NDArray[np.float64]
Bins = tuple[FloatArray, FloatArray, FloatArray]

_COARSE = np.geomspace(1.05, 0.004, 80)
_ROUNDS = 2
_FINE = np.linspace(0.93, 1.07, 29)
NOTHING = 1e-6


def quantization_mse(histogram: ValueHistogram, threshold: Threshold) -> float:
    """E[(x − Q(x))²] with Q(x) = Δ·clip(rne(x/Δ)), or the nearest value of the code's table; uniform within a bin.

    Integrated exactly per bin: the antiderivative of (u − n)², n = clip(rne(u)), is n/12 + (u − n)³/3; that of
    (u − z_k)², z_k the nearest of a table, is F_k + (u − z_k)³/3 with F_k = Σ_{j≤k} (z_j − z_{j−1})³/12.
    """
    low, high, counts = histogram.bins()
    return _integrated_error(np.stack([low, high]), counts / (high - low), threshold) / float(counts.sum())


def minimal_mse(bins: Bins, extremes: tuple[float, float], code: SpikeCode) -> Threshold:
    """Searches the range low..high: both ends together first, then each by itself where values are negative.

    Values so rare that none was counted are covered by their extremes.

    Args:
        bins: lower edges, upper edges and counts (or weights) of the occupied bins, ascending.
        extremes: the smallest and the largest value.
        code: the code without offset.
    """
    edges_low, edges_high, counts = bins
    edges, densities = np.stack([edges_low, edges_high]), counts / (edges_high - edges_low)
    low, high = min(float(edges_low[0]), 0.0), max(float(edges_high[-1]), 0.0)
    lowest, highest = extremes
    if high - low <= NOTHING * (highest - lowest):
        return spanning(min(lowest, 0.0), max(highest, 0.0), code)

    def refined(low_moves: bool, high_moves: bool) -> tuple[float, float]:
        def ends(ratio: float) -> tuple[float, float]:
            return (low * ratio if low_moves else low), (high * ratio if high_moves else high)

        def best_of(ratios: FloatArray) -> float:
            errors = [_integrated_error(edges, densities, spanning(*ends(ratio), code)) for ratio in ratios]
            return float(ratios[int(np.argmin(errors))])

        return ends(best_of(best_of(_COARSE) * _FINE))

    low, high = refined(True, True)
    if low < 0 < high:
        for _ in range(_ROUNDS):
            low, high = refined(False, True)
            low, high = refined(True, False)
    return spanning(low, high, code)


def spanning(low: float, high: float, code: SpikeCode) -> Threshold:
    """The threshold whose code covers low ≤ 0 ≤ high."""
    return Threshold(*code.spanning(low, high))


def _integrated_error(edges: FloatArray, densities: FloatArray, threshold: Threshold) -> float:
    """Σ over bins of density·∫(x − Q(x))² dx, for lower and upper edges [2, K]."""
    integral = _antiderivative(edges / threshold.step, threshold.code)
    return float(((integral[1] - integral[0]) * densities).sum() * threshold.step**3)


def _antiderivative(u: FloatArray, code: SpikeCode) -> FloatArray:
    """Of (u − Q(u))², in steps."""
    if code.words:
        table = np.array(code.words, dtype=np.float64)
        gaps = np.diff(table)
        place = np.searchsorted(table[:-1] + gaps / 2, u, side="right")
        n, before = table[place], np.concatenate([[0.0], np.cumsum(gaps**3)])[place] / 12
    else:
        n = np.clip(np.rint(u), code.minimum, code.maximum)
        before = n / 12
    rest = u - n
    result: FloatArray = before + rest * rest * rest / 3
    return result
