"""Weight quantization: symmetric integers with one scale per output channel."""

from __future__ import annotations

import torch
from torch import Tensor

_SEARCH_BELOW_BITS = 7
_SEARCH = torch.linspace(1.0, 0.3, 36)
_LARGEST_BIAS = 1 << 21


def natural_scale(weight: Tensor, bias: Tensor, bits: int) -> Tensor:
    """Scale s of each output channel, w ≈ s·clip(rne(w/s), −q, q) with q = 2^(b_w−1) − 1.

    The largest |w| maps to q; below 7 bits the range that minimizes the squared error is searched
    instead. Channels whose bias would exceed 2^21 counts get a larger scale; channels of zeros get 0,
    which stands for any.

    Args:
        weight: [O, ...], in units of the input word's step.
        bias: [O].
        bits: weight bits b_w.

    Returns:
        float64 [O], not negative.
    """
    flat = weight.reshape(weight.shape[0], -1).float()
    largest = (1 << (bits - 1)) - 1
    scale = flat.abs().amax(1) / largest
    if bits < _SEARCH_BELOW_BITS:
        scale = _least_squares_scale(flat, scale, largest)
    raised = torch.maximum(scale.double(), bias.double().abs() / _LARGEST_BIAS)
    empty = flat.abs().amax(1) == 0
    return torch.where(empty, bias.double().abs() / _LARGEST_BIAS, raised)


def quantize(values: Tensor, scale: Tensor, bits: int) -> Tensor:
    """clip(rne(w/s), −q, q) as int8 for weights [O, ...] and scales [O]; a scale of 0 gives zeros."""
    largest = (1 << (bits - 1)) - 1
    nonzero = torch.where(scale > 0, scale, torch.ones_like(scale))
    divided = values.double() / nonzero.view(-1, *[1] * (values.dim() - 1))
    return divided.round_().clamp_(-largest, largest).to(torch.int8)


def _least_squares_scale(flat: Tensor, widest: Tensor, largest: int) -> Tensor:
    best_error = torch.full_like(widest, torch.inf)
    best = widest.clone()
    for ratio in _SEARCH.tolist():
        scale = (widest * ratio).clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(1)
        error = (flat - (flat / scale).round_().clamp_(-largest, largest) * scale).square_().sum(1)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best = torch.where(better, scale.squeeze(1), best)
    return best
