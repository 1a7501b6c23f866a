"""The few statistics a report needs: decibels and a paired confidence interval."""

from __future__ import annotations

import math

_Z95 = 1.959963984540054


def decibels(signal: float, noise: float) -> float | None:
    """SQNR = 10·log10(signal / noise) in dB; None where there is no signal or no noise."""
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None


def paired_difference_ci95(only_first: int, only_second: int, total: int) -> tuple[float, float]:
    """95 % interval of the difference p2 − p1 of two accuracies measured on the same images.

    Adjusted Wald for paired proportions (Agresti and Min, 2005): 1/2 is added to each of the four
    cells, so the interval doesn't collapse when the networks never disagree.

    Args:
        only_first: images only the first network gets right.
        only_second: images only the second gets right.
        total: all images.

    Returns:
        (low, high) as fractions within −1..1.
    """
    n = total + 2
    b, c = only_first + 0.5, only_second + 0.5
    difference = (c - b) / n
    half = _Z95 * math.sqrt(b + c - (c - b) ** 2 / n) / n
    return max(difference - half, -1.0), min(difference + half, 1.0)
