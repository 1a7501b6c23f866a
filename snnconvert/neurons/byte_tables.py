"""Tables of functions over at most 256 potentials, as runtimes' 8-bit kernels hold these."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
_CUTS = torch.linspace(1.0, 0.05, 96, dtype=torch.float64)
_BEYOND = torch.linspace(1.0, 4.0, 193, dtype=torch.float64)
_PROBES = torch.linspace(-8.0, 8.0, 65, dtype=torch.float64)
_NEAR_ZERO = torch.tensor(2.0**-6, dtype=torch.float64)

GATES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": lambda x: (x + 0.5).clamp(0.0, 1.0),
}
INVERSES: Mapping[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.logit, "hard_sigmoid": lambda x: x - 0.5}


def byte_table(function: Function, step: float, code: SpikeCode, reach: float = 1.0) -> FunctionTable:
    """A table of f/Δ over up to 256 grid points, k₀ ≤ 0 ≤ k₀ + 255.

    x·σ(c·x), that is SiLU, and x·clip(c·x + ½, 0, 1), that is Hardswish, are k·s(k)·m with the gate s(k) rounded to
    0..255 and a multiplier m of 8 bits: two products of bytes that runtimes have kernels for, exact in float32. Of
    other functions the values are f's own.

    An end of the grid is cut where f is no further from all it has beyond than neighbours on the grid are apart.

    Args:
        function: f, elementwise, for float64.
        step: Δ.
        code: the code, for its range.
        reach: the largest step of the neurons that read the table, in Δ, which is the smallest.
    """
    in_steps = values_in_steps(function, step, code, reach)
    low, high = _trimmed(in_steps, *active_range(in_steps, step, code, reach))
    gate = _gate_of(function)
    found = None if gate is None else _gated(*gate, low, high, step)
    if found is not None:
        return found
    fine = tabulate(function, step, code, reach)
    if len(fine.values) <= POTENTIALS:
        return fine
    coarse = sampled(in_steps, low, high, (high - low) / (POTENTIALS - 6))
    coarse = clearest(in_steps, coarse, step, code, POTENTIALS)
    return coarse._replace(values=coarse.values.float())


def _trimmed(in_steps: Function, low: float, high: float) -> tuple[float, float]:
    """The potentials that 256 grid points spread over, of those between which words change."""
    ends = low, high
    for _ in range(2):  # the second time by the spacing that the first leaves, which is finer
        apart = float(in_steps(torch.linspace(*ends, POTENTIALS, dtype=torch.float64)).diff().abs().max())
        ends = _cut(in_steps, low, apart), _cut(in_steps, high, apart)
    return ends


def _cut(in_steps: Function, end: float, apart: float) -> float:
    """The place nearest to 0 from which f, up to four times the end, changes by no more than neighbours do."""
    places = torch.cat([_CUTS.flip(0), _BEYOND[1:]]) * end
    values = in_steps(places)
    highest, lowest = values.flip(0).cummax(0).values.flip(0), values.flip(0).cummin(0).values.flip(0)
    settled = torch.maximum(highest - values, values - lowest)[: len(_CUTS)] <= apart
    return float(places[int(settled.long().argmax())]) if bool(settled.any()) else end


def _gate_of(function: Function) -> tuple[str, float] | None:
    """The gate g and its scale c if f(x) = x·g(c·x)."""
    share = function(_NEAR_ZERO) / _NEAR_ZERO
    for name, inverse in INVERSES.items():
        scale = float(inverse(share) / _NEAR_ZERO)
        if torch.allclose(function(_PROBES), _PROBES * GATES[name](scale * _PROBES), rtol=0.0, atol=1e-9):
            return name, scale
    return None


def _gated(name: str, scale: float, low: float, high: float, step: float) -> FunctionTable | None:
    """Products of positions, gates and a multiplier; None if gates are too close to ties at any spacing near."""
    least = (high - low) / (POTENTIALS - 2) / (GATE_STEPS * step)
    exponent = 2.0 ** (torch.tensor(least).frexp().exponent.item() - 8)
    smallest = int(-(-least // exponent))
    for mantissa in range(smallest, smallest + _TRIED):
        whole = mantissa if mantissa < 2 * _SHORT else 2 * (mantissa // 2)
        multiplier = whole * exponent
        spacing = multiplier * GATE_STEPS * step
        first = int(low // spacing)
        positions = torch.arange(first, first + POTENTIALS, dtype=torch.float64)
        gates = GATE_STEPS * GATES[name](scale * spacing * positions)
        if is_clear(gates, positions):
            return FunctionTable(spacing, first, (positions * gates.round() * multiplier).float())
    return None


def is_clear(gates: Tensor, positions: Tensor, margin: float = CLEAR) -> bool:
    """Whether gates [K], in steps of 1/255, are this far from ties where they matter, anywhere but at position 0."""
    is_inside = (gates > 0) & (gates < GATE_STEPS) & (positions != 0)
    return bool(((gates - gates.floor() - 0.5).abs() >= margin)[is_inside].all())
