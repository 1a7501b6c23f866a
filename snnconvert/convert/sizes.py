"""Examples at other sizes: batches of another length, images of another height and width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snnconvert.convert.signature import TensorSpec

_LARGE = 300 * 300


def at_batch(leaves: Sequence[Tensor], specs: Sequence[TensorSpec], size: int) -> tuple[Tensor, ...]:
    """The same inputs with ``size`` samples, repeated as often as that needs."""

    def resized(leaf: Tensor) -> Tensor:
        repeats = -(-size // leaf.shape[0])
        return torch.cat([leaf] * repeats)[:size].clone()

    return tuple(resized(leaf) if spec.batched else leaf.clone() for leaf, spec in zip(leaves, specs, strict=True))


def is_spatial(leaf: Tensor) -> bool:
    """Whether a tensor's last two dimensions can be a height and a width."""
    return leaf.dim() == 4


def other_sizes(leaves: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """The same inputs at twice or half the size, and, where a single one is an image, at an odd size.

    All images are scaled by the same factor, so that sizes that depend on each other still fit.
    """
    images = [leaf for leaf in leaves if is_spatial(leaf)]
    even = all(size % 2 == 0 for leaf in images for size in leaf.shape[2:])
    large = any(leaf.shape[2] * leaf.shape[3] > _LARGE for leaf in images)
    scaled = [tuple(map(_halved, leaves)) if large and even else doubled(leaves)] if images else []
    if len(images) == 1:
        scaled.append(tuple(_tiled(leaf, (1, 1), (1, 3)) for leaf in leaves))
    return scaled


def doubled(leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same inputs with images of twice the size: no height or width of 1 is left."""
    return tuple(_tiled(leaf, (2, 0), (2, 0)) for leaf in leaves)


def _tiled(leaf: Tensor, rule_height: tuple[int, int], rule_width: tuple[int, int]) -> Tensor:
    """An image repeated and cut to size s·f + a of each rule (f, a)."""
    if not is_spatial(leaf):
        return leaf
    height, width = (f * size + a for size, (f, a) in zip(leaf.shape[2:], (rule_height, rule_width), strict=True))
    rows, columns = -(-height // leaf.shape[2]), -(-width // leaf.shape[3])
    return leaf.repeat(1, 1, rows, columns)[:, :, :height, :width].contiguous()


def _halved(leaf: Tensor) -> Tensor:
    return leaf[:, :, : leaf.shape[2] // 2, : leaf.shape[3] // 2].contiguous() if is_spatial(leaf) else leaf
