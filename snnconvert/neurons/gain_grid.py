"""The gains that neurons may have: few bits, so that every engine gets the same product with an integer potential."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnconvert.neurons.neuron import SpikingNeuron

_FEWEST_BITS, _MOST_BITS, _SIGNIFICAND, _USUAL = 4, 8, 24, 16
_SLOPE_BITS = 12


def on_grid(gain: Tensor, before: Tensor, neuron: SpikingNeuron) -> Tensor:
    """Gains of 4 to 8 bits for which v·g is exact in float32 up to saturation, if those before are of few bits.

    Multiples of 2^−16, which suffices for words of 8 bits, stay such; others are as fine as their words allow.

    Args:
        gain: g.
        before: the gains before.
        neuron: the neurons, for the span of their words.
    """
    if bool((_of_few_bits(before, torch.full_like(before, _MOST_BITS)) != before).any()):
        return gain
    exact = bool((before * 2.0**_USUAL % 1 == 0).all())
    finest = _USUAL if exact else _SIGNIFICAND - math.ceil(neuron.code.span).bit_length()
    exponent = torch.frexp(gain)[1]
    return _of_few_bits(gain, (finest + exponent).clamp(_FEWEST_BITS, _MOST_BITS))


def short_slope(slope: Tensor) -> Tensor:
    """Slopes s of leaky rectifiers of 12 bits, 2^−12 off at most: g·s of gains g as above is exact in float32."""
    return _of_few_bits(slope, torch.full_like(slope, _SLOPE_BITS))


def _of_few_bits(gain: Tensor, bits: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(gain)
    scale = torch.exp2(bits.to(gain.dtype))
    return torch.ldexp((mantissa * scale).round() / scale, exponent)
