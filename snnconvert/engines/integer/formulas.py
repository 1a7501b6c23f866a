"""Functions that runtimes compute themselves: which table is that of GELU, SiLU, …, and proof that words are the same.

A table of words over grid points p may be replaced by rne(b·f(a·p)) if b·f(a·p), in float64, gives every word of the
table and stays clear of ties by more than a float32 evaluation of f may be off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.transfer import TableTransfer

_RELATIVE, _IN_STEPS = 2.0**-21, 2.0**-15


@dataclass(frozen=True)
class Function:
    """A function that runtimes know.

    Attributes:
        exact: f, elementwise, for float64.
        floor: how far off a float32 evaluation may be beside a share of 2^−21 of its value.
    """

    exact: Callable[[Tensor], Tensor]
    floor: float

    def error(self, values: Tensor) -> Tensor:
        """Bound of a float32 evaluation's error where f has these values."""
        return values.abs() * _RELATIVE + self.floor


FUNCTIONS: Mapping[str, Function] = {
    "gelu": Function(F.gelu, 2.0**-19),
    "gelu_tanh": Function(lambda x: F.gelu(x, approximate="tanh"), 2.0**-21),
    "silu": Function(F.silu, 2.0**-23),
    "hardswish": Function(F.hardswish, 2.0**-22),
    "mish": Function(F.mish, 2.0**-19),
    "elu": Function(F.elu, 2.0**-22),
    "sigmoid": Function(torch.sigmoid, 2.0**-22),
    "tanh": Function(torch.tanh, 2.0**-22),
}
_REACHES = torch.logspace(-2, 4, 180, dtype=torch.float64)
_SAMPLED = 257
_LIKELY = 0.1
_REFINEMENTS = 20
_NUDGE = 1e-6
_BEYOND = torch.cat([torch.arange(1.0, 4097.0), torch.logspace(4, 10, 25).round()]).double()


@dataclass(frozen=True)
class Formula:
    """b·f(a·p) in steps of a neuron, for grid points p of its transfer.

    Attributes:
        name: of f, a key of FUNCTIONS.
        inner: a, a float32 number.
        outer: b, a float32 number.
    """

    name: str
    inner: float
    outer: float

    def __call__(self, positions: Tensor) -> Tensor:
        """Values at positions of any shape and floating type."""
        return FUNCTIONS[self.name].exact(positions * self.inner) * self.outer

    def error(self, values: Tensor) -> Tensor:
        """Bound of its error in float32 where it has these values, in steps."""
        return FUNCTIONS[self.name].error(values / self.outer) * self.outer + _IN_STEPS


def formula_of(transfer: TableTransfer, neuron: SpikingNeuron) -> Formula | None:
    """The formula whose words are those that neurons fire from a table; None if none is known and proven.

    Args:
        transfer: the table.
        neuron: neurons without bias, with one gain, that read it.
    """
    values, words = transfer.table.double().cpu(), neuron(transfer.table).double().cpu()
    first, gain = int(transfer.first), float(neuron.gain)
    positions = torch.arange(first, first + len(values), dtype=torch.float64)
    low, high = float(-neuron.code.offset), float(neuron.ceiling)
    within = (values * gain > low - 0.5) & (values * gain < high + 0.5)
    if int(within.sum()) < 3:
        return None
    candidates = (_fitted(name, positions[within], values[within]) for name in FUNCTIONS)
    for name, inner, outer in (found for found in candidates if found is not None):
        formula = Formula(name, _rounded(inner), _rounded(outer * gain))
        if _is_proven(formula, positions, words, (low, high)):
            return formula
    return None


def _rounded(number: float) -> float:
    return float(torch.tensor(number, dtype=torch.float32))


def _is_proven(formula: Formula, positions: Tensor, words: Tensor, span: tuple[float, float]) -> bool:
    """Whether a formula gives the words at all positions, and those of the ends beyond them, clear of ties."""
    places = torch.cat([positions[0] - _BEYOND, positions, positions[-1] + _BEYOND])
    expected = torch.cat([words[:1].expand(len(_BEYOND)), words, words[-1:].expand(len(_BEYOND))])
    values = formula(places)
    is_inside = (values > span[0]) & (values < span[1])
    is_clear = (values - values.floor() - 0.5).abs() > formula.error(values)
    return bool((values.round().clamp(*span) == expected).all() and (is_clear | ~is_inside).all())


def _fitted(name: str, positions: Tensor, values: Tensor) -> tuple[str, float, float] | None:
    """The a and b that bring b·f(a·p) closest to values; None if f has another shape."""
    function, spread = FUNCTIONS[name].exact, float(values.max() - values.min())
    few = torch.linspace(0, len(values) - 1, _SAMPLED).long()
    sample, wanted = positions[few], values[few]
    inners = _REACHES / positions.abs().max()
    shapes = function(inners[:, None] * sample)
    outers = (shapes * wanted).sum(1) / shapes.square().sum(1).clamp(min=1e-300)
    errors = (outers[:, None] * shapes - wanted).abs().amax(1)
    best = int(errors.argmin())
    if not float(errors[best]) <= _LIKELY * spread or float(outers[best]) <= 0:
        return None
    inner, outer = float(inners[best]), float(outers[best])
    for _ in range(_REFINEMENTS):
        inner, outer = _refined(function, inner, outer, positions, values)
    return name, inner, outer


def _refined(
    function: Callable[[Tensor], Tensor], inner: float, outer: float, positions: Tensor, values: Tensor
) -> tuple[float, float]:
    """One Gauss-Newton step in (ln a, b)."""
    shape = function(inner * positions)
    slope = outer * (function(inner * (1 + _NUDGE) * positions) - function(inner * (1 - _NUDGE) * positions))
    design = torch.stack([slope / (2 * _NUDGE), shape], 1)
    step = torch.linalg.lstsq(design, (values - outer * shape)[:, None]).solution.flatten()
    return inner * float(step[0].clamp(-0.5, 0.5).exp()), outer + float(step[1])
