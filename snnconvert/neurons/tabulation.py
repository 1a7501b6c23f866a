"""Tables of functions: the grid of potentials on which neurons fire on a function, and its values there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.transfer import LARGEST_TABLE

Function = Callable[[Tensor], Tensor]
_COARSEST = 0.2
_FINEST_HALVINGS = 16
_SMALLEST_JUMP = 0.26
_OUTERMOST = 1e30
_FEWEST_CELLS = 8
_TRIED_GRIDS = 64
_SHRINKAGE = 2.0**-14  # of h, in h/Δ, from one grid tried to the next
_WIDE_MARGIN = 1e-3
_LARGEST_SHARE = 0.01
_SWEPT = 0.9
_PARTS = tuple(8.0**power for power in range(1, 13))
_PROBED = (-9, 12, 8400)  # orders of magnitude of potentials, in steps, and how many in between


class FunctionTable(NamedTuple):
    """f over a grid of potentials.

    Attributes:
        spacing: h.
        first: k₀, the first grid point in units of h.
        values: [K], f((k₀ + i)·h) in steps.
    """

    spacing: float
    first: int
    values: Tensor

    @property
    def farthest(self) -> int:
        """The largest |k| of its grid points k·h."""
        return max(-self.first, self.first + len(self.values) - 1)


def tabulate(function: Function, step: float, code: SpikeCode, reach: float = 1.0) -> FunctionTable:
    """A table of f/Δ over a grid of potentials, wide and fine enough for a code.

    The grid spans the potentials between which the rounded and clipped f/Δ changes; its spacing h is at most
    Δ/5, if 65,536 entries reach that far, and finer until neighbours differ by no more than a quarter step, as far as
    they allow. Where they don't (poles, jumps, oscillations, logarithms) it spans as much of it as keeps the mean
    error least. Where f is not defined it has its value at the next potential where it is.

    f/Δ keeps its distance from the halves where words change, so that an engine may compute f itself: Δ/h is close
    to an odd number where it can be, which puts such halves of a line between grid points, and the best of 64
    spacings is taken.

    Args:
        function: f, elementwise, for float64.
        step: Δ.
        code: the code, for its range.
        reach: the largest step of the neurons that read the table, in Δ, which is the smallest.

    Returns:
        The table, float32, in steps Δ, clipped one largest step beyond the code's range.
    """
    in_steps = values_in_steps(function, step, code, reach)
    points = _points(step)
    low, high = active_range(in_steps, step, code, reach)
    found = _grid(in_steps, low, high, step)
    if _largest_jump(found.values) > _SMALLEST_JUMP:
        ends = [max(-low, high) / part for part in _PARTS]
        parts = [_grid(in_steps, max(low, -end), min(high, end), step) for end in ends]
        values = in_steps(points)
        found = min([found, *parts], key=lambda table: _error(points, values, table))
    found = clearest(in_steps, found, step, code)
    return found._replace(values=found.values.float())


def values_in_steps(function: Function, step: float, code: SpikeCode, reach: float) -> Function:
    """f/Δ, clipped one largest step beyond the code's range, and without gaps; arguments as of :func:`tabulate`."""

    def in_steps(x: Tensor) -> Tensor:
        values = torch.nan_to_num(_without_gaps(function(x) / step), posinf=_OUTERMOST, neginf=-_OUTERMOST)
        return values.clamp((code.minimum - 1) * reach, (code.maximum + 1) * reach)

    return in_steps


def active_range(in_steps: Function, step: float, code: SpikeCode, reach: float) -> tuple[float, float]:
    """The potentials around 0 beyond which the rounded and clipped f/Δ is constant, as far as it ever settles."""
    points = _points(step)
    words = in_steps(points).round().clamp(code.minimum * reach, code.maximum * reach)
    changes = (words.diff() != 0).nonzero().flatten()
    if len(changes) == 0:
        return -step, step
    low, high = min(float(points[changes[0]]), 0.0), max(float(points[changes[-1] + 1]), 0.0)
    return (low, high) if high - low < step else (min(low, -step), max(high, step))


def _points(step: float) -> Tensor:
    """Potentials of both signs, over many orders of magnitude."""
    magnitudes = step * torch.logspace(*_PROBED, dtype=torch.float64)
    return torch.cat([-magnitudes.flip(0), torch.zeros(1, dtype=torch.float64), magnitudes])


