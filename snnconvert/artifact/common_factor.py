"""Numbers of few bits times one factor: what the units of a layer's channels are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

_NUMERATORS = np.arange(1 << 8, 1 << 9, dtype=np.float64)
_NEIGHBOURS = np.arange(-2, 3, dtype=np.int64)
_PROBED = 8
_SMALLEST = 2.0**-1000  # below it, a factor might be too small to have all its bits


def common_factor(values: Doubles) -> tuple[NDArray[np.float16], float] | None:
    """Numbers n, float16, and a factor s with x = fl(n·s), bit for bit.

    A unit is δ = g·Δ, the gain g of few bits that a neuron of step Δ reads the current with (see
    :mod:`snnconvert.convert.units`): the largest is m·2^k·Δ for some m of 256..511, so that s is found among x/m and
    its neighbours, which the rounding of x and of the quotient may have moved it to.

    Args:
        values: x, of any shape.

    Returns:
        n, of that shape, and s; None where there are none with up to 9 bits in the largest n, or x aren't
            positive.
    """
    if values.size < 2 or not (np.isfinite(values).all() and (values > 0).all()) or values.max() < _SMALLEST:
        return None
    flat = values.reshape(-1)
    quotients = flat.max() / _NUMERATORS
    factors = (quotients.view(np.int64)[:, None] + _NEIGHBOURS).reshape(-1).view(np.float64)
    probes = flat[np.linspace(0, len(flat) - 1, _PROBED).astype(np.int64)]
    likely = factors[_are_multiples(probes, factors[:, None]).all(1)]
    for factor in likely:
        if _are_multiples(values, factor).all():
            return (values / factor).astype(np.float16), float(factor)
    return None


def _are_multiples(values: Doubles, factor: Doubles) -> NDArray[np.bool_]:
    """Whether the float16 nearest to each quotient gives the value back."""
    with np.errstate(under="ignore", over="ignore"):
        numbers = (values / factor).astype(np.float16)
        same: NDArray[np.bool_] = numbers.astype(np.float64) * factor == values
    return same
