"""Small questions to tensors: their finest binary digit, their largest magnitude, their values as an array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]


def finest(values: Tensor) -> int:
    """The largest e ≤ 0 such that all values are multiples of 2^e."""
    if not values.is_floating_point() or bool((values == values.round()).all()):
        return 0
    return int(mantissas(values[values != 0])[1].min())


def largest(values: Tensor) -> float:
    """The largest magnitude, 0 of nothing."""
    return float(values.double().abs().max()) if values.numel() else 0.0


def given_value(value: Tensor | None) -> Tensor:
    """A value that a run has filled in."""
    assert value is not None
    return value


def as_array(values: Tensor) -> Array:
    """A tensor's values on the CPU."""
    array: Array = values.detach().cpu().contiguous().numpy()
    return array


def mantissas(values: Tensor) -> tuple[Array, Array]:
    """Integers m, odd or zero, and e with values = m·2^e."""
    fractions, exponents = np.frexp(as_array(values.double()))
    wide = np.ldexp(fractions, 53).astype(np.int64)
    zeros = np.log2(np.maximum(wide & -wide, 1)).astype(np.int32)
    return wide >> zeros, np.where(wide == 0, 0, exponents - 53 + zeros).astype(np.int32)
