"""Thresholds to start from where a network shall become sparser."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from snnconvert.trainable.neuron import TrainableNeuron

_LARGEST_FACTOR, _HALVINGS = 8.0, 7


def raise_thresholds(neurons: Sequence[TrainableNeuron], sparsity: Callable[[], float], target: float) -> float:
    """Multiplies thresholds by the smallest common factor φ in 1..8 with which a network is as sparse as told.

    A threshold that rises with its spikes' worth makes neurons coarser, no weaker: silence costs least this way. What
    neurons fire whose spikes' worth can't change would shrink, so theirs stay.

    Args:
        neurons: all neurons.
        sparsity: runs the network and gives its sparsity.
        target: the sparsity wanted.

    Returns:
        φ, to a sixtieth; 1 where the network is sparse enough, 8 where it can't be made so.
    """
    thresholds = [neuron.threshold for neuron in neurons if neuron.learns and neuron.stretches]
    started = [threshold.detach().clone() for threshold in thresholds]

    def is_sparse(factor: float) -> bool:
        _multiply(thresholds, started, factor)
        return sparsity() >= target

    if not thresholds or is_sparse(1.0):
        return 1.0
    low, high = 0.0, math.log(_LARGEST_FACTOR)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_sparse(math.exp(middle)) else (middle, high)
    _multiply(thresholds, started, math.exp(high))
    return math.exp(high)


@torch.no_grad()
def _multiply(thresholds: Sequence[nn.Parameter], started: Sequence[torch.Tensor], factor: float) -> None:
    for threshold, start in zip(thresholds, started, strict=True):
        threshold.copy_(start * factor)
