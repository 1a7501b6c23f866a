"""Tables of functions over at most 256 potentials, as runtimes' 8-bit kernels hold these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.tabulation import (
    Function,
    FunctionTable,
    active_range,
    clearest,
    sampled,
    tabulate,
    values_in_steps,
)

POTENTIALS = 256
GATE_STEPS = 255.0
CLEAR = 2.0**-11  # of a gate's 255 values from the halves between them
_SHORT = 128  # multipliers are m·2^−k with m of 128..255
_TRIED = 256
_CUTS = torch.linspace(1.0, 0.3, 15, dtype=torch.float64)
_PROBES = torch.linspace(-8.0, 8.0, 65, dtype=torch.float64)
_NEAR_ZERO = torch.tensor(2.0**-6, dtype=torch.float64)

GATES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": lambda x: (x + 0.5).clamp(0.0, 1.0),
}
INVERSES: Mapping[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.logit, "hard_sigmoid": lambda x: x - 0.5}


class Potentials(NamedTuple):
    """What a calibration pass has seen of a potential.

    Attributes:
        values: float64 [K], ascending.
        counts: float64 [K], how often each was seen.
    """

    values: Tensor
    counts: Tensor


def byte_table(function: Function, step: float, code: SpikeCode, reach: float, potentials: Potentials) -> FunctionTable:
    """A table of f/Δ over up to 256 grid points, k₀ ≤ 0 ≤ k₀ + 255, of which as many as there are.

    x·σ(c·x), that is SiLU, and x·clip(c·x + ½, 0, 1), that is Hardswish, are k·s(k)·m with the gate s(k) rounded to
    0..255 and a multiplier m of 8 bits: two products of bytes that runtimes have kernels for, exact in float32. Of
    other functions the values are f's own.

    The grid spans the potentials for which the squared error of what was seen is least.

    Args:
        function: f, elementwise, for float64.
        step: Δ.
        code: the code, for its range.
        reach: the largest step of the neurons that read the table, in Δ, which is the smallest.
        potentials: what was seen.
    """
    in_steps = values_in_steps(function, step, code, reach)
    low, high = _span(in_steps, *active_range(in_steps, step, code, reach), potentials)
    gate = _gate_of(function)
    found = None if gate is None else _gated(function, *gate, low, high, step)
    if found is not None:
        return found
    fine = tabulate(function, step, code, reach)
    if len(fine.values) <= POTENTIALS:
        return fine
    coarse = sampled(in_steps, low, high, (high - low) / (POTENTIALS - 6))
    coarse = clearest(in_steps, coarse, step, code, POTENTIALS)
    return coarse._replace(values=coarse.values.float())


def _span(in_steps: Function, low: float, high: float, potentials: Potentials) -> tuple[float, float]:
    """The potentials that 256 grid points spread over, of those between which words change."""
    low, high = max(low, min(float(potentials.values[0]), 0.0)), min(high, max(float(potentials.values[-1]), 0.0))
    if high - low <= 0:
        return -1.0, 1.0
    exact = in_steps(potentials.values)

    def error(span: tuple[float, float]) -> float:
        spacing = (span[1] - span[0]) / (POTENTIALS - 2)
        places = (potentials.values.clamp(*span) / spacing).round() * spacing
        return float(((in_steps(places) - exact).square() * potentials.counts).sum())

    spans = [(low * below, high * above) for below in _CUTS.tolist() for above in _CUTS.tolist()]
    return min((span for span in spans if span[1] > span[0]), key=error)


def _gate_of(function: Function) -> tuple[str, float] | None:
    """The gate g and its scale c if f(x) = x·g(c·x)."""
    share = function(_NEAR_ZERO) / _NEAR_ZERO
    for name, inverse in INVERSES.items():
        scale = float(inverse(share) / _NEAR_ZERO)
        if torch.allclose(function(_PROBES), _PROBES * GATES[name](scale * _PROBES), rtol=0.0, atol=1e-9):
            return name, scale
    return None


def _gated(function: Function, name: str, scale: float, low: float, high: float, step: float) -> FunctionTable | None:
    """Products of positions, gates and a multiplier; None if gates are too close to ties at any spacing near.

    None, too, if the function is another one somewhere on the grid.
    """
    least = (high - low) / (POTENTIALS - 2) / (GATE_STEPS * step)
    exponent = 2.0 ** (torch.tensor(least).frexp().exponent.item() - 8)
    smallest = int(-(-least // exponent))
    for mantissa in range(smallest, smallest + _TRIED):
        whole = mantissa if mantissa < 2 * _SHORT else 2 * (mantissa // 2)
        multiplier = whole * exponent
        spacing = multiplier * GATE_STEPS * step
        first = int(low // spacing)
        positions = torch.arange(first, first + POTENTIALS, dtype=torch.float64)
        potentials = spacing * positions
        gates = GATE_STEPS * GATES[name](scale * potentials)
        if not torch.allclose(function(potentials), potentials * gates / GATE_STEPS, rtol=1e-9, atol=1e-9):
            return None
        if is_clear(gates, positions):
            return FunctionTable(spacing, first, (positions * gates.round() * multiplier).float())
    return None


def is_clear(gates: Tensor, positions: Tensor, margin: float = CLEAR) -> bool:
    """Whether gates [K], in steps of 1/255, are this far from ties where they matter, anywhere but at position 0."""
    is_inside = (gates > 0) & (gates < GATE_STEPS) & (positions != 0)
    return bool(((gates - gates.floor() - 0.5).abs() >= margin)[is_inside].all())
