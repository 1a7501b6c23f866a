"""Bootstrap over images, paired where there are two networks, for metrics that are no mean over them."""

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
    return PairedMetric(
        float(first(once(images))),
        float(second(once(images))),
        _percentiles(after - before),
        _percentiles((after - before) / before),
    )


def bootstrapped_difference(
    first: Statistic, second: Statistic, images: int, *, resamples: int, seed: int = 0
) -> tuple[float, float] | None:
    """95 % percentile interval of second − first over resampled images; None of a single image, which tells nothing.

    Args:
        first: metric of the ANN of images that count several times each.
        second: the same of the SNN.
        images: how many there are.
        resamples: how often they are drawn anew.
        seed: of the draws.
    """
    if images < 2:
        return None
    counts = drawn_counts(images, resamples, seed)
    differences = second(counts) - first(counts)
    return None if bool(differences.isnan().all()) else _percentiles(differences)


def bootstrapped(metric: Statistic, images: int, *, resamples: int, seed: int = 0) -> tuple[float, float] | None:
    """95 % percentile interval of one network's metric over resampled images; None of a single image.

    Args:
        metric: of images that count several times each.
        images: how many there are.
        resamples: how often they are drawn anew.
        seed: of the draws.
    """
    if images < 2:
        return None
    values = metric(drawn_counts(images, resamples, seed))
    return None if bool(values.isnan().all()) else _percentiles(values)


def once(images: int) -> Tensor:
    """Every image counts once, float64 [1, N]."""
    return torch.ones(1, images, dtype=torch.float64)


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
