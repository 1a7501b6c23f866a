"""Rounding that passes gradients straight through, and gradients that are scaled down."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


def straight_through(values: Tensor, forward: Tensor) -> Tensor:
    """``forward`` to the last bit, with the gradient of ``values``: dL/dvalues = dL/dresult.

    Args:
        values: floating point, any shape.
        forward: same shape and dtype.
    """
    result: Tensor = _StraightThrough.apply(values, forward)
    return result


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, _values: Tensor, forward: Tensor) -> Tensor:
        return forward.view_as(forward)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def quantized(values: Tensor, largest: int) -> Tensor:
    """The number of steps that x is nearest to, clip(⌊x + 1/2⌋, 0, q); ties go up.

    The gradient passes straight through where x rounds to one of 0..q, −1/2 ≤ x ≤ q + 1/2, and is 0 elsewhere.

    Args:
        values: x, floating point, any shape.
        largest: q.

    Returns:
        Whole numbers 0..q, same shape and dtype.
    """
    passing = values.clamp(-0.5, largest + 0.5)
    with torch.no_grad():
        levels = (values + 0.5).floor().clamp(0, largest)
    return straight_through(passing, levels)


def gradient_scaled(values: Tensor, scale: float) -> Tensor:
    """``values``, with gradients multiplied by ``scale``."""
    return straight_through(values * scale, values.detach())


class Threshold(nn.Module):
    """θ > 0 of one layer, fixed or learned.

    A learned one is stored as ln θ, so that it stays positive. Its gradient is multiplied by 1/√(n·q), with n neurons
    and q levels above 0, which keeps its steps in proportion to those of weights (LSQ: Esser et al., ICLR 2020).

    Buffers or parameters:
        log_threshold: ln θ, scalar; a parameter if learned, else a buffer.
    """

    def __init__(self, start: float, levels: int, *, learned: bool) -> None:
        """Starts at a value.

        Args:
            start: θ.
            levels: q.
            learned: whether θ is a parameter.
        """
        super().__init__()
        self.levels = levels
        self.learned = learned
        value = torch.tensor(math.log(start))
        if learned:
            self.log_threshold: Tensor = nn.Parameter(value)
        else:
            self.register_buffer("log_threshold", value)

    if TYPE_CHECKING:
        __call__: Callable[..., Tensor]

    def forward(self, neurons: int) -> Tensor:
        """θ, a scalar tensor.

        Args:
            neurons: n.
        """
        if not self.learned:
            return self.log_threshold.exp()
        return gradient_scaled(self.log_threshold, 1 / math.sqrt(max(neurons, 1) * self.levels)).exp()

    @property
    def value(self) -> float:
        """θ as a number."""
        return math.exp(self.log_threshold.item())
