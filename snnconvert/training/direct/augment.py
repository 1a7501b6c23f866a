"""Random flips and shifts of images and event frames."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from snnconvert.errors import ConfigurationError

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def flip_and_crop(padding: int = 4, *, flip: bool = True) -> Augmentation:
    """An augmentation: mirrors half of the images left to right, and moves each by up to ``padding`` pixels.

    What comes in from outside is 0. All frames of a recording are mirrored and moved alike.

    Args:
        padding: the farthest shift, in pixels.
        flip: whether images are mirrored at all; digits and gestures shouldn't be.

    Returns:
        A function of a batch, float32 [N, C, H, W] or [T, N, C, H, W], and the generator that draws; it returns a new
        batch of the same shape.

    Raises:
        ConfigurationError: if ``padding`` is negative.
    """
    if padding < 0:
        raise ConfigurationError(f"padding must be 0 or more, got {padding}")

    def augment(batch: Tensor, generator: torch.Generator) -> Tensor:
        count = batch.shape[-4]
        if flip:
            mirrored = torch.rand(count, generator=generator) < 0.5
            batch = torch.where(mirrored.view(-1, 1, 1, 1).to(batch.device), batch.flip(-1), batch)
        return _shifted(batch, padding, torch.randint(0, 2 * padding + 1, (2, count), generator=generator))

    return augment


def _shifted(batch: Tensor, padding: int, offsets: Tensor) -> Tensor:
    height, width = batch.shape[-2:]
    padded = F.pad(batch, (padding,) * 4)
    rows = (offsets[0][:, None] + torch.arange(height)).to(batch.device)
    columns = (offsets[1][:, None] + torch.arange(width)).to(batch.device)
    images = torch.arange(batch.shape[-4], device=batch.device)
    # indices that a slice divides put their dimensions first: [N, H, W, ..., C]
    taken = padded.movedim(-3, -1)[..., images[:, None, None], rows[:, :, None], columns[:, None, :], :]
    return taken.movedim(-1, -3).contiguous()
