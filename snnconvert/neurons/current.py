"""Currents without weights: integer scaling, pooled sums, and the way back to the ANN's units."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class IntegerScale(nn.Module):
    """A one-to-one synapse I = m·z: brings words or integer currents to the unit of the sum they join.

    Buffers:
        multiplier: float64 integers, scalar or broadcastable to the input.
    """

    multiplier: Tensor

    def __init__(self, multiplier: Tensor, *, wide: bool = False) -> None:
        super().__init__()
        self.wide = wide
        self.register_buffer("multiplier", multiplier.to(torch.float64))

    def forward(self, counts: Tensor) -> Tensor:
        """m·z of integer counts; exact while |m·z| ≤ 2^24, in float64 where that isn't proven."""
        counts = counts.double() if self.wide else counts
        return counts * self.multiplier.to(counts.dtype)


@dataclass(frozen=True)
class PoolGeometry:
    """Sliding windows over the last two dimensions (kernel, stride, padding), or whole dimensions."""

    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dims: tuple[int, ...] = ()
    keepdim: bool = False


class SumPool(nn.Module):
    """Average pooling without its division: I = m·Σ z over a window; the 1/N goes into the unit.

    Buffers:
        multiplier: float64 integers, scalar or broadcastable to the output.
    """

    multiplier: Tensor

    def __init__(self, multiplier: Tensor, geometry: PoolGeometry, *, wide: bool = False) -> None:
        super().__init__()
        self.geometry = geometry
        self.wide = wide
        self.register_buffer("multiplier", multiplier.to(torch.float64))

    def forward(self, counts: Tensor) -> Tensor:
        """m·(window sums) of integer counts [N, C, ...]."""
        g = self.geometry
        if self.wide:
            counts = counts.double()
        if g.dims:
            sums = counts.sum(g.dims, keepdim=g.keepdim)
        else:
            sums = F.avg_pool2d(counts, g.kernel, g.stride, g.padding, divisor_override=1)
        return sums * self.multiplier.to(sums.dtype)

    def extra_repr(self) -> str:
        """Window for printing."""
        return str(self.geometry)


class ToReal(nn.Module):
    """Back to the ANN's units, x = u·c of counts c: for analog nodes and the network's output.

    Buffers:
        unit: float64, scalar or broadcastable to the input.
    """

    unit: Tensor

    def __init__(self, unit: Tensor) -> None:
        super().__init__()
        self.register_buffer("unit", unit.to(torch.float64))

    def forward(self, counts: Tensor) -> Tensor:
        """float32 values u·c, each rounded once."""
        if counts.dtype == torch.float64:
            return plain((counts * self.unit).to(torch.float32))
        return plain(counts * self.unit.to(torch.float32))


def plain(values: Tensor) -> Tensor:
    """Values in the memory order the ANN has, so that floating-point reductions add up in the same order."""
    is_reordered = values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last)
    return values.contiguous() if is_reordered else values
