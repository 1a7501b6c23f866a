"""Surrogate gradients: spikes are 0 or 1 going forward, and have a smooth function's slope going backward.

A neuron fires where its potential v reaches the threshold θ. With x = v − θ,

    forward:  s = H(x) = [x ≥ 0]          backward:  dL/dx = dL/ds · g'(x),

where g is a smooth function that rises from 0 to 1 around x = 0 and comes closer to H the larger α is.

Source: Neftci, Mostafa and Zenke, "Surrogate Gradient Learning in Spiking Neural Networks" (2019); triangle: Esser et
al. (PNAS 2016) and Bellec et al. (NeurIPS 2018); arctangent: Fang et al. (ICCV 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnconvert.errors import ConfigurationError

_Function = Callable[[Tensor, float], Tensor]


def atan_slope(x: Tensor, alpha: float) -> Tensor:
    """g'(x) = (α/2) / (1 + (π·α·x/2)²), of g(x) = arctan(π·α·x/2)/π + 1/2."""
    return (alpha / 2) / (1 + (math.pi / 2 * alpha * x) ** 2)


def sigmoid_slope(x: Tensor, alpha: float) -> Tensor:
    """g'(x) = α·σ(α·x)·(1 − σ(α·x)), of g(x) = σ(α·x), the logistic function."""
    share = torch.sigmoid(alpha * x)
    return alpha * share * (1 - share)


def triangle_slope(x: Tensor, alpha: float) -> Tensor:
    """g'(x) = α·max(0, 1 − α·abs(x)): a triangle of area 1 between −1/α and 1/α."""
    return alpha * (1 - alpha * x.abs()).clamp(min=0)


def atan_smooth(x: Tensor, alpha: float) -> Tensor:
    """g(x) = arctan(π·α·x/2)/π + 1/2."""
    return torch.atan(math.pi / 2 * alpha * x) / math.pi + 0.5


def sigmoid_smooth(x: Tensor, alpha: float) -> Tensor:
    """g(x) = 1/(1 + exp(−α·x))."""
    return torch.sigmoid(alpha * x)


def triangle_smooth(x: Tensor, alpha: float) -> Tensor:
    """g(x) = 1/2 + a − sign(a)·a²/2 with a = clip(α·x, −1, 1)."""
    a = (alpha * x).clamp(-1, 1)
    return 0.5 + a - a * a.abs() / 2


_SLOPES: dict[str, _Function] = {"atan": atan_slope, "sigmoid": sigmoid_slope, "triangle": triangle_slope}
_SMOOTH: dict[str, _Function] = {"atan": atan_smooth, "sigmoid": sigmoid_smooth, "triangle": triangle_smooth}
SURROGATES = tuple(_SLOPES)


@dataclass(frozen=True)
class Surrogate:
    """Which slope spikes have going backward.

    Attributes:
        name: "atan", "sigmoid" or "triangle"; formulas at the functions of these names.
        alpha: α > 0, how steep g is; "atan" and "triangle" have slope α/2 and α at x = 0, "sigmoid" α/4. The width of
            what passes gradients goes with 1/α.

    Raises:
        ConfigurationError: if there is no such surrogate, or α isn't positive and finite.
    """

    name: str = "atan"
    alpha: float = 2.0

    def __post_init__(self) -> None:
        if self.name not in _SLOPES:
            raise ConfigurationError(f"surrogate must be one of {', '.join(SURROGATES)}, got {self.name!r}")
        is_number = isinstance(self.alpha, (int, float)) and not isinstance(self.alpha, bool)
        if not is_number or not 0 < self.alpha < math.inf:
            raise ConfigurationError(f"surrogate: alpha must be a positive number, got {self.alpha!r}")

    def slope(self, x: Tensor) -> Tensor:
        """g'(x), elementwise."""
        return _SLOPES[self.name](x, self.alpha)

    def smooth(self, x: Tensor) -> Tensor:
        """g(x), elementwise: what the backward pass takes the spikes for."""
        return _SMOOTH[self.name](x, self.alpha)

    def __call__(self, x: Tensor) -> Tensor:
        """Spikes H(x) of x = v − θ, with the gradient g'(x).

        Args:
            x: how far potentials lie above the threshold, floating point, any shape.

        Returns:
            0 or 1, same shape and dtype.
        """
        spikes: Tensor = _Heaviside.apply(x, self)
        return spikes


class _Heaviside(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradients[0] * ctx.surrogate.slope(x), None
