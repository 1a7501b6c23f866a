"""Paired bootstrap over images, for metrics that are no mean over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

RESAMPLES = 1000
Statistic = Callable[[Tensor], Tensor]
"""A metric of resampled images: how often each is drawn, float64 [R, N], to float64 [R]; NaN where it isn't defined."""


@dataclass(frozen=True)
class PairedMetric:
    """A metric of two networks on the same images.

    Attributes:
        first: of the first network.
        second: of the second.
        difference_ci95: 95 % interval of second − first.
        relative_ci95: the same of (second − first) / first.
    """

    first: float
    second: float
    difference_ci95: tuple[float, float]
    relative_ci95: tuple[float, float]


def paired_bootstrap(
    first: Statistic, second: Statistic, images: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> PairedMetric:
    """Two metrics, and percentile intervals of their difference on the same resampled images (Efron, 1979).

    The interval of networks that agree on every image has no width, however few the images are.

    Args:
        first: the metric of the ANN.
        second: the same of the SNN.
        images: how many images there are.
        resamples: how often they are drawn anew.
        seed: of the draws.

    Raises:
        ValueError: if there are no images.
    """
    counts = drawn_counts(images, resamples, seed)
    before, after = first(counts), second(counts)
    once = torch.ones(1, images, dtype=torch.float64)
    return PairedMetric(
        float(first(once)),
        float(second(once)),
        _percentiles(after - before),
        _percentiles((after - before) / before),
    )


def drawn_counts(images: int, resamples: int = RESAMPLES, seed: int = 0) -> Tensor:
    """How often each image is drawn when as many as there are are drawn with replacement, float64 [R, N].

    Raises:
        ValueError: if there are no images.
    """
    if images < 1:
        raise ValueError("a bootstrap needs at least one image")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(images, (resamples, images), generator=generator)
    return torch.zeros(resamples, images, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(drawn.shape).double())


def _percentiles(values: Tensor) -> tuple[float, float]:
    low, high = torch.nanquantile(values, torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return low, high
