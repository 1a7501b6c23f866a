"""Thresholds per channel: the step Δ_c of each channel of a site, for one code that all of them share."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from snnconvert.calibration.statistics.channel_histogram import ChannelHistogram, FloatArray
from snnconvert.calibration.thresholds.gaussian import moments, optimal_steps
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.threshold import Threshold

_COARSE = np.geomspace(1.05, 0.004, 40)
_FINE = np.linspace(0.86, 1.14, 15)
_SMALLEST_SHARE = 2.0**-12
_SURPRISES = 2.0**-10
_NOTHING = 1e-6
_LEAST_POWER = 1e-300


def choose_channel_threshold(
    shared: Threshold,
    histogram: ChannelHistogram,
    method: str,
    percentile: float,
    cap: FloatArray | float | None = None,
    before: ChannelHistogram | None = None,
) -> Threshold:
    """Chooses Δ_c for each channel c of one site, by the method that chose the site's Δ.

    Spikes have one zero point o, whatever their channel. Where values are negative it is the one, among the site's
    own, the middle and the channels' median, with the smallest mean of E[(x − Q(x))²] / E[x²].
    Channels that are always zero get the site's Δ, others at least :func:`insured_steps`.

    Args:
        shared: the site's threshold, for its code.
        histogram: statistics of the site's channels.
        method: "mse", "max", "percentile" or "gaussian".
        percentile: in percent, for "percentile".
        cap: the rectifier's upper clip, or one a channel; no channel's largest value lies above it.
        before: for "gaussian", statistics of what the site's rectifier rectifies; None without a rectifier.
    """
    found = [_Candidate.of(code, histogram, method, percentile, before) for code in _codes(shared.code, histogram)]
    best = found[0] if len(found) == 1 else min(found, key=lambda candidate: candidate.loss(histogram))
    steps = np.where(best.steps > 0, np.maximum(best.steps, insured_steps(shared, histogram)), shared.step)
    return Threshold.per_channel(capped_steps(steps, best.code, cap), best.code)


def insured_steps(shared: Threshold, histogram: ChannelHistogram) -> FloatArray:
    """Δ·s/(s + n) with s = 12·m²·κ of channels of n counted values [C], at least 2^-12·Δ: coarse enough for surprises.

    It minimizes (κ/n)·(m·Δ − m·Δ_c)² + Δ_c²/12: the error of κ = 1/1024 more values as large as the site's
    threshold m·Δ beside the n a channel has shown, and that of rounding. Few values, or levels m that are cheap, tell
    little about how far a channel can go; without it channels that are rarely active are clipped on new images.
    """
    counted = np.zeros(histogram.minimum.shape)
    for counts in (histogram.counts, histogram.negative_counts):
        counted = counted + (0 if counts is None else counts.sum(1).double().numpy())
    strength = 12 * shared.code.span**2 * _SURPRISES
    return shared.step * np.maximum(strength / (strength + counted), _SMALLEST_SHARE)


def capped_steps(steps: FloatArray, code: SpikeCode, cap: FloatArray | float | None) -> FloatArray:
    """The steps, none so coarse that the code's largest value lies above the clip."""
    if cap is None or code.maximum <= 0:
        return steps
    capped: FloatArray = np.minimum(steps, cap / code.maximum)
    return capped


def channel_powers(low: FloatArray, high: FloatArray, counts: FloatArray) -> FloatArray:
    """E[x²] of each channel, [C], values uniform within a bin."""
    powers: FloatArray = ((low * low + low * high + high * high) / 3 * counts).sum(1) / np.maximum(counts.sum(1), 1)
    return powers


