"""A conversion with the seconds it took."""

from __future__ import annotations

import time
from typing import Any

import snnconvert
from snnconvert.config import ConversionConfig


def timed_conversion(model: Any, calibration: Any, config: ConversionConfig | None) -> tuple[Any, float]:
    """The spiking network and the seconds of its conversion, the reading of the calibration data included.

    Args:
        model: as :func:`snnconvert.convert` takes it.
        calibration: the same.
        config: the settings; None for the default ones.
    """
    began = time.perf_counter()
    snn = snnconvert.convert(model, calibration, config, progress=False)
    return snn, time.perf_counter() - began
