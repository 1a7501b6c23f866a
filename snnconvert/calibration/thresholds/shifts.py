"""Zero points per channel: ranges [a_c, b_c] that lie anywhere, for neurons that fire on x_c − s_c.

A channel whose values lie around m_c, not 0, needs less range about m_c, and so gets a smaller step:

    Δ_c = (b_c − a_c)/(largest − smallest value),        s_c = a_c − Δ_c·(smallest value).

Shifting channels to their middle is what Outlier Suppression+ does (Wei et al., EMNLP 2023); zero points per channel
behind LayerNorm, folded into the next layer, are one half of RepQ-ViT's reparametrization (Li et al., ICCV 2023).
Choosing both ends by squared error, and keeping channels at 0 that don't gain, is this package's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from snnconvert.calibration.statistics.channel_histogram import ChannelHistogram, FloatArray
from snnconvert.calibration.thresholds.channels import channel_errors, insured_steps
from snnconvert.calibration.thresholds.gaussian import moments, optimal_steps
from snnconvert.calibration.thresholds.mse import Bins
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.threshold import Threshold

_SHARES = np.geomspace(1.02, 0.02, 28)
_MOVES = np.linspace(-0.12, 0.12, 9)
_ROUNDS = 2


Ends = tuple[FloatArray, FloatArray]


def choose_shifted_threshold(
    shared: Threshold, separate: Threshold, histogram: ChannelHistogram, method: str, percentile: float
) -> Threshold:
    """Chooses Δ_c and s_c of each channel of one site; those of ``separate`` and 0 where that is better.

    "max" and "percentile" prefer the smaller step, the other methods the smaller E[(x − s_c − Q(x − s_c))²].

    Args:
        shared: the site's threshold for all channels.
        separate: that of each channel, without shifts.
        histogram: statistics of the site's channels.
        method: "mse", "max", "percentile" or "gaussian".
        percentile: in percent, for "percentile".
    """
    bins, code, own = histogram.bins(), separate.code, np.array(separate.channel_steps)
    low, high = _ends(histogram, code, method, percentile)
    steps = (high - low) / code.span
    widest = dataclasses.replace(shared, step=min(shared.step, float(steps.max())))
    steps = np.maximum(steps, insured_steps(widest, histogram))
    shifts = shifts_of((low + high) / 2, steps, code)
    if method in ("max", "percentile"):
        better = steps < own
    else:
        better = channel_errors(*bins, steps, code, shifts) < channel_errors(*bins, own, code)
    better &= (histogram.minimum.numpy() != 0) | (histogram.maximum.numpy() != 0)
    return Threshold.per_channel(np.where(better, steps, own), code, np.where(better, shifts, 0.0))


def shifts_of(middles: FloatArray, steps: FloatArray, code: SpikeCode) -> FloatArray:
    """s_c = m_c − Δ_c·(largest + smallest value)/2 [C], which puts the middle of the code at m_c; float32 numbers."""
    shifts = middles - steps * (code.maximum + code.minimum) / 2
    return shifts.astype(np.float32).astype(np.float64)


def middles_of(threshold: Threshold) -> FloatArray:
    """m_c [C] of a threshold's shifts; NaN where there is none."""
    steps, shifts = np.array(threshold.channel_steps), np.array(threshold.channel_shifts)
    middle = (threshold.code.maximum + threshold.code.minimum) / 2
    return np.where(shifts == 0, np.nan, shifts + steps * middle)


def _ends(histogram: ChannelHistogram, code: SpikeCode, method: str, percentile: float) -> Ends:
    """a_c and b_c."""
    if method == "max":
        return histogram.minimum.double().numpy(), histogram.maximum.double().numpy()
    if method == "percentile":
        tail = (1 - percentile / 100) / 2
        return histogram.quantiles(tail), histogram.quantiles(1 - tail)
    if method == "gaussian":
        mean, deviation = moments(histogram.bins())
        middle = dataclasses.replace(code, offset=0 if code.has_sign else round(code.span / 2))
        reach = optimal_steps(np.zeros_like(mean), deviation, middle) * code.span / 2
        return mean - reach, mean + reach
    return _least_squares_ends(histogram, code)


def _least_squares_ends(histogram: ChannelHistogram, code: SpikeCode) -> Ends:
    """The ends of least error: both together about the middle and about the mean, then each by itself."""
    bins = histogram.bins()
    counted = bins[2] > 0
    low = np.where(counted, bins[0], np.inf).min(1)
    high = np.where(counted, bins[1], -np.inf).max(1)
    mean, _ = moments(bins)
    candidates = []
    for middle in ((low + high) / 2, mean):
        reach = np.maximum(high - middle, middle - low)
        candidates += [(middle - reach * share, middle + reach * share) for share in _SHARES]
    low, high = _best(bins, code, candidates)
    for _ in range(_ROUNDS):
        low, high = _best(bins, code, [(low + move * (high - low), high) for move in _MOVES])
        low, high = _best(bins, code, [(low, high + move * (high - low)) for move in _MOVES])
    return low, high


def _best(bins: Bins, code: SpikeCode, candidates: Sequence[Ends]) -> Ends:
    """Those ends of each channel with the least error."""
    errors = []
    for low, high in candidates:
        steps = (high - low) / code.span
        errors.append(channel_errors(*bins, steps, code, (low + high) / 2 - steps * (code.maximum + code.minimum) / 2))
    chosen = np.argmin(errors, 0)[None]
    lows, highs = (np.stack(ends) for ends in zip(*candidates, strict=True))
    return np.take_along_axis(lows, chosen, 0)[0], np.take_along_axis(highs, chosen, 0)[0]
