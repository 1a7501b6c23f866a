"""Transfer functions of membranes: f(x) of a window's potential, so that neurons fire on GELU, SiLU, LeakyReLU, ….

A neuron's spikes encode round(f(x)/Δ). Where f is monotone that is firing at the inverse levels f⁻¹((k − ½)Δ);
a table over a fine grid of potentials holds it for any f. Both forms here are exact functions of the integer
potential: one product rounded once, then a choice, so that every engine gets the same number for the same integer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from snnconvert.neurons.code import SpikeCode

Function = Callable[[Tensor], Tensor]
LARGEST_TABLE = 1 << 16
_COARSEST = 0.25
_FINEST_HALVINGS = 16
_SMALLEST_JUMP = 0.26
_OUTERMOST = 1e30
_FEWEST_CELLS = 8
_LARGEST_SHARE = 0.01
_SWEPT = 0.9
_PARTS = tuple(8.0**power for power in range(1, 13))
_PROBED = (-9, 12, 8400)  # orders of magnitude of potentials, in steps, and how many in between


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


def tabulate(function: Function, step: float, code: SpikeCode, reach: float = 1.0) -> tuple[float, int, Tensor]:
    """A table of f/Δ over a grid of potentials, wide and fine enough for a code.

    The grid spans the potentials between which the rounded and clipped f/Δ changes; its spacing h is at most
    Δ/4, and finer until neighbours differ by no more than a quarter step, as far as 65,536 entries allow. Where
    they don't (poles, jumps, oscillations, logarithms) it spans as much of it as keeps the mean error least. Where
    f is not defined it has its value at the next potential where it is.

    Args:
        function: f, elementwise, for float64.
        step: Δ.
        code: the code, for its range.
        reach: the largest step of the neurons that read the table, in Δ, which is the smallest.

    Returns:
        h, k₀ and float32 [K] f((k₀ + i)·h)/Δ, clipped one largest step beyond the code's range.
    """
    minimum, maximum = code.minimum * reach, code.maximum * reach

    def in_steps(x: Tensor) -> Tensor:
        values = torch.nan_to_num(_without_gaps(function(x) / step), posinf=_OUTERMOST, neginf=-_OUTERMOST)
        return values.clamp(minimum - reach, maximum + reach)

    magnitudes = step * torch.logspace(*_PROBED, dtype=torch.float64)
    points = torch.cat([-magnitudes.flip(0), torch.zeros(1, dtype=torch.float64), magnitudes])
    values = in_steps(points)
    low, high = _active_range(points, values.round().clamp(minimum, maximum), step)
    spacing, first, table = whole = _grid(in_steps, low, high, step)
    if _largest_jump(table) > _SMALLEST_JUMP:
        ends = [max(-low, high) / part for part in _PARTS]
        parts = [_grid(in_steps, max(low, -end), min(high, end), step) for end in ends]
        spacing, first, table = min([whole, *parts], key=lambda found: _error(points, values, *found))
    return spacing, first, table.float()


def _grid(in_steps: Function, low: float, high: float, step: float) -> tuple[float, int, Tensor]:
    """h, k₀ and the table of potentials low..high."""
    spacing = max(min(_COARSEST * step, (high - low) / _FEWEST_CELLS), (high - low) / (LARGEST_TABLE - 8))
    for _ in range(_FINEST_HALVINGS):
        first, table = _sampled(in_steps, low, high, spacing)
        if _largest_jump(table) <= _SMALLEST_JUMP or 2 * len(table) >= LARGEST_TABLE - 2:
            break
        spacing /= 2
    return spacing, first, table


def _largest_jump(table: Tensor) -> float:
    return float(table.diff().abs().max())


def _sampled(in_steps: Function, low: float, high: float, spacing: float) -> tuple[int, Tensor]:
    first, last = int(low // spacing) - 1, int(-(-high // spacing)) + 1
    grid = torch.arange(first, last + 1, dtype=torch.float64) * spacing
    return first, in_steps(grid)


def _without_gaps(values: Tensor) -> Tensor:
    """Values [K] in which the nearest number stands for NaN: log(x) below 0 is what it is at 0."""
    known = (~values.isnan()).nonzero().flatten()
    if len(known) in (0, len(values)):
        return values
    places = torch.arange(len(values))
    after = torch.searchsorted(known, places).clamp(max=len(known) - 1)
    before = (after - 1).clamp(min=0)
    is_after = (known[after] - places).abs() <= (known[before] - places).abs()
    return values[torch.where(is_after, known[after], known[before])]


def _active_range(points: Tensor, words: Tensor, step: float) -> tuple[float, float]:
    """The potentials around 0 beyond which the rounded function is constant, as far as it ever settles."""
    changes = (words.diff() != 0).nonzero().flatten()
    if len(changes) == 0:
        return -step, step
    low, high = min(float(points[changes[0]]), 0.0), max(float(points[changes[-1] + 1]), 0.0)
    return (low, high) if high - low < step else (min(low, -step), max(high, step))


def _error(points: Tensor, values: Tensor, spacing: float, first: int, table: Tensor) -> float:
    """Distance of a table from the function, the more important a value the sooner it is reached from 0.

    |u − û| is summed over steps of f, so that all its values count alike. Those behind n sweeps through its range
    count (1 + n)⁻², so that oscillations are followed near 0, and jumps hardly count; those at potentials x beyond
    the first sweep, which ends at ±r, count r/|x|: a function that turns again a million steps away, as hardswish
    does at −3 for a tiny Δ, is not drawn for there.
    """
    places = (points / spacing).round().clamp(first, first + len(table) - 1).long() - first
    span = max(float(values.max() - values.min()), 1.0)
    passed = values.diff().abs().clamp(max=_LARGEST_SHARE * span)
    below, above = passed.chunk(2)
    downward, upward = below.flip(0).cumsum(0), above.cumsum(0)
    sweeps = torch.cat([downward.flip(0), upward]) / span
    outer = points[-len(above) :]
    swept = (downward + upward) / span
    radius = outer[int((swept < _SWEPT * float(swept[-1].clamp(max=1.0))).sum())]
    weights = passed / (1 + sweeps).square() * (radius / torch.cat([outer.flip(0), outer])).clamp(max=1.0)
    distances = (table[places] - values).abs()
    return float(((distances[1:] + distances[:-1]) * weights).sum())
