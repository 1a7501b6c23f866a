"""How far the outputs of a spiking network are from those of the ANN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_CHUNK = 32


def output_noise(
    ann: Callable[..., Any], network: Callable[..., Any], sample: Sequence[Tensor], batched: Sequence[bool], images: int
) -> float:
    """Σ ‖y − z‖²/Σ ‖y‖² over all samples, averaged over the floating outputs that aren't all zeros; 0 without any.

    Args:
        ann: gives y.
        network: gives z.
        sample: the tensors of one call.
        batched: which of them hold one item a sample.
        images: how many samples they hold.
    """
    noise: dict[int, float] = {}
    signal: dict[int, float] = {}
    for start in range(0, images, _CHUNK):
        part = [leaf[start : start + _CHUNK] if cut else leaf for leaf, cut in zip(sample, batched, strict=True)]
        with torch.no_grad():
            pairs = zip(_listed(ann(*part)), _listed(network(*part)), strict=True)
        for index, (expected, actual) in enumerate(pairs):
            if isinstance(expected, Tensor) and expected.is_floating_point():
                noise[index] = noise.get(index, 0.0) + float((expected.double() - actual.double()).square().sum())
                signal[index] = signal.get(index, 0.0) + float(expected.double().square().sum())
    shares = [noise[index] / signal[index] for index in noise if signal[index] > 0]
    return sum(shares) / max(len(shares), 1)


def _listed(output: Any) -> list[Any]:
    return [output] if isinstance(output, Tensor) else list(output)