def clearest(
    in_steps: Function, given: FunctionTable, step: float, code: SpikeCode, largest: int = LARGEST_TABLE
) -> FunctionTable:
    """The table, over a grid about as fine, that is as far from ties as any tried, or far enough.

    Args:
        in_steps: f/Δ.
        given: a table of it.
        step: Δ.
        code: the code whose words the ties are between.
        largest: most entries of a table.
    """
    low, high = given.first * given.spacing, (given.first + len(given.values) - 1) * given.spacing
    found, widest = given, _margin(given.values, code)
    for number in range(1, _TRIED_GRIDS):
        if widest >= _WIDE_MARGIN:
            break
        spacing = step / (step / given.spacing + number * _SHRINKAGE)
        if (high - low) / spacing > largest:
            break
        tried = sampled(in_steps, low, high, spacing)
        margin = _margin(tried.values, code)
        if margin > widest and len(tried.values) <= largest:
            found, widest = tried, margin
    return found


def _margin(table: Tensor, code: SpikeCode) -> float:
    """How far from a tie between two words the values of a table are."""
    inside = table[(table > code.minimum) & (table < code.maximum)]
    return float((inside - inside.floor() - 0.5).abs().min()) if len(inside) else 1.0


def _grid(in_steps: Function, low: float, high: float, step: float) -> FunctionTable:
    """The table of potentials low..high."""
    spacing = max(min(_COARSEST * step, (high - low) / _FEWEST_CELLS), (high - low) / (LARGEST_TABLE - 8))
    for _ in range(_FINEST_HALVINGS):
        table = sampled(in_steps, low, high, spacing)
        jump = _largest_jump(table.values)
        if jump <= _SMALLEST_JUMP or 2 * len(table.values) >= LARGEST_TABLE - 2:
            break
        spacing = _finer(spacing, step, jump)
    return table


def _finer(spacing: float, step: float, jump: float) -> float:
    """Δ over the next odd number that tames the largest jump, but more than half the spacing; else half of it."""
    divisions = step / spacing
    wanted = divisions * min(jump / _SMALLEST_JUMP, 2.0)
    odd = 2 * math.ceil((wanted - 1) / 2 - 1e-9) + 1
    if odd >= 2 * divisions:
        odd -= 2
    return step / odd if odd > divisions else spacing / 2


def _largest_jump(table: Tensor) -> float:
    return float(table.diff().abs().max())


def sampled(in_steps: Function, low: float, high: float, spacing: float) -> FunctionTable:
    """f/Δ at the multiples of a spacing from low to high, and one beyond each."""
    first, last = int(low // spacing) - 1, int(-(-high // spacing)) + 1
    grid = torch.arange(first, last + 1, dtype=torch.float64) * spacing
    return FunctionTable(spacing, first, in_steps(grid))


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


def _error(points: Tensor, values: Tensor, table: FunctionTable) -> float:
    """Distance of a table from the function, the more important a value the sooner it is reached from 0.

    |u − û| is summed over steps of f, so that all its values count alike. Those behind n sweeps through its range
    count (1 + n)⁻², so that oscillations are followed near 0, and jumps hardly count; those at potentials x beyond
    the first sweep, which ends at ±r, count r/|x|: a function that turns again a million steps away, as hardswish
    does at −3 for a tiny Δ, is not drawn for there.
    """
    spacing, first, found = table
    places = (points / spacing).round().clamp(first, first + len(found) - 1).long() - first
    span = max(float(values.max() - values.min()), 1.0)
    passed = values.diff().abs().clamp(max=_LARGEST_SHARE * span)
    below, above = passed.chunk(2)
    downward, upward = below.flip(0).cumsum(0), above.cumsum(0)
    sweeps = torch.cat([downward.flip(0), upward]) / span
    outer = points[-len(above) :]
    swept = (downward + upward) / span
    radius = outer[int((swept < _SWEPT * float(swept[-1].clamp(max=1.0))).sum())]
    weights = passed / (1 + sweeps).square() * (radius / torch.cat([outer.flip(0), outer])).clamp(max=1.0)
    distances = (found[places] - values).abs()
    return float(((distances[1:] + distances[:-1]) * weights).sum())
