"""Recognizes integers times a scale: spikes behind floating-point values, quantized weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGEST_SPIKE = 255
_LARGEST_WEIGHT = 128
_BYTE = 127
_SAMPLED = 64
_FEW = 8
_TOLERANCE = (1e-5, 0.05)
_REPAIRS = 8
_LARGEST_RATIO = 255
_FEWEST_WEIGHTS = 4
_FEWEST_CONFIRMATIONS = 16


@dataclass(frozen=True)
class Integers:
    """Values k·c.

    Attributes:
        codes: k, int8 or int16 of the values' shape, |k| ≤ 255.
        scale: c, float64, broadcastable to the codes: one number or one a channel; 0 where all codes are.
        error: relative, of the scale.
    """

    codes: Tensor
    scale: Tensor
    error: float = 0.0

    @property
    def bits(self) -> int:
        """Bits of the narrowest integers that hold all codes."""
        return bits_of(*bounds([self.codes]))


def bounds(parts: Sequence[Tensor]) -> tuple[int, int]:
    """The smallest and the largest integer, 0 among them."""
    filled = [part for part in parts if part.numel()]
    return min([0, *(int(part.min()) for part in filled)]), max([0, *(int(part.max()) for part in filled)])


def bits_of(low: int, high: int) -> int:
    """Bits of integers in low..high, low ≤ 0 ≤ high: two's complement if there are negative ones."""
    return max(high.bit_length(), 1) if low >= 0 else max((-low - 1).bit_length(), high.bit_length()) + 1


def recognize(values: Tensor, channel: int) -> Integers | None:
    """Integers behind values with one scale for all or one a channel, whichever needs fewer bits; None: real numbers.

    Scales a channel must be confirmed, since any single number is an integer times itself: by at least as many further
    values that aren't zero as there are channels that aren't, and 16; against one scale for all by four times as many.

    Args:
        values: of any shape and type.
        channel: the dimension of channels.
    """
    if not values.is_floating_point():
        fits = values.numel() == 0 or int(values.abs().max()) <= LARGEST_SPIKE
        return Integers(values.to(torch.int16), torch.ones((), dtype=torch.float64)) if fits else None
    exact = values if values.dtype in (torch.float32, torch.float64) else values.float()
    epsilon = torch.finfo(values.dtype).eps
    scale = scales_of(exact.reshape(1, -1), LARGEST_SPIKE, epsilon)
    for_all = None if scale is None else _coded(exact, scale.reshape(()), epsilon)
    if for_all is not None and for_all.bits == 1:
        return for_all
    by_channel = _by_channel(exact, channel, epsilon, least=1 if for_all is None else 4)
    if for_all is None or (by_channel is not None and by_channel.bits < for_all.bits):
        return by_channel
    return for_all


def _by_channel(values: Tensor, channel: int, epsilon: float, least: int) -> Integers | None:
    """Integers with a scale for each channel that enough values confirm, ``least`` for each channel."""
    if values.dim() < 2:
        return None
    rows = values.movedim(channel, 0).flatten(1)
    fired = (rows != 0).sum(1)
    active = int((fired > 0).sum())
    if int(fired.sum()) - active < max(least * active, _FEWEST_CONFIRMATIONS):
        return None
    scale = scales_of(rows, LARGEST_SPIKE, epsilon)
    if scale is None:
        return None
    sizes = [-1 if dim == channel % values.dim() else 1 for dim in range(values.dim())]
    return _coded(values, scale.view(sizes), epsilon)


def common_scale(parts: Sequence[Integers]) -> list[Tensor] | None:
    """The codes of all parts in one scale, the largest of which all of theirs are multiples; None if there is none."""
    common: Tensor | None = None
    error = 2 * max((part.error for part in parts), default=0.0)
    for part in parts:
        common = part.scale if common is None else _shared(common, part.scale, error)
        if common is None:
            return None
    assert common is not None
    found = []
    for part in parts:
        ratio = torch.where(common > 0, part.scale / common, 1.0).round().to(torch.int32)
        codes = part.codes.to(torch.int32) * ratio
        low, high = bounds([codes])
        if max(-low, high) > LARGEST_SPIKE:
            return None
        found.append(codes.to(torch.int16))
    return found


def weight_bits_of(rows: Tensor) -> int | None:
    """Bits of quantized weights, integers times a scale for each row; None for floating-point weights.

    Two's complement with any negative weight, one bit for ±c alone. Rows of fewer than 4 weights share one scale.

    Args:
        rows: weights [outputs, ...], one row for each output channel.
    """
    flat = rows.reshape(rows.shape[0], -1) if rows.numel() else rows.reshape(1, -1)
    if not flat.is_floating_point():
        return _width(flat.to(torch.int64))
    if flat.shape[1] < _FEWEST_WEIGHTS:
        flat = flat.reshape(1, -1)
    exact = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
    scale = scales_of(exact, _LARGEST_WEIGHT, torch.finfo(flat.dtype).eps)
    return None if scale is None else _width(_coded(exact, scale[:, None], 0.0).codes)


