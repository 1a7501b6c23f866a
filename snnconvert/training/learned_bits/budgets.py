"""What learned widths come to: means, and the bit budget by two measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerWidths:
    """Widths of one layer, rounded.

    Attributes:
        layer: its name.
        weight_bits: b_w; None for a product of two activations.
        spike_bits: b_s of what it reads.
        T: time steps of what it reads.
        macs: its multiply-accumulates.
        learned: whether any of them was learned.
    """

    layer: str
    weight_bits: int | None
    spike_bits: int
    T: int
    macs: int
    learned: bool


@dataclass(frozen=True)
class Budgets:
    """Means over the layers whose widths are learned, rounded widths throughout.

    Attributes:
        weight_bits: b̄_w, weighted as the settings say.
        spike_bits: b̄_s.
        T: T̄.
        bit_budget: b̄_w·b̄_s·T̄, as Yao et al. (2025) report it.
        mac_bit_budget: Σ MAC·b_w·b_s·T / Σ MAC over the inner layers.
        report_bit_budget: the same over all spiking layers, as the report has it.
    """

    weight_bits: float
    spike_bits: float
    T: float
    bit_budget: float
    mac_bit_budget: float
    report_bit_budget: float


def budgets_of(means: tuple[float, float, float], layers: Sequence[LayerWidths], costs: Sequence[float]) -> Budgets:
    """The budgets of layers.

    Args:
        means: b̄_w, b̄_s and T̄ of the layers whose widths are learned.
        layers: all spiking layers.
        costs: T·b_w·b_s of each.
    """
    pairs = list(zip(layers, costs, strict=True))
    inner = [(layer.macs, cost) for layer, cost in pairs if layer.learned]
    return Budgets(*means, math.prod(means), _mean(inner), _mean([(layer.macs, cost) for layer, cost in pairs]))


def _mean(pairs: list[tuple[int, float]]) -> float:
    total = sum(weight for weight, _ in pairs)
    return sum(weight * value for weight, value in pairs) / max(total, 1)
