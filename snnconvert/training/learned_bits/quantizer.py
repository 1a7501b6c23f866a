"""Uniform quantizers whose input, step and bits all have gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Levels:
    """The integers n_low..n_high of a quantizer at one width, and how they move with it.

    Attributes:
        low: n_low.
        high: n_high.
        low_slope: dn_low/db.
        high_slope: dn_high/db.
        binary: whether the integers are −1 and +1 alone, by the sign.
        half_up: whether halves round up rather than to even.
    """

    low: float
    high: float
    low_slope: float
    high_slope: float
    binary: bool = False
    half_up: bool = False

    def nearest(self, counts: Tensor) -> Tensor:
        """The nearest of the integers, a new tensor; of two equally near the even one, or the upper one."""
        if self.binary:
            return torch.where(counts >= 0, self.high, self.low).to(counts)
        rounded = (counts + 0.5).floor_() if self.half_up else counts.round()
        return rounded.clamp_(self.low, self.high)


def weight_levels(bits: int) -> Levels:
    """−q..q with q = 2^(b−1) − 1, and ±1 for b = 1; dq/db = ln 2·(q + 1[b>1]).

    Args:
        bits: b.
    """
    largest = max((1 << (bits - 1)) - 1, 1)
    slope = math.log(2) * (largest + (bits > 1))
    return Levels(-largest, largest, -slope, slope, binary=bits == 1)


def spike_levels(bits: int, offset_share: float = 0.0, offset: int = 0, *, half_up: bool = False) -> Levels:
    """−o..2^b − 1 − o; d(2^b − 1)/db = ln 2·(2^b − 1 + 1[b>1]), of which the share below zero moves n_low.

    Args:
        bits: b, of a spike or of a whole packed word.
        offset_share: o/(2^b − 1), which stays the same at other widths.
        offset: o.
        half_up: see :class:`Levels`.
    """
    largest = (1 << bits) - 1
    slope = math.log(2) * (largest + (bits > 1))
    return Levels(-offset, largest - offset, -offset_share * slope, (1 - offset_share) * slope, half_up=half_up)


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, step: Tensor, bits: Tensor, levels: Levels) -> Tensor:
        counts = values / step
        out = levels.nearest(counts).mul_(step)
        ctx.save_for_backward(counts, out, step)
        ctx.levels, ctx.bits_shape = levels, bits.shape
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        counts, out, step = ctx.saved_tensors
        levels, (gradient,) = ctx.levels, gradients
        passing = torch.ops.aten.hardtanh_backward(gradient, counts, levels.low, levels.high)
        of_step = of_bits = None
        if ctx.needs_input_grad[1]:
            scale = 1.0 / math.sqrt(max(counts.numel() / step.numel() * max(levels.high, -levels.low), 1.0))
            of_step = (_total(gradient, out, step) / step - _total(passing, counts, step)) * scale
        if ctx.needs_input_grad[2]:
            of_bits = (_moved(gradient, passing, counts, step, levels) * step).sum().reshape(ctx.bits_shape)
        return passing, of_step, of_bits, None


def _total(left: Tensor, right: Tensor, like: Tensor) -> Tensor:
    """Σ left·right over all that shares a step."""
    if like.numel() == 1:
        return torch.dot(left.reshape(-1), right.reshape(-1)).reshape(like.shape)
    return (left * right).sum_to_size(like.shape)


def _moved(gradient: Tensor, passing: Tensor, counts: Tensor, step: Tensor, levels: Levels) -> Tensor:
    """dn_high/db·Σ g·1[above] + dn_low/db·Σ g·1[below], for each step."""
    outside = gradient - passing
    above = outside.sum_to_size(step.shape)
    if float(counts.amin()) > levels.low:
        return levels.high_slope * above
    below = _total(outside, (counts <= levels.low).to(outside), step)
    return levels.high_slope * (above - below) + levels.low_slope * below


def quantize(values: Tensor, step: Tensor, bits: Tensor, levels: Levels) -> Tensor:
    """γ·clip(⌊x/γ⌉, n_low, n_high), with gradients to all three.

        dL/dx = g·1[in]
        dL/dγ = Σ g·(q − x/γ·1[in])/√(N·n_max)                    (LSQ's scaling, once)
        dL/db = Σ g·γ·(dn_high/db·1[above] + dn_low/db·1[below])

    with q the integer taken, "in" the values between n_low·γ and n_high·γ, and N the number of values of one step.

    Source: Yao et al. (2025), after LSQ (Esser et al., ICLR 2020). Their code scales the gradient of
    convolutions' steps twice.

    Args:
        values: x, any shape, floating.
        step: γ > 0, broadcastable to the values.
        bits: b, a scalar that only takes the gradient; the integers are ``levels``.
        levels: those of b, rounded.
    """
    out: Tensor = _Quantize.apply(values, step, bits, levels)
    return out


def rounded_through(values: Tensor) -> Tensor:
    """⌊x⌉ with the gradient of x."""
    return values + (values.detach().round() - values.detach())


def clamped_through(values: Tensor, low: float, high: float) -> Tensor:
    """clip(|x|, low, high) with the gradient of |x|."""
    size = values.abs()
    return size + (size.detach().clamp(low, high) - size.detach())
