"""How much work a conversion spends on accuracy: names for sets of settings."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_ROUNDED = {"threshold_granularity": "smoothed", "channel_shift": True, "weight_rounding": "gptq"}
EFFORTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "fast": MappingProxyType({**_ROUNDED, "reconstruction_steps": 0}),
        "balanced": MappingProxyType({**_ROUNDED, "reconstruction_steps": 300}),
        "best": MappingProxyType({**_ROUNDED, "reconstruction_steps": 2000}),
    }
)
"""Settings by effort, ``ConversionConfig(**EFFORTS["fast"])``.

"fast" smooths thresholds channel by channel, gives signed channels zero points of their own and rounds weights by gptq,
without gradients. "balanced" and "best" train weights, biases and neurons' gains block by block after that: every step
is about three passes of a block over 32 samples, so that 300 steps take as long as some thirty passes of the network
over 1,024 calibration images, and 2,000 as some two hundred.
Networks of more than 100 million multiply-accumulates learn from 8 samples a step, in a quarter of that.
"""
