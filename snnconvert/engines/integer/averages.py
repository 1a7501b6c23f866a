"""Averages of bytes in one kernel: which scales it is given, so that it multiplies sums by exactly a neuron's gain.

onnxruntime's (1.32) adds up k − o as int32, multiplies the sum by f32(s / f32(r·N)) of the scales s of what it reads
and r of what it returns, rounds half to even, and adds the zero point of what it returns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snnconvert.engines.integer.proof import LARGEST_BYTE
from snnconvert.engines.integer.twins import Bytes, FireWords, ReadWords, onnx_node_of
from snnconvert.neurons.current import PoolGeometry
from snnconvert.neurons.synapse import FLOAT32_EXACT

_RANK = 4
_RETURNED = tuple(1 + step / 8 for step in range(8))


def scales_of_average(gain: float, size: int) -> tuple[float, float] | None:
    """Scales s and r with f32(s / f32(r·N)) = g; None if there are none, or sums of N bytes are beyond float32.

    Args:
        gain: g, a float32 number above 0.
        size: N.
    """
    if size * LARGEST_BYTE > FLOAT32_EXACT or gain <= 0:
        return None
    for returned in _RETURNED:
        divisor = torch.tensor(returned * size, dtype=torch.float32)
        nearest = torch.tensor(gain * float(divisor), dtype=torch.float32)
        for read in (nearest, nearest.nextafter(2 * nearest), nearest.nextafter(0 * nearest)):
            if float(read / divisor) == gain:
                return float(read), returned
    return None


def averaged_size(geometry: PoolGeometry, shape: Sequence[int | None]) -> int | None:
    """How many values [N, C, H, W] a pool adds up that takes whole images; None of any other."""
    if len(shape) != _RANK or {dim % _RANK for dim in geometry.dims} != {2, 3}:
        return None
    height, width = shape[2:]
    return None if height is None or width is None else height * width


class AveragedWords(nn.Module):
    """Fires g·Σ z over the last two of four dimensions, of bytes."""

    def __init__(self, read: Bytes, scales: tuple[float, float], fire: FireWords, *, keepdim: bool) -> None:
        """Stores the numbers.

        Args:
            read: how the words are stored.
            scales: of :func:`scales_of_average`.
            fire: what fires; what it is given is in units of the scale that is returned.
            keepdim: whether the dimensions stay, of size 1.
        """
        super().__init__()
        self.read, self.fire, self.keepdim = ReadWords(read, torch.tensor(scales[0])), fire, keepdim

    def forward(self, fired: Tensor) -> Tensor:
        """Bytes [N, C, 1, 1], or [N, C]."""
        samples, channels, *_ = fired.shape
        average = onnx_node_of("GlobalAveragePool", (self.read(fired),), (samples, channels, 1, 1), torch.float32)
        averaged: Tensor = self.fire(average)
        return averaged if self.keepdim else averaged.flatten(1)
