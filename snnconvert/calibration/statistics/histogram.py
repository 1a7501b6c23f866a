"""Order-free statistics of one site: a histogram on a fixed logarithmic grid of float values.

A bin is a float32's sign, exponent and leading 6 mantissa bits, so no range has to be known beforehand,
counts are integers, and merging is addition: the result is the same for any batch order or size.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MANTISSA_BITS = 6
_SHIFT = 23 - MANTISSA_BITS
_LOWEST_EXPONENT, _HIGHEST_EXPONENT = -126, 127
_FIRST_KEY = (_LOWEST_EXPONENT + 127) << MANTISSA_BITS
BINS = ((_HIGHEST_EXPONENT - _LOWEST_EXPONENT) << MANTISSA_BITS) + 1
SAMPLES_PER_IMAGE = 16384


class ValueHistogram:
    """Counts of a site's values; memory is fixed, 2·16193 counts, whatever passes through.

    Attributes:
        counts: int64 [2, BINS], non-negative and negative values; bin 0 holds |x| < 2^-126.
        minimum: smallest value seen.
        maximum: largest value seen.
        finite: False once a NaN or Inf was seen.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(2, BINS, dtype=torch.int64)
        self.minimum = math.inf
        self.maximum = -math.inf
        self.finite = True

    def update(self, values: Tensor) -> None:
        """Adds a batch [N, ...]: extremes of all values, counts of a fixed subset of each sample.

        At most 16,384 values of a sample are counted, at positions that depend on its size alone.
        """
        if values.numel() == 0:
            return
        low, high = torch.aminmax(values)
        self.minimum = min(self.minimum, float(low))
        self.maximum = max(self.maximum, float(high))
        self.finite = self.finite and math.isfinite(float(low)) and math.isfinite(float(high))
        subset = fixed_subset(values.flatten(1) if values.dim() > 1 else values.unsqueeze(1)).float().contiguous()
        counted = torch.bincount(keys_of(subset).flatten(), minlength=2 * BINS)
        self.counts += counted.view(2, BINS).cpu()

    def merge(self, other: ValueHistogram) -> None:
        """Adds what another histogram has counted."""
        self.counts += other.counts
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self.finite = self.finite and other.finite

    @property
    def extremes(self) -> tuple[float, float]:
        """(minimum, maximum), each rounded away from zero to the grid, so that float noise can't show."""
        return -_round_up(-self.minimum), _round_up(self.maximum)

    def bins(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Occupied bins in ascending order: lower edges, upper edges and counts."""
        return bins_of(self.counts)

    def quantile(self, share: float) -> float:
        """The upper edge of the bin below which ``share`` of all counted values lie."""
        _, high, counts = self.bins()
        position = int(np.searchsorted(np.cumsum(counts), share * counts.sum() - 1e-9))
        return float(high[min(position, len(high) - 1)])


def keys_of(values: Tensor) -> Tensor:
    """int64 bins of float32 values: 0..BINS-1 of those not negative, BINS more of the others."""
    keys = (values.abs().view(torch.int32) >> _SHIFT).sub_(_FIRST_KEY - 1).clamp_(0, BINS - 1)
    keys += (values < 0).to(torch.int32) * BINS
    return keys.to(torch.int64)


def bins_of(counts: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Lower edges, upper edges and counts of the occupied bins of counts or weights [2, BINS], ascending."""
    edges = bin_edges()
    of_sign = counts.numpy().astype(np.float64)
    low = np.concatenate([-edges[1:][::-1], edges[:-1]])
    high = np.concatenate([-edges[:-1][::-1], edges[1:]])
    both = np.concatenate([of_sign[1][::-1], of_sign[0]])
    occupied = both > 0
    return low[occupied], high[occupied], both[occupied]


def bin_edges() -> NDArray[np.float64]:
    """Edges of the non-negative bins, float64 [BINS + 1]; the first is 0."""
    keys = np.arange(_FIRST_KEY, _FIRST_KEY + BINS, dtype=np.int32) << _SHIFT
    return np.concatenate([[0.0], keys.view(np.float32).astype(np.float64)])


def fixed_subset(flat: Tensor, most: int = SAMPLES_PER_IMAGE) -> Tensor:
    """At most ``most`` values of each sample of [N, size], at positions that depend on the size alone."""
    size = flat.shape[1]
    stride = -(-size // most)
    while math.gcd(stride, size) != 1:
        stride += 1
    return flat[:, ::stride]


def rounded_outward(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The next grid edges at or beyond values, away from zero for positive and towards it for negative ones."""
    edges = bin_edges()
    above = np.searchsorted(edges, values)
    below = np.maximum(np.searchsorted(edges, -values, side="right") - 1, 0)
    beyond = np.where(above < len(edges), edges[np.minimum(above, len(edges) - 1)], values)
    return np.where(values <= 0, -edges[below], beyond)


def _round_up(value: float) -> float:
    return float(rounded_outward(np.array(value)))
