"""Means over images, and which of them differ from zero."""

from __future__ import annotations

import torch
from torch import Tensor

_SIGNIFICANT = 2.0


def image_means(values: Tensor, axis: int, images: int) -> Tensor:
    """Channel means of each image [K, C]; windows or tokens folded into the batch are averaged, too."""
    others = [dim for dim in range(1, values.dim()) if dim != axis % values.dim()]
    means = (values.mean(others) if others else values).double()
    folded = len(means) > images and len(means) % images == 0
    return means.view(images, -1, means.shape[-1]).mean(1) if folded else means


def significant_mean(differences: Tensor) -> Tensor:
    """Means [C] of differences [K, C] over images; 0 where within twice their standard error."""
    images, shift = len(differences), differences.mean(0)
    error = differences.std(0) / images**0.5 if images > 1 else torch.full_like(shift, torch.inf)
    return torch.where(shift.abs() > _SIGNIFICANT * error, shift, torch.zeros_like(shift))
