"""What neurons encode: their range and steps beside the values that calibration saw."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from snnconvert.calibration.statistics.histogram import ValueHistogram
from snnconvert.convert.plan import Plan, Site
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.registry import spelled
from snnconvert.neurons.threshold import Threshold
from snnconvert.report.schema import NeuronReport

_BINS = 48
_TAIL = 0.0005


def neuron_reports(
    plan: Plan,
    thresholds: Mapping[int, Threshold],
    histograms: Mapping[str, ValueHistogram],
    readers: Mapping[str, tuple[str, ...]],
) -> tuple[NeuronReport, ...]:
    """One for each layer of neurons that a synapse reads.

    Args:
        plan: the plan.
        thresholds: of each family of sites.
        histograms: of the values at sites, by node name.
        readers: the layers that read each site, by node name.
    """
    return tuple(
        _report(site, readers[site.node], thresholds[site.family], histograms.get(site.node))
        for site in plan.sites
        if site.node in readers
    )


def _report(
    site: Site, layers: tuple[str, ...], threshold: Threshold, histogram: ValueHistogram | None
) -> NeuronReport:
    low, high = _range(threshold)
    bins = None if histogram is None else histogram.bins()
    edges, shares = ((low, high), ()) if bins is None else _coarse(*bins)
    return NeuronReport(
        name=site.layer,
        layers=layers,
        code=code_name(threshold.code),
        low=low,
        high=high,
        step=threshold.step,
        finest_step=min(threshold.channel_steps, default=threshold.step),
        channels=max(len(threshold.channel_steps), 1),
        clipped=None if bins is None else _outside(*bins, low, high),
        edges=edges,
        histogram=shares,
    )


def code_name(code: SpikeCode) -> str:
    """A code in words: packed, offset."""
    sign = ", offset" if code.offset else ", signed" if code.signed else ""
    return f"{spelled(code)}{sign}"


def _range(threshold: Threshold) -> tuple[float, float]:
    """The smallest and the largest value of any channel."""
    steps = threshold.channel_steps or (threshold.step,)
    shifts = threshold.channel_shifts or (0.0,) * len(steps)
    code = threshold.code
    table = code.words or (code.minimum, code.maximum)
    pairs = list(zip(steps, shifts, strict=True))
    return min(shift + step * table[0] for step, shift in pairs), max(shift + step * table[-1] for step, shift in pairs)


def _coarse(
    low: NDArray[np.float64], high: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[tuple[float, float], tuple[float, ...]]:
    """Equal bins over all but the outermost values, and the share of values in each."""
    if not len(counts):
        return (0.0, 0.0), ()
    reached = np.cumsum(counts) / counts.sum()
    first, last = int(np.searchsorted(reached, _TAIL)), int(np.searchsorted(reached, 1 - _TAIL))
    start, end = float(low[first]), float(high[min(last, len(high) - 1)])
    centres = ((low + high) / 2).clip(start, end)
    shares, _ = np.histogram(centres, bins=_BINS, range=(start, end), weights=counts / counts.sum())
    return (start, end), tuple(round(float(share), 6) for share in shares)


def _outside(
    low: NDArray[np.float64], high: NDArray[np.float64], counts: NDArray[np.float64], start: float, end: float
) -> float:
    """Share of values in bins that lie wholly outside a range."""
    total = float(counts.sum())
    return float(counts[(high < start) | (low > end)].sum()) / total if total else 0.0
