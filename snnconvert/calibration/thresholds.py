"""Thresholds: the step Δ of a site's code from the histogram of its values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snnconvert.calibration.histogram import ValueHistogram
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.threshold import Threshold

_COARSE = np.geomspace(1.05, 0.004, 80)
_NOTHING = 1e-6
_ROUNDS = 2
_FINE = np.linspace(0.93, 1.07, 29)


def choose_threshold(
    histogram: ValueHistogram, code: SpikeCode, method: str, percentile: float, cap: float | None = None
) -> Threshold:
    """Chooses Δ (and an offset or a sign, if values are negative) for one site.

    "max": the code spans minimum..maximum. "percentile": it spans the central ``percentile`` % of the
    values. "mse": it spans the range that minimizes the mean squared error E[(x − Q(x))²] under the
    histogram.

    Args:
        histogram: statistics of the site.
        code: the site's code without offset.
        method: "mse", "max" or "percentile".
        percentile: in percent, for "percentile".
        cap: the rectifier's upper clip. Neurons that fire while they integrate saturate at their largest
            value only, so that this must not lie above the clip.
    """
    threshold = _chosen(histogram, code, method, percentile)
    if cap is None or not threshold.code.streams or threshold.step * threshold.code.maximum <= cap:
        return threshold
    return Threshold(cap / threshold.code.maximum, threshold.code)


def _chosen(histogram: ValueHistogram, code: SpikeCode, method: str, percentile: float) -> Threshold:
    low, high = histogram.extremes
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 0:
        return Threshold(1.0, code)
    if method == "max":
        return _spanning(low, high, code)
    if method == "percentile":
        tail = (1 - percentile / 100) / (2 if low < 0 else 1)
        bottom = min(histogram.quantile(tail), 0.0) if low < 0 else 0.0
        top = min(max(histogram.quantile(1 - tail), 0.0), high)
        return _spanning(bottom, top, code) if top - bottom > _NOTHING * (high - low) else _spanning(low, high, code)
    return _minimal_mse(histogram, code)


def quantization_mse(histogram: ValueHistogram, threshold: Threshold) -> float:
    """E[(x − Q(x))²] with Q(x) = Δ·clip(rne(x/Δ)), values uniform within a bin.

    Integrated exactly per bin: the antiderivative of (u − n)², n = clip(rne(u)), is n/12 + (u − n)³/3.
    """
    low, high, counts = histogram.bins()
    return _integrated_error(np.stack([low, high]), counts / (high - low), threshold) / float(counts.sum())


def _integrated_error(edges: NDArray[np.float64], densities: NDArray[np.float64], threshold: Threshold) -> float:
    """Σ over bins of density·∫(x − Q(x))² dx, for lower and upper edges [2, K]."""
    step, code = threshold.step, threshold.code
    u = edges / step
    n = np.clip(np.rint(u), code.minimum, code.maximum)
    rest = u - n
    integral = n / 12 + rest * rest * rest / 3
    return float(((integral[1] - integral[0]) * densities).sum() * step**3)


def _spanning(low: float, high: float, code: SpikeCode) -> Threshold:
    return Threshold(*code.spanning(low, high))


def _minimal_mse(histogram: ValueHistogram, code: SpikeCode) -> Threshold:
    """Searches the range low..high: both ends together first, then each by itself where values are negative.

    Values so rare that none was counted are covered by their extremes.
    """
    edges_low, edges_high, counts = histogram.bins()
    edges, densities = np.stack([edges_low, edges_high]), counts / (edges_high - edges_low)
    low, high = min(float(edges_low[0]), 0.0), max(float(edges_high[-1]), 0.0)
    lowest, highest = histogram.extremes
    if high - low <= _NOTHING * (highest - lowest):
        return _spanning(min(lowest, 0.0), max(highest, 0.0), code)

    def refined(low_moves: bool, high_moves: bool) -> tuple[float, float]:
        def ends(ratio: float) -> tuple[float, float]:
            return (low * ratio if low_moves else low), (high * ratio if high_moves else high)

        def best_of(ratios: NDArray[np.float64]) -> float:
            errors = [_integrated_error(edges, densities, _spanning(*ends(ratio), code)) for ratio in ratios]
            return float(ratios[int(np.argmin(errors))])

        return ends(best_of(best_of(_COARSE) * _FINE))

    low, high = refined(True, True)
    if low < 0 < high:
        for _ in range(_ROUNDS):
            low, high = refined(False, True)
            low, high = refined(True, False)
    return _spanning(low, high, code)
