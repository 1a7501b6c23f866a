"""Integer weights that keep what a layer computes, by second moments of its inputs alone.

For inputs x (words) and the difference e between what the ANN's layer gives and W·x, both without their means,
C = E[x xᵀ] and K = E[e xᵀ]:

1. W ← W + K·(C + μλI)⁻¹ takes back what the layers before lost (least squares with a ridge);
2. the columns of W are rounded one by one, most active first, and each rounding error is spread over the
   columns that are still free (GPTQ, Frantar et al., ICLR 2023).

Both minimize E‖e + (W − W')x‖² over the sample; means are the bias correction's. The ridge grows as inputs
outnumber positions, so that few images change little; μ is the one of 1, 8, 64 and ∞ with which a half of the images
teaches most about the other half. Putting these together is this package's own; see GPTAQ (Li et al., ICML 2025) for
the same aim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from snnconvert.neurons.weight_integers import has_weights, nearest_integers, nearest_weights

_RIDGE = 0.01
_STRENGTHS = (1.0, 8.0, 64.0)
_BLOCK = 128


@dataclass(frozen=True)
class Moments:
    """Second moments over the positions of a sample, for each of G groups.

    Attributes:
        inputs: C·P, float64 [G, I, I].
        errors: K·P, float64 [G, O, I], in counts of the weights.
        positions: P.
    """

    inputs: Tensor
    errors: Tensor
    positions: int

    @property
    def ridge(self) -> Tensor:
        """λ·P of each group, float64 [G, 1, 1]; no less than the P/12 that rounding adds to words."""
        share = _RIDGE + self.inputs.shape[-1] / self.positions
        return (share * self.inputs.diagonal(dim1=-2, dim2=-1).mean(-1) + self.positions / 12)[:, None, None]


class MomentSums:
    """Adds up the moments of samples that come in parts."""

    def __init__(self, groups: int, inputs: int, outputs: int, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(groups, *shape, dtype=torch.float64, device=device)

        self._xx, self._ex = zeros(inputs, inputs), zeros(outputs, inputs)
        self._x, self._e = zeros(inputs), zeros(outputs)
        self._positions = 0

    def update(self, x: Tensor, e: Tensor) -> None:
        """Adds inputs [G, I, P] and errors [G, O, P]."""
        self._xx += (x @ x.mT).double()
        self._ex += (e @ x.mT).double()
        self._x += x.sum(-1, dtype=torch.float64)
        self._e += e.sum(-1, dtype=torch.float64)
        self._positions += x.shape[-1]

    def joined(self, other: MomentSums) -> MomentSums:
        """The sums of both."""
        result = MomentSums(len(self._x), self._x.shape[1], self._e.shape[1], self._x.device)
        for name in ("_xx", "_ex", "_x", "_e", "_positions"):
            setattr(result, name, getattr(self, name) + getattr(other, name))
        return result

    def moments(self) -> Moments:
        """The moments about the means."""
        mean = self._x / self._positions
        return Moments(
            self._xx - self._x[:, :, None] * mean[:, None, :],
            self._ex - self._e[:, :, None] * mean[:, None, :],
            self._positions,
        )


def rounded(weight: Tensor, moments: Moments, bits: Tensor, strength: float = 1.0) -> Tensor:
    """Integers for weights float64 [G, O, I] in counts, of widths [G, O], by both steps above.

    Args:
        weight: the weights.
        moments: of the sample.
        bits: the widths.
        strength: μ; infinite leaves out the first step.

    A channel keeps its nearest integers where these leave no larger error on the sample, and zeros if it has no
    weights.
    """
    nearest = nearest_weights(weight, bits)
    taken_back = _taken_back(moments, strength)
    if taken_back is None:
        return nearest
    chosen = _spread(weight + taken_back, _hessian(moments), bits)
    better = _error(chosen - weight, moments) < _error(nearest - weight, moments)
    return torch.where(better[..., None] & has_weights(weight), chosen, nearest)


def best_strength(first: Moments, second: Moments) -> float:
    """The μ whose change of the weights, learned on one half of a sample, leaves least error on the other half.

    Errors are in counts of the weights: a channel counts by what its loss is in its own steps.
    """
    errors = {math.inf: 0.0}
    for strength in _STRENGTHS:
        changes = [_taken_back(moments, strength) for moments in (first, second)]
        pairs = zip(changes, (second, first), strict=True)
        errors[strength] = sum(
            math.inf if change is None else float(_error(change, held_out).sum()) for change, held_out in pairs
        )
    return min(errors, key=errors.__getitem__)


def _taken_back(moments: Moments, strength: float) -> Tensor | None:
    """K·(C + μλI)⁻¹ [G, O, I]; None for inputs that never change, which teach nothing."""
    factor, failed = torch.linalg.cholesky_ex(_hessian(moments, 1.0 if math.isinf(strength) else strength))
    if bool(failed.any()):
        return None
    if math.isinf(strength):
        return torch.zeros_like(moments.errors)
    return torch.cholesky_solve(moments.errors.mT, factor).mT


def _hessian(moments: Moments, strength: float = 1.0) -> Tensor:
    identity = torch.eye(moments.inputs.shape[-1], dtype=torch.float64, device=moments.inputs.device)
    return moments.inputs + strength * moments.ridge * identity


def _error(change: Tensor, moments: Moments) -> Tensor:
    """Σ over positions of the squared error, up to a constant, of each output channel [G, O]."""
    return ((change @ moments.inputs) * change).sum(-1) - 2 * (change * moments.errors).sum(-1)


def _spread(weight: Tensor, hessian: Tensor, bits: Tensor) -> Tensor:
    """GPTQ's rounding of [G, O, I]; columns with the most active inputs first."""
    order = hessian.diagonal(dim1=-2, dim2=-1).argsort(dim=-1, descending=True, stable=True)
    index = order[:, None, :]
    columns = weight.gather(2, index.expand_as(weight))
    ordered = hessian.gather(1, order[:, :, None].expand_as(hessian)).gather(2, index.expand_as(hessian))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(ordered))
    factor = torch.linalg.cholesky(inverse, upper=True)
    result = torch.empty_like(columns)
    for start in range(0, columns.shape[-1], _BLOCK):
        end = min(start + _BLOCK, columns.shape[-1])
        block, errors = columns[:, :, start:end].clone(), torch.empty_like(columns[:, :, start:end])
        for place in range(end - start):
            column, row = start + place, factor[:, start + place, start:end]
            result[:, :, column] = nearest_integers(block[:, :, place], bits)
            errors[:, :, place] = (block[:, :, place] - result[:, :, column]) / row[:, place, None]
            block[:, :, place:] -= errors[:, :, place, None] * row[:, None, place:]
        columns[:, :, end:] -= errors @ factor[:, start:end, end:]
    return torch.empty_like(result).scatter_(2, index.expand_as(result), result)
