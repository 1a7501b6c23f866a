"""The integer program: the least error within a cost, or the least cost within an error.

    minimize    Σ_g e_g·x_g + Σ_l e_l·(Σ_w z_l)         (or the cost)
    subject to  Σ_w x_g[w] = 1,   Σ_b z_l[w, b] = x_reads(l)[w],   Σ_g c_g·x_g + Σ_l C_l·z_l ≤ limit

with binaries x_g[w] (the words of group g take option w) and z_l[w, b] (layer l takes option b beside it), so that
layers that read the same spikes agree by construction. The additive model is the training-free allocation of
mixed-precision quantization; words shared by layers and products of two activations are this package's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from snnconvert.allocation.problem import FloatArray, Problem, Solution
from snnconvert.allocation.quiet_solver import quiet_stdout
from snnconvert.errors import ConfigurationError, ConversionError

_GAP = 1e-5
_LOOSE_GAP = 0.02
_SCALE = 1e3
_ROW_SCALE = 1e2
_SLACK = 1e-9
_TRIALS = 4
_TINY = float(np.finfo(np.float64).tiny)


def least_error(problem: Problem, most_cost: float) -> Solution:
    """The allocation of least predicted error that costs at most ``most_cost``, to within 1e-5 of its error.

    Deterministic: the same problem always gives the same allocation.

    Raises:
        ConfigurationError: if every allocation costs more, naming the smallest cost.
    """
    if problem.smallest_cost > most_cost * (1 + _SLACK):
        raise ConfigurationError(
            f"every allocation costs at least {problem.smallest_cost:.6g}, more than {most_cost:g}"
        )
    errors, costs = _errors(problem), _costs(problem)
    return _Program(problem, errors, costs, most_cost, lambda it: it.error, lambda it: it.cost).solve()


def least_cost(problem: Problem, most_error: float) -> Solution:
    """The cheapest allocation whose predicted error is at most ``most_error``, to within 1e-5 of its cost.

    Raises:
        ConfigurationError: if every allocation errs more, naming the smallest error.
    """
    smallest = sum(float(errors.min()) for errors in (*problem.word_errors, *problem.weight_errors))
    if smallest > most_error * (1 + _SLACK):
        raise ConfigurationError(f"every allocation errs by at least {smallest:.6g}, more than {most_error:g}")
    errors, costs = _errors(problem), _costs(problem)
    return _Program(problem, costs, errors, most_error, lambda it: it.cost, lambda it: it.error).solve()


@dataclass(frozen=True)
class _Program:
    """Minimizes one sum over the options while another stays within a limit.

    Unknowns are the binaries in one vector: x of all groups, then z of all layers.
    """

    problem: Problem
    objective: FloatArray
    row: FloatArray
    limit: float
    value_of: Callable[[Solution], float]
    spent_of: Callable[[Solution], float]

    def solve(self) -> Solution:
        """A loose solution first: options that alone exceed it can be left out, and it sets the scale of the second."""
        usable = self.row <= self.limit * (1 + _SLACK)
        rough = self._within(self.objective / max(self.objective[usable].max(), _TINY), usable, _LOOSE_GAP)
        value = self.value_of(rough)
        if value <= 0:
            return rough
        usable &= self.objective <= value * (1 + _SLACK)
        fine = self._within(np.where(usable, self.objective, 0.0) * (_SCALE / value), usable, _GAP)
        return fine if self.value_of(fine) <= value else rough

    def _within(self, objective: FloatArray, usable: NDArray[np.bool_], gap: float) -> Solution:
        """Solves once; again with a slightly lower limit where the solver's own tolerance has exceeded it."""
        target = self.limit
        for _ in range(_TRIALS):
            scale = _ROW_SCALE / max(target, _TINY)
            within = LinearConstraint(np.where(usable, self.row * scale, 0.0)[None], -np.inf, target * scale)
            with quiet_stdout():
                result = milp(
                    np.where(usable, objective, 0.0),
                    integrality=np.ones(len(objective)),
                    bounds=Bounds(0.0, usable.astype(np.float64)),
                    constraints=[_agreement(self.problem), within],
                    options={"mip_rel_gap": gap, "presolve": False},
                )
            if result.x is None:
                raise ConversionError(f"the allocation can't be solved: {result.message}")
            found = _solution(self.problem, result.x)
            excess = self.spent_of(found) - self.limit
            if excess <= self.limit * _SLACK:
                return found
            target -= 2 * excess
        raise ConversionError("the allocation's limit can't be met to the solver's precision: change it slightly")


def _errors(problem: Problem) -> FloatArray:
    pairs = zip(problem.weight_errors, problem.pair_costs, strict=True)
    of_layers = [np.broadcast_to(errors, costs.shape).ravel() for errors, costs in pairs]
    return np.concatenate([*problem.word_errors, *of_layers]).astype(np.float64)


def _costs(problem: Problem) -> FloatArray:
    return np.concatenate([*problem.word_costs, *(costs.ravel() for costs in problem.pair_costs)]).astype(np.float64)


def _group_starts(problem: Problem) -> list[int]:
    return [0, *itertools.accumulate(map(len, problem.word_errors))]


def _agreement(problem: Problem) -> LinearConstraint:
    """One option of each group, and each layer beside the option of its group."""
    starts = _group_starts(problem)
    entries: list[tuple[int, int, float]] = []
    right: list[float] = []
    for start, end in itertools.pairwise(starts):
        entries += [(len(right), column, 1.0) for column in range(start, end)]
        right.append(1.0)
    at = starts[-1]
    for group, costs in zip(problem.reads, problem.pair_costs, strict=True):
        for option in range(costs.shape[0]):
            entries += [(len(right), column, 1.0) for column in range(at, at + costs.shape[1])]
            entries.append((len(right), starts[group] + option, -1.0))
            right.append(0.0)
            at += costs.shape[1]
    rows, columns, values = zip(*entries, strict=True)
    return LinearConstraint(coo_array((values, (rows, columns)), shape=(len(right), at)).tocsr(), right, right)


def _solution(problem: Problem, values: FloatArray) -> Solution:
    starts = _group_starts(problem)
    words = tuple(int(values[start:end].argmax()) for start, end in itertools.pairwise(starts))
    weights: list[int] = []
    at = starts[-1]
    for group, costs in zip(problem.reads, problem.pair_costs, strict=True):
        weights.append(int(values[at : at + costs.size].reshape(costs.shape)[words[group]].argmax()))
        at += costs.size
    return Solution(words, tuple(weights), problem.error(words, weights), problem.cost(words, weights))