@dataclass(frozen=True)
class _Candidate:
    """Steps [C] for one code, 0 for channels that are always zero."""

    code: SpikeCode
    steps: FloatArray

    @classmethod
    def of(
        cls,
        code: SpikeCode,
        histogram: ChannelHistogram,
        method: str,
        percentile: float,
        before: ChannelHistogram | None,
    ) -> _Candidate:
        widest = _covering(*histogram.extremes, code)
        if method == "max":
            return cls(code, widest)
        if method == "percentile":
            low = bool((histogram.minimum < 0).any())
            tail = (1 - percentile / 100) / (2 if low else 1)
            steps = _covering(histogram.quantiles(tail), histogram.quantiles(1 - tail), code)
        else:
            steps = _minimal_mse(histogram, code)
        if method == "gaussian":
            gaussian = optimal_steps(*moments((before or histogram).bins()), code)
            steps = np.where((gaussian > 0) & (steps > 0), gaussian, steps)
        return cls(code, np.where(steps > _NOTHING * widest, steps, widest))

    def loss(self, histogram: ChannelHistogram) -> float:
        """The mean of E[(x − Q(x))²] / E[x²] over the channels that aren't always zero."""
        busy = self.steps > 0
        bins = histogram.bins()
        errors = channel_errors(*bins, np.where(busy, self.steps, 1.0), self.code)
        powers = channel_powers(*bins)
        return float((errors[busy] / np.maximum(powers[busy], _LEAST_POWER)).mean()) if busy.any() else 0.0


def _codes(code: SpikeCode, histogram: ChannelHistogram) -> list[SpikeCode]:
    """The code with each zero point worth trying; the site's own alone where values or spikes have no zero point."""
    low, high = histogram.extremes
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    if code.has_sign or not (low < 0).any():
        return [code]
    busy = high > low
    own = float(np.median((-low / np.where(busy, high - low, 1.0))[busy])) * code.largest_value
    largest = math.floor(code.largest_value)
    wanted = [code.offset, round(code.largest_value / 2), min(round(own), largest)]
    points = dict.fromkeys(map(code.zero_point_near, wanted))
    return [dataclasses.replace(code, offset=point) for point in points]


def _covering(low: FloatArray, high: FloatArray, code: SpikeCode) -> FloatArray:
    """The steps whose code reaches from low to high; one end decides where the code has no other."""
    above = np.maximum(high, 0.0) / code.maximum if code.maximum > 0 else np.zeros_like(high)
    below = np.minimum(low, 0.0) / code.minimum if code.minimum < 0 else np.zeros_like(low)
    return np.maximum(above, below)


def _minimal_mse(histogram: ChannelHistogram, code: SpikeCode) -> FloatArray:
    """The steps with the smallest error among shares of those that cover all counted values."""
    bins = histogram.bins()
    counted = bins[2] > 0
    low, high = np.where(counted, bins[0], 0.0).min(1), np.where(counted, bins[1], 0.0).max(1)
    widest = _covering(low, high, code)
    busy = np.where(widest > 0, widest, 1.0)

    def best_of(steps: FloatArray, ratios: FloatArray) -> FloatArray:
        errors = np.stack([channel_errors(*bins, steps * ratio, code) for ratio in ratios])
        chosen: FloatArray = steps * ratios[errors.argmin(0)]
        return chosen

    return np.where(widest > 0, best_of(best_of(busy, _COARSE), _FINE), 0.0)


def channel_errors(
    low: FloatArray,
    high: FloatArray,
    counts: FloatArray,
    steps: FloatArray,
    code: SpikeCode,
    shifts: FloatArray | float = 0.0,
) -> FloatArray:
    """E[(x − s_c − Q(x − s_c))²] of each channel at positive steps [C]; uniform within a bin, see ``threshold_mse``."""
    size = steps[:, None]
    zero: FloatArray = np.broadcast_to(shifts, steps.shape)[:, None]

    def integral(edges: FloatArray) -> FloatArray:
        u = (edges - zero) / size
        n = np.clip(np.rint(u), code.minimum, code.maximum)
        rest: FloatArray = u - n
        return n / 12 + rest * rest * rest / 3

    total = ((integral(high) - integral(low)) * counts / (high - low)).sum(1) * steps**3
    errors: FloatArray = total / np.maximum(counts.sum(1), 1)
    return errors
