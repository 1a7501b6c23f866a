"""Thresholds: the step Δ of a site's code from the histogram of its values."""

from __future__ import annotations

from dataclasses import dataclass

from snnconvert.calibration.statistics.histogram import ValueHistogram
from snnconvert.calibration.thresholds.balanced import balanced_threshold
from snnconvert.calibration.thresholds.entropy import least_divergence
from snnconvert.calibration.thresholds.gaussian import gaussian_threshold, moments
from snnconvert.calibration.thresholds.mse import NOTHING, Bins, minimal_mse, spanning
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.threshold import Threshold

EQUAL_STEPS = ("gaussian", "balanced", "entropy")


@dataclass(frozen=True)
class Evidence:
    """What else than the histogram of its values a method knows about a site.

    Attributes:
        before: for "gaussian", the histogram of what the site's rectifier rectifies; None without a rectifier.
        weighted: for "fisher", the bins of its values weighted by squared gradients; None where none reach it.
    """

    before: ValueHistogram | None = None
    weighted: Bins | None = None


def choose_threshold(
    histogram: ValueHistogram,
    code: SpikeCode,
    method: str,
    percentile: float,
    cap: float | None = None,
    evidence: Evidence | None = None,
) -> Threshold:
    """Chooses Δ (and an offset or a sign, if values are negative) for one site.

    "max": the code spans minimum..maximum. "percentile": it spans the central ``percentile`` % of the
    values. "mse": it spans the range that minimizes the mean squared error E[(x − Q(x))²] under the
    histogram; "fisher": the same, weighted by the squared gradients of the network's outputs. "gaussian": the same
    for Gaussian values of the site's mean and variance, before its rectifier. "balanced": local threshold
    balancing. "entropy": minimal Kullback-Leibler divergence. These three suppose equal steps: a code with a table of
    values takes "mse" for them.

    Args:
        histogram: statistics of the site.
        code: the site's code without offset.
        method: one of the above.
        percentile: in percent, for "percentile".
        cap: the rectifier's upper clip. Neurons that fire while they integrate saturate at their largest
            value only, so that this must not lie above the clip.
        evidence: what "gaussian" and "fisher" need; "fisher" without it is "mse".
    """
    threshold = _chosen(histogram, code, method, percentile, evidence or Evidence())
    if cap is None or not threshold.code.streams or threshold.step * threshold.code.maximum <= cap:
        return threshold
    return Threshold(cap / threshold.code.maximum, threshold.code)


def _chosen(
    histogram: ValueHistogram, code: SpikeCode, method: str, percentile: float, evidence: Evidence
) -> Threshold:
    low, high = histogram.extremes
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 0:
        return Threshold(1.0, code)
    if method == "max":
        return spanning(low, high, code)
    if method == "percentile":
        tail = (1 - percentile / 100) / (2 if low < 0 else 1)
        bottom = min(histogram.quantile(tail), 0.0) if low < 0 else 0.0
        top = min(max(histogram.quantile(1 - tail), 0.0), high)
        return spanning(bottom, top, code) if top - bottom > NOTHING * (high - low) else spanning(low, high, code)
    if code.words and method in EQUAL_STEPS:
        return minimal_mse(histogram.bins(), histogram.extremes, code)
    if method == "balanced":
        return balanced_threshold(histogram.bins(), histogram.extremes, code)
    if method == "entropy":
        return least_divergence(histogram.bins(), histogram.extremes, code)
    if method == "gaussian":
        mean, deviation = moments((evidence.before or histogram).bins())
        found = gaussian_threshold(float(mean), float(deviation), code, signed=low < 0)
        return found or minimal_mse(histogram.bins(), histogram.extremes, code)
    bins = evidence.weighted if method == "fisher" and evidence.weighted is not None else histogram.bins()
    return minimal_mse(bins, histogram.extremes, code)
