"""Augmentation of batches of images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from snnconvert.errors import InputError

_SHIFT = 8  # images are shifted by up to a part of this size


def augmented(inputs: Tensor, kind: str, random: torch.Generator, drawn: int, own: Sequence[int]) -> Tensor:
    """Mirrored and shifted images; what is shifted in is 0.

    Args:
        inputs: [N, C, H, W].
        kind: "flip", "crop" or "flip-crop".
        random: of the draws.
        drawn: how many images are drawn for: those of all processes.
        own: which of them these are.

    Raises:
        InputError: if the inputs are no images.
    """
    if inputs.dim() != 4:
        raise InputError(f"augmentation {kind} is for images [C, H, W], got samples of shape {list(inputs.shape[1:])}")
    mirrored = torch.rand(drawn, generator=random)[list(own)] < 0.5
    height, width = inputs.shape[2:]
    reach = (max(height // _SHIFT, 1), max(width // _SHIFT, 1))
    shifts = [torch.randint(0, 2 * limit + 1, (drawn,), generator=random)[list(own)] for limit in reach]
    if "flip" in kind:
        inputs = torch.where(mirrored.view(-1, 1, 1, 1), inputs.flip(3), inputs)
    if "crop" not in kind:
        return inputs
    padded = F.pad(inputs, (reach[1], reach[1], reach[0], reach[0]))
    rows = shifts[0][:, None] + torch.arange(height)
    columns = shifts[1][:, None] + torch.arange(width)
    number = torch.arange(len(inputs))[:, None, None]
    return padded.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
