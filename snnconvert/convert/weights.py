"""Weight quantization: symmetric integers with one scale, and if need be a width, per output channel."""

from __future__ import annotations

import torch
from torch import Tensor

from snnconvert.neurons.weight_integers import largest_integer, nearest_weights, widths_of

_SEARCH_BELOW_BITS = 7
_SEARCH = torch.linspace(1.0, 0.3, 36)
_LARGEST_BIAS = 1 << 21


def natural_scale(weight: Tensor, bias: Tensor, bits: int | Tensor) -> Tensor:
    """Scale s of each output channel, w ≈ s·clip(rne(w/s), −q, q) with q = 2^(b_w−1) − 1.

    The largest |w| maps to q; below 7 bits the range that minimizes the squared error is searched
    instead. With one bit w ≈ ±s, and s = mean |w| minimizes it (XNOR-Net, Rastegari et al., ECCV 2016).
    Channels whose bias would exceed 2^21 counts get a larger scale; channels of zeros get 0, which stands
    for any.

    Args:
        weight: [O, ...], in units of the input word's step.
        bias: [O].
        bits: weight bits b_w, of all channels or of each, [O].

    Returns:
        float64 [O], not negative.
    """
    flat = weight.reshape(weight.shape[0], -1).float()
    widths = widths_of(bits, flat)
    largest = largest_integer(widths).to(flat.dtype)
    widest = flat.abs().amax(1) / largest
    scale = torch.where(widths == 1, flat.abs().mean(1), widest)
    searched = (widths > 1) & (widths < _SEARCH_BELOW_BITS)
    if bool(searched.any()):
        scale = torch.where(searched, _least_squares_scale(flat, widest, largest), scale)
    return countable_scale(weight, bias, scale)


def countable_scale(weight: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
    """Scales [O] raised where a channel's bias would exceed 2^21 counts; 0, for any, without a bias if it is all zeros.

    Args:
        weight: [O, ...].
        bias: [O].
        scale: [O], positive.

    Returns:
        float64 [O], not negative.
    """
    least = bias.double().abs() / _LARGEST_BIAS
    empty = weight.reshape(weight.shape[0], -1).abs().amax(1) == 0
    return torch.where(empty, least, torch.maximum(scale.double(), least))


def quantize(values: Tensor, scale: Tensor, bits: int | Tensor) -> Tensor:
    """clip(rne(w/s), −q, q) as int8 for weights [O, ...] and scales [O]; a channel of zeros gives zeros.

    Args:
        values: the weights.
        scale: s; 0 stands for any.
        bits: weight bits b_w, of all channels or of each, [O]; of one bit the integers are ±1.
    """
    nonzero = torch.where(scale > 0, scale, torch.ones_like(scale))
    divided = values.double().reshape(len(scale), -1) / nonzero[:, None]
    return nearest_weights(divided, widths_of(bits, values)).view(values.shape).to(torch.int8)


def nearest_representable(weight: Tensor, bias: Tensor, bits: int | Tensor) -> Tensor:
    """What rounded weights [O, ...] stand for, s·clip(rne(w/s), −q, q) with their :func:`natural_scale`, float64.

    Args:
        weight: the weights.
        bias: [O].
        bits: weight bits b_w, of all channels or of each, [O].
    """
    scale = natural_scale(weight, bias, bits)
    return quantize(weight, scale, bits).double() * scale.view(-1, *[1] * (weight.dim() - 1))


def _least_squares_scale(flat: Tensor, widest: Tensor, largest: Tensor) -> Tensor:
    largest = largest[:, None]
    best_error = torch.full_like(widest, torch.inf)
    best = widest.clone()
    for ratio in _SEARCH.tolist():
        scale = (widest * ratio).clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(1)
        error = (flat - (flat / scale).round_().clamp_(-largest, largest) * scale).square_().sum(1)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best = torch.where(better, scale.squeeze(1), best)
    return best
