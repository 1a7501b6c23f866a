"""ONNX twins for logarithmic words, which number their values: neurons that look them up, and products of the values.

Values and their products stay in floating point, where every sum is a whole number that float32 holds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnconvert.engines.integer.twins import looked_up
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import FLOAT32_EXACT
from snnconvert.neurons.transfer import LARGEST_TABLE


class FireValues(nn.Module):
    """z = table[⌊2·clip(u, 0, z_K)⌋] of values u in steps Δ: neurons that fire the number of the nearest value.

    Thresholds are multiples of a half, so that ⌊2u⌋ tells which of them u has reached.

    Buffers:
        table: float32 [2·z_K + 1].
    """

    table: Tensor

    def __init__(self, neuron: SpikingNeuron, *, flat: bool) -> None:
        """Tabulates the values.

        Args:
            neuron: of a logarithmic code.
            flat: whether tables are read by vectors of indices.

        Raises:
            ValueError: if the table would be too large.
        """
        super().__init__()
        self.largest, self.flat = neuron.ceiling, flat
        entries = 2 * neuron.ceiling + 1
        if entries > LARGEST_TABLE:
            raise ValueError(f"its values reach {neuron.ceiling:,}")
        halves = torch.arange(entries, dtype=torch.float32) / 2
        self.register_buffer("table", neuron.code.quantize_(halves, neuron.ceiling))

    def forward(self, values: Tensor) -> Tensor:
        """float32 of the shape of values u."""
        return looked_up(self.table, (2 * values.clamp(0, self.largest)).floor().to(torch.int32), flat=self.flat)


class SplitForm(nn.Module):
    """((a_h ∘ b)·2^s·m + (a_l ∘ b)·m)·g of words a = a_h·2^s + a_l and b, or the same with b split.

    Every sum is exact in float32 but the last, which is rounded once, as the packed network rounds its exact current.

    Buffers:
        high, low: float32, 2^s·m and m.
        factor: float32, g.
    """

    high: Tensor
    low: Tensor
    factor: Tensor

    def __init__(self, product: Product, factor: Tensor) -> None:
        """Chooses s.

        Args:
            product: of words that float32 holds.
            factor: g, scalar or broadcastable to the output.

        Raises:
            ValueError: if halves aren't enough for exact sums.
        """
        super().__init__()
        left, right = product.largest_words
        largest = max(left, right)
        self.product, self.splits_left = product, left >= right
        half, self.shift = min((max(largest >> s, (1 << s) - 1), s) for s in range(1, 24))
        if product.wide or product.bound // largest * half > FLOAT32_EXACT:
            raise ValueError(f"its sums reach {product.bound:.3g}")
        self.register_buffer("high", (product.multiplier * (1 << self.shift)).to(torch.float32))
        self.register_buffer("low", product.multiplier.to(torch.float32))
        self.register_buffer("factor", factor.to(torch.float32))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """float32 products of words as float32 integers."""
        whole = left if self.splits_left else right
        high = (whole * 2.0**-self.shift).floor()
        low = whole - high * 2.0**self.shift
        currents = [
            self.product.bilinear(half, right) if self.splits_left else self.product.bilinear(left, half)
            for half in (high, low)
        ]
        total = currents[0] * self.high + currents[1] * self.low
        return total.round() * self.factor
