"""Images made of nothing but random numbers that look like photographs to a filter: occluding, textured discs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_DISCS = 200
_SMALLEST, _LARGEST = 0.03, 0.5
_BRIGHTNESS, _SPREAD, _TINT = 0.45, 0.28, 0.12
_TEXTURE = 0.15
_SHARED_TEXTURE = 0.85


def dead_leaves(count: int, size: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Images of discs that cover each other, the "dead leaves" model of natural images, with 1/f textures.

    Radii have a density ∝ r⁻² between 3 % and 50 % of the shorter side; a disc's colour is a Gaussian brightness,
    shared by the channels, with a tint; texture, stronger or weaker in each disc, has the amplitude spectrum 1/f of
    photographs and channels that go together. They have edges, flat regions and correlations at all scales as
    photographs do, but no objects: what late layers of a classifier react to is missing.

    Source: Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 2001; for learning, Baradad et al.,
    "Learning to See by Looking at Noise", NeurIPS 2021. The constants are this package's own.

    Args:
        count: number of images N.
        size: C, H, W.
        generator: of the random numbers, on the CPU.

    Returns:
        float32 [N, C, H, W] in 0..1.
    """
    _, height, width = size
    texture = _texture(count, size, generator)
    images = torch.empty(count, *size)
    rows, columns = torch.arange(height).unsqueeze(1), torch.arange(width)
    for disc in range(_DISCS):
        y, x, share, strength = torch.rand(4, count, 1, 1, generator=generator)
        brightness = _BRIGHTNESS + _SPREAD * torch.randn(count, 1, 1, 1, generator=generator)
        colour = brightness + _TINT * torch.randn(count, size[0], 1, 1, generator=generator)
        radius = min(height, width) * _SMALLEST * _LARGEST / (_LARGEST - (_LARGEST - _SMALLEST) * share)
        inside = (rows - y * height).square() + (columns - x * width).square() < radius.square()
        covered = inside.unsqueeze(1) | (disc == 0)
        images = torch.where(covered, colour + (2 * strength - 1).unsqueeze(1) * texture, images)
    return images.clamp_(0, 1)


def _texture(count: int, size: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Noise [N, C, H, W] whose amplitude falls as 1/f."""
    shape = size[1:]
    white = torch.randn(count, *size, generator=generator)
    frequency = torch.hypot(torch.fft.fftfreq(shape[0]).unsqueeze(1), torch.fft.rfftfreq(shape[1]).unsqueeze(0))
    frequency[0, 0] = torch.inf
    pink: Tensor = torch.fft.irfft2(torch.fft.rfft2(white) / frequency, s=shape)
    pink = pink / pink.square().mean().sqrt().clamp(min=torch.finfo(pink.dtype).tiny)
    return _TEXTURE * (math.sqrt(_SHARED_TEXTURE) * pink[:, :1] + math.sqrt(1 - _SHARED_TEXTURE) * pink)
