"""Weight bits for the output channels of a layer, so that its output error is smallest at a mean width.

With σ_i² the variance of input i and ŵ(b) the channel's weights at b bits and their own best scale, a channel's
error is

    e_o(b) = Σ_i σ_i²·(w_oi − ŵ_oi(b))²

and Σ_o e_o(b_o) is minimized over b_o in 1..8 with Σ_o b_o ≤ b·O: all channels of a layer have the same
multiply-accumulates. Where groups of consecutive channels share a width, their errors add up, and a bit costs as many
as a group has channels. Means of the inputs are the bias correction's; their correlations are left out.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnconvert.convert.weights import nearest_representable
from snnconvert.neurons.weight_integers import FEWEST_WEIGHT_BITS, MOST_WEIGHT_BITS

_WIDTHS = range(FEWEST_WEIGHT_BITS, MOST_WEIGHT_BITS + 1)
_MOST_GROUPS = 512


def width_errors(weight: Tensor, bias: Tensor, variances: Tensor) -> Tensor:
    """e_o(b) of every output channel at b = 1..8, float64 [O, 8].

    Args:
        weight: [O, ...], in units of the input word's step.
        bias: [O].
        variances: σ² of the inputs each weight meets, broadcastable to the weights.
    """
    errors = []
    for bits in _WIDTHS:
        real = nearest_representable(weight, bias, bits)
        errors.append(((weight.double() - real).square() * variances).flatten(1).sum(1))
    return torch.stack(errors, 1)


def best_widths(errors: Tensor, mean: int, group: int = 1) -> Tensor:
    """b_o in 1..8 that minimize Σ_o e_o(b_o) with Σ_o b_o ≤ mean·O, the same for all channels of a group.

    Up to 512 groups exactly, by dynamic programming over the bits that are left. More of them by marginal analysis:
    every group starts at one bit, and of the steps along the lower convex hulls of all groups' errors those that gain
    most a bit are taken first (Fox, Operations Research 1966), which is above the minimum by no more than one step
    gains.

    Args:
        errors: e_o(b), [O, 8].
        mean: the largest mean width.
        group: how many consecutive channels share a width; what is left over at the end is a smaller group.

    Returns:
        int64 [O], on the CPU.
    """
    group_of = torch.arange(len(errors)) // group
    sizes = group_of.bincount()
    summed = torch.zeros(len(sizes), len(_WIDTHS), dtype=torch.float64).index_add(0, group_of, errors.double().cpu())
    room = (mean - _WIDTHS[0]) * len(errors)
    solve = _programmed if len(sizes) <= _MOST_GROUPS else _marginal
    return solve(summed, sizes, room)[group_of]


def _programmed(errors: Tensor, sizes: Tensor, room: int) -> Tensor:
    """The best widths with so many bits beyond one a channel.

    least[r] is the least error of the groups so far with r steps of a whole group's bits; only the last group may be
    smaller, and takes the rest.
    """
    table: NDArray[np.float64] = errors.numpy()
    extra, whole, last = table.shape[1], int(sizes[0]), int(sizes[-1])
    steps = room // whole
    least = np.zeros(steps + 1)
    taken = np.empty((len(table) - 1, steps + 1), np.int64)
    for place, row in enumerate(table[:-1]):
        before = np.concatenate([np.full(extra - 1, np.inf), least])
        options = [before[extra - 1 - more : extra + steps - more] + row[more] for more in range(extra)]
        taken[place] = np.argmin(options, 0)
        least = np.min(options, 0)
    left = (room - last * np.arange(min(extra, room // last + 1))) // whole
    more = int(np.argmin(least[left] + table[-1, : len(left)]))
    widths = torch.full(errors.shape[:1], _WIDTHS[0])
    widths[-1] += more
    steps = int(left[more])
    for place in reversed(range(len(taken))):
        more = int(taken[place, steps])
        widths[place] += more
        steps -= more
    return widths


def _marginal(errors: Tensor, sizes: Tensor, room: int) -> Tensor:
    widths = torch.full(errors.shape[:1], _WIDTHS[0])
    for group, lower, higher in _hull_steps(errors / sizes[:, None]):
        cost = (higher - lower) * int(sizes[group])
        if int(widths[group]) == lower and cost <= room:
            widths[group] = higher
            room -= cost
    return widths


def _hull_steps(errors: Tensor) -> list[tuple[int, int, int]]:
    """(group, width, next width) along the lower convex hulls, those that gain most a bit first."""
    bits = torch.tensor(list(_WIDTHS))
    at = torch.zeros(len(errors), dtype=torch.int64)
    least = torch.full((len(errors),), torch.inf, dtype=torch.float64)
    steps: list[tuple[float, int, int, int, int]] = []
    for place in range(len(_WIDTHS) - 1):
        distance = bits - bits[at][:, None]
        gained = (errors.gather(1, at[:, None]) - errors) / distance.clamp(min=1)
        slope, following = gained.masked_fill(distance < 1, -torch.inf).max(1)
        least = torch.minimum(least, slope)  # a rounding error must not put a later step before an earlier one
        for group in torch.nonzero(least > 0).flatten().tolist():
            lower, higher = int(bits[at[group]]), int(bits[following[group]])
            steps.append((-float(least[group]), place, group, lower, higher))
        at = torch.where(least > 0, following, at)
    return [step[2:] for step in sorted(steps)]
