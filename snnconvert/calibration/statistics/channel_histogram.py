"""Order-free statistics of each channel of a site: a coarse logarithmic histogram a channel.

As :mod:`snnconvert.calibration.statistics.histogram`, with 8 bins an octave from 2^-40 to 2^24, so that thousands of
channels stay small. Counts are integers and merging is addition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnconvert.calibration.statistics.histogram import fixed_subset, rounded_outward

MANTISSA_BITS = 3
_SHIFT = 23 - MANTISSA_BITS
_LOWEST_EXPONENT, _HIGHEST_EXPONENT = -40, 24
_FIRST_KEY = (_LOWEST_EXPONENT + 127) << MANTISSA_BITS
CHANNEL_BINS = ((_HIGHEST_EXPONENT - _LOWEST_EXPONENT) << MANTISSA_BITS) + 1
_MOST = 1 << 16
_NARROWEST = 1e-6
_SMALLEST = 2.0**-60

FloatArray = NDArray[np.float64]


class ChannelHistogram:
    """Counts of the values of each channel; 513 counts a channel, as many again where values are negative.

    Attributes:
        axis: the axis of the channels.
        counts: int64 [C, CHANNEL_BINS] of non-negative values, bin 0 holds |x| < 2^-40; None before the first.
        negative_counts: the same of negative values; None as long as there are none.
        minimum: float32 [C], smallest value seen.
        maximum: float32 [C], largest value seen.
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.counts: Tensor | None = None
        self.negative_counts: Tensor | None = None
        self.minimum = torch.full((), math.inf)
        self.maximum = torch.full((), -math.inf)

    def update(self, values: Tensor) -> None:
        """Adds a batch [N, ...]: extremes of all values, counts of a fixed subset of 65,536 of each sample."""
        if values.numel() == 0:
            return
        channels = values.shape[self.axis]
        others = [dim for dim in range(values.dim()) if dim != self.axis]
        self.minimum = torch.minimum(self.minimum, values.amin(others).float().cpu())
        self.maximum = torch.maximum(self.maximum, values.amax(others).float().cpu())
        places = fixed_subset(torch.arange(values[0].numel(), device=values.device).unsqueeze(0), _MOST)[0]
        channel = places // math.prod(values.shape[self.axis + 1 :]) % channels
        subset = fixed_subset(values.flatten(1), _MOST).float().contiguous()
        keys = _keys_of(subset) + channel * CHANNEL_BINS
        negative = subset < 0
        self.counts = _added(self.counts, keys[~negative], channels)
        if bool(negative.any()):
            self.negative_counts = _added(self.negative_counts, keys[negative], channels)

    def merge(self, other: ChannelHistogram) -> None:
        """Adds what another histogram of the same channels has counted."""
        self.counts = _sum_of(self.counts, other.counts)
        self.negative_counts = _sum_of(self.negative_counts, other.negative_counts)
        self.minimum = torch.minimum(self.minimum, other.minimum)
        self.maximum = torch.maximum(self.maximum, other.maximum)

    @classmethod
    def joined(cls, histograms: Sequence[ChannelHistogram]) -> ChannelHistogram:
        """The channels of several histograms, one after the other."""
        if len(histograms) == 1:
            return histograms[0]
        result = cls(histograms[0].axis)
        filled = [_filled(histogram) for histogram in histograms]
        result.counts = torch.cat([counts for counts, _ in filled])
        if any(histogram.negative_counts is not None for histogram in histograms):
            result.negative_counts = torch.cat([negative for _, negative in filled])
        result.minimum = torch.cat([histogram.minimum for histogram in histograms])
        result.maximum = torch.cat([histogram.maximum for histogram in histograms])
        return result

    def bins(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Bins that any channel occupies, ascending: lower and upper edges and counts, each [C, K].

        Edges are drawn in to the channel's own extremes, which count once where no value beside them was counted.
        """
        assert self.counts is not None
        edges = channel_bin_edges()
        counts = _with_extreme(self.counts, self.maximum).numpy().astype(np.float64)
        low, high = edges[:-1], edges[1:]
        if self.negative_counts is not None or bool((self.minimum < 0).any()):
            negative = torch.zeros_like(self.counts) if self.negative_counts is None else self.negative_counts
            below = _with_extreme(negative, -self.minimum).numpy()[:, ::-1].astype(np.float64)
            low, high = np.concatenate([-edges[1:][::-1], low]), np.concatenate([-edges[:-1][::-1], high])
            counts = np.concatenate([below, counts], 1)
        occupied = (counts > 0).any(0)
        smallest, largest = (bound.double().numpy()[:, None] for bound in (self.minimum, self.maximum))
        upper = np.clip(high[occupied], smallest, largest)
        lower = np.clip(low[occupied], smallest, largest)
        lower = np.minimum(lower, upper - _NARROWEST * np.maximum(np.abs(upper), _SMALLEST))
        return lower, upper, counts[:, occupied]

    @property
    def extremes(self) -> tuple[FloatArray, FloatArray]:
        """(minimum, maximum) [C], each rounded away from zero as those of a site's histogram."""
        return -rounded_outward(-self.minimum.double().numpy()), rounded_outward(self.maximum.double().numpy())

    def quantiles(self, share: float) -> FloatArray:
        """[C] values below which ``share`` of a channel's counted values lie, linear within a bin."""
        low, high, counts = self.bins()
        total = np.cumsum(counts, 1)
        wanted = share * total[:, -1:]
        place = np.minimum((total < wanted - 1e-9).sum(1, keepdims=True), counts.shape[1] - 1)
        lower, upper, count, reached = (np.take_along_axis(of, place, 1) for of in (low, high, counts, total))
        part = np.clip(1 - (reached - wanted) / np.maximum(count, 1), 0, 1)
        values: FloatArray = (lower + part * (upper - lower))[:, 0]
        return values


def _filled(histogram: ChannelHistogram) -> tuple[Tensor, Tensor]:
    """Counts of its values that aren't negative, and of those that are."""
    assert histogram.counts is not None
    negative = histogram.negative_counts
    return histogram.counts, torch.zeros_like(histogram.counts) if negative is None else negative


def channel_bin_edges() -> FloatArray:
    """Edges of the non-negative bins, float64 [CHANNEL_BINS + 1]; the first is 0."""
    keys = np.arange(_FIRST_KEY, _FIRST_KEY + CHANNEL_BINS, dtype=np.int32) << _SHIFT
    return np.concatenate([[0.0], keys.view(np.float32).astype(np.float64)])


def _keys_of(values: Tensor) -> Tensor:
    return (values.abs().view(torch.int32) >> _SHIFT).sub_(_FIRST_KEY - 1).clamp_(0, CHANNEL_BINS - 1)


def _with_extreme(counts: Tensor, extreme: Tensor) -> Tensor:
    """Counts [C, K] with at least one at each channel's extreme [C], where that lies on this side of zero."""
    keys = _keys_of(extreme.contiguous()).long().unsqueeze(1)
    least = torch.zeros_like(counts).scatter_(1, keys, (extreme > 0).to(counts.dtype).unsqueeze(1))
    return torch.maximum(counts, least)


def _added(counts: Tensor | None, keys: Tensor, channels: int) -> Tensor:
    new = torch.bincount(keys.flatten(), minlength=channels * CHANNEL_BINS).view(channels, CHANNEL_BINS).cpu()
    return new if counts is None else counts + new


def _sum_of(counts: Tensor | None, others: Tensor | None) -> Tensor | None:
    if counts is None or others is None:
        return others if counts is None else counts
    return counts + others
