"""Straight-through estimators: roundings that pass gradients, and scaled gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Quantizer = Callable[[Tensor], Tensor]


class _Replaced(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, values: Tensor, instead: Tensor) -> Tensor:
        return instead.to(values.dtype)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def replaced(values: Tensor, instead: Tensor) -> Tensor:
    """Other values of the same shape, with d/dx = 1."""
    result: Tensor = _Replaced.apply(values, instead)
    return result


def rounded(values: Tensor) -> Tensor:
    """rne(x), rounding half to even, with d/dx = 1."""
    return replaced(values, values.detach().round())


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.scale, None


def with_scaled_gradient(values: Tensor, scale: float) -> Tensor:
    """x, with d/dx = ``scale``: the gradient of a step size grows with what it quantizes.

    Source: LSQ (Esser et al., ICLR 2020), which scales by 1/√(N·q).
    """
    result: Tensor = _ScaledGradient.apply(values, scale)
    return result


class _Fired(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, potential: Tensor, gain: Tensor, low: float, high: float, quantize: Quantizer) -> Tensor:
        steps = potential * gain
        ctx.save_for_backward(steps, gain)
        ctx.low, ctx.high = low - 0.5, high + 0.5
        return quantize(steps.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        steps, gain = ctx.saved_tensors
        received = gradients[0].contiguous(memory_format=_order(steps))
        passed = torch.ops.aten.hardtanh_backward(received, steps, ctx.low, ctx.high)
        for_gain = None
        if ctx.needs_input_grad[1]:
            weighted = torch.dot(_flat(passed), _flat(steps)) if gain.numel() == 1 else passed * steps
            for_gain = weighted.sum_to_size(gain.shape) / gain
        return passed.mul_(gain), for_gain, None, None, None


def _order(values: Tensor) -> torch.memory_format:
    last = values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _flat(values: Tensor) -> Tensor:
    """All values in the order of memory."""
    is_last = _order(values) is torch.channels_last
    return (values.permute(0, 2, 3, 1) if is_last else values).reshape(-1)


def fired(potential: Tensor, gain: Tensor, low: float, high: float, quantize: Quantizer) -> Tensor:
    """Z = quantize(v·g) of membrane potentials v and gains g.

    dz/dv = g and dz/dg = v where v·g rounds to a value between ``low`` and ``high``, else 0: for the packed code
    SpikePack's gradient (Shen et al., ICCV 2025), dL/dz_in = dL/dz_out·W/θ.

    Args:
        potential: v.
        gain: g, a scalar or broadcastable to v.
        low: the smallest value that neurons can fire.
        high: the largest one.
        quantize: to values they fire; may overwrite its argument.
    """
    result: Tensor = _Fired.apply(potential, gain, low, high, quantize)
    return result


class _LookedUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, position: Tensor, first: int, table: Tensor) -> Tensor:
        last = first + len(table) - 1
        index = position.round().clamp_(first, last).sub_(first).to(torch.int32)
        ctx.save_for_backward(index, table)
        return table.index_select(0, index.reshape(-1)).view(index.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        index, table = ctx.saved_tensors
        rises = torch.cat([table.new_zeros(1), table.diff(), table.new_zeros(1)])
        slopes = 0.5 * (rises[1:] + rises[:-1])
        slopes[0], slopes[-1] = 0.0, 0.0
        return gradients[0] * slopes.index_select(0, index.reshape(-1)).view(index.shape), None, None


def looked_up(position: Tensor, first: int, table: Tensor) -> Tensor:
    """table[clip(rne(p), k₀, k₀ + K − 1) − k₀], with the mean slope of its two neighbours; 0 at the ends.

    Args:
        position: p, real numbers.
        first: k₀.
        table: float32 [K].
    """
    result: Tensor = _LookedUp.apply(position, first, table)
    return result
