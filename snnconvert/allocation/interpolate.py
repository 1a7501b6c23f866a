"""Errors at widths that weren't measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from snnconvert.allocation.problem import FloatArray

_SLOPE = math.log(4.0)
_SMALLEST = 1e-20


def completed(measured: Mapping[int, float], widths: Sequence[int]) -> FloatArray:
    """Errors of all widths from those of some: never rising with the width.

    log E is linear between measured widths and falls by log 4 a bit outside them: the mean squared error of a
    uniform quantizer is Δ²/12 with Δ ~ 2^−bits.

    Args:
        measured: error by width, at least one.
        widths: the widths asked for, ascending.
    """
    known = sorted(measured)
    logs = [math.log(max(measured[width], _SMALLEST)) for width in known]
    inside = np.interp(widths, known, logs)
    below = np.maximum(known[0] - np.asarray(widths), 0)
    above = np.maximum(np.asarray(widths) - known[-1], 0)
    return np.minimum.accumulate(np.exp(inside + _SLOPE * (below - above)))
