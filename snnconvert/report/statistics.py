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


def proportion_ci95(successes: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion p from k successes of n: (k + z²/2 ± z·√(k·(n − k)/n + z²/4)) / (n + z²).

    Wilson's score interval (1927), which stays within 0..1 and has a width where all or none succeed.

    Args:
        successes: k.
        total: n, at least 1.

    Returns:
        (low, high) as fractions.
    """
    square = _Z95 * _Z95
    centre = successes + square / 2
    half = _Z95 * math.sqrt(successes * (total - successes) / total + square / 4)
    return max((centre - half) / (total + square), 0.0), min((centre + half) / (total + square), 1.0)
