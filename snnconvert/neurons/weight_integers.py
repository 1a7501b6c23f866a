"""The integers a weight of b bits may be: −q..q with q = 2^(b−1) − 1, and ±1 where b is 1."""

from __future__ import annotations

import torch
from torch import Tensor

FEWEST_WEIGHT_BITS, MOST_WEIGHT_BITS = 1, 8


def widths_of(bits: int | Tensor, weight: Tensor) -> Tensor:
    """The width of each output channel of weights [O, ...], int64 [O] on their device.

    Args:
        bits: b_w of all channels, or of each, [O].
        weight: the weights.
    """
    if isinstance(bits, Tensor):
        return bits.to(weight.device, torch.int64)
    return torch.full(weight.shape[:1], bits, device=weight.device)


def largest_integer(bits: Tensor) -> Tensor:
    """The largest integer q = 2^(b−1) − 1 of each width, 1 of a single bit; int64 of the same shape."""
    return (2 ** (bits.to(torch.int64) - 1) - 1).clamp_(min=1)


def nearest_integers(values: Tensor, bits: Tensor) -> Tensor:
    """clip(rne(v), −q, q); with one bit +1 for v ≥ 0 and −1 below, as in XNOR-Net (Rastegari et al., ECCV 2016).

    Args:
        values: in counts, any floating type.
        bits: their widths, broadcastable to them.
    """
    largest = largest_integer(bits).to(values.dtype)
    rounded = values.round().clamp_(-largest, largest)
    ones = torch.ones_like(rounded)
    return torch.where(bits == 1, torch.where(values >= 0, ones, -ones), rounded)


def nearest_weights(weight: Tensor, bits: Tensor) -> Tensor:
    """:func:`nearest_integers` of weights [..., O, I] with widths [..., O]; a channel of zeros keeps them."""
    integers = nearest_integers(weight, bits.unsqueeze(-1))
    return torch.where(has_weights(weight), integers, torch.zeros_like(integers))


def has_weights(weight: Tensor) -> Tensor:
    """Whether a channel of weights [..., O, I] has any but zeros, [..., O, 1]."""
    return (weight != 0).any(-1, keepdim=True)
