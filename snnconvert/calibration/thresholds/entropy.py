"""The threshold whose words keep most of the distribution: minimal Kullback-Leibler divergence KL(P‖Q).

P is the histogram on a fine uniform grid over the range a threshold keeps, what lies beyond added to its ends; Q is
what is left of it in L levels, each level's mass spread evenly over the places of its level where P has any.

Source: the entropy calibration of TensorRT (Migacz, GTC 2017). That exact zeros don't count (every threshold keeps
them), that the grid has 16 places a level, and that both ends of signed ranges move together is a reconstruction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snnconvert.calibration.thresholds.mse import Bins, spanning
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.threshold import Threshold

FloatArray = NDArray[np.float64]

_PLACES = 16
_MOST_LEVELS = 512
_SMALLEST = 2.0**-126
_CANDIDATES = 128
_EMPTY = 1e-9


def least_divergence(bins: Bins, extremes: tuple[float, float], code: SpikeCode) -> Threshold:
    """Chooses among ranges low·r..high·r, 1/16 ≤ r ≤ 1, of the values' extremes.

    Args:
        bins: lower edges, upper edges and counts of the occupied bins, ascending.
        extremes: the smallest and the largest value.
        code: the code without offset.
    """
    low, high = min(extremes[0], 0.0), max(extremes[1], 0.0)
    levels = min(int(code.span) + 1, _MOST_LEVELS)
    mass, zero = _on_grid(bins, low, high, levels * _PLACES)
    if mass.sum() <= 0:
        return spanning(low, high, code)
    shares = np.unique(np.round(np.linspace(1 / _PLACES, 1.0, _CANDIDATES) * len(mass))) / len(mass)
    found = [_divergence(mass, zero, share, levels) for share in shares]
    best = float(shares[len(shares) - 1 - int(np.argmin(found[::-1]))])
    return spanning(low * best, high * best, code)


def _on_grid(bins: Bins, low: float, high: float, places: int) -> tuple[FloatArray, int]:
    """The counts on a uniform grid over low..high, zeros left out, and the place where 0 lies."""
    lower, upper, counts = bins
    counts = np.where((lower > -_SMALLEST) & (upper <= _SMALLEST), 0.0, counts)
    reached = np.concatenate([[0.0], np.cumsum(counts)])
    points, total = np.stack([lower, upper], 1).ravel(), np.stack([reached[:-1], reached[1:]], 1).ravel()
    grid = np.linspace(low, high, places + 1)
    mass: FloatArray = np.diff(np.interp(grid, points, total, left=0.0, right=reached[-1]))
    return mass, round(places * -low / (high - low)) if high > low else 0


def _divergence(mass: FloatArray, zero: int, share: float, levels: int) -> float:
    start, end = zero - round(zero * share), zero + round((len(mass) - zero) * share)
    kept = mass[start:end]
    if len(kept) < levels or kept.sum() <= 0:
        return float("inf")
    p = kept.copy()
    p[0] += mass[:start].sum()
    p[-1] += mass[end:].sum()
    level = np.arange(len(kept)) * levels // len(kept)
    occupied = kept > 0
    q = np.bincount(level, kept, levels) / np.maximum(np.bincount(level, occupied, levels), 1)
    spread = np.where(occupied, q[level], 0.0)
    p, spread = p / p.sum(), np.maximum(spread / spread.sum(), _EMPTY)
    here = p > 0
    return float((p[here] * np.log(p[here] / spread[here])).sum())
