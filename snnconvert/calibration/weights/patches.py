"""What the weights of a synapse meet: its input, unfolded to one column a position."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from snnconvert.neurons.synapse import ConvGeometry

_ELEMENTS = 1 << 24


def patches_in_parts(
    words: Tensor, weight_shape: Sequence[int], geometry: ConvGeometry | None
) -> Iterator[tuple[slice, Tensor]]:
    """:func:`patches` of a few samples at a time, so that memory stays bounded; each with where its samples are.

    Args:
        words: as there.
        weight_shape: of the weights, [O, I, ...].
        geometry: as there.
    """
    columns = words[0].numel() * math.prod(weight_shape[1:]) // max(words.shape[-1], 1)
    samples = max(1, _ELEMENTS // max(columns, 1))
    for start in range(0, len(words), samples):
        part = slice(start, start + samples)
        yield part, patches(words[part], tuple(weight_shape[2:]), geometry)


def patches(words: Tensor, kernel: tuple[int, ...], geometry: ConvGeometry | None) -> Tensor:
    """X of W·X: float32 [G, I, P] for G groups, I = inputs of a group times kernel elements, P positions.

    Args:
        words: [N, C, ...] for a convolution, [..., I] for a linear layer.
        kernel: the kernel's sizes; empty for a linear layer.
        geometry: of the convolution, not a transposed one; None for a linear layer.
    """
    if geometry is None:
        return words.reshape(-1, words.shape[-1]).T.unsqueeze(0).float()
    padding = [side for size in reversed(geometry.padding) for side in (size, size)]
    padded = F.pad(words.float(), padding)
    spans = [
        (size - d * (k - 1) - 1) // s * s + 1
        for size, k, s, d in zip(padded.shape[2:], kernel, geometry.stride, geometry.dilation, strict=True)
    ]
    views = []
    for place in itertools.product(*map(range, kernel)):
        cut = padded
        for dim, (at, span) in enumerate(zip(place, spans, strict=True)):
            start = at * geometry.dilation[dim]
            index = [slice(None)] * (dim + 2) + [slice(start, start + span, geometry.stride[dim])]
            cut = cut[tuple(index)]
        views.append(cut)
    stacked = torch.stack(views, 2).flatten(3)  # [N, C, K, L]
    samples, channels, elements, positions = stacked.shape
    grouped = stacked.reshape(samples, geometry.groups, channels // geometry.groups * elements, positions)
    return grouped.permute(1, 2, 0, 3).reshape(geometry.groups, -1, samples * positions)
