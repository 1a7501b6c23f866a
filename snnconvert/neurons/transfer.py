"""Transfer functions of membranes: f(x) of a window's potential, so that neurons fire on GELU, SiLU, LeakyReLU, ….

A neuron's spikes encode round(f(x)/Δ). Where f is monotone that is firing at the inverse levels f⁻¹((k − ½)Δ);
a table over a fine grid of potentials holds it for any f. Both forms here are exact functions of the integer
potential: one product rounded once, then a choice, so that every engine gets the same number for the same integer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LARGEST_TABLE = 1 << 16


class LeakyTransfer(nn.Module):
    """u = g·v for v ≥ 0, g⁻·v below, in steps Δ: LeakyReLU, PReLU and every other pair of slopes.

    Buffers:
        gain: float32 scalar or broadcastable to the potential, g.
        negative_gain: the same, g⁻.
    """

    gain: Tensor
    negative_gain: Tensor

    def __init__(self, gain: Tensor, negative_gain: Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain.to(torch.float32))
        self.register_buffer("negative_gain", negative_gain.to(torch.float32))

    def forward(self, potential: Tensor) -> Tensor:
        """Values of f at potentials [N, ...], in steps Δ: f32(v) times a slope, rounded once."""
        potential = potential.to(torch.float32)
        return torch.where(potential < 0, potential * self.negative_gain, potential * self.gain)


class TableTransfer(nn.Module):
    """u = table[clip(rne(g·v), k₀, k₀ + K − 1) − k₀] in steps Δ.

    Buffers:
        gain: float32 scalar or broadcastable to the potential, g: grid points per count of potential.
        first: int64 scalar, k₀.
        table: float32 [K], f at the grid points, in steps Δ.
    """

    gain: Tensor
    first: Tensor
    table: Tensor

    def __init__(self, gain: Tensor, first: int | Tensor, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain.to(torch.float32))
        self.register_buffer("first", torch.as_tensor(first, dtype=torch.int64))
        self.register_buffer("table", table.to(torch.float32))
        self._read_range()
        self.register_load_state_dict_post_hook(lambda module, _: module._read_range())  # type: ignore[no-untyped-call]

    def _read_range(self) -> None:
        self._low = int(self.first)
        self._high = self._low + len(self.table) - 1

    def forward(self, potential: Tensor) -> Tensor:
        """Values of f at potentials [N, ...], in steps Δ, from the table; g·v is f32(v)·g, rounded once."""
        return self.looked_up(self.table, potential)

    def looked_up(self, table: Tensor, potential: Tensor) -> Tensor:
        """What another table [K] over the same grid holds for potentials [N, ...]."""
        position = (
            torch.mul(potential.to(torch.float32), self.gain).round_().clamp_(self._low, self._high).sub_(self._low)
        )
        index = position.to(torch.int32)
        if not index.is_contiguous() and index.dim() == 4 and index.is_contiguous(memory_format=torch.channels_last):
            flat = table.index_select(0, index.permute(0, 2, 3, 1).reshape(-1))
            batch, channels, height, width = index.shape
            return flat.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return table.index_select(0, index.reshape(-1)).view(index.shape)

    def extra_repr(self) -> str:
        """Size for printing."""
        return f"{len(self.table)} entries from {self._low}"