def scales_of(rows: Tensor, largest: int, epsilon: float) -> Tensor | None:
    """The largest c of each row with which all its values are integers times c, up to ``largest``: max|x|/q, least q.

    Args:
        rows: float32 or float64 [R, n].
        largest: magnitude.
        epsilon: relative rounding error the values may have.

    Returns:
        float64 [R], 0 for rows of zeros; None if any row has no such scale.
    """
    if rows.numel() == 0:
        return torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    top = rows.abs().amax(1).double()
    if not bool(torch.isfinite(top).all()):
        return None
    divisor = top.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    sample = (_sampled(rows).double().abs() / divisor).cpu().numpy()
    for _ in range(_REPAIRS):
        least = _least_steps(sample, largest, epsilon)
        if least is None:
            return None
        steps = torch.from_numpy(least).to(rows.device)
        scale = top / steps
        counted = rows / torch.where(scale > 0, scale, 1.0).to(rows.dtype)[:, None]
        error, worst = (counted - counted.round()).abs_().max(1)
        if bool((error <= (16 * epsilon * steps).clamp(*_TOLERANCE)).all()):
            return scale
        found = rows.gather(1, worst[:, None]).double().abs() / divisor
        sample = np.concatenate([found.cpu().numpy(), sample], 1)
    return None


def _least_steps(shares: NDArray[np.float64], largest: int, epsilon: float) -> NDArray[np.float64] | None:
    """The least q for each row [R, n] of |x|/max|x| that makes all q·|x|/max|x| integers, float64 [R].

    A few values of a few rows refute most real numbers.
    """
    steps = np.arange(1.0, largest + 1)
    tolerance = (16 * epsilon * steps).clip(*_TOLERANCE)
    refuting = shares[:: max(len(shares) // _FEW, 1), :: max(shares.shape[1] // _FEW, 1)][:, :_FEW]
    if not _fitting(refuting, steps, tolerance).any(1).all():
        return None
    fits = np.ones((len(shares), largest), dtype=np.bool_)
    for start in range(0, shares.shape[1], _FEW):
        fits &= _fitting(shares[:, start : start + _FEW], steps, tolerance)
    least: NDArray[np.float64] = steps[fits.argmax(1)]
    return least if bool(fits.any(1).all()) else None


def _fitting(
    shares: NDArray[np.float64], steps: NDArray[np.float64], tolerance: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether q·|x|/max|x| are integers for each row and q, [R, q]."""
    counted = shares[:, None] * steps[:, None]
    fits: NDArray[np.bool_] = (np.abs(counted - counted.round()) <= tolerance[:, None]).all(2)
    return fits


def _sampled(rows: Tensor) -> Tensor:
    """The largest magnitudes of each row, and some in regular distances, [R, ≤ 192]."""
    stride = max(rows.shape[1] // _SAMPLED, 1)
    largest = rows.abs().topk(min(rows.shape[1], _SAMPLED), 1).values
    return torch.cat([largest, rows[:, ::stride]], 1)


def _coded(values: Tensor, scale: Tensor, epsilon: float) -> Integers:
    counted = values / torch.where(scale > 0, scale, torch.ones_like(scale)).to(values.dtype)
    codes = counted.round_().to(torch.int16)
    low, high = bounds([codes])
    return Integers(codes.to(torch.int8) if max(-low, high) <= _BYTE else codes, scale, 16 * epsilon)


def _shared(first: Tensor, second: Tensor, error: float) -> Tensor | None:
    """The largest scale of which both are multiples, where neither is 0; None if a channel has none."""
    both = (first > 0) & (second > 0)
    ratio = torch.where(both, second, 1.0) / torch.where(both, first, 1.0)
    parts = torch.zeros_like(ratio)
    for count in range(1, _LARGEST_RATIO + 1):
        counted = ratio * count
        fits = (counted.round() > 0) & ((counted - counted.round()).abs() <= error * counted) & (parts == 0)
        parts = torch.where(fits, torch.full_like(parts, count), parts)
        if bool((parts > 0).all()):
            return torch.where(both, first / parts, torch.maximum(first, second))
    return None


def _width(codes: Tensor) -> int | None:
    if codes.numel() == 0:
        return 1
    low, high = bounds([codes])
    if max(-low, high) <= 1 and not bool((codes == 0).any()):
        return 1
    bits = bits_of(low, high)
    return bits if bits <= 8 else None
