"""The threshold of minimal mean squared error for Gaussian values x ~ N(μ, σ²), rectified or not.

Source: H-MT (AAAI 2026), Eq. 29, whose fixed point is the minimum of this error; a code whose smallest value is 0
encodes the rectified x, of which μ and σ are those before the rectifier. That the minimum is searched by golden
section on log Δ, and the zero point of signed values placed so that the code's middle lies at μ, is a
reconstruction.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from snnconvert.calibration.thresholds.mse import Bins
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.threshold import Threshold

FloatArray = NDArray[np.float64]

_GOLDEN = (math.sqrt(5) - 1) / 2
_ITERATIONS = 60
_FARTHEST = 10.0
_FINEST = 1e-3
_LEAST_SHARE = 1e-9
_ROUNDS = 4
_MOST_NEGATIVE = -6.0
_ELEMENTS = 1 << 22


def moments(bins: Bins) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of histograms, values uniform within a bin: [...] of bins [..., K]."""
    low, high, counts = bins
    total = np.maximum(counts.sum(-1), 1)
    mean = (counts * (low + high)).sum(-1) / 2 / total
    middle = np.asarray(mean)[..., None]
    a, b = low - middle, high - middle
    return mean, np.sqrt((counts * (a * a + a * b + b * b)).sum(-1) / 3 / total)


def gaussian_mse(steps: FloatArray, mean: FloatArray, deviation: FloatArray, code: SpikeCode) -> FloatArray:
    """E[(y − Q(x))²] with Q(x) = Δ·clip(⌊x/Δ + ½⌋), x ~ N(μ, σ²); y = max(x, 0) for codes from 0 on, else x.

    Args:
        steps: Δ, [C].
        mean: μ, [C].
        deviation: σ > 0, [C].
        code: the code, for its smallest and largest value.

    Returns:
        [C].
    """
    levels = np.arange(math.ceil(code.minimum), math.floor(code.maximum) + 1, dtype=np.float64)
    floor = np.zeros(1) if code.minimum == 0 else np.full(1, -np.inf)
    step, mu, sigma = (values[:, None] for values in (steps, mean, deviation))
    inner = (levels[:-1] + 0.5) * step
    ends = np.broadcast_to(floor, (len(steps), 1)), np.full((len(steps), 1), np.inf)
    s = (np.concatenate([ends[0], inner, ends[1]], 1) - mu) / sigma
    density = np.exp(-s * s / 2) / math.sqrt(2 * math.pi)
    weighted = np.where(np.isfinite(s), s, 0.0) * density
    upper = ndtr(-s)
    shares = np.where(s[:, 1:] > 0, upper[:, :-1] - upper[:, 1:], ndtr(s[:, 1:]) - ndtr(s[:, :-1]))
    away = mu - levels * step
    second = sigma * sigma * (shares - np.diff(weighted, axis=1))
    errors: FloatArray = (second - 2 * sigma * away * np.diff(density, axis=1) + away * away * shares).sum(1)
    return errors


def optimal_steps(mean: FloatArray, deviation: FloatArray, code: SpikeCode) -> FloatArray:
    """The steps Δ [C] of minimal :func:`gaussian_mse` for μ and σ [C]; 0 where σ is 0 or x is hardly ever above 0."""
    possible = (deviation > 0) & ((code.minimum < 0) | (mean > _MOST_NEGATIVE * deviation))
    mu, sigma = np.where(possible, mean, 0.0), np.where(possible, deviation, 1.0)
    size = max(1, _ELEMENTS // max(int(code.span), 1))
    parts = [_searched(mu[i : i + size], sigma[i : i + size], code) for i in range(0, len(mu), size)]
    return np.where(possible, np.concatenate(parts), 0.0)


def gaussian_threshold(mean: float, deviation: float, code: SpikeCode, *, signed: bool) -> Threshold | None:
    """The best step, and for signed values the zero point or sign; None where no Gaussian tells one."""
    mu, sigma = np.array([float(mean)]), np.array([float(deviation)])
    if not signed or code.has_sign:
        code = dataclasses.replace(code, signed=signed) if code.has_sign else code
        step = float(optimal_steps(mu, sigma, code)[0])
        return Threshold(step, code) if step > 0 else None
    largest = math.floor(code.largest_value)
    code = dataclasses.replace(code, offset=code.zero_point_near(max(round(largest / 2), min(1, largest))))
    step = float(optimal_steps(mu, sigma, code)[0])
    for _ in range(_ROUNDS):
        if step <= 0:
            return None
        offset = min(max(round(code.largest_value / 2 - mean / step), 0), largest)
        code = dataclasses.replace(code, offset=code.zero_point_near(offset))
        step = float(optimal_steps(mu, sigma, code)[0])
    return Threshold(step, code) if step > 0 else None


def _searched(mean: FloatArray, deviation: FloatArray, code: SpikeCode) -> FloatArray:
    """Golden section on log Δ, all channels at once."""
    reach = max(code.maximum, -code.minimum, 1.0)
    low = np.log(_FINEST * deviation / reach)
    high = np.log((np.abs(mean) + _FARTHEST * deviation) * 2)

    def error(log_steps: FloatArray) -> FloatArray:
        return gaussian_mse(np.exp(log_steps), mean, deviation, code)

    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = error(left), error(right)
    for _ in range(_ITERATIONS):
        smaller = at_left < at_right
        high, low = np.where(smaller, right, high), np.where(smaller, low, left)
        new = np.where(smaller, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        at_new = error(new)
        left, right = np.where(smaller, new, right), np.where(smaller, left, new)
        at_left, at_right = np.where(smaller, at_new, at_right), np.where(smaller, at_left, at_new)
    return np.exp((low + high) / 2)
