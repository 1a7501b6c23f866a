"""The allocation as a problem of numbers alone: options, their errors and their costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """G groups of words and L layers of weights; layer l reads the words of group ``reads[l]``.

    An allocation picks one option of each group and of each layer. Errors and costs add up:

        error = Σ_g word_errors[g][w_g] + Σ_l weight_errors[l][b_l]
        cost  = Σ_g word_costs[g][w_g] + Σ_l pair_costs[l][w_reads(l), b_l]

    Attributes:
        reads: group of each layer.
        word_errors: of each group, [W_g].
        weight_errors: of each layer, [B_l].
        word_costs: of each group, [W_g]: what its words cost whatever the weights (products of two activations).
        pair_costs: of each layer, [W_g, B_l] with its group's W_g.
    """

    reads: tuple[int, ...]
    word_errors: tuple[FloatArray, ...]
    weight_errors: tuple[FloatArray, ...]
    word_costs: tuple[FloatArray, ...]
    pair_costs: tuple[FloatArray, ...]

    def __post_init__(self) -> None:
        for layer, group in enumerate(self.reads):
            shape = len(self.word_errors[group]), len(self.weight_errors[layer])
            if self.pair_costs[layer].shape != shape:
                raise ValueError(f"layer {layer} has costs {self.pair_costs[layer].shape}, not {shape}")

    @property
    def smallest_cost(self) -> float:
        """The cost of the cheapest allocation."""
        return sum(float(costs.min()) for costs in self._group_costs(np.min))

    @property
    def largest_cost(self) -> float:
        """The cost of the dearest allocation."""
        return sum(float(costs.max()) for costs in self._group_costs(np.max))

    def _group_costs(self, extreme: Callable[..., Any]) -> list[FloatArray]:
        """Of each group the cost of each word option with its layers' extreme weights."""
        totals = [costs.astype(np.float64) for costs in self.word_costs]
        for layer, group in enumerate(self.reads):
            totals[group] = totals[group] + extreme(self.pair_costs[layer], axis=1)
        return totals

    def error(self, words: Sequence[int], weights: Sequence[int]) -> float:
        """The predicted error of options picked by index."""
        of_words = sum(float(errors[option]) for errors, option in zip(self.word_errors, words, strict=True))
        return of_words + sum(float(e[option]) for e, option in zip(self.weight_errors, weights, strict=True))

    def cost(self, words: Sequence[int], weights: Sequence[int]) -> float:
        """The cost of options picked by index."""
        of_words = sum(float(costs[option]) for costs, option in zip(self.word_costs, words, strict=True))
        pairs = zip(self.reads, self.pair_costs, weights, strict=True)
        return of_words + sum(float(costs[words[group], option]) for group, costs, option in pairs)

    @property
    def size(self) -> int:
        """How many binary unknowns its integer program has."""
        return sum(map(len, self.word_errors)) + sum(costs.size for costs in self.pair_costs)


@dataclass(frozen=True)
class Solution:
    """One allocation.

    Attributes:
        words: option of each group, by index.
        weights: option of each layer, by index.
        error: its predicted error.
        cost: its cost.
    """

    words: tuple[int, ...]
    weights: tuple[int, ...]
    error: float
    cost: float
