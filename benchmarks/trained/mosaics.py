"""Photographs as training data, one by one and four in one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_SEED = 0
_BYTE = 255


class WithMosaics:
    """Images, and mosaics of four of them at half the size: as many objects as a photograph of a street has.

    Images are kept as bytes, items are float32 in 0..1.
    """

    def __init__(self, images: Sequence[Tensor], mosaics: int) -> None:
        """Draws the mosaics, always the same ones.

        Args:
            images: float32 [3, H, W], 0..1, of one size, whose sides are even; at least four.
            mosaics: how many.
        """
        self._images = [(image * _BYTE).round().to(torch.uint8) for image in images]
        random = torch.Generator().manual_seed(_SEED)
        self._chosen = [torch.randperm(len(images), generator=random)[:4].tolist() for _ in range(mosaics)]

    def __len__(self) -> int:
        """Images and mosaics."""
        return len(self._images) + len(self._chosen)

    def __getitem__(self, index: int) -> Tensor:
        """An image, float32 [3, H, W]; the mosaics come last."""
        if index < len(self._images):
            return self._images[index].float() / _BYTE
        a, b, c, d = (self._half(number) for number in self._chosen[index - len(self._images)])
        return torch.cat([torch.cat([a, b], 2), torch.cat([c, d], 2)], 1)

    def _half(self, number: int) -> Tensor:
        image = self._images[number].float()[None] / _BYTE
        size = (image.shape[2] // 2, image.shape[3] // 2)
        return F.interpolate(image, size, mode="bilinear", antialias=True)[0].clamp(0, 1)
