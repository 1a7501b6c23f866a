"""Sums of two words in one kernel of bytes: which of them give the words that neurons fire on the sum.

onnxruntime's (1.32) computes r_a·k_a + (r_b·k_b + f), f = o − r_a·o_a − r_b·o_b, of bytes k with zero points o_a and
o_b in float32, a fused product at a time, and rounds the result, the zero point o of the sum still in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snnconvert.engines.integer.proof import LARGEST_BYTE
from snnconvert.neurons.synapse import FLOAT32_EXACT

_DOUBLE_BITS = 53


@dataclass(frozen=True)
class Operand:
    """Words that enter a sum.

    Attributes:
        scale: r, float32, scalar or by channel.
        offset: their zero point.
    """

    scale: Tensor
    offset: int


def exact_order(operands: Sequence[Operand], offset: int) -> list[int] | None:
    """The order in which two operands give the words of r_a·z_a + r_b·z_b, rounded once, by their places.

    Args:
        operands: both of them.
        offset: the zero point of the sum.

    Returns:
        The one on the finer grid first, which is added last; None if the sum may be another.
    """
    places = sorted(range(len(operands)), key=lambda place: _finest(operands[place].scale))
    first, second = (operands[place] for place in places)
    return places if _adds_exactly(first, second, offset) else None


def _adds_exactly(first: Operand, second: Operand, offset: int) -> bool:
    """Whether what is added up stays exact.

    All of it must be a multiple of a power of two no smaller than 2^−24 times its bound, in the end 256: a sum beyond
    that is clipped. The zero point must be even, so that ties are broken as without it. Words with a scale for each
    channel are multiplied and added up in kernels of their own, in which no zero point is left.
    """
    ends = FLOAT32_EXACT * min(_finest(first.scale), _finest(second.scale)) > LARGEST_BYTE
    if not ends or not _multiplies_exactly(first.scale):
        return False
    if first.scale.numel() > 1 or second.scale.numel() > 1:
        return _multiplies_exactly(second.scale)
    last, inner = float(first.scale), float(second.scale)
    shifts = last * first.offset, inner * second.offset
    finest_shift = _finest(torch.tensor(shifts, dtype=torch.float64))
    finest = min(finest_shift, _finest(second.scale), _finest(torch.tensor(float(offset))))
    shifted = sum(map(abs, shifts)) <= FLOAT32_EXACT * finest_shift
    begins = LARGEST_BYTE * abs(inner) + abs(offset - sum(shifts)) <= FLOAT32_EXACT * finest
    return shifted and begins and offset % 2 == 0


def _multiplies_exactly(scale: Tensor) -> bool:
    return bool((LARGEST_BYTE * scale.double().abs() <= FLOAT32_EXACT * _grid(scale)).all())


def _finest(numbers: Tensor) -> float:
    return float(_grid(numbers).min())


def _grid(numbers: Tensor) -> Tensor:
    """The largest power of two that each number is a multiple of, float64; infinity for 0."""
    mantissa, exponent = torch.frexp(numbers.double())
    integers = (mantissa * 2.0**_DOUBLE_BITS).to(torch.int64)
    lowest = (integers & -integers).double()
    return torch.where(lowest == 0, math.inf, torch.ldexp(lowest, exponent - _DOUBLE_BITS))
