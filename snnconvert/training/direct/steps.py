"""Where thresholds and the steps of weights start: least squared error for normally distributed values."""

from __future__ import annotations

from functools import cache

import numpy as np

from snnconvert.calibration.thresholds.gaussian import optimal_steps
from snnconvert.neurons.integrate_and_fire import IntegrateAndFireCode


@cache
def rectified_step(bits: int, T: int = 1) -> float:
    """The step Δ of least E[(max(x, 0) − Δ·clip(⌊x/Δ⌉, 0, T·(2^bits − 1)))²] for x ~ N(0, 1).

    By symmetry it is the best one for x itself, rounded to −(2^bits − 1)..2^bits − 1, too.

    Args:
        bits: b of one spike, 1..8.
        T: time steps.

    Raises:
        ConfigurationError: if the window counts beyond 65,535.
    """
    return float(optimal_steps(np.zeros(1), np.ones(1), IntegrateAndFireCode(bits, T))[0])
